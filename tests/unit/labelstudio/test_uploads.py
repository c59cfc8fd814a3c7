"""Uploads: each artifact once, whatever became of the answer, and notes that do not pile up."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from eacps.artifacts import ArtifactStore
from eacps.domain import digest
from eacps.jobs.retention import prune_notes
from eacps.labelstudio.client import LabelStudioClient
from eacps.labelstudio.errors import LabelStudioDownError, LabelStudioError
from eacps.labelstudio.uploads import Uploads
from tests.recorded_label_studio import TOKEN, RecordedLabelStudio, Reply, refusal

UPLOAD = "/api/projects/1/import"
DAY = 86_400.0


@dataclass
class Shelf:
    """Three artifacts, and a project to upload them to."""

    site: RecordedLabelStudio
    store: ArtifactStore
    folder: Path
    names: list[str]

    def urls(self) -> dict[str, str]:
        """What a process that has just started finds or uploads."""
        client = LabelStudioClient(self.site.url, TOKEN)
        return Uploads(client, 1, self.store, self.folder).urls(self.names)

    @property
    def notes(self) -> list[Path]:
        return sorted(self.folder.iterdir())


@pytest.fixture
def shelf(tmp_path: Path) -> Iterator[Shelf]:
    store = ArtifactStore(f"file://{tmp_path / 'artifacts'}")
    names = [store.put(content, "png") for content in (b"one", b"two", b"three")]
    with RecordedLabelStudio() as site:
        yield Shelf(site, store, tmp_path / "uploads", names)


def test_artifacts_are_uploaded_once(shelf: Shelf) -> None:
    first = shelf.urls()
    assert first.keys() == set(shelf.names)
    assert shelf.urls() == first
    assert len(shelf.site.files) == 3


def lose_answer(site: RecordedLabelStudio) -> None:
    """Store the next upload, and answer that the gateway timed out."""
    answer = site.answer

    def cut(method: str, target: str, *rest: Any) -> Reply:
        reply = answer(method, target, *rest)
        if method == "POST":
            site.answer = answer  # type: ignore[method-assign]
            return 504, b"<html>Gateway timeout</html>"
        return reply

    site.answer = cut  # type: ignore[method-assign, assignment]


def test_an_upload_whose_answer_was_lost_is_found_again(shelf: Shelf) -> None:
    lose_answer(shelf.site)
    with pytest.raises(LabelStudioDownError):
        shelf.urls()
    assert len(shelf.site.files) == 3
    assert shelf.urls().keys() == set(shelf.names)
    assert len(shelf.site.files) == 3, "they are uploaded a second time"
    shelf.site.asked.clear()
    shelf.urls()
    assert not [target for _, target in shelf.site.asked if "all=" in target]


def test_what_never_arrived_is_uploaded(shelf: Shelf) -> None:
    shelf.site.fault = lambda method, _: (504, b"") if method == "POST" else None
    with pytest.raises(LabelStudioDownError):
        shelf.urls()
    shelf.site.fault = lambda *_: None
    assert shelf.urls().keys() == set(shelf.names)


def test_files_are_uploaded_again_if_earlier_ones_cannot_be_listed(shelf: Shelf) -> None:
    lose_answer(shelf.site)
    with pytest.raises(LabelStudioDownError):
        shelf.urls()
    left = [refusal(500, "too many")]
    shelf.site.fault = lambda _, path: left.pop() if left and "file-uploads" in path else None
    assert shelf.urls().keys() == set(shelf.names)


def test_what_is_too_large_together_is_uploaded_in_parts(shelf: Shelf) -> None:
    large: list[Reply] = [(413, b"<html>")]
    shelf.site.fault = lambda _, path: large.pop() if large and path == UPLOAD else None
    assert shelf.urls().keys() == set(shelf.names)
    assert len(shelf.site.files) == 3
    shelf.names.append(shelf.store.put(b"enormous", "png"))
    shelf.site.fault = lambda _, path: (413, b"<html>") if path == UPLOAD else None
    with pytest.raises(LabelStudioError, match="too large"):
        shelf.urls()


def test_notes_of_earlier_versions_are_read(shelf: Shelf) -> None:
    before = shelf.urls()
    for name in shelf.names:
        earlier = digest([shelf.site.url, 1, name])
        (shelf.folder / f"{name}.{earlier}").rename(shelf.folder / earlier)
    assert shelf.urls() == before
    assert len(shelf.site.files) == 3


def age(path: Path, days: float) -> None:
    moment = time.time() - days * DAY
    os.utime(path, (moment, moment))


def test_notes_go_when_their_artifacts_are_gone(shelf: Shelf) -> None:
    shelf.urls()
    for note in shelf.notes:
        age(note, 40)
    earlier, fresh = shelf.folder / ("0" * 40), shelf.folder / ("1" * 40)
    for path, days in ((earlier, 40.0), (fresh, 1.0)):
        path.write_text("7")
        age(path, days)
    gone, *_ = shelf.names
    for path in (shelf.folder.parent / "artifacts").rglob(gone):
        path.unlink()
    assert prune_notes(shelf.folder, shelf.store, 31 * DAY) == 2
    assert len(shelf.notes) == 3
    assert not [note for note in shelf.notes if note.name.startswith(gone)]
    assert fresh.exists()
    assert prune_notes(shelf.folder / "nowhere", shelf.store, 0) == 0
