"""Uploads artifacts to Label Studio."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from eacps.artifacts import ArtifactStore
from eacps.domain import digest
from eacps.labelstudio.client import TOO_LARGE, LabelStudioClient
from eacps.labelstudio.errors import LabelStudioError

log = logging.getLogger(__name__)

_BEGUN = "begun"


class Uploads:
    """Artifacts uploaded to one project, each of them once.

    A note per artifact remembers the upload's id. Its name begins with the artifact's, so that
    retention can tell when it is no longer needed.
    """

    def __init__(
        self, client: LabelStudioClient, project: int, store: ArtifactStore, folder: Path
    ) -> None:
        self._client = client
        self._project = project
        self._store = store
        self._folder = folder

    def urls(self, names: Iterable[str]) -> dict[str, str]:
        """The paths of artifacts in Label Studio; uploads missing ones."""
        wanted = list(dict.fromkeys(names))
        known = {name: number for name in wanted if (number := self._stored_id(name)) is not None}
        found = self._found(known)
        found |= self._orphans([name for name in wanted if name not in found])
        missing = [name for name in wanted if name not in found]
        if missing:
            found |= self._found(self._upload(missing))
        return found

    def _upload(self, names: list[str]) -> dict[str, int]:
        files = {name: self._store.get(name) for name in names}
        for name in names:
            self._note(name, _BEGUN)
        try:
            numbers = self._client.upload(self._project, files)
        except LabelStudioError as error:
            if error.code != TOO_LARGE or len(names) == 1:
                raise
            # Each half may be small enough for the proxy that refuses all at once.
            half = len(names) // 2
            return self._upload(names[:half]) | self._upload(names[half:])
        for name, number in numbers.items():
            self._note(name, str(number))
        return numbers

    def _orphans(self, names: Collection[str]) -> dict[str, str]:
        """The paths of files whose upload succeeded although we never got the answer."""
        begun = [name for name in names if self._noted(name) == _BEGUN]
        if not begun:
            return {}
        try:
            uploads = self._client.all_uploads(self._project)
        except LabelStudioError as error:
            # Orphaned files only waste space.
            log.warning("earlier uploads cannot be listed: %s", error)
            return {}
        found = {}
        for number, path in uploads.items():
            for name in begun:
                if path.endswith(name):
                    found[name] = path
                    self._note(name, str(number))
        return found

    def _found(self, numbers: Mapping[str, int]) -> dict[str, str]:
        if not numbers:
            return {}
        paths = self._client.uploads(self._project, list(numbers.values()))
        # Check the names, because ids refer to other files if Label Studio was reinstalled.
        return {
            name: paths[number]
            for name, number in numbers.items()
            if paths.get(number, "").endswith(name)
        }

    def _stored_id(self, name: str) -> int | None:
        noted = self._noted(name)
        return int(noted) if noted.isdecimal() else None

    def _noted(self, name: str) -> str:
        # Version 0.2.0 and earlier named notes by the hash alone.
        for path in (self._path(name), self._folder / self._hash(name)):
            try:
                return path.read_text().strip()
            except OSError:
                continue
        return ""

    def _note(self, name: str, content: str) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._path(name).write_text(content)

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.{self._hash(name)}"

    def _hash(self, name: str) -> str:
        return digest([self._client.url, self._project, name])
