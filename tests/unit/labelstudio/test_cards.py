from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from label_studio_sdk.label_interface import LabelInterface

from eacps.domain import PRUNED, Candidate, Failure, Metric, Noise, SearchResult, Swap, Trial
from eacps.labelstudio import cards
from eacps.labelstudio.label_config import (
    hides_unnamed_cards,
    is_unchanged,
    label_config,
)
from eacps.labelstudio.tasks.routing import choose_route
from eacps.settings import Settings

VERSION = "eacps-0123456789"
EARLIER_CONFIG = Path(__file__).parents[3] / "backend/eacps/labelstudio/label_config_0.2.xml"


def build(result: SearchResult) -> dict[str, Any]:
    return cards.enrichment(
        result, lambda name: f"/data/{name}", job_id="job", model_version=VERSION
    )


def names_of(data: dict[str, Any]) -> list[str]:
    """The trials that the cards are of."""
    return [card["id"].partition("-")[0] for card in data["candidates"]]


def well_formed(html: str) -> ElementTree.Element:
    """Fails on HTML that a sanitiser would repair in its own way."""
    return ElementTree.fromstring(f"<all>{html.replace('<br>', '<br/>')}</all>")


def test_the_gallery_is_ordered_best_first_and_leaves_failures_out(result: SearchResult) -> None:
    data = build(result)
    assert data["gallery"] == [f"/data/{index:040x}.png" for index in range(3)]
    assert names_of(data) == ["c1", "c2", "c3", "c4"]


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


def lines(report: str) -> tuple[str, str]:
    """What is shown at once, and what is folded away."""
    root = well_formed(report)
    [folded] = root.iter("details")
    told = "".join(folded.itertext())
    return "".join(root.itertext()).replace(told, ""), told


def test_the_report_is_one_plain_line_and_all_else_is_folded_away(result: SearchResult) -> None:
    report = build(replace(result, decisions=("Step 5: c4 of 8 previews went on.",)))["report_md"]
    shown, folded = lines(report)
    assert shown == "Edit · 4 candidates in 3.200 s · best C1 0.800, 0.100 ahead of C2"
    for expected in (
        "Route Edit (label “local edit” in the task's field `route`)",
        "strategy eacps · 72 NFE · editor tiny",
        "Step 5: c4 of 8 previews went on.",
        "Out of memory.",
    ):
        assert expected in folded
    assert "\n" not in report


def test_the_report_says_at_once_that_a_mask_was_used(result: SearchResult) -> None:
    masked = replace(result, task=replace(result.task, mask="m.png"))
    assert lines(build(masked)["report_md"])[0].startswith("Edit only inside the mask · 4 ")
    swap = replace(masked, task=replace(masked.task, route="character"))
    assert "Character only of faces in the marked region · " in lines(build(swap)["report_md"])[0]


def test_the_report_says_at_once_that_the_tasks_route_does_not_exist(
    result: SearchResult, settings: Settings
) -> None:
    choice = choose_route({"data": {"route": "Fase swop"}}, "", None, settings)
    doubtful = replace(result, task=replace(result.task, route_reason=choice.reason))
    assert "“Fase swop” in the task's field" in lines(build(doubtful)["report_md"])[0]


def test_a_best_candidate_that_convinces_nobody_is_not_praised(result: SearchResult) -> None:
    shown = lines(build(result)["report_md"])[0]
    assert "convincing" not in shown
    weak = tuple(replace(each, potential=0.01) for each in result.candidates[:1])
    data = build(replace(result, candidates=weak))
    told = "Nothing convincing was found: even the best candidate scores 1%."
    assert told in lines(data["report_md"])[0]
    green = "#16893f"
    assert green not in data["candidates"][0]["html"]
    assert green in build(result)["candidates"][0]["html"]


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


def candidates_saying(text: Callable[[str], str]) -> tuple[Candidate, ...]:
    """A scored, a swapped, a pruned and a failed candidate with `text` in every field of text."""
    child = Trial("c1", Noise(1), parent=text("parent"), instruction_suffix=text("suffix"))
    metrics = tuple(Metric(text(name), 0.3, 0.5, 1.0, 0.3) for name in ("metric", "other"))
    scored = Candidate(
        child, "1.png", metrics=metrics, potential=0.8,
        notes=(text("candidate's note"),), editor=text("unused"), detail=text("detail"),
    )  # fmt: skip
    swap = Trial("c2", Noise(0), swap=Swap())
    swapped = Candidate(swap, "2.png", potential=0.7, detail=text("swap's detail"))
    stopped, broken = Failure(PRUNED, text("stopped")), Failure("broken", text("broken"))
    pruned = replace(scored, trial=replace(child, id="c3"), failure=stopped)
    failed = Candidate(Trial("c4", Noise(4)), failure=broken)
    return scored, swapped, pruned, failed


def generated(result: SearchResult, text: Callable[[str], str]) -> Iterator[tuple[str, str]]:
    """What people see of a search and of a failure with `text` in every field of text, by name."""
    hostile = replace(
        result,
        task=replace(
            result.task,
            instruction=text("unused instruction"),
            route_reason=text("reason"),
            plan=replace(result.task.plan, strategy=text("strategy")),
        ),
        candidates=candidates_saying(text),
        editor=f"{text('editor')} ({text('models')})",
        notes=(text("note"),),
        decisions=(text("decision"),),
    )
    data = cards.enrichment(
        hostile,
        lambda name: text(f"picture {name}"),
        job_id="job",
        model_version=VERSION,
        references=[text("reference")],
    )
    yield "report", data["report_md"]
    for card in data["candidates"]:
        yield f"title of {card['id']}", card["title"]
        yield f"card {card['id']}", card["html"]
    line = cards.route_line("edit", text("reason of a failed task"))
    yield "route line", line
    failure = Failure(text("failure code"), text("failure message"))
    yield "failure", cards.failure_report(failure, line)
    yield "failure with another line", cards.failure_report(failure, text("line"))


