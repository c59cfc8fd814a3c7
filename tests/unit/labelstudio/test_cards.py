from __future__ import annotations

import json
from dataclasses import replace
from typing import Any
from xml.etree import ElementTree

import pytest

from eacps.domain import Failure, SearchResult
from eacps.labelstudio import cards
from eacps.labelstudio.label_config import label_config
from eacps.settings import Settings

VERSION = "eacps-0123456789"


def build(result: SearchResult) -> dict[str, Any]:
    return cards.enrichment(
        result, lambda name: f"/data/{name}", job_id="job", model_version=VERSION
    )


def well_formed(html: str) -> ElementTree.Element:
    """Fails on HTML that a sanitiser would repair in its own way."""
    return ElementTree.fromstring(f"<all>{html.replace('<br>', '<br/>')}</all>")


def test_the_gallery_is_ordered_best_first_and_leaves_failures_out(result: SearchResult) -> None:
    data = build(result)
    assert data["gallery"] == [f"/data/{index:040x}.png" for index in range(3)]
    assert [card["id"] for card in data["candidates"]] == ["c1", "c2", "c3", "c4"]


def test_a_card_shows_rank_potential_metrics_lineage_and_cost(result: SearchResult) -> None:
    best, _, child, failed = build(result)["candidates"]
    assert best["title"] == "C1 · 0.800"
    shown = " ".join(well_formed(best["html"]).itertext())
    for expected in (
        "best",
        "80%",
        "0.100 ahead of C2",
        "pf",
        "0.300",
        "+0.300",
        "fuller is better",
    ):
        assert expected in shown
    assert "global · seed 7 · 24 NFE" in shown
    assert "\N{MULTIPLICATION SIGN}\N{MINUS SIGN}3" in shown
    assert "0.200 behind C1" in child["html"]
    assert "child of c1 at angle 0.4" in child["html"]
    assert "Out of memory." in failed["html"]


def test_the_report_says_route_and_why_strategy_cost_and_margin(result: SearchResult) -> None:
    report = build(result)["report_md"]
    shown = "".join(well_formed(report).itertext())
    for expected in (
        "Route Edit (label “local edit” in the task's field `route`)",
        "strategy eacps · 4 candidates · 72 NFE · 3.200 s · editor tiny",
        "best C1 0.800, 0.100 ahead of C2",
        "Out of memory.",
    ):
        assert expected in shown
    assert "\n" not in report


def test_nothing_a_user_wrote_becomes_markup(result: SearchResult) -> None:
    attack = "<img src=x onerror=alert(1)>'\"\n\n# Heading"
    task = replace(result.task, route_reason=attack)
    usable = replace(result.candidates[0], notes=(attack,))
    failed = replace(result.candidates[-1], failure=Failure("x", attack))
    hostile = replace(
        result, task=task, candidates=(usable, failed), notes=(attack,), editor=attack
    )
    data = build(hostile)
    texts = [data["report_md"], *(card["html"] for card in data["candidates"])]
    texts.append(cards.failure_report(Failure(attack, attack)))
    for html in texts:
        assert "<img src=x" not in html
        assert "\n" not in html
        assert not [e for e in well_formed(html).iter() if "onerror" in e.attrib]


def test_odd_numbers_do_not_break_a_card(result: SearchResult) -> None:
    metric = replace(result.best.metrics[0], value=float("nan"), normalised=float("inf"))
    odd = replace(result.best, metrics=(metric,), potential=1e12)
    data = build(replace(result, candidates=(odd,)))
    json.dumps(data, allow_nan=False)
    well_formed(data["candidates"][0]["html"])


def test_the_prediction_ranks_every_card_and_scores_the_best(result: SearchResult) -> None:
    prediction = cards.prediction(build(result), VERSION)
    assert prediction == {
        "model_version": VERSION,
        "score": 0.8,
        "result": [
            {
                "id": "eacps-rank",
                "from_name": "rank",
                "to_name": "cands",
                "type": "ranker",
                "value": {"ranker": {"ranked": ["c1", "c2", "c3"], "rejected": ["c4"]}},
            }
        ],
    }


def test_no_card_is_ever_removed(result: SearchResult) -> None:
    before = cards.merged({"image": "x", "own": 1}, build(result))
    fewer = build(replace(result, candidates=result.candidates[:1]))
    after = cards.merged(before, fewer)
    assert [card["id"] for card in after["candidates"]] == ["c1", "c2", "c3", "c4"]
    assert after["candidates"][1]["title"].endswith("earlier search")
    assert (after["image"], after["own"]) == ("x", 1)
    prediction = cards.prediction(after, VERSION)
    assert prediction is not None
    assert prediction["result"][0]["value"]["ranker"]["rejected"] == ["c2", "c3", "c4"]
    again = cards.merged(after, fewer)
    assert again["candidates"][1]["title"].count("earlier search") == 1


def test_a_failure_keeps_cards_but_gives_no_prediction(result: SearchResult) -> None:
    before = cards.merged({}, build(result))
    new = cards.failure_enrichment(
        Failure("bad_image", "Broken."), job_id="j", model_version=VERSION
    )
    after = cards.merged(before, new)
    assert len(after["candidates"]) == 4
    assert cards.prediction(after, VERSION) is None
    assert "Broken." in after["report_md"]


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        {"eacps": 3},
        {"eacps": {"model_version": VERSION}},
        {"eacps": {"model_version": "other", "ranked": ["c1"]}, "candidates": [{"id": "c1"}]},
        {"eacps": {"model_version": VERSION, "ranked": ["c1", "c9"]}, "candidates": [{"id": "c1"}]},
        {"eacps": {"model_version": VERSION, "ranked": [["c1"]]}, "candidates": [{"id": ["c1"]}]},
        {"eacps": {"model_version": VERSION, "ranked": ["c1"]}, "candidates": "c1"},
    ],
)
def test_inconsistent_data_yields_no_prediction(data: Any) -> None:
    assert cards.prediction(data, VERSION) is None


def test_a_score_that_is_no_number_becomes_zero() -> None:
    for score in (None, "x", float("nan")):
        meta = {"model_version": VERSION, "ranked": ["c1"], "score": score}
        found = cards.prediction({"eacps": meta, "candidates": [{"id": "c1"}]}, VERSION)
        assert found is not None
        assert found["score"] == 0.0


def test_the_label_config_names_what_predictions_name(result: SearchResult) -> None:
    root = ElementTree.fromstring(label_config())
    names = {tag.get("name") for tag in root.iter()}
    region = (cards.prediction(build(result), VERSION) or {})["result"][0]
    assert {region["from_name"], region["to_name"], "img", "verdict"} <= names
    shown = {tag.get("Value") or tag.get("value") or tag.get("valueList") for tag in root.iter()}
    assert {"$gallery", "$candidates", "$report_md", "$image", "$prompt"} <= shown


def test_the_label_config_shows_the_fields_that_settings_name() -> None:
    config = label_config(Settings(_env_file=None, image_field="photo", instruction_field="ask"))
    assert 'value="$photo"' in config
    assert 'value="$ask"' in config
