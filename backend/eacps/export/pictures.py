"""The pictures of reviews: from the artifact store, or else from Label Studio's copy."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from PIL import Image

from eacps.artifacts import (
    NAME,
    ArtifactStore,
    MissingArtifactError,
    StoreAwayError,
    name_of,
    names_in,
    open_store,
)
from eacps.domain import digest
from eacps.errors import EacpsError, TaskError
from eacps.labelstudio.client import LabelStudioClient
from eacps.labelstudio.errors import LabelStudioDownError
from eacps.labelstudio.tasks.fetch import Confirmed, Fetcher, confirmed
from eacps.labelstudio.tasks.regions import mapping, text
from eacps.offline.output import DATA_FOLDER, OutputFolder
from eacps.settings import Settings

ORIGINAL: Final = "original"
_TOGETHER: Final = 100
_PLAIN: Final = re.compile(r"(?!\.)[A-Za-z0-9._-]{1,80}")
_SUFFIXES: Final = {"PNG": "png", "JPEG": "jpg", "WEBP": "webp", "GIF": "gif", "BMP": "bmp"}


class _Fetcher(Fetcher):
    """Fetches the pictures of a task that Label Studio has just described.

    An annotation may name any address, so files of other projects are refused as they are for
    searches.
    """

    row: Mapping[str, Any]

    def _confirmed(self, task: int) -> Confirmed:
        del task
        return confirmed(self.row, _texts(self.row))


@dataclass
class Pictures:
    """The pictures of a project's tasks, optionally kept in a folder."""

    settings: Settings
    client: LabelStudioClient
    folder: Path | None = None
    missing: dict[str, str] = field(default_factory=dict)
    """Which pictures were not found, and why."""
    original_field: str = field(init=False)
    """The field of a task's data with the picture that was edited: projects may have their own."""

    def __post_init__(self) -> None:
        self.original_field = self.settings.image_field
        self._store: ArtifactStore = open_store(self.settings)
        self._fetcher = _Fetcher(self.settings, self.client)
        self._output: OutputFolder | None = None
        if self.folder is not None:
            self._output = OutputFolder(self.folder, self.folder / DATA_FOLDER)
            self._output.sweep()
        # The pairs of a review need each picture several times.
        self._recent = lru_cache(maxsize=16)(self._found)
        self._absent: set[tuple[int, str, str]] = set()
        self._kept: dict[str, str] = {}

    def candidate(self, task: Mapping[str, Any], name: str, record: Any) -> bytes | None:
        """The picture of a candidate; None if it is nowhere."""
        content = mapping(record)
        file, address = text(content.get("file")), text(content.get("image"))
        named = file if NAME.fullmatch(file) else next(iter(names_in([address])), "")
        return self._read(task, name, named, address)

    def original(self, task: Mapping[str, Any]) -> bytes | None:
        """The picture that was edited; None if it cannot be fetched."""
        address = text(mapping(task.get("data")).get(self.original_field))
        return self._read(task, ORIGINAL, "", address)

    def keep_candidate(self, task: Mapping[str, Any], name: str, record: Any) -> str | None:
        """Keep the picture of a candidate in the folder; returns its path there."""
        return self._keep(task, name, lambda: self.candidate(task, name, record))

    def keep_original(self, task: Mapping[str, Any]) -> str | None:
        """Keep the picture that was edited in the folder; returns its path there."""
        return self._keep(task, ORIGINAL, lambda: self.original(task))

    def _keep(
        self, task: Mapping[str, Any], name: str, read: Callable[[], bytes | None]
    ) -> str | None:
        assert self._output is not None
        stem = f"{int(task['id'])}/{name if _PLAIN.fullmatch(name) else digest(name)}"
        if stem in self._kept:
            return self._kept[stem]
        places = (f"{stem}.{suffix}" for suffix in _SUFFIXES.values())
        place = next(filter(self._output.holds, places), None) or self._written(stem, read)
        if place is not None:
            # Those of one task are asked for together.
            self._kept = {**(self._kept if len(self._kept) < _TOGETHER else {}), stem: place}
        return place

    def _written(self, stem: str, read: Callable[[], bytes | None]) -> str | None:
        assert self._output is not None
        content = read()
        if content is None:
            return None
        place = f"{stem}.{suffix_of(content)}"
        self._output.write_file(place, content)
        return place

    def _read(
        self, task: Mapping[str, Any], name: str, artifact: str, address: str
    ) -> bytes | None:
        wanted = (int(task["id"]), artifact, address)
        if wanted in self._absent:
            return None
        self._fetcher.row = task
        try:
            return self._recent(*wanted)
        except LabelStudioDownError:
            raise
        except EacpsError as error:
            self._absent.add(wanted)
            self.missing[f"{name} of task {task['id']}"] = error.message
            return None

    def _found(self, task: int, artifact: str, address: str) -> bytes:
        if artifact:
            try:
                return self._store.get(artifact)
            except (MissingArtifactError, StoreAwayError):
                if not address or address.startswith(self.settings.resolved_public_url):
                    raise
        content = self._fetcher.fetch(address, field=self.original_field, task=task)
        if artifact and not name_of(content, "").startswith(artifact.partition(".")[0]):
            raise TaskError("Label Studio's copy is another picture.")
        suffix_of(content)
        return content


def suffix_of(content: bytes) -> str:
    """The suffix for a picture; raises TaskError if these bytes are none."""
    try:
        with Image.open(io.BytesIO(content)) as picture:
            kind = picture.format or ""
    except (OSError, ValueError, Image.DecompressionBombError):
        kind = ""
    if kind not in _SUFFIXES:
        raise TaskError("The file is no picture of a known type.")
    return _SUFFIXES[kind]


def uid(content: bytes) -> str:
    """A name for a picture: the hash of its bytes."""
    return hashlib.sha256(content).hexdigest()[:32]


def _texts(value: Any) -> list[str]:
    """All texts in JSON content."""
    if isinstance(value, str):
        return [value.strip()]
    nested = value.values() if isinstance(value, dict) else value
    return (
        [one for each in nested for one in _texts(each)] if isinstance(value, dict | list) else []
    )
