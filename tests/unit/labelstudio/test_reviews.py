"""What annotations say, and what does not fit together."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from eacps.domain import PRUNED, Failure, SearchResult
from eacps.labelstudio import cards
from eacps.labelstudio.reviews import UNKNOWN, reviews
from tests.unit.labelstudio.support import make_result

STORED = Path(__file__).parents[2] / "fixtures" / "stored"
EARLIER, LATER = "2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z"


def searched(result: SearchResult) -> dict[str, Any]:
    """A task of a search whose last candidate is a preview."""
    preview = replace(result.candidates[2], failure=Failure(PRUNED, "Stopped early."))
    result = replace(result, candidates=(*result.candidates[:2], preview))
    new = cards.enrichment(result, lambda name: f"/{name}", job_id="j", model_version="v")
    return {"id": 7, "data": cards.merged({}, new), "annotations": [], "predictions": []}


def annotated(
    task: dict[str, Any], ranked: list[str], rejected: list[str], *verdict: str, **fields: Any
) -> dict[str, Any]:
    """The only review of a task with this annotation."""
    columns = {"ranked": ranked, "rejected": rejected}
    meta = (cards.prediction(task["data"]) or {"result": [{}]})["result"][0].get("meta", {})
    regions = [
        {"type": "ranker", "from_name": "rank", "value": {"ranker": columns}, "meta": meta},
        {"type": "textarea", "from_name": "comment", "value": {"text": ["Too red."]}},
    ]
    if verdict:
        regions.append({"from_name": "verdict", "value": {"choices": list(verdict)}})
    skipped = {"id": 1, "was_cancelled": True, "result": regions}
    annotation = {"id": 2, "completed_by": 5, "created_at": LATER, "result": regions, **fields}
    (review,) = reviews({**task, "annotations": [skipped, annotation]})
    json.dumps(review, allow_nan=False)
    return review


def test_a_review_says_what_was_decided_and_about_what(result: SearchResult) -> None:
    task = searched(result)
    one, two, preview = (card["id"] for card in task["data"]["candidates"])
    review = annotated(task, [two, one], [], "Another is better")
    assert (review["task"], review["annotation"], review["by"]) == (7, 2, 5)
    assert (review["verdict"], review["comment"]) == ("Another is better", "Too red.")
    assert (review["best_by_human"], review["best_by_machine"]) == (two, one)
    assert review["candidates"][two]["image"] == f"/{1:040x}.png"
    assert preview not in review["candidates"]
    assert review["problems"] == []


def test_a_contradiction_is_said(result: SearchResult) -> None:
    task = searched(result)
    one, two, preview = (card["id"] for card in task["data"]["candidates"])
    for ranked, verdict, words in (
        ([two, one], "Accept best", f"{one} is not on top"),
        ([one, two], "Another is better", f"{one} is still on top"),
        ([one, two], "None acceptable", "2 candidates are ranked"),
        ([one, preview], "Accept best", f"{preview} is ranked, but it is not finished"),
    ):
        (problem,) = annotated(task, ranked, [], verdict)["problems"]
        assert words in problem
    assert annotated(task, [one], [])["problems"] == ["There is no verdict."]
    refused = annotated(task, [], [one, two], "None acceptable")
    assert (refused["problems"], refused["best_by_human"]) == ([], None)


def test_a_review_means_the_same_after_another_search(result: SearchResult) -> None:
    task = searched(result)
    names = [card["id"] for card in task["data"]["candidates"]][:2]
    before = annotated(task, names, [], "Accept best")
    other = replace(make_result(), task=replace(result.task, instruction="another"))
    new = cards.enrichment(other, lambda name: f"/b/{name}", job_id="k", model_version="v")
    searched_again = {**task, "data": cards.merged(task["data"], new)}
    (after,) = reviews({**searched_again, "annotations": [{**_without_meta(task, names), "id": 2}]})
    assert after["candidates"] == before["candidates"]
    assert after["best_by_machine"] == before["best_by_machine"]


def _without_meta(task: dict[str, Any], names: list[str]) -> dict[str, Any]:
    columns = {"ranked": names, "rejected": []}
    ranking = {"type": "ranker", "from_name": "rank", "value": {"ranker": columns}}
    return {"task": task["id"], "result": [ranking]}


def of_02(*created: str) -> dict[str, Any]:
    """A task that 0.2 searched so often, at these moments."""
    folder = STORED / "0.2" / "formats"
    data = json.loads((folder / "task-data.json").read_text())
    prediction = json.loads((folder / "prediction.json").read_text())
    rows = [
        {**prediction, "id": number, "created_at": moment}
        for number, moment in enumerate(created, start=1)
    ]
    return {"id": 7, "data": data, "predictions": rows}


@pytest.mark.parametrize(
    ("task", "annotation", "known"),
    [
        (of_02(EARLIER), {"parent_prediction": 1}, True),
        (of_02(EARLIER), {"parent_prediction": None, "created_at": LATER}, True),
        (of_02(EARLIER, LATER), {"parent_prediction": 2, "created_at": LATER}, True),
        (of_02(EARLIER, LATER), {"parent_prediction": 1, "created_at": EARLIER}, False),
        (of_02(LATER), {"parent_prediction": None, "created_at": EARLIER}, False),
        (of_02(), {"parent_prediction": None, "created_at": LATER}, False),
    ],
)
def test_pictures_that_an_earlier_version_replaced_are_called_unknown(
    task: dict[str, Any], annotation: dict[str, Any], known: bool
) -> None:
    for again in (False, True):
        if again:
            new = cards.enrichment(
                make_result(), str, job_id="k", model_version="v", data=task["data"]
            )
            task["data"] = cards.merged(task["data"], new)
        review = annotated({**task, "data": task["data"]}, ["c2", "c5"], [], **annotation)
        assert (UNKNOWN in review["problems"]) is not known
        assert (review["candidates"] is not None) is known


@pytest.mark.parametrize("odd", [None, 3, [], {}, "x", [3], [{"value": []}], [{"type": "ranker"}]])
def test_odd_annotations_are_read_without_error(odd: Any) -> None:
    for task in ({"annotations": odd}, {"annotations": [{"result": odd}], "predictions": odd}):
        for review in reviews(task):
            json.dumps(review)