@pytest.mark.parametrize(
    "attack", ["<script>", "'><script>", '"/><SCRIPT ', "</div>\n\n<script>", "]]><!--<script>"]
)
def test_no_text_becomes_a_script(result: SearchResult, attack: str) -> None:
    for name, html in generated(result, lambda field: f"{attack}{field}{attack}"):
        assert "<script" not in html.lower(), name
        assert not [e for e in well_formed(html).iter() if e.tag.lower() == "script"], name


def test_text_is_shown_as_it_was_written(result: SearchResult) -> None:
    written = []

    def text(field: str) -> str:
        written.append(f"<b>{field}</b> & {{{{ 7 * 7 }}}} &amp; \"'")
        return written[-1]

    fields = dict(generated(result, text))
    shown = "".join("".join(well_formed(html).itertext()) for html in fields.values())
    shown += " ".join(
        e.get("src", "") for html in fields.values() for e in well_formed(html).iter()
    )
    assert [words for words in written if "unused" not in words and words not in shown] == []


def test_every_field_is_one_line(result: SearchResult) -> None:
    for name, html in generated(result, lambda field: f"\n\na\r\nb\u2028{field}\x85\n \nc\n"):
        assert len(html.splitlines()) == 1, name


def test_odd_numbers_do_not_break_a_card(result: SearchResult) -> None:
    metric = replace(result.best.metrics[0], value=float("nan"), normalised=float("inf"))
    odd = replace(result.best, metrics=(metric,), potential=1e12)
    data = build(replace(result, candidates=(odd,)))
    json.dumps(data, allow_nan=False)
    well_formed(data["candidates"][0]["html"])


def test_the_prediction_ranks_what_is_finished_and_scores_the_best(result: SearchResult) -> None:
    data = build(result)
    prediction = cards.prediction(data, VERSION) or {}
    (region,) = prediction.pop("result")
    meta = region.pop("meta")
    ranked = data["eacps"]["ranked"]
    assert prediction == {"model_version": VERSION, "score": 0.8}
    assert region == {
        "id": "eacps-rank",
        "from_name": "rank",
        "to_name": "cands",
        "type": "ranker",
        "value": {"ranker": {"ranked": ranked, "rejected": []}},
    }
    assert len(ranked) == 3
    assert meta["best"] == {"id": ranked[0], "image": data["gallery"][0]}
    assert list(meta["candidates"]) == [card["id"] for card in data["candidates"]]


def test_a_screen_that_hides_unnamed_cards_gets_every_card_named(result: SearchResult) -> None:
    data = cards.merged({"candidates": [{"id": "c1"}]}, build(result))
    prediction = cards.prediction(data, VERSION, names_all=True) or {}
    placed = prediction["result"][0]["value"]["ranker"]
    failed = data["candidates"][3]["id"]
    assert placed["rejected"] == [failed, "c1"]
    for default, hides in (('default="true"', True), ("", False)):
        config = f'<View><Ranker name="rank"><Bucket name="ranked" {default}/></Ranker></View>'
        assert hides_unnamed_cards(config) is hides
    assert not hides_unnamed_cards(None)


def test_a_candidate_is_known_in_full_by_its_id(result: SearchResult) -> None:
    data = build(result)
    best, _, child, failed = (card["candidate"] for card in data["candidates"])
    assert best["state"] == "finished"
    assert (best["rank"], best["score"], best["potential"]) == (1, 0.8, 0.8)
    assert best["metrics"] == {"pf": 0.3, "lpips": 0.2}
    assert best["image"] == data["gallery"][0]
    assert best["file"] == result.best.image
    assert (best["seed"], best["nfe"], best["steps"], best["moves"]) == (7, 24, 12, [])
    assert child["parent"] == data["candidates"][0]["id"]
    assert child["moves"] == [{"angle": 0.4, "seed": 9}]
    assert child["lineage"] == "child of c1 at angle 0.4"
    assert (failed["state"], failed["rank"], failed["image"]) == ("failed", None, None)
    assert failed["failure"]["message"] == "Out of memory."


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


def test_label_studios_own_validator_takes_predictions(result: SearchResult) -> None:
    fewer = replace(result, candidates=result.candidates[:1])
    for data in (build(result), cards.merged(build(result), build(fewer))):
        prediction = cards.prediction(data, VERSION)
        assert LabelInterface(label_config()).validate_prediction(prediction, True) == []


def test_the_screen_hides_no_card_that_a_saved_ranking_does_not_name() -> None:
    settings = Settings(_env_file=None, image_field="photo", instruction_field="ask")
    assert not hides_unnamed_cards(label_config(settings))
    earlier = EARLIER_CONFIG.read_text()
    assert hides_unnamed_cards(earlier)
    assert is_unchanged(earlier)
    assert is_unchanged(label_config())


def test_everything_annotated_on_the_earlier_screen_is_on_this_one() -> None:
    """Label Studio refuses a label config that lacks a tag or a label of an annotation."""
    earlier = EARLIER_CONFIG.read_text()

    def offered(config: str) -> set[tuple[str | None, ...]]:
        return {
            (tag.tag, tag.get("name"), tag.get("toName"), tag.get("alias") or tag.get("value"))
            for tag in ElementTree.fromstring(config).iter()
            if tag.get("name") or tag.tag in ("Choice", "Label", "Bucket")
        }

    assert offered(earlier) <= offered(label_config())
