"""What people ask for on the panel: which searches it becomes, and what a task keeps of them."""

from __future__ import annotations

import base64
import json
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from pydantic import SecretStr
from werkzeug.test import TestResponse

from eacps import fingerprints, runner
from eacps.artifacts import MissingArtifactError, open_store
from eacps.domain import Candidate, Failure, Metric, SearchResult, Trial
from eacps.errors import TaskError
from eacps.export.pairs import pairs
from eacps.jobs.client import JobClient
from eacps.jobs.large_values import with_large_values
from eacps.labelstudio.cards.searches import searches_in
from eacps.labelstudio.hooks import LabelStudioHooks
from eacps.labelstudio.panel.capability import open_keys, scope
from eacps.labelstudio.panel.recipes import pick_of
from eacps.labelstudio.reviews import reviews
from eacps.labelstudio.tasks.origins import META, has_result, new_job, origin_of
from eacps.labelstudio.tasks.steering import drawn_mask
from eacps.labelstudio.web.app import create_app
from eacps.settings import Settings
from tests.recorded_label_studio import RecordedLabelStudio
from tests.unit.labelstudio.support import png

HOSTILE = "<img src=x onerror=alert(1)></script><script>alert(2)</script>"
PROJECT, TASK = 1, 7
BOX = {"x": 25, "y": 25, "width": 50, "height": 50}
PRUNED = ("eacps", {"k": 4, "m": 1, "k_local": 1, "rungs": [[0.5, 2]]})


