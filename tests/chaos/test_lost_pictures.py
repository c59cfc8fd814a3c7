"""Stored pictures disappear before they are delivered: they are rendered again, and only they."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from eacps.artifacts import open_store
from eacps.domain import SearchResult
from tests.chaos.jobs_play import job
from tests.chaos.stage import CANDIDATES, EVERY_ROUND, Stage


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    stage = Stage(tmp_path_factory.mktemp("stage"), "")
    try:
        yield stage
    finally:
        stage.close()


def wait_for_delivery(stage: Stage, name: str) -> SearchResult:
    """The search has ended, and its delivery waits because Label Studio is down."""
    stage.until((stage.folder / f"down-deliver-{name}").exists)
    result = stage.client.result(name, 60)
    assert isinstance(result, SearchResult)
    return result


def file_of(stage: Stage, image: str) -> Path:
    [path] = (stage.folder / "artifacts").rglob(image)
    return path


def test_lost_pictures_are_rendered_again_and_then_delivered(stage: Stage) -> None:
    stage.client.submit(job("lost", down="deliver"))
    before = wait_for_delivery(stage, "lost")
    by_trial = {candidate.id: candidate.image or "" for candidate in before.candidates}
    gone, emptied, garbled = (file_of(stage, by_trial[trial]) for trial in ("c1", "c2", "c5"))
    gone.unlink()
    emptied.write_bytes(b"")
    garbled.write_bytes(b"not a picture")
    stage.until_delivered("lost")
    stage.assert_delivered_once("lost")
    renders = Counter(stage.renders("lost", "end"))
    assert sorted(renders.values()) == [1, 1, 2, 2]
    assert {trial for trials in renders if renders[trials] == 2 for trial in trials} == {
        "c1", "c2", "c5", "c6",
    }  # fmt: skip
    # The render is deterministic, so the result is the one that was lost.
    [delivery] = stage.deliveries("lost")
    assert delivery["images"] == [candidate.image for candidate in before.usable]
    assert all(map(open_store(stage.settings).intact, delivery["images"]))
    assert len(delivery["images"]) == CANDIDATES


def test_a_store_that_keeps_nothing_ends_with_a_report(stage: Stage) -> None:
    stage.client.submit(job("never", lost=EVERY_ROUND[:1]))
    stage.until_delivered("never")
    assert [line.get("failure") for line in stage.deliveries("never")] == ["artifact_missing"]
    assert stage.status("never").state == "failed"
    renders = Counter(stage.renders("never", "end"))
    assert sorted(renders.values()) == [1, 1, 1, 3]


def test_asking_again_for_a_finished_search_renders_what_was_lost_meanwhile(stage: Stage) -> None:
    stage.client.submit(job("first", text="shared"))
    stage.until_delivered("first")
    result = stage.client.result("first")
    assert isinstance(result, SearchResult)
    file_of(stage, result.best.image or "").write_bytes(b"not a picture")
    stage.client.submit(job("second", text="shared"))
    stage.until_delivered("second")
    stage.assert_delivered_once("second")
    assert open_store(stage.settings).intact(result.best.image or "")
    assert sorted(Counter(stage.renders("shared", "end")).values()) == [1, 1, 1, 2]
