"""Retention never takes what a task still shows."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from PIL import Image
from pydantic import SecretStr

from eacps.artifacts import ArtifactStore, open_store
from eacps.domain import SearchResult, to_json
from eacps.jobs.retention import prune_files
from eacps.labelstudio.client import open_client
from eacps.labelstudio.hooks import LabelStudioHooks
from eacps.labelstudio.shown import forget_deleted_tasks
from eacps.labelstudio.tasks.origins import origin_of
from eacps.settings import Settings
from tests.recorded_label_studio import TOKEN, RecordedLabelStudio
from tests.unit.labelstudio.support import make_result

YEAR = 365 * 86_400.0


@dataclass
class Wall:
    """A Label Studio whose task 7 shows images of this backend."""

    site: RecordedLabelStudio
    settings: Settings
    store: ArtifactStore

    def deliver(self, colour: int, **changes: str) -> set[str]:
        """Deliver images of a new colour; returns their names."""
        result = self._result(colour)
        settings = self.settings.model_copy(update=changes)
        task = {**self.site.tasks[7], "data": {"image": "/a.png", "prompt": "a scarf"}}
        self.site.tasks[7]["data"] = task["data"]
        LabelStudioHooks(settings).deliver(to_json(origin_of(task, settings)), result)
        return {name for one in result.candidates for name in (one.image,) if name}

    def prune_in_a_year(self, *, keep_shown: bool = True) -> int:
        """As retention does it; everything is old by then."""
        with pytest.MonkeyPatch.context() as patch:
            later = time.time() + YEAR
            patch.setattr(time, "time", lambda: later)
            return prune_files(self.store, 31 * 86_400.0, set(), keep_shown=keep_shown)

    def _result(self, colour: int) -> SearchResult:
        result = make_result()
        content = io.BytesIO()
        Image.new("RGB", (8, 8), (colour, 0, 0)).save(content, "PNG")
        name = self.store.put(content.getvalue(), "png")
        candidates = (
            replace(each, image=name, thumbnail=name) if not each.failure else each
            for each in result.candidates
        )
        return replace(result, candidates=tuple(candidates))


@pytest.fixture
def wall(tmp_path: Path) -> Iterator[Wall]:
    with RecordedLabelStudio() as site:
        settings = Settings(
            _env_file=None,
            data_dir=tmp_path,
            label_studio_url=site.url,
            label_studio_api_key=SecretStr(TOKEN),
            image_hosting="backend",
        )
        site.add_task(7, {"image": "/a.png", "prompt": "a scarf"})
        yield Wall(site, settings, open_store(settings))


def test_images_stay_for_as_long_as_the_task_shows_them(wall: Wall) -> None:
    first = wall.deliver(1)
    unshown = wall.store.put(b"shown by nobody", "png")
    assert wall.prune_in_a_year() >= 1
    assert all(map(wall.store.intact, first))
    assert not wall.store.exists(unshown)
    second = wall.deliver(2)
    wall.prune_in_a_year()
    assert all(map(wall.store.intact, second))
    assert not any(wall.store.exists(name) for name in first - second)


def test_images_go_with_their_task(wall: Wall) -> None:
    shown = wall.deliver(1)
    client = open_client(wall.settings)
    assert forget_deleted_tasks(client, wall.store) == 0
    del wall.site.tasks[7]
    assert forget_deleted_tasks(client, wall.store) == 1
    wall.prune_in_a_year()
    assert not any(map(wall.store.exists, shown))


def test_tasks_of_another_label_studio_are_not_asked_for(wall: Wall) -> None:
    wall.store.keep_for(f"{'0' * 24}-task-8", [wall.store.put(b"of another", "png")])
    assert forget_deleted_tasks(open_client(wall.settings), wall.store) == 0
    assert len(wall.store.shown()) == 1


def test_who_says_so_keeps_nothing(wall: Wall) -> None:
    shown = wall.deliver(1)
    wall.prune_in_a_year(keep_shown=False)
    assert not any(map(wall.store.exists, shown))


def test_uploaded_images_are_label_studios_to_keep(wall: Wall) -> None:
    wall.deliver(1)
    wall.deliver(1, image_hosting="upload")
    assert wall.store.shown() == set()


def test_a_note_that_cannot_be_read_deletes_nothing(
    wall: Wall, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = wall.deliver(1)
    denied = PermissionError(13, "Permission denied")
    monkeypatch.setattr(wall.store._files, "cat", lambda paths, **_: dict.fromkeys(paths, denied))
    with pytest.raises(Exception, match="cannot be used"):
        wall.prune_in_a_year()
    assert all(map(wall.store.exists, shown))
