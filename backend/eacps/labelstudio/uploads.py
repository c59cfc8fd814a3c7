"""Artifacts as files of Label Studio."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from eacps.artifacts import ArtifactStore
from eacps.domain import digest
from eacps.labelstudio.client import LabelStudioClient


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
