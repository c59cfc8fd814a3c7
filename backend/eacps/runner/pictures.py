"""An index of rendered pictures by their inputs, so that no trial is rendered twice, even if a
later search uses another strategy or other judges.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from eacps.artifacts import ArtifactStore
from eacps.domain import EditTask, Trial, digest, to_json
from eacps.preparing import Kept, KeptInMemory


@dataclass(frozen=True)
class Picture:
    """A stored render of a trial: artifact names and cost, but no scores.

    `as_rendered` is the picture before the outside of the mask was restored, if that differs.
    `step` is the step at which the trial paused (None: finished), `state` its stored state.
    """

    image: str
    thumbnail: str
    as_rendered: str = ""
    step: int | None = None
    state: str | None = None
    nfe_per_step: float = 0.0
    notes: tuple[str, ...] = ()
    detail: str = ""

    @property
    def names(self) -> list[str]:
        """All artifacts of this picture."""
        given = (self.image, self.thumbnail, self.as_rendered, self.state)
        return [name for name in given if name]


class PictureIndex(Kept, Protocol):
    """Remembers pictures by key, and what was prepared for tasks."""

    def known(self, keys: Iterable[str]) -> Mapping[str, Picture]:
        """Those of these keys that were rendered before."""

    def remember(self, pictures: Mapping[str, Picture]) -> None:
        """Keep pictures under their keys."""


@dataclass
class PicturesInMemory(KeptInMemory):
    """The index of a process that has no jobs database."""

    _pictures: dict[str, Picture] = field(default_factory=dict)

    def known(self, keys: Iterable[str]) -> Mapping[str, Picture]:
        """Those of these keys that were rendered before."""
        return {key: self._pictures[key] for key in keys if key in self._pictures}

    def remember(self, pictures: Mapping[str, Picture]) -> None:
        """Keep pictures under their keys."""
        self._pictures |= pictures


def picture_key(task: EditTask, trial: Trial) -> str:
    """A hash of everything that determines a trial's picture, which excludes judges."""
    return digest(
        {
            "rendered": task.rendered,
            "route": task.route,
            "image": task.image,
            "instruction": task.instruction,
            "suffix": trial.instruction_suffix,
            "mask": task.mask,
            "references": list(task.references),
            "regions": list(task.regions),
            "mapping": task.mapping,
            "noise": to_json(trial.noise),
            "to_step": trial.to_step,
            # Only where there is one, because stored keys have none.
            **({"start": trial.start} if trial.start else {}),
            **({"draft": True} if trial.draft else {}),
        }
    )


def state_key(state: str) -> str:
    """The key of a paused trial's picture, derived from its state."""
    return digest({"state": state})


def nfe_between(picture: Picture, begun: Picture | None, steps: int) -> int:
    """The cost of getting from `begun` (None: the noise) to a later picture of the same trial."""
    end = steps if picture.step is None else picture.step
    start = (begun.step or 0) if begun else 0
    return round(picture.nfe_per_step * (end - start))


def is_stored(picture: Picture, trial: Trial, store: ArtifactStore) -> bool:
    """Whether all files of a picture are stored undamaged, including a paused trial's state."""
    if trial.to_step is not None and not trial.draft and picture.state is None:
        return False
    return all(map(store.intact, picture.names))
