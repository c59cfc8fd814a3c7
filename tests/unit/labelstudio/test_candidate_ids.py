"""What a task keeps when it is searched again: ids, cards, pictures, rankings and predictions."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from pydantic import SecretStr

from eacps.artifacts import names_in, open_store
from eacps.domain import Candidate, SearchResult, from_json, to_json
from eacps.labelstudio import cards
from eacps.labelstudio.hooks import LabelStudioHooks
from eacps.labelstudio.tasks.origins import META, origin_of
from eacps.settings import Settings
from tests.recorded_label_studio import TOKEN, RecordedLabelStudio
from tests.unit.labelstudio.support import make_result

STORED = Path(__file__).parents[2] / "fixtures" / "stored"
OF_02 = ("0.1", "0.2", "0.3")
"""The records in which a card's id is its trial's."""


@dataclass
class Task:
    """Task 7 of a recording Label Studio, to which results are delivered."""

    site: RecordedLabelStudio
    settings: Settings

    def deliver(self, result: SearchResult) -> None:
        asked = origin_of(self.site.tasks[7], self.settings)
        LabelStudioHooks(self.settings).deliver(to_json(asked), result)

    def search(self, seed: int) -> SearchResult:
        """A search's result with pictures of its own."""
        found = make_result()
        task = replace(found.task, plan=replace(found.task.plan, seed=seed))
        pictures = (self._painted(each, seed, n) for n, each in enumerate(found.candidates))
        return replace(found, task=task, candidates=tuple(pictures))

    def _painted(self, candidate: Candidate, seed: int, number: int) -> Candidate:
        if candidate.failure:
            return candidate
        content = io.BytesIO()
        Image.new("RGB", (8, 8), (number, seed, 0)).save(content, "PNG")
        name = open_store(self.settings).put(content.getvalue(), "png")
        return replace(candidate, image=name, thumbnail=name)

    @property
    def data(self) -> dict[str, Any]:
        return dict(self.site.tasks[7]["data"])

    @property
    def cards(self) -> dict[str, dict[str, Any]]:
        return {card["id"]: card for card in self.data["candidates"]}

    @property
    def predictions(self) -> list[dict[str, Any]]:
        return self.site.predictions_of(7)

    def annotate(self) -> dict[str, list[str]]:
        """Submit the newest prediction's ranking, reversed; returns what was saved."""
        (region,) = self.predictions[-1]["result"]
        saved = {"ranked": region["value"]["ranker"]["ranked"][::-1], "rejected": []}
        annotation = {
            "id": 1 + len(self.site.tasks[7]["annotations"]),
            "parent_prediction": self.predictions[-1]["id"],
            "result": [{**region, "value": {"ranker": saved}}],
        }
        self.site.tasks[7]["annotations"].append(annotation)
        return saved


@pytest.fixture(params=["upload", "backend"])
def task(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Task]:
    with RecordedLabelStudio() as site:
        settings = Settings(
            _env_file=None,
            data_dir=tmp_path,
            label_studio_url=site.url,
            label_studio_api_key=SecretStr(TOKEN),
            image_hosting=request.param,
        )
        site.add_task(7, {"image": "/data/upload/1/a.png", "prompt": "add a scarf"})
        yield Task(site, settings)


def pictures(task: Task, names: list[str]) -> list[str]:
    return [task.cards[name]["candidate"]["image"] for name in names]


def test_a_second_search_changes_nothing_that_a_saved_ranking_names(task: Task) -> None:
    task.deliver(task.search(1))
    saved = task.annotate()["ranked"]
    shown, before = pictures(task, saved), task.cards
    task.deliver(task.search(2))
    new = task.data[META]["ranked"]
    assert not set(new) & set(saved)
    assert pictures(task, saved) == shown
    assert not set(pictures(task, new)) & set(shown)
    for name in saved:
        kept = task.cards[name]
        assert kept | {"title": before[name]["title"]} == before[name]
        assert kept["title"].endswith(f"earlier search {name.partition('-')[2]}")


def test_a_prediction_ranks_only_its_own_search(task: Task) -> None:
    for seed in (1, 2):
        task.deliver(task.search(seed))
    (prediction,) = task.predictions
    (region,) = prediction["result"]
    assert region["value"]["ranker"] == {"ranked": task.data[META]["ranked"], "rejected": []}
    assert {name.partition("-")[2] for name in region["meta"]["candidates"]} == {
        task.data[META]["ranked"][0].partition("-")[2]
    }


def test_a_prediction_that_an_annotation_was_made_from_is_kept(task: Task) -> None:
    task.deliver(task.search(1))
    task.annotate()
    (parent,) = task.predictions
    task.deliver(task.search(2))
    task.deliver(task.search(3))
    assert task.predictions[0] == parent
    assert len(task.predictions) == 2
    assert (
        task.predictions[-1]["result"][0]["value"]["ranker"]["ranked"]
        == (task.data[META]["ranked"])
    )


def test_predictions_of_02_are_kept_because_annotations_are_read_by_them(task: Task) -> None:
    def of_02(number: int) -> dict[str, Any]:
        value = {"ranker": {"ranked": ["c1"], "rejected": [f"c{number}"]}}
        region = {"id": "eacps-rank", "type": "ranker", "from_name": "rank", "value": value}
        version = task.settings.model_version
        return {"id": number, "task": 7, "model_version": version, "result": [region]}

    task.site.predictions = [of_02(2), of_02(3)]
    task.annotate()
    task.site.tasks[7]["annotations"][0]["parent_prediction"] = 2
    task.deliver(task.search(1))
    assert [row["id"] for row in task.predictions] == [2, 3, 4]


