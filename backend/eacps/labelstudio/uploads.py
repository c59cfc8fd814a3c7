"""Uploads artifacts to Label Studio."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from eacps.artifacts import ArtifactStore
from eacps.domain import digest
from eacps.labelstudio.client import LabelStudioClient


class Uploads:
    """Artifacts uploaded to one project, each of them once."""

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
        missing = [name for name in wanted if name not in found]
        if missing:
            files = {name: self._store.get(name) for name in missing}
            numbers = self._client.upload(self._project, files)
            for name, number in numbers.items():
                self._store_id(name, number)
            found |= self._found(numbers)
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
        try:
            return int(self._id_file(name).read_text())
        except (OSError, ValueError):
            return None

    def _store_id(self, name: str, number: int) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._id_file(name).write_text(str(number))

    def _id_file(self, name: str) -> Path:
        return self._folder / digest([self._client.url, self._project, name])
