"""The orchestrator's hooks for `eacps run`: read tasks from files, write results to a folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL.Image import Image

from eacps.artifacts import ArtifactStore, open_store
from eacps.domain import EditTask, Failure, SearchResult, to_json
from eacps.errors import FetchError
from eacps.images import encode_png
from eacps.jobs.contract import Job, KnownOrigins
from eacps.labelstudio.client import open_client
from eacps.labelstudio.tasks.fetch import Fetcher
from eacps.labelstudio.tasks.origins import read_origin
from eacps.labelstudio.tasks.reading import TaskReader
from eacps.offline.output import OutputFolder, printable
from eacps.offline.tasks import LOCAL
from eacps.settings import Settings


class FileFetcher(Fetcher):
    """Also reads local files, because tasks come from the local user."""

    # The local user may read everything that the token may.
    requires_confirmation = False

    def fetch(self, reference: Any, *, field: str = "image", task: int | None = None) -> bytes:
        """The content of a `file://` URL, or of any other allowed one."""
        if not (isinstance(reference, str) and reference.startswith(LOCAL)):
            return super().fetch(reference, field=field, task=task)
        path = Path(reference.removeprefix(LOCAL))
        if not _is_file(path):
            name = printable(str(path))
            raise FetchError(f"There is no file {name}.", hint=f"Correct the field `{field}`.")
        try:
            if path.stat().st_size > self._settings.max_image_bytes:
                raise FetchError(
                    f"{path} is larger than {self._settings.max_image_bytes:,} bytes.",
                    hint="Raise EACPS_MAX_IMAGE_BYTES.",
                    code="image_too_large",
                )
            return path.read_bytes()
        except OSError as error:
            raise FetchError(f"{path} cannot be read: {error.strerror}.") from None


class FileHooks:
    """Reads images from files and writes results to a folder."""

    def __init__(
        self, settings: Settings, folder: Path, store: ArtifactStore | None = None
    ) -> None:
        self._settings = settings
        self._output = OutputFolder(folder, settings.data_dir)
        self._store = store or open_store(settings)
        self._reader = file_reader(settings)

    def prepare(self, origin: Mapping[str, Any]) -> EditTask:
        """Read the EditTask of one input task."""
        read = self._reader.read(read_origin(origin["origin"]))
        return read.edit_task(self._settings, self._keep)

    def _keep(self, image: Image) -> str:
        return self._store.put(encode_png(image), "png")

    def deliver(self, origin: Mapping[str, Any], result: SearchResult) -> None:
        """Write `NAME/best.png`, `NAME/c1.png` …, and last `NAME.json`, which marks the end."""
        name = str(origin["name"])
        self._output.require_free(*places_of(name))
        with self._output.filling(name) as fresh:
            for candidate in result.usable:
                if candidate.image:
                    (fresh / f"{candidate.id}.png").write_bytes(self._store.get(candidate.image))
            shutil.copyfile(fresh / f"{result.best.id}.png", fresh / "best.png")
        # The search may have been another task's, with another reason for the same route.
        reason = read_origin(origin["origin"]).route_reason
        own = replace(result, task=replace(result.task, route_reason=reason))
        self._write(origin, {"best": result.best.id, **to_json(own)})

    def deliver_failure(self, origin: Mapping[str, Any], failure: Failure) -> None:
        """Write `NAME.json` with the error, and remove earlier images."""
        name = str(origin["name"])
        self._output.require_free(*places_of(name))
        self._output.remove(name)
        self._write(origin, {"error": to_json(failure)})

    def say_waiting(self, origin: Mapping[str, Any], note: str) -> None:
        """Nothing: tasks of files belong to no project."""

    def overlooked(self, known: KnownOrigins) -> Iterable[Sequence[Job]]:  # noqa: ARG002
        """None: all tasks of the input are submitted."""
        return ()

    def _write(self, origin: Mapping[str, Any], outcome: Mapping[str, Any]) -> None:
        content = {
            "name": origin["name"],
            "id": origin["task_id"],
            "data": origin["origin"]["data"],
            "job": origin["job"],
            **outcome,
        }
        written = json.dumps(content, indent=2, ensure_ascii=False).encode()
        self._output.write_file(f"{origin['name']}.json", written)


def places_of(name: str) -> tuple[str, str]:
    """Where a task's result is written, in the output folder."""
    return name, f"{name}.json"


def file_reader(settings: Settings) -> TaskReader:
    """A reader for tasks with images in local files or in Label Studio."""
    client = open_client(settings) if settings.label_studio_url else None
    return TaskReader(settings, FileFetcher(settings, client))


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # The name is too long, or contains a NUL.
        return False
