"""Fetches and checks the instruction and the images of a task."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast, get_args

from PIL import Image

from eacps import images
from eacps.domain import EditTask, FaceMapping
from eacps.errors import EacpsError, FaceError, TaskError
from eacps.faces.choices import plan_of
from eacps.images import TaskImages
from eacps.labelstudio.tasks.choices import for_workers, version_of
from eacps.labelstudio.tasks.fetch import Fetcher, require_allowed_reference
from eacps.labelstudio.tasks.masks import draw_masks, union
from eacps.labelstudio.tasks.origins import Origin, settings_of
from eacps.settings import Settings

MAX_INSTRUCTION_CHARACTERS = 4000
MAX_REFERENCES = 8
FACE_SWAP_INSTRUCTION = "Swap the face."
Keep = Callable[[Image.Image], str]
"""Stores an image and returns its name."""


@dataclass(frozen=True)
class ReadTask:
    """A task's instruction and images."""

    origin: Origin
    instruction: str
    images: TaskImages
    mapping: FaceMapping

    def edit_task(self, server: Settings, keep: Keep) -> EditTask:
        """Store the images and create the task to search."""
        mask, route = self.images.mask, self.origin.route
        settings = settings_of(self.origin, server)
        return EditTask(
            image=keep(self.images.source),
            instruction=self.instruction,
            route=route,
            route_reason=self.origin.route_reason,
            mask=keep(mask) if mask else None,
            references=tuple(map(keep, self.images.references)),
            plan=plan_of(settings) if route == "face_swap" else settings.plan,
            fingerprint=settings.fingerprint,
            regions=tuple(map(keep, self.images.regions)),
            mapping=self.mapping,
            model_version=version_of(server, self.origin.project_choices),
            settings=for_workers(server, settings),
        )


class TaskReader:
    """Reads tasks; its fetcher decides which images may be fetched."""

    def __init__(self, settings: Settings, fetcher: Fetcher) -> None:
        self._settings = settings
        self._fetcher = fetcher
        self._limits = images.ImageLimits(
            settings.max_image_bytes, settings.max_image_pixels, settings.min_image_side
        )

    def read(self, asked: Origin) -> ReadTask:
        """Fetch and check a task's images; raises TaskError."""
        settings = settings_of(asked, self._settings)
        if settings is not self._settings:
            return TaskReader(settings, self._fetcher)._read(asked)
        return self._read(asked)

    def _read(self, asked: Origin) -> ReadTask:
        instruction = self._instruction(asked)
        source = self._image(asked, self._settings.image_field)
        references = self._references(asked)
        masks = self._masks(asked, source.size)
        several = asked.route != "edit" and len(references) > 1
        return ReadTask(
            asked,
            instruction,
            TaskImages(
                source=source,
                mask=union(masks) if masks else None,
                references=tuple(references),
                regions=tuple(masks) if several else (),
            ),
            self._mapping(asked) if several else "auto",
        )

    def _instruction(self, asked: Origin) -> str:
        field = self._settings.instruction_field
        instruction = asked.instruction or asked.data.get(field)
        if instruction is None and asked.route == "face_swap":
            return FACE_SWAP_INSTRUCTION
        if instruction is not None and not isinstance(instruction, str):
            raise TaskError(
                f"The task's field `{field}` contains {_kind(instruction)} instead of a text.",
                hint=f"Write what to change into `{field}`, in quotes.",
                code="no_instruction",
            )
        if instruction is None or not instruction.strip():
            raise TaskError(
                f"The task's field `{field}` contains no instruction.",
                hint="Type what to change into the box “Instruction for the next search” below, "
                f"and submit. Or write it into `{field}`.",
                code="no_instruction",
            )
        if len(instruction) > MAX_INSTRUCTION_CHARACTERS:
            raise TaskError(
                f"The instruction has more than {MAX_INSTRUCTION_CHARACTERS} characters.",
                hint="Shorten it.",
                code="bad_instruction",
            )
        return instruction.strip()

    def _image(self, asked: Origin, field: str) -> Image.Image:
        with _naming(field):
            content = self._fetcher.fetch(asked.data.get(field), field=field, task=asked.task)
            return images.decode(content, self._limits, what=field)

    def _references(self, asked: Origin) -> list[Image.Image]:
        field = self._settings.reference_field
        addresses = _as_list(asked.data.get(field))
        if not addresses and asked.route != "edit":
            raise FaceError(
                f"The task's field `{field}` contains no picture of a character.",
                hint=f"Put the URL of a picture, or a list of URLs, into `{field}`, or label the "
                "task as an edit.",
                code="no_character",
            )
        if len(addresses) > MAX_REFERENCES:
            raise TaskError(
                f"The task's field `{field}` contains {len(addresses)} pictures; at most "
                f"{MAX_REFERENCES} are allowed.",
                hint="Split the task.",
            )
        return [self._reference(address, asked) for address in addresses]

    def _reference(self, address: Any, asked: Origin) -> Image.Image:
        field = self._settings.reference_field
        require_allowed_reference(address, self._settings)
        with _naming(field):
            content = self._fetcher.fetch(address, field=field, task=asked.task)
            return images.decode(content, self._limits, what=field)

    def _mapping(self, asked: Origin) -> FaceMapping:
        field = self._settings.face_mapping_field
        given = asked.data.get(field, self._settings.face_mapping)
        if given not in get_args(FaceMapping):
            known = ", ".join(get_args(FaceMapping))
            raise TaskError(
                f"The task's field `{field}` has the invalid value {str(given)[:40]!r}.",
                hint=f"Use one of: {known}.",
                code="bad_mapping",
            )
        return cast(FaceMapping, given)

    def _masks(self, asked: Origin, size: tuple[int, int]) -> list[Image.Image]:
        """One mask per drawn region, or else per mask image of the task."""
        if asked.regions:
            return draw_masks(asked.regions, size, self._limits)
        addresses = _as_list(asked.data.get(self._settings.mask_field))
        return [self._mask(address, asked, size) for address in addresses[:MAX_REFERENCES]]

    def _mask(self, address: Any, asked: Origin, size: tuple[int, int]) -> Image.Image:
        field = self._settings.mask_field
        with _naming(field):
            content = self._fetcher.fetch(address, field=field, task=asked.task)
            mask = images.decode_mask(content, self._limits)
        if mask.point(lambda value: 255 * (value >= 128)).getbbox() is None:
            raise TaskError(
                "The mask is black everywhere, so nothing may be edited.",
                hint=f"Paint the part to edit white, or empty the field `{field}`.",
                code="empty_mask",
            )
        return mask if mask.size == size else mask.resize(size, Image.Resampling.NEAREST)


@contextmanager
def _naming(field: str) -> Iterator[None]:
    """Name the field in every error, because a task may have several images."""
    try:
        yield
    except EacpsError as error:
        if field not in error.message:
            error.message = f"The task's field `{field}`: {error.message}"
        raise


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "true or false"
    return {int: "a number", float: "a number", list: "a list"}.get(type(value), "an object")


def _as_list(given: Any) -> list[Any]:
    found = given or []
    return found if isinstance(found, list) else [found]
