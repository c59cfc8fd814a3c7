"""Pictures by what they were made from, so that none is rendered twice: whatever a later search
asks, or a later judge says, a trial that was rendered before is only looked up.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from eacps.artifacts import ArtifactStore
from eacps.domain import EditTask, Trial, digest, to_json


@dataclass(frozen=True)
class Picture:
    """One rendered trial as it is stored: artifact names and cost, but no scores.

    `as_rendered` is the picture before the outside of the mask was restored, where that differs.
    `step` is where it stands (None: at the end), and `state` what a paused trial goes on from.
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
        """All artifacts that belong to it."""
        given = (self.image, self.thumbnail, self.as_rendered, self.state)
        return [name for name in given if name]


class PictureIndex(Protocol):
    """Remembers pictures by key."""

    def known(self, keys: Iterable[str]) -> Mapping[str, Picture]:
        """Those of these keys that were rendered before."""

    def remember(self, pictures: Mapping[str, Picture]) -> None:
        """Keep pictures under their keys."""


@dataclass
class PicturesInMemory:
    """The index of a process that has no jobs database."""

    _pictures: dict[str, Picture] = field(default_factory=dict)

    def known(self, keys: Iterable[str]) -> Mapping[str, Picture]:
        """Those of these keys that were rendered before."""
        return {key: self._pictures[key] for key in keys if key in self._pictures}

    def remember(self, pictures: Mapping[str, Picture]) -> None:
        """Keep pictures under their keys."""
        self._pictures |= pictures


def picture_key(task: EditTask, trial: Trial) -> str:
    """A hash of everything that a trial's picture follows from; of judges, nothing."""
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
        }
    )


def state_key(state: str) -> str:
    """The key under which the picture of a paused trial is found by its state."""
    return digest({"state": state})


def nfe_between(picture: Picture, begun: Picture | None, steps: int) -> int:
    """What it costs to get from one picture of a trial (None: its noise) to another."""
    end = steps if picture.step is None else picture.step
    start = (begun.step or 0) if begun else 0
    return round(picture.nfe_per_step * (end - start))


def is_there(picture: Picture, trial: Trial, store: ArtifactStore) -> bool:
    """Whether a picture's files are still stored, and with it what a paused trial needs."""
    if trial.to_step is not None and picture.state is None:
        return False
    return all(store.exists(name) for name in picture.names)
