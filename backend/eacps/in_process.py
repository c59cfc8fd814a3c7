"""Searches in the current process, for notebooks and scripts: no queue, no database."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, overload

from PIL import Image

from eacps import fingerprints, images
from eacps.artifacts import ArtifactStore
from eacps.domain import Candidate, EditTask, Route, SearchResult, Trial
from eacps.editors.devices import checked
from eacps.errors import TaskError
from eacps.faces.choices import plan_of
from eacps.recent import Recent
from eacps.runner import (
    Device,
    PicturesInMemory,
    Progress,
    image_limits,
    open_device,
    potential_range,
    search,
)
from eacps.scoring import without_effect
from eacps.settings import Settings, load_settings

Picture = Image.Image | str | Path
"""An image, or the path of an image file."""
CACHED_DEVICES = 2


@dataclass(frozen=True)
class Edit:
    """A finished edit."""

    id: str
    image: Image.Image
    potential: float
    scores: Mapping[str, float]
    seed: int
    lineage: str
    nfe: int
    seconds: float
    why: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, repr=False)
class Edits(Sequence[Edit]):
    """Finished edits, best first; `result` also has the pruned and failed candidates."""

    edits: tuple[Edit, ...]
    result: SearchResult

    @property
    def best(self) -> Edit:
        """The best edit."""
        return self.edits[0]

    @property
    def notes(self) -> tuple[str, ...]:
        """Warnings, and the decisions of the strategy."""
        return (*self.result.notes, *self.result.decisions)

    @overload
    def __getitem__(self, index: int) -> Edit: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Edit]: ...
    def __getitem__(self, index: int | slice) -> Edit | Sequence[Edit]:
        return self.edits[index]

    def __len__(self) -> int:
        return len(self.edits)

    def __repr__(self) -> str:
        rows = [f"  {one.id}: potential {one.potential:.3f}, {one.lineage}" for one in self.edits]
        return "\n".join([f"{len(self)} edits, best first", *rows])

    def __iter__(self) -> Iterator[Edit]:
        return iter(self.edits)


class _Workspace:
    """Loaded devices and rendered pictures, shared by all calls of this process.

    A later call does not render the same picture again, even if it uses other judges.
    """

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="eacps-")
        self.store = ArtifactStore(f"file://{self._folder.name}")
        self._pictures = PicturesInMemory()
        self._devices: Recent[tuple[str, str], Device] = Recent(CACHED_DEVICES)

    def device(self, settings: Settings, name: str) -> Device:
        """The device with the models of these settings."""

        def load() -> Device:
            return open_device(settings, self.store, name, self._pictures)

        return self._devices.get_or_make((settings.equipment, name), load)


@cache
def _workspace() -> _Workspace:
    return _Workspace()


def edit(
    image: Picture,
    instruction: str,
    *,
    mask: Picture | None = None,
    reference: Picture | Sequence[Picture] = (),
    route: Route = "edit",
    device: str = "",
    on_progress: Callable[[Progress], None] | None = None,
    **settings: Any,
) -> Edits:
    """Search for the best edit of an image in this process; returns finished edits, best first.

    `mask` is white where the image may change. `reference` is a picture of a character (or several)
    for the routes `character` and `face_swap`. Other arguments are settings, named like their
    environment variables in lower case and without `EACPS_`, such as `strategy="best_of_n"`,
    `strategy_params={"n": 4}`, `editor="/models/Qwen-Image-Edit"` or `seed=3`. Settings that are
    not given come from the environment and `.env`. Models stay loaded between calls.

    >>> from eacps import edit
    >>> edits = edit("bear.png", "add a red top hat", strategy="best_of_n")  # doctest: +SKIP
    >>> edits.best.image.save("best.png")  # doctest: +SKIP
    """
    loaded = load_settings(**settings)
    store = _workspace().store
    task = _task(loaded, store, image, instruction, mask, reference, route)
    opened = _workspace().device(loaded, device or checked(loaded.devices)[0])

    def run_batches(batches: Sequence[Sequence[Trial]]) -> list[Candidate]:
        return [one for batch in batches for one in opened.run_batch(task, batch)]

    result = search(
        task,
        run_batches,
        on_progress=on_progress,
        potential_range=potential_range(loaded, task),
    )
    made = [_edit(one, store, loaded) for one in result.usable]
    notes = (*without_effect(loaded), *result.notes)
    return Edits(tuple(made), replace(result, notes=notes))


def _task(
    settings: Settings,
    store: ArtifactStore,
    image: Picture,
    instruction: str,
    mask: Picture | None,
    reference: Picture | Sequence[Picture],
    route: Route,
) -> EditTask:
    if not instruction.strip():
        raise TaskError("The instruction is empty.", hint="Say what to change.")
    references = [reference] if isinstance(reference, Image.Image | str | Path) else reference

    def keep(picture: Picture, what: str, *, as_mask: bool = False) -> str:
        return store.put(images.encode_png(_read(picture, settings, what, as_mask=as_mask)), "png")

    return EditTask(
        image=keep(image, "image"),
        instruction=instruction.strip(),
        route=route,
        mask=keep(mask, "mask", as_mask=True) if mask is not None else None,
        references=tuple(keep(one, "reference") for one in references),
        plan=plan_of(settings) if route == "face_swap" else settings.plan,
        fingerprint=settings.fingerprint,
        model_version=settings.model_version,
        equipment=settings.equipment,
        rendered=fingerprints.rendered(settings, route),
        judged=fingerprints.judged(settings),
    )


def _read(picture: Picture, settings: Settings, what: str, *, as_mask: bool) -> Image.Image:
    limits = image_limits(settings)
    if isinstance(picture, Image.Image):
        content = images.encode_png(picture)
    else:
        path = Path(picture).expanduser()
        try:
            content = path.read_bytes()
        except OSError as error:
            raise TaskError(f"The {what} {path} cannot be read: {error.strerror}.") from None
    return images.decode_mask(content, limits) if as_mask else images.decode(content, limits)


def _edit(candidate: Candidate, store: ArtifactStore, settings: Settings) -> Edit:
    content = store.get(candidate.image or "")
    return Edit(
        id=candidate.id,
        image=images.decode(content, image_limits(settings)),
        potential=candidate.potential or 0.0,
        scores={metric.name: metric.value for metric in candidate.metrics},
        seed=candidate.trial.noise.seed,
        lineage=candidate.trial.lineage,
        nfe=candidate.nfe,
        seconds=candidate.seconds,
        why=candidate.why,
        notes=candidate.notes,
    )
