"""What the orchestrator calls: from a task's origin to an EditTask, and from a result back."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, get_args

from PIL import Image

from eacps import images
from eacps.artifacts import ArtifactStore, MissingArtifactError, UrlSigner, open_signer, open_store
from eacps.domain import EditTask, FaceMapping, Failure, SearchResult, digest
from eacps.errors import FaceError, LabelStudioDownError, LabelStudioError, TaskError
from eacps.faces.choices import plan_of
from eacps.labelstudio import cards
from eacps.labelstudio.client import MISSING, LabelStudioClient, open_client
from eacps.labelstudio.tasks.fetch import Fetcher, require_allowed_reference
from eacps.labelstudio.tasks.masks import draw_masks, united
from eacps.labelstudio.tasks.origins import Origin, origin_of, read_origin, relevant_data
from eacps.settings import Settings

log = logging.getLogger(__name__)

MAX_INSTRUCTION_CHARACTERS = 4000
MAX_REFERENCES = 8
FACE_SWAP_INSTRUCTION = "Swap the face."


@dataclass(frozen=True)
class _Target:
    """A task to deliver to, as it is now."""

    client: LabelStudioClient
    asked: Origin
    task: int
    current: dict[str, Any]


class LabelStudioHooks:
    """Prepares tasks and delivers results; safe to repeat after a crash at any point."""

    def __init__(self, settings: Settings, store: ArtifactStore | None = None) -> None:
        self._settings = settings
        self._store = store or open_store(settings)
        self._client = open_client(settings) if settings.label_studio_url else None
        self._fetcher = Fetcher(settings, self._client)
        self._limits = images.ImageLimits(
            settings.max_image_bytes, settings.max_image_pixels, settings.min_image_side
        )

    def prepare(self, origin: Mapping[str, Any]) -> EditTask:
        """Fetch and check a task's images; raises a TaskError that the annotator can act on."""
        asked = self._completed(read_origin(origin))
        instruction = self._instruction(asked)
        source = self._image(asked, self._settings.image_field)
        references = self._references(asked)
        masks = self._masks(asked, source.size)
        several = asked.route != "edit" and len(references) > 1
        return EditTask(
            image=self._put(source),
            instruction=instruction,
            route=asked.route,
            route_reason=asked.route_reason,
            mask=self._put(united(masks)) if masks else None,
            references=tuple(map(self._put, references)),
            plan=plan_of(self._settings) if asked.route == "face_swap" else self._settings.plan,
            fingerprint=self._settings.fingerprint,
            regions=tuple(map(self._put, masks)) if several else (),
            mapping=self._mapping(asked) if several else "auto",
            model_version=self._settings.model_version,
        )

    def deliver(self, origin: Mapping[str, Any], result: SearchResult) -> None:
        """Bring a result into its task: images, then data, then one prediction."""
        with self._target(read_origin(origin)) as target:
            if target is not None:
                self._deliver(target, result)

    def _deliver(self, target: _Target, result: SearchResult) -> None:
        asked = self._completed(target.asked, target.current)
        pictures = self._pictures(result)
        urls = self._hosted(target, result, pictures)
        # Settings may have changed since the task was asked; the result knows what made it.
        version = result.task.model_version or asked.model_version
        new = cards.enrichment(
            result,
            urls.__getitem__,
            job_id=asked.job_id,
            model_version=version,
            references=[urls[name] for name in pictures],
        )
        data = cards.merged(target.current["data"], new)
        stored = target.client.update_data(target.task, data)
        prediction = cards.prediction(data, version)
        if prediction is not None:
            Predictions(target.client, target.task).set(prediction, stored.get("predictions"))

    def deliver_failure(self, origin: Mapping[str, Any], failure: Failure) -> None:
        """Bring a failure's sentence into its task; a failed task gets no prediction."""
        asked = read_origin(origin)
        new = cards.failure_enrichment(
            failure,
            job_id=asked.job_id,
            model_version=asked.model_version,
            route_line=cards.route_line(asked.route, asked.route_reason),
        )
        with self._target(asked) as target:
            if target is not None:
                data = cards.merged(target.current["data"], new)
                target.client.update_data(target.task, data)

    @contextmanager
    def _target(self, asked: Origin) -> Iterator[_Target | None]:
        """Where to deliver to, or None; a task that is deleted meanwhile ends quietly."""
        if not asked.label_studio or asked.task is None:
            yield None
            return
        if self._client is None or self._client.url != asked.label_studio:
            log.warning("task %s belongs to another Label Studio: not delivered", asked.task)
            yield None
            return
        current = self._current(self._client, asked, asked.task)
        try:
            yield _Target(self._client, asked, asked.task, current) if current else None
        except LabelStudioDownError:
            raise
        except LabelStudioError:
            if self._current(self._client, asked, asked.task) is not None:
                raise

    def _current(
        self, client: LabelStudioClient, asked: Origin, task: int
    ) -> dict[str, Any] | None:
        """The task as it is now; None when its result is not wanted any more."""
        try:
            current = client.task(task)
        except LabelStudioError as error:
            if error.code != MISSING:
                raise
            log.info("task %s was deleted meanwhile: nothing to deliver", task)
            return None
        if relevant_data(current, self._settings) != asked.data:
            log.info("task %s was changed meanwhile: its old result is dropped", task)
            return None
        return current

    def _completed(self, asked: Origin, current: Mapping[str, Any] | None = None) -> Origin:
        """The origin with the regions that the webhook did not bring."""
        if not asked.look_up or self._client is None or asked.task is None:
            return asked
        task = current or self._client.task(asked.task)
        project = self._client.project(int(task["project"]))
        return origin_of(
            task, self._settings, label_config=project.get("label_config"), project=project
        )

    def _instruction(self, asked: Origin) -> str:
        field = self._settings.instruction_field
        instruction = asked.data.get(field)
        if instruction is None and asked.route == "face_swap":
            return FACE_SWAP_INSTRUCTION
        if not isinstance(instruction, str) or not instruction.strip():
            raise TaskError(
                f"The task's field `{field}` holds no instruction.",
                hint=f"Write what to change into `{field}`.",
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
        content = self._fetcher.fetch(asked.data.get(field), field=field, task=asked.task)
        return images.decode(content, self._limits, what=field)

    def _references(self, asked: Origin) -> list[Image.Image]:
        field = self._settings.reference_field
        given = asked.data.get(field) or []
        addresses = given if isinstance(given, list) else [given]
        if not addresses and asked.route != "edit":
            raise FaceError(
                f"The task's field `{field}` holds no picture of a character.",
                hint=f"Put the address of a picture, or a list of them, into `{field}`, or label "
                "the task as an edit.",
                code="no_character",
            )
        if len(addresses) > MAX_REFERENCES:
            raise TaskError(
                f"The task's field `{field}` holds {len(addresses)} pictures; at most "
                f"{MAX_REFERENCES} are used.",
                hint="Split the task.",
            )
        return [self._reference(address, asked) for address in addresses]

    def _reference(self, address: Any, asked: Origin) -> Image.Image:
        field = self._settings.reference_field
        require_allowed_reference(address, self._settings)
        content = self._fetcher.fetch(address, field=field, task=asked.task)
        return images.decode(content, self._limits, what=field)

    def _mapping(self, asked: Origin) -> FaceMapping:
        field = self._settings.face_mapping_field
        given = asked.data.get(field, self._settings.face_mapping)
        if given not in get_args(FaceMapping):
            known = ", ".join(get_args(FaceMapping))
            raise TaskError(
                f"The task's field `{field}` says {str(given)[:40]!r}.",
                hint=f"Use one of: {known}.",
                code="bad_mapping",
            )
        return cast(FaceMapping, given)

    def _masks(self, asked: Origin, size: tuple[int, int]) -> list[Image.Image]:
        """One mask per drawn region, or per mask image that the task names."""
        if asked.regions:
            return draw_masks(asked.regions, size, self._limits)
        given = asked.data.get(self._settings.mask_field) or []
        addresses = given if isinstance(given, list) else [given]
        return [self._mask(address, asked, size) for address in addresses[:MAX_REFERENCES]]

    def _mask(self, address: Any, asked: Origin, size: tuple[int, int]) -> Image.Image:
        field = self._settings.mask_field
        content = self._fetcher.fetch(address, field=field, task=asked.task)
        mask = images.decode_mask(content, self._limits)
        if mask.point(lambda value: 255 * (value >= 128)).getbbox() is None:
            raise TaskError(
                "The mask is black everywhere, so nothing may be edited.",
                hint=f"Paint the part to edit white, or empty the field `{field}`.",
                code="empty_mask",
            )
        return mask if mask.size == size else mask.resize(size, Image.Resampling.NEAREST)

    def _put(self, image: Image.Image) -> str:
        return self._store.put(images.encode_png(image), "png")

    def _pictures(self, result: SearchResult) -> list[str]:
        """Thumbnails of the task's references, to show beside its candidates."""
        with suppress(MissingArtifactError):
            return [
                self._store.put(images.thumbnail(images.decode(content, self._limits)), "jpg")
                for content in map(self._store.get, result.task.references)
            ]
        return []

    def _hosted(
        self, target: _Target, result: SearchResult, pictures: Sequence[str]
    ) -> dict[str, str]:
        shown = [name for c in result.candidates for name in (c.image, c.thumbnail)]
        names = [name for name in (*shown, *pictures) if name is not None]
        if self._settings.image_hosting == "backend":
            signer: UrlSigner = open_signer(self._settings)
            return {name: signer.url(name) for name in names}
        folder = self._settings.data_dir / "uploads"
        uploads = Uploads(target.client, int(target.current["project"]), self._store, folder)
        return uploads.urls(names)


class Uploads:
    """Artifacts uploaded into one project; what was uploaded once is found again."""

    def __init__(
        self, client: LabelStudioClient, project: int, store: ArtifactStore, folder: Path
    ) -> None:
        self._client = client
        self._project = project
        self._store = store
        self._folder = folder

    def urls(self, names: Iterable[str]) -> dict[str, str]:
        """Where Label Studio serves each artifact; uploads those it does not have."""
        wanted = list(dict.fromkeys(names))
        known = {name: number for name in wanted if (number := self._noted(name)) is not None}
        found = self._found(known)
        missing = [name for name in wanted if name not in found]
        if missing:
            files = {name: self._store.get(name) for name in missing}
            numbers = self._client.upload(self._project, files)
            for name, number in numbers.items():
                self._note(name, number)
            found |= self._found(numbers)
        return found

    def _found(self, numbers: Mapping[str, int]) -> dict[str, str]:
        if not numbers:
            return {}
        paths = self._client.uploads(self._project, list(numbers.values()))
        # Label Studio may have been set up anew: an old note then names somebody else's file.
        return {
            name: paths[number]
            for name, number in numbers.items()
            if paths.get(number, "").endswith(name)
        }

    def _noted(self, name: str) -> int | None:
        try:
            return int(self._note_file(name).read_text())
        except (OSError, ValueError):
            return None

    def _note(self, name: str, number: int) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._note_file(name).write_text(str(number))

    def _note_file(self, name: str) -> Path:
        return self._folder / digest([self._client.url, self._project, name])


class Predictions:
    """The predictions of one task: at most one per model version, and that one up to date."""

    def __init__(self, client: LabelStudioClient, task: int) -> None:
        self._client = client
        self._task = task

    def set(self, wanted: Mapping[str, Any], known: Any = None) -> None:
        """Make `wanted` the only prediction of its model version."""
        version = wanted["model_version"]
        rows = known if isinstance(known, list) else self._client.predictions(self._task)
        existing = _of_version(rows, version)
        if any(_same(row, wanted) for row in existing):
            self._remove_others(existing, wanted)
            return
        self._client.create_prediction(self._task, wanted)
        self._remove_others(_of_version(self._client.predictions(self._task), version), wanted)

    def _remove_others(self, rows: list[dict[str, Any]], wanted: Mapping[str, Any]) -> None:
        keep = min(int(row["id"]) for row in rows if _same(row, wanted))
        for row in rows:
            if int(row["id"]) != keep:
                self._remove(int(row["id"]))

    def _remove(self, prediction: int) -> None:
        try:
            self._client.delete_prediction(prediction)
        except LabelStudioDownError:
            raise
        except LabelStudioError as error:
            if error.code != MISSING:
                raise


def _of_version(rows: Iterable[Any], version: str) -> list[dict[str, Any]]:
    return [row for row in rows if isinstance(row, dict) and row.get("model_version") == version]


def _same(row: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    return _rankings(row.get("result")) == _rankings(wanted["result"])


def _rankings(result: Any) -> str:
    values = [item.get("value") for item in result or [] if isinstance(item, dict)]
    return json.dumps(values, sort_keys=True)