def test_the_same_result_delivered_again_changes_nothing(task: Task) -> None:
    results = [task.search(seed) for seed in (1, 2)]
    for result in results:
        task.deliver(result)
    before, rows = json.dumps(task.data), task.predictions
    task.deliver(results[1])
    assert json.dumps(task.data) == before
    assert task.predictions == rows
    # An earlier search that is asked for again is the newest again, under the same names.
    names = set(task.cards)
    task.deliver(results[0])
    assert set(task.cards) == names
    assert not task.cards[task.data[META]["ranked"][0]]["title"].endswith("search")


def test_the_pictures_of_earlier_searches_are_kept_from_retention(task: Task) -> None:
    if task.settings.image_hosting != "backend":
        pytest.skip("Label Studio has its own copies")
    first = task.search(1)
    task.deliver(first)
    task.deliver(task.search(2))
    wanted = {each.image for each in first.candidates if each.image}
    assert wanted <= open_store(task.settings).shown()


def test_a_result_with_other_pictures_has_other_ids_although_its_search_is_the_same(
    task: Task,
) -> None:
    one = task.search(1)
    other = replace(task.search(2), task=one.task)
    task.deliver(one)
    names = set(task.cards)
    task.deliver(other)
    assert not names & set(task.data[META]["ranked"])


def test_two_searches_whose_hashes_begin_alike_have_different_ids(
    task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashes = {1: "abcdef1111", 2: "abcdef2222", 3: "abcdef3333"}
    for module in ("naming", "records"):
        monkeypatch.setattr(
            f"eacps.labelstudio.cards.{module}.search_of", lambda r: hashes[r.task.plan.seed]
        )
    for seed in (1, 2, 3, 1):
        task.deliver(task.search(seed))
    suffixes = {name.partition("-")[2] for name in task.cards}
    assert suffixes == {"abcdef", "abcdef2", "abcdef3"}


def test_a_report_gives_its_own_tasks_reason_for_the_route(task: Task) -> None:
    found = task.search(1)
    task.site.tasks[7]["data"]["route"] = "edit"
    task.deliver(found)
    assert "local edit" in found.task.route_reason
    assert "local edit" not in task.data["report_md"]
    assert "label “edit” in the task" in task.data["report_md"]


def stored(version: str, name: str) -> Any:
    return json.loads((STORED / version / "formats" / name).read_text(encoding="utf-8"))


@pytest.mark.parametrize("version", OF_02)
def test_cards_of_earlier_versions_stay_as_they_are(version: str) -> None:
    data, result = stored(version, "task-data.json"), stored(version, "search-result.json")
    assert cards.has_result_of_02(data, from_json(SearchResult, result))
    assert cards.prediction(data) == stored(version, "prediction.json")
    new = cards.enrichment(
        make_result(), lambda name: name, job_id="j", model_version="v", data=data
    )
    after = cards.merged(data, new)
    kept = {card["id"]: card for card in after["candidates"]}
    for card in data["candidates"]:
        assert kept[card["id"]]["html"] == card["html"]
    # Their full pictures were known by their order in the gallery alone.
    usable = [card["id"] for card in data["candidates"]][: len(data["gallery"])]
    assert [kept[name]["candidate"]["image"] for name in usable] == data["gallery"]
    assert len(kept) == len(data["candidates"]) + 4
    again = cards.merged(after, new)
    assert again == after


@pytest.mark.parametrize("version", OF_02)
def test_other_pictures_never_take_the_place_of_an_earlier_versions(version: str) -> None:
    data = stored(version, "task-data.json")
    result = from_json(SearchResult, stored(version, "search-result.json"))
    other = replace(result.best, thumbnail=f"{99:040x}.jpg")
    changed = replace(result, candidates=(other, *result.candidates[1:]))
    assert not cards.has_result_of_02(data, changed)
    new = cards.enrichment(changed, lambda name: name, job_id="j", model_version="v", data=data)
    assert not {c["id"] for c in new["candidates"]} & {c["id"] for c in data["candidates"]}


def test_a_result_of_an_earlier_version_is_not_delivered_a_second_time(task: Task) -> None:
    result = task.search(1)
    urls = {"upload": "/data/upload/1/{}", "backend": "https://eacps.example/artifacts/s/{}"}
    of_02 = [
        {
            "id": each.id,
            "title": each.id.upper(),
            "html": f"<img src='{urls[task.settings.image_hosting].format(each.thumbnail)}'/>",
        }
        for each in result.candidates
    ]
    ranked = [each.id for each in result.usable]
    version = task.settings.model_version
    meta: dict[str, Any] = {"job": "j", "key": result.task.key, "ranked": ranked}
    meta |= {"model_version": version, "rejected": ["c4"], "score": 0.8}
    task.site.tasks[7]["data"] |= {"candidates": of_02, "gallery": [], META: meta}
    before = task.data
    task.deliver(result)
    assert task.data == before
    (prediction,) = task.predictions
    (region,) = prediction["result"]
    assert region["value"]["ranker"] == {"ranked": ranked, "rejected": ["c4"]}


def test_names_of_pictures_are_found_in_cards() -> None:
    name = f"{7:040x}.jpg"
    assert names_in([{"html": f"<img src='/artifacts/abc/{name}'/>"}, {"x": None}]) == {name}