def uri(content: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"


@dataclass
class Stage:
    """A task of a recording Label Studio, its panel, and a device that paints what a noise says."""

    site: RecordedLabelStudio
    settings: Settings
    jobs: JobClient = field(init=False)
    rendered: list[Trial] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.jobs = JobClient(self.settings)
        self.web = self._web(self.settings)
        self.capability = open_keys(self.settings).issue(PROJECT, TASK, time.time())

    def _web(self, settings: Settings) -> FlaskClient:
        return create_app(settings, open_jobs=lambda _: self.jobs).test_client()

    def with_settings(self, **changes: Any) -> Stage:
        """The same task with another backend."""
        # Not a copy, which would keep the fingerprints.
        known = {**self.settings.model_dump(), **changes}
        other = Stage(self.site, Settings(_env_file=None, **known))
        other.capability = self.capability
        return other

    # Searches

    def search(self, origin: dict[str, Any]) -> SearchResult:
        """Prepare and search as the orchestrator does, and deliver."""
        hooks = LabelStudioHooks(self.settings)
        task = hooks.prepare(origin)
        task = replace(
            task,
            rendered=fingerprints.rendered(self.settings, task.route),
            judged=fingerprints.judged(self.settings),
        )
        result = runner.search(task, lambda batches: [self._made(t) for b in batches for t in b])
        hooks.deliver(origin, result)
        return result

    def _made(self, trial: Trial) -> Candidate:
        self.rendered.append(trial)
        noise = (trial.noise.seed, *(move.seed for move in trial.noise.moves))
        colour = tuple(sum(noise) // power % 256 for power in (1, 256, 65536))
        name = open_store(self.settings).put(png(8, 8, colour), "png")
        worth = sum(noise) % 1000 / 1000
        metrics = (Metric("pf", worth, worth, 1.0, worth),)
        state = "0" * 40 + ".safetensors" if trial.to_step else None
        return Candidate(
            trial, name, name, metrics, worth, 8, 0.5, notes=(), editor="painter", state=state
        )

    def first_search(self) -> SearchResult:
        """The task's own search."""
        asked = origin_of(self.row, self.settings)
        return self.search(new_job(asked, 10).origin)  # type: ignore[arg-type]

    # The panel

    def post(self, body: Any, **arguments: Any) -> TestResponse:
        headers = {"Content-Type": "application/json", **arguments.pop("headers", {})}
        address = f"/panel/{arguments.pop('capability', self.capability)}/actions"
        return self.web.post(address, data=json.dumps(body), headers=headers)

    def ask(self, action: str, **more: Any) -> dict[str, Any]:
        """A request that must be accepted; its answer."""
        answer = self.post({"token": secrets.token_hex(8), "action": action, **more})
        assert answer.status_code == 200, answer.text
        return answer.get_json()  # type: ignore[no-any-return]

    def steer(self, action: str, **more: Any) -> SearchResult:
        """Ask, search and deliver."""
        return self.search(self.origin(self.ask(action, **more)["job"]))

    def origin(self, job: str) -> dict[str, Any]:
        """The origin of a job as the orchestrator reads it."""
        records, _ = self.jobs._open()
        row = records.rows([f"job:{job}"])[f"job:{job}"]
        from eacps.domain import from_json
        from eacps.jobs.contract import Job

        whole = with_large_values(from_json(Job, row.input), open_store(self.settings))
        return dict(whole.origin)

    # The task

    @property
    def row(self) -> dict[str, Any]:
        return self.site.tasks[TASK]

    @property
    def data(self) -> dict[str, Any]:
        return dict(self.row["data"])

    @property
    def records(self) -> dict[str, dict[str, Any]]:
        return {card["id"]: card["candidate"] for card in self.data["candidates"]}

    @property
    def ranked(self) -> list[str]:
        return list(self.data[META]["ranked"])

    def seeds(self) -> list[int]:
        """The last seed of each candidate."""
        last = (each["moves"][-1] if each["moves"] else each for each in self.records.values())
        return [each["seed"] for each in last]


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with RecordedLabelStudio() as site:
        settings = Settings(
            _env_file=None,
            data_dir=tmp_path,
            label_studio_url=site.url,
            label_studio_api_key=SecretStr(site.token),
            strategy="eacps",
            strategy_params={"k": 2, "m": 1, "k_local": 1},
            steps=8,
        )
        site.add_task(TASK, {"image": uri(png()), "prompt": "add a scarf"}, PROJECT)
        yield Stage(site, settings)


def only(answer: TestResponse, status: int, code: str) -> str:
    assert answer.status_code == status, answer.text
    error = answer.get_json()["error"]
    assert error["code"] == code
    return str(error["message"])


def test_more_candidates_are_new_ranked_with_the_others_and_say_who_asked(stage: Stage) -> None:
    stage.first_search()
    before, places = stage.records, stage.ranked
    [opened] = stage.site.predictions_of(TASK)
    for number in (1, 2, 3):
        result = stage.steer("more", candidates=3)
        assert len(result.usable) == 3
        assert len(stage.records) == len(before) + 3 * number
    assert stage.records.keys() >= before.keys()
    assert {name: stage.records[name] for name in before} == before
    assert len(set(stage.seeds())) == len(stage.seeds())
    assert set(stage.ranked) == stage.records.keys()
    worth = [stage.records[name]["potential"] for name in stage.ranked]
    assert worth == sorted(worth, reverse=True)
    assert [name for name in stage.ranked if name in places] == places
    (prediction,) = stage.site.predictions_of(TASK)
    # Whoever has the task open can still submit what was made from the first one.
    assert prediction["id"] == opened["id"]
    assert stage.site.deleted_predictions == []
    (region,) = prediction["result"]
    assert region["value"]["ranker"]["ranked"] == stage.ranked
    assert region["meta"]["best"]["id"] == stage.ranked[0]
    assert region["meta"]["candidates"] == stage.records
    assert prediction["score"] == stage.records[stage.ranked[0]]["score"]
    new = [each for name, each in stage.records.items() if name not in before]
    assert all(each["lineage"] == "global, asked for in the panel" for each in new)
    assert not any("earlier search" in card["title"] for card in stage.data["candidates"])
    assert [facts["asked"]["n"] for facts in list(searches_in(stage.data).values())[1:]] == [
        1,
        2,
        3,
    ]


def test_the_tasks_own_request_stays_answered(stage: Stage) -> None:
    stage.first_search()
    asked = origin_of(stage.row, stage.settings)
    stage.steer("more", candidates=2)
    stage.steer("instruction", instruction="add a hat")
    assert has_result(stage.row, asked)
    other = stage.with_settings(strategy_params={"k": 3, "m": 1, "k_local": 1})
    assert other.settings.model_version != stage.settings.model_version
    other.steer("more", candidates=1)
    assert has_result(stage.row, origin_of(stage.row, other.settings))
    changed = {**stage.row, "data": {**stage.data, "prompt": "something else"}}
    assert not has_result(changed, origin_of(changed, stage.settings))


def test_delivering_twice_doubles_nothing(stage: Stage) -> None:
    stage.first_search()
    origin = stage.origin(stage.ask("more", candidates=2)["job"])
    result = stage.search(origin)
    once, predictions = stage.data, stage.site.predictions_of(TASK)
    LabelStudioHooks(stage.settings).deliver(origin, result)
    assert stage.data == once
    assert stage.site.predictions_of(TASK) == predictions


def test_requests_that_run_at_the_same_time_draw_no_noise_twice(stage: Stage) -> None:
    stage.first_search()
    jobs = [stage.ask("more", candidates=8)["job"] for _ in range(3)]
    jobs += [stage.ask("like", picks=stage.ranked[:1], candidates=8)["job"] for _ in range(2)]
    for job in reversed(jobs):
        stage.search(stage.origin(job))
    assert len(set(stage.seeds())) == len(stage.seeds()) == 3 + 5 * 8


def test_children_of_picks_are_turned_from_their_recipes(stage: Stage) -> None:
    stage.first_search()
    picks = stage.ranked[:2]
    stage.steer("like", picks=picks, candidates=2, angle=0.2)
    children = [each for each in stage.records.values() if each["parent"] in picks]
    assert len([each for each in children if "asked for in the panel" in each["lineage"]]) == 4
    for each in children:
        parent = stage.records[each["parent"]]
        assert each["seed"] == parent["seed"]
        assert each["moves"][:-1] == parent["moves"]
    newest = list(searches_in(stage.data).values())[-1]
    assert newest["asked"] == {"action": "like", "n": 1, "by": "panel", "picks": picks}


def test_words_go_to_the_editor_and_not_into_the_instruction(stage: Stage) -> None:
    stage.first_search()
    picks = stage.ranked[:1]
    result = stage.steer("refine", picks=picks, words="  make it\n smaller ", candidates=1)
    assert result.task.instruction == "add a scarf"
    assert {each.trial.instruction_suffix for each in result.candidates} == {"make it smaller"}
    # Judged by the same instruction, so they are ranked together.
    assert set(stage.ranked) == stage.records.keys()
    (child,) = [each for each in stage.records.values() if each.get("instruction_suffix")]
    assert child["lineage"].endswith("told: make it smaller, asked for in the panel")
    again = stage.steer("refine", picks=[stage.ranked[0]], words="redder", candidates=1)
    assert again.candidates[0].trial.instruction_suffix.endswith("redder")


def test_another_instruction_stands_before_the_earlier_candidates(stage: Stage) -> None:
    stage.first_search()
    before = stage.records
    stage.steer("instruction", instruction="add a hat")
    assert stage.data["prompt"] == "add a scarf"
    assert not set(stage.ranked) & before.keys()
    titles = {card["id"]: card["title"] for card in stage.data["candidates"]}
    assert all("earlier search" in titles[name] for name in before)
    # Who continues, continues the newest; who picks an earlier one, continues that.
    assert stage.steer("more", candidates=1).task.instruction == "add a hat"
    assert len(stage.ranked) == 4
    old = next(iter(before))
    assert stage.steer("like", picks=[old], candidates=1).task.instruction == "add a scarf"
    assert set(stage.ranked) > before.keys()
    titles = {card["id"]: card["title"] for card in stage.data["candidates"]}
    assert not any("earlier search" in titles[name] for name in before)
    mixed = [old, next(name for name in stage.records if name not in stage.ranked)]
    answer = stage.post({"token": "x" * 8, "action": "like", "picks": mixed})
    assert "different instructions" in only(answer, 400, "panel_request")


def test_a_task_without_an_instruction_gets_one_on_the_panel(stage: Stage) -> None:
    stage.site.add_task(TASK, {"image": uri(png())}, PROJECT)
    with pytest.raises(TaskError):
        stage.first_search()
    assert stage.steer("instruction", instruction="add a hat").task.instruction == "add a hat"
    assert has_result(stage.row, origin_of(stage.row, stage.settings))


def test_an_edit_of_a_drawn_part_has_its_mask_and_so_has_what_continues_it(stage: Stage) -> None:
    stage.first_search()
    result = stage.steer("here", shapes=[BOX], instruction="a hat")
    assert result.task.mask is not None
    facts = list(searches_in(stage.data).values())[-1]
    assert facts["mask"]["file"] == result.task.mask
    assert facts["instruction"] == "a hat"
    more = stage.steer("more", candidates=1)
    assert (more.task.mask, more.task.instruction) == (result.task.mask, "a hat")
    stroke = {"points": [[10, 10], [90, 90.5]], "radius": 4}
    other = stage.steer("here", shapes=[stroke, BOX])
    assert other.task.mask not in (None, result.task.mask)


def test_regions_drawn_in_label_studio_are_a_part_to_edit(stage: Stage) -> None:
    stage.first_search()
    answer = stage.post({"token": "x" * 8, "action": "here"})
    assert "Draw the part first" in only(answer, 400, "panel_request")
    value = {"x": 0, "y": 0, "width": 50, "height": 50, "rotation": 0}
    region = {"type": "rectanglelabels", "to_name": "img", "value": value}
    stage.row["annotations"] = [{"id": 3, "result": [region], "completed_by": 1}]
    assert stage.steer("here").task.mask is not None
    assert stage.steer("more", candidates=1).task.mask is not None


@pytest.mark.parametrize("hosting", ["upload", "backend"])
def test_a_mask_is_found_again_when_the_store_was_emptied(stage: Stage, hosting: str) -> None:
    stage = stage.with_settings(image_hosting=hosting)
    stage.first_search()
    mask = stage.steer("here", shapes=[BOX]).task.mask
    assert mask is not None
    store = open_store(stage.settings)
    for number, (name, content) in stage.site.files.items():
        stage.site.served[f"/data/upload/{PROJECT}/{number:08x}-{name}"] = content
    store.prune(0, keep=store.shown())
    if hosting == "backend":
        assert store.get(mask)
    else:
        with pytest.raises(MissingArtifactError):
            store.get(mask)
    assert stage.steer("more", candidates=1).task.mask == mask
    assert store.get(mask)


def test_a_preview_is_finished_from_where_it_stopped(stage: Stage) -> None:
    stage = stage.with_settings(strategy=PRUNED[0], strategy_params=PRUNED[1])
    stage.first_search()
    stopped = [name for name, each in stage.records.items() if each["state"] == "pruned"]
    assert stopped
    stage.rendered.clear()
    stage.steer("finish", picks=stopped)
    assert [trial.to_step for trial in stage.rendered] == len(stopped) * [4] + len(stopped) * [None]
    finished = [each for each in stage.records.values() if each["parent"] in stopped]
    assert {each["parent"]: each["seed"] for each in finished} == {
        name: stage.records[name]["seed"] for name in stopped
    }
    assert all(each["lineage"].startswith("the rest of c") for each in finished)
    assert all(stage.records[name]["state"] == "pruned" for name in stopped)


def test_a_draft_is_finished_with_a_whole_render_of_its_noise(stage: Stage) -> None:
    stage = stage.with_settings(strategy="draft", strategy_params={"n": 4, "finish": 1})
    stage.first_search()
    drafts = [name for name, each in stage.records.items() if each["state"] == "pruned"]
    assert [stage.records[name]["drafted_in"] for name in drafts] == [2, 2, 2]
    assert {stage.records[name]["stopped_at"] for name in drafts} == {None}
    stage.rendered.clear()
    stage.steer("finish", picks=drafts[:1])
    [whole] = stage.rendered
    assert (whole.to_step, whole.draft) == (None, False)
    assert whole.noise.seed == stage.records[drafts[0]]["seed"]


@pytest.mark.parametrize("action", ["like", "refine"])
def test_what_edited_an_edit_is_continued_from_the_same_picture(stage: Stage, action: str) -> None:
    chain = {"n": 2, "max_steps": 2, "per_step": 1, "lowest": 0.0, "highest": 9.0, "edits": "best"}
    stage = stage.with_settings(strategy="refine", strategy_params=chain)
    stage.first_search()
    first = stage.records
    again = {name: each["edited_from"] for name, each in first.items() if "edited_from" in each}
    assert len(again) == 2
    assert all(first[first[name]["parent"]]["file"] == file for name, file in again.items())
    name, file = next(iter(again.items()))
    stage.rendered.clear()
    words = {"words": "make it smaller"} if action == "refine" else {}
    stage.steer(action, picks=[name], candidates=2, **words)
    assert [trial.start for trial in stage.rendered] == [file, file]
    children = [each for each in stage.records.values() if each["parent"] == name]
    assert [each["edited_from"] for each in children if each not in first.values()] == [file, file]


def test_what_is_no_file_of_ours_is_not_edited(stage: Stage) -> None:
    stage.first_search()
    name = stage.ranked[0]
    for hostile in ("../../etc/passwd", "https://example.com/a.png", 7, ["x"]):
        record = {**stage.records[name], "edited_from": hostile}
        assert pick_of(name, record)[0].start == ""


def test_an_old_task_is_continued_from_its_data_alone_and_says_if_the_editor_changed(
    stage: Stage, tmp_path: Path
) -> None:
    stage = stage.with_settings(strategy=PRUNED[0], strategy_params=PRUNED[1])
    stage.first_search()
    # Neither its jobs nor its pictures and states are there any more, and the editor is another.
    later = stage.with_settings(data_dir=tmp_path / "later", guidance=9.0)
    later.capability = open_keys(later.settings).issue(PROJECT, TASK, time.time())
    winner = later.ranked[0]
    stopped = next(name for name, each in later.records.items() if each["state"] == "pruned")
    result = later.steer("like", picks=[winner], candidates=1)
    assert result.candidates[0].trial.noise.seed == later.records[winner]["seed"]
    notes = [c["html"] for c in later.data["candidates"] if c["candidate"]["parent"] == winner]
    assert "The editor or its settings have changed" in later.data["report_md"]
    assert notes
    later.rendered.clear()
    later.steer("finish", picks=[stopped])
    assert [trial.to_step for trial in later.rendered] == [None]


def test_a_face_is_swapped_where_it_was_drawn_with_the_chosen_character(stage: Stage) -> None:
    two = [uri(png(9, 9)), uri(png(10, 10, "blue"))]
    data = {"image": uri(png()), "prompt": "add a scarf", "reference": two}
    stage.site.add_task(TASK, data, PROJECT)
    stage.first_search()
    job = stage.ask("face", shapes=[BOX], reference=1)
    assert job["price"]["renders"] == 0
    task = LabelStudioHooks(stage.settings).prepare(stage.origin(job["job"]))
    assert (task.route, len(task.references)) == ("face_swap", 1)
    assert task.mask is not None
    other = stage.ask("face", shapes=[BOX], reference=0)["job"]
    assert (
        LabelStudioHooks(stage.settings).prepare(stage.origin(other)).references != task.references
    )
    none = stage.ask("face", shapes=[BOX], reference=5)["job"]
    with pytest.raises(Exception, match="2 pictures of characters"):
        LabelStudioHooks(stage.settings).prepare(stage.origin(none))


def test_the_same_token_is_the_same_request(stage: Stage) -> None:
    stage.first_search()
    body = {"token": "same-token", "action": "more", "candidates": 2}
    answers = [stage.post(body).get_json() for _ in range(20)]
    assert len({answer["job"] for answer in answers}) == 1
    assert [answer["new"] for answer in answers] == [True] + 19 * [False]


def test_a_thousand_clicks_end_in_a_clear_sentence(stage: Stage) -> None:
    stage = stage.with_settings(panel_actions_per_day=5, panel_candidates_per_day=9)
    stage.first_search()
    answers = [
        stage.post({"token": f"click-{n:04d}", "action": "more", "candidates": 2})
        for n in range(1000)
    ]
    assert [each.status_code for each in answers] == 4 * [200] + 996 * [429]
    assert "8 candidates" in only(answers[4], 429, "panel_limit")
    assert "EACPS_PANEL_CANDIDATES_PER_DAY" in only(answers[-1], 429, "panel_limit")
    stage.ask("more", candidates=1)
    refused = stage.post({"token": "one-more", "action": "more", "candidates": 1})
    assert "5 requests" in only(refused, 429, "panel_limit")
    assert len(stage.jobs.list(50)) == 5


def test_only_the_panels_own_page_may_ask(stage: Stage) -> None:
    stage.first_search()
    body = {"token": "x" * 8, "action": "more"}
    for headers in (
        {"Origin": "https://evil.example"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "null"},
    ):
        only(stage.post(body, headers=headers), 403, "panel_origin")
    form = stage.post(body, headers={"Content-Type": "text/plain"})
    only(form, 415, "panel_request")
    large = {**body, "words": "x" * 1_100_000}
    assert stage.post(large).status_code == 413
    assert stage.post(body, headers={"Origin": "http://localhost"}).status_code == 200
    assert len(stage.jobs.list(50)) == 1


def test_what_opens_no_panel_asks_for_nothing(stage: Stage) -> None:
    stage.first_search()
    body = {"token": "x" * 8, "action": "more"}
    keys = open_keys(stage.settings)
    strange = stage.settings.model_copy(update={"panel_secrets": SecretStr("another")})
    for other in (
        keys.issue(PROJECT, TASK + 1, time.time()),
        open_keys(strange).issue(PROJECT, TASK, time.time()),
        stage.capability[:-2] + "AA",
        stage.capability.replace(f".{TASK}.", f".{TASK + 1}."),
    ):
        assert stage.post(body, capability=other).status_code == 404
    stage.jobs.revoke(scope(stage.settings.label_studio_url, task=TASK))
    only(stage.post(body), 403, "panel_revoked")
    assert stage.jobs.list(50) == []


@pytest.mark.parametrize(("may", "status"), [("view", 403), ("off", 404)])
def test_a_panel_that_only_shows_takes_no_request(stage: Stage, may: str, status: int) -> None:
    stage.first_search()
    stage = stage.with_settings(panel=may)
    answer = stage.post({"token": "x" * 8, "action": "more"})
    assert answer.status_code == status
    assert f"EACPS_PANEL={may}" in answer.get_json()["error"]["message"]


def test_markup_in_every_text_stays_text(stage: Stage) -> None:
    stage.first_search()
    picks = stage.ranked[:1]
    stage.steer("refine", picks=picks, words=HOSTILE, candidates=1)
    stage.steer("instruction", instruction=HOSTILE)
    shown = json.dumps([stage.data["report_md"], *(c["html"] for c in stage.data["candidates"])])
    assert "<script" not in shown
    assert "onerror=alert" in shown
    assert "<img src=x" not in shown
    page = stage.web.get(f"/panel/{stage.capability}/")
    assert "script>alert" not in page.text


@pytest.mark.parametrize(
    "body",
    [
        [],
        "more",
        None,
        {},
        {"action": "more"},
        {"token": "short", "action": "more"},
        {"token": "x" * 8, "action": "delete"},
        {"token": "x" * 8, "action": "more", "candidates": 0},
        {"token": "x" * 8, "action": "more", "candidates": 33},
        {"token": "x" * 8, "action": "more", "candidates": True},
        {"token": "x" * 8, "action": "more", "candidates": "4"},
        {"token": "x" * 8, "action": "more", "strategy": "best_of_n"},
        {"token": "x" * 8, "action": "like"},
        {"token": "x" * 8, "action": "like", "picks": ["c1-000000"]},
        {"token": "x" * 8, "action": "like", "picks": [HOSTILE]},
        {"token": "x" * 8, "action": "like", "picks": [["c1"]]},
        {"token": "x" * 8, "action": "refine", "picks": ["c1-000000"]},
        {"token": "x" * 8, "action": "instruction"},
        {"token": "x" * 8, "action": "instruction", "instruction": "\ud800 half"},
        {"token": "x" * 8, "action": "instruction", "instruction": "x" * 4001},
        {"token": "x" * 8, "action": "here", "shapes": [{"x": 1}]},
        {"token": "x" * 8, "action": "here", "shapes": [{"x": "1"}]},
        {"token": "x" * 8, "action": "here", "shapes": [{**BOX, "x": 1e300}]},
        {"token": "x" * 8, "action": "here", "shapes": 300 * [BOX]},
        {"token": "x" * 8, "action": "here", "shapes": [{"points": [], "radius": 1}]},
        {"token": "x" * 8, "action": "here", "shapes": [{"points": [[1]], "radius": 1}]},
        {"token": "x" * 8, "action": "face"},
        {"action": "cancel"},
        {"action": "cancel", "job": 7},
        {"action": "cancel", "job": "../../x"},
    ],
)
def test_a_wrong_request_is_refused_in_words(stage: Stage, body: Any) -> None:
    stage.first_search()
    answer = stage.post(body)
    assert answer.status_code in (400, 404), answer.text
    assert answer.get_json()["error"]["message"]
    assert stage.jobs.list(50) == []


def test_nul_and_line_breaks_leave_a_text_that_every_database_takes(stage: Stage) -> None:
    stage.first_search()
    result = stage.steer("instruction", instruction="add\u0000 a\r\n hat\u0007")
    assert result.task.instruction == "add a hat"


def test_a_request_can_be_cancelled_only_by_its_own_panel(stage: Stage) -> None:
    stage.first_search()
    job = stage.ask("more")["job"]
    stage.site.add_task(8, stage.data, PROJECT)
    other = open_keys(stage.settings).issue(PROJECT, 8, time.time())
    only(stage.post({"action": "cancel", "job": job}, capability=other), 404, "panel_job")
    own = new_job(origin_of(stage.row, stage.settings), 10)
    stage.jobs.submit(own)
    only(stage.post({"action": "cancel", "job": own.id}), 404, "panel_job")
    assert stage.post({"action": "cancel", "job": job}).get_json()["cancelled"] is True
    status = stage.jobs.status(job)
    assert status is not None
    assert status.state == "cancelled"
    assert stage.post({"action": "cancel", "job": job}).get_json()["cancelled"] is False


def test_a_failure_of_a_request_leaves_the_task_as_it_is(stage: Stage) -> None:
    stage.first_search()
    before = stage.data
    origin = stage.origin(stage.ask("more")["job"])
    LabelStudioHooks(stage.settings).deliver_failure(origin, Failure("editor_failed", "No."))
    assert stage.data == before


def test_the_page_knows_prices_limits_and_what_was_asked_for(stage: Stage) -> None:
    stage.first_search()
    job = stage.ask("more", candidates=4)
    assert job["price"] == {"candidates": 4, "renders": 4.0, "seconds": None}
    content = stage.web.get(f"/panel/{stage.capability}/task.json").get_json()
    offer = content["steer"]
    assert offer["search"] == {"candidates": 3, "renders": 3.0}
    assert offer["left"] == {"actions": 99, "candidates": 396}
    assert (offer["instruction"], offer["masked"], offer["drawn"]) == ("add a scarf", False, False)
    state = stage.web.get(f"/panel/{stage.capability}/state.json").get_json()
    assert [(each["id"], each["asked"]) for each in state["jobs"]] == [
        (job["job"], "more candidates")
    ]
    view = stage.with_settings(panel="view")
    assert view.web.get(f"/panel/{stage.capability}/task.json").get_json()["steer"] is None


def test_the_log_says_what_came_through_the_panel(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    stage.first_search()
    with caplog.at_level("INFO"):
        stage.ask("more", candidates=2)
    assert "through the panel: more candidates, 2 candidates" in caplog.text


def test_a_drawn_mask_is_white_where_it_was_drawn() -> None:
    mask = drawn_mask([BOX, {"points": [[0, 0]], "radius": 5}], (40, 20))
    assert mask.getpixel((20, 10)) == 255
    assert mask.getpixel((1, 1)) == 255
    assert mask.getpixel((39, 19)) == 0
    for shapes in ([{**BOX, "x": 150}], [{"x": True}], [{"points": "(stored)", "radius": 1}]):
        with pytest.raises(TaskError):
            drawn_mask(shapes, (40, 20))


def test_masks_of_one_search_do_not_follow_into_another(stage: Stage) -> None:
    first = stage.first_search()
    stage.steer("here", shapes=[BOX])
    picked = next(n for n, e in stage.records.items() if e["key"] == first.task.key)
    assert stage.steer("like", picks=[picked], candidates=1).task.mask is None


OWN_PROJECT = (
    '<View eacps_strategy_params=\'{"k": 3, "m": 1, "k_local": 2}\' eacps_steps="6">'
    '<Image name="photo" value="$photo"/><Text name="instruction" value="$words"/></View>'
)


def test_a_project_has_its_own_columns_strategy_and_steps(stage: Stage) -> None:
    project = {"id": PROJECT, "title": "Own", "label_config": OWN_PROJECT}
    stage.site.projects[PROJECT] = project
    stage.site.add_task(TASK, {"photo": uri(png()), "words": "add a hat"}, PROJECT)
    asked = origin_of(stage.row, stage.settings, label_config=OWN_PROJECT, project=project)
    first = stage.search(dict(new_job(asked, 10).origin))
    assert (len(first.candidates), first.task.plan.steps) == (5, 6)
    content = stage.web.get(f"/panel/{stage.capability}/task.json").get_json()
    assert content["steer"]["search"] == {"candidates": 5, "renders": 5.0}
    more = stage.steer("more", candidates=2)
    assert (more.task.instruction, more.task.plan.steps) == ("add a hat", 6)
    assert set(stage.ranked) == stage.records.keys()
    again = stage.steer("instruction", instruction="add a scarf")
    assert (again.task.instruction, len(again.candidates)) == ("add a scarf", 5)
    project["label_config"] = OWN_PROJECT.replace('"6"', '"100000"')
    refused = stage.post({"token": "x" * 8, "action": "more"})
    assert "eacps_steps" in only(refused, 400, "panel_request")


def test_requests_count_for_the_quota_of_their_project(stage: Stage) -> None:
    stage = stage.with_settings(project_quotas={str(PROJECT): 5})
    stage.first_search()
    jobs = [stage.ask("more", candidates=3)["job"] for _ in range(2)]
    state = stage.web.get(f"/panel/{stage.capability}/state.json").get_json()
    notes = {each["id"]: each["note"] for each in state["jobs"]}
    assert notes[jobs[0]] == ""
    assert "EACPS_PROJECT_QUOTAS" in notes[jobs[1]]
    assert [over.jobs for over in stage.jobs.over_quota()] == [1]


def submitted(stage: Stage, *ranked: str, **more: Any) -> dict[str, Any]:
    """What Label Studio's webhook says of an annotation."""
    columns = {"ranked": list(ranked), "rejected": []}
    region = {"type": "ranker", "from_name": "rank", "value": {"ranker": columns}}
    annotation = {"id": 3, "result": [region], "was_cancelled": False, "completed_by": 1, **more}
    stage.row["annotations"] = [annotation]
    return {
        "action": "ANNOTATION_CREATED",
        "annotation": annotation,
        "project": {"id": PROJECT},
        "task": {"id": TASK, "project": PROJECT, "data": stage.data},
    }


def test_a_preview_that_is_ranked_and_submitted_is_finished_once(stage: Stage) -> None:
    stage = stage.with_settings(strategy=PRUNED[0], strategy_params=PRUNED[1], panel="off")
    stage.first_search()
    before = stage.records
    preview = next(name for name, each in before.items() if each["state"] == "pruned")
    finished = next(name for name, each in before.items() if each["state"] == "finished")

    def jobs(*ranked: str, **more: Any) -> int:
        answer = stage.web.post("/webhook", json=submitted(stage, *ranked, **more))
        return int(answer.get_json()["jobs"])

    assert jobs(finished) == 0
    assert jobs(preview, was_cancelled=True) == 0
    assert jobs(preview, finished, "no-such-card") == 1
    assert jobs(finished, preview) == 0
    [review] = reviews(stage.row)
    assert "not finished" in review["problems"][-1]
    [job] = stage.jobs.list(50)
    stage.search(stage.origin(job.id))
    [(name, rest)] = [(n, each) for n, each in stage.records.items() if n not in before]
    assert (rest["parent"], rest["state"], rest["seed"]) == (
        preview,
        "finished",
        before[preview]["seed"],
    )
    assert rest["lineage"] == f"the rest of {preview}, ranked in a submitted annotation"
    assert stage.records.items() >= before.items()
    assert name in stage.ranked
    [review] = reviews(stage.row)
    assert review["problems"] == ["There is no verdict."]
    assert review["candidates"][preview]["finished_as"] == name
    assert jobs(preview) == 0
    shown = stage.with_settings(panel="on")
    content = shown.web.get(f"/panel/{stage.capability}/task.json").get_json()
    labels = {each["id"]: each["label"] for each in content["candidates"]}
    told = {each["id"]: each["finished_as"] for each in content["candidates"]}
    assert told == {each: labels[name] if each == preview else None for each in labels}


def test_ranked_previews_count_for_the_limits_of_their_task(stage: Stage) -> None:
    stage = stage.with_settings(
        strategy=PRUNED[0], strategy_params=PRUNED[1], panel_candidates_per_day=1
    )
    stage.first_search()
    previews = [name for name, each in stage.records.items() if each["state"] == "pruned"]
    assert len(previews) > 1
    answer = stage.web.post("/webhook", json=submitted(stage, *previews))
    assert answer.get_json()["jobs"] == 1


def test_pairs_are_only_of_candidates_that_were_asked_for_alike(stage: Stage) -> None:
    stage.first_search()
    scarves = stage.ranked
    stage.steer("instruction", instruction="add a hat")
    hats = [name for name in stage.ranked if name not in scarves]
    submitted(stage, hats[0], scarves[0], hats[1], scarves[1])
    [review] = reviews(stage.row)
    review["prompt"] = "add a scarf"
    found = [(pair.chosen, pair.rejected, pair.prompt) for pair in pairs(review, unchanged=True)]
    assert found == [
        (hats[0], hats[1], "add a hat"),
        (scarves[0], scarves[1], "add a scarf"),
    ]


def test_an_instruction_turns_a_face_swap_into_an_edit(stage: Stage) -> None:
    data = {"image": uri(png()), "prompt": "", "reference": [uri(png(9, 9))], "route": "face swap"}
    stage.site.add_task(TASK, data, PROJECT)
    asked = origin_of(stage.row, stage.settings)
    assert asked.route == "face_swap"
    job = stage.ask("instruction", instruction="add a hat")["job"]
    task = LabelStudioHooks(stage.settings).prepare(stage.origin(job))
    assert (task.route, task.instruction) == ("edit", "add a hat")
