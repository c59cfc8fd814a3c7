"""No judge can be asked: the search goes on, and what it made is delivered without a rank."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import pytest

from eacps import runner
from eacps.artifacts import ArtifactStore
from eacps.domain import (
    JUDGE_DOWN,
    Candidate,
    EditTask,
    Failure,
    Noise,
    SearchPlan,
    SearchResult,
    Trial,
)
from eacps.errors import EacpsError, JudgeDownError, ScoringError
from eacps.images import TaskImages, encode_png
from eacps.labelstudio.cards.html import card, report
from eacps.labelstudio.cards.records import records
from eacps.metric_range import MetricRange
from eacps.runner import Device
from eacps.runner.judging import Judge
from eacps.runner.pictures import Picture
from eacps.runner.rendering import Rendered, StoredImage
from eacps.scoring.potential import Potential
from eacps.settings import Settings
from eacps.verifiers import Answers
from eacps.verifiers.scorer import VerifierScorer
from tests.doubles import SlowPainter
from tests.judge_server import JudgeServer, picture_of, serving
from tests.unit.verifiers.language.judges import IMAGES, SOURCE, judge_at, task_of

PLANS = [
    SearchPlan("best_of_n", {"n": 4}, steps=10),
    SearchPlan("halving", {"n": 6}, steps=10),
    SearchPlan("waves", {}, steps=10),
    SearchPlan("auto", {}, steps=10),
    SearchPlan("eacps", {}, steps=10),
    SearchPlan("zero_order", {}, steps=10),
]


def searched(judge: Judge, plan: SearchPlan) -> SearchResult:
    """The result of a search whose pictures this judge is asked about."""
    task = EditTask("a.png", "add a red hat", plan=plan)

    def run(batches: Sequence[Sequence[Trial]]) -> list[Candidate]:
        found = []
        for trials in batches:
            rendered = []
            for trial in trials:
                image = picture_of(trial.noise.seed % 10)
                state = None if trial.to_step is None else "s.safetensors"
                stored = StoredImage(Picture("i.png", "t.jpg", state=state), image, image)
                rendered.append(Rendered(trial, stored, nfe=1))
            found += judge.candidates(task, TaskImages(SOURCE), rendered)
        return found

    return runner.search(task, run)


def judge_of(server: JudgeServer, folder: Path, **options: Any) -> Judge:
    options = {"attempts": 1} | options
    scorer = VerifierScorer({"remote": judge_at(server.address, folder, **options)})
    settings = Settings(_env_file=None, potential="weighted", weights={"verified": 1})
    return Judge([scorer], Potential.of(settings), settings)


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: plan.strategy)
def test_every_search_ends_with_pictures_to_choose_from(plan: SearchPlan, tmp_path: Path) -> None:
    with serving(JudgeServer(fault=lambda _: "unavailable")) as server:
        found = searched(judge_of(server, tmp_path), plan)
    assert found.usable
    assert not found.is_judged
    assert not found.is_convincing
    assert all(one.unjudged for one in found.usable)
    assert {one.potential for one in found.candidates} == {None}
    words = " ".join([*found.notes, *found.best.notes])
    assert "Not judged: remote: it answers 503: unavailable, sorry" in words
    assert "`eacps rescore`" in words


def test_a_judge_that_goes_away_in_the_middle_leaves_the_rest_behind_the_judged_ones(
    tmp_path: Path,
) -> None:
    with serving() as server:
        server.fault = lambda _: "" if len(server.heard) <= 2 else "unavailable"
        plan = SearchPlan("best_of_n", {"n": 4}, batch_size=2)
        found = searched(judge_of(server, tmp_path), plan)
    assert [one.unjudged for one in found.usable] == [False, False, True, True]
    assert found.is_judged
    assert (found.best.potential or 0) >= (found.usable[1].potential or 0) > 0


def test_people_are_told_what_the_order_says(tmp_path: Path) -> None:
    with serving(JudgeServer(fault=lambda _: "unavailable")) as server:
        found = searched(judge_of(server, tmp_path), PLANS[0])
    of_card = records(found, str, str)
    assert [(one["rank"], one["score"], one["state"]) for one in of_card.values()] == [
        (None, None, "finished")
    ] * 4
    text = report(found)
    assert "No judge could be asked, so the candidates are in no order." in text
    assert "Nothing convincing" not in text
    shown = card(found, found.usable[1], 2, "i.png")
    assert "not judged" in shown
    assert "<b>0%</b>" not in shown


@pytest.mark.parametrize(
    ("options", "server", "kind"),
    [
        ({}, {"fault": lambda _: "unavailable"}, JudgeDownError),
        ({}, {"fault": lambda _: "rate_limited"}, JudgeDownError),
        # Nothing but a changed setting helps, so the task fails at once and says which.
        ({"api_key": "sk-wrong-0123456789"}, {"key": "sk-right"}, ScoringError),
        ({}, {"fault": lambda _: "prose"}, ScoringError),
    ],
)
def test_what_passes_by_itself_is_no_fault_of_the_settings(
    options: dict[str, Any], server: dict[str, Any], kind: type[EacpsError], tmp_path: Path
) -> None:
    with serving(JudgeServer(**server)) as asked:
        judge = judge_at(asked.address, tmp_path, attempts=1, **options)
        for _ in range(2):
            with pytest.raises(ScoringError) as caught:
                judge.judge(task_of(), IMAGES, [picture_of(3)] * 6, [1.0] * 6)
            assert type(caught.value) is kind


def test_a_limit_that_is_reached_stops_politely(tmp_path: Path) -> None:
    with serving() as server:
        judge = judge_at(server.address, tmp_path, settings={"judge_limits": {"calls_per_day": 1}})
        judge.judge(task_of(), IMAGES, [picture_of(3)], [1.0])
        with pytest.raises(JudgeDownError, match="calls_per_day"):
            judge.judge(task_of(), IMAGES, [picture_of(4)], [1.0])


def test_a_scorer_that_fails_otherwise_still_fails_its_task() -> None:
    failure = Failure("scoring_failed", "The weights are gone.")

    def run(batches: Sequence[Sequence[Trial]]) -> list[Candidate]:
        return [Candidate(one, image="i.png", failure=failure) for each in batches for one in each]

    task = EditTask("a.png", "add a red hat", plan=PLANS[0])
    with pytest.raises(EacpsError, match="The weights are gone"):
        runner.search(task, run)
    assert failure.code != JUDGE_DOWN


class OnTheDevice:
    """A scorer that needs the device."""

    ranges: ClassVar[Mapping[str, MetricRange]] = {"sharp": MetricRange(worst=0, best=1)}

    def __init__(self, events: list[str]) -> None:
        self._events = events

    def score(
        self, task: EditTask, images: TaskImages, edited: Sequence[Any], progress: Sequence[float]
    ) -> list[dict[str, float]]:
        del task, images, progress
        self._events.append("device")
        return [{"sharp": 0.5}] * len(edited)


class Slow:
    """A verifier that may wait for a server."""

    ranges: Mapping[str, MetricRange] = MappingProxyType({"satisfied": MetricRange(0, 1)})

    def __init__(self, events: list[str], waits: bool) -> None:
        self._events = events
        self.waits = waits

    def judge(
        self, task: EditTask, images: TaskImages, edited: Sequence[Any], progress: Sequence[float]
    ) -> list[Answers]:
        del task, images, progress
        self._events.append("judge")
        return [Answers({"satisfied": 1.0})] * len(edited)


@pytest.mark.parametrize(
    ("waits", "order"),
    [
        ((True, True), ["device", "let go", "judge", "judge"]),
        # One of them takes turns with the editor.
        ((True, False), ["judge", "judge", "device"]),
    ],
)
def test_the_device_is_let_go_once_only_servers_are_waited_for(
    waits: Sequence[bool], order: list[str]
) -> None:
    events: list[str] = []
    verifiers = {str(number): Slow(events, each) for number, each in enumerate(waits)}
    settings = Settings(_env_file=None, potential="weighted", weights={"satisfied": 1})
    scorers: list[Any] = [VerifierScorer(verifiers), OnTheDevice(events)]
    judge = Judge(scorers, Potential.of(settings), settings)
    image = picture_of(3)
    rendered = Rendered(Trial("c1", Noise(1)), StoredImage(Picture("i", "t"), image, image))
    [found] = judge.candidates(task_of(), IMAGES, [rendered], lambda: events.append("let go"))
    assert events == order
    assert {each.name for each in found.metrics} == {"satisfied", "sharp"}


class Noting(ArtifactStore):
    """A store that notes when something is stored."""

    def __init__(self, url: str, events: list[str]) -> None:
        super().__init__(url)
        self._events = events

    def put(self, content: bytes, suffix: str) -> str:
        self._events.append("store")
        return super().put(content, suffix)


class WithoutDevice(OnTheDevice):
    """A scorer that computes on the processor alone."""

    def needs_device(self, _task: EditTask) -> bool:
        return False


@pytest.mark.parametrize(
    ("waits", "others", "order"),
    [
        (True, [], ["let go", "store", "judge"]),
        (True, [WithoutDevice], ["let go", "store", "device", "judge"]),
        (True, [OnTheDevice], ["store", "device", "let go", "judge"]),
        # Where no server judges, there is nothing to wait for.
        (False, [WithoutDevice], ["store", "judge", "device"]),
    ],
)
def test_the_device_renders_on_while_pictures_are_stored_if_only_servers_judge(
    waits: bool, others: list[type[OnTheDevice]], order: list[str], tmp_path: Path
) -> None:
    events: list[str] = []
    store = Noting(f"file://{tmp_path}", events)
    source = store.put(encode_png(SOURCE), "png")
    events.clear()
    settings = Settings(_env_file=None, potential="weighted", weights={"satisfied": 1})
    scorers: list[Any] = [each(events) for each in others]
    scorers = [VerifierScorer({"one": Slow(events, waits)}), *scorers]
    device = Device(SlowPainter(), scorers, Potential.of(settings), store, settings)
    trials = [Trial("c1", Noise(1)), Trial("c2", Noise(2))]
    found = device.run_batch(
        EditTask(source, "brighter"), trials, let_go=lambda: events.append("let go")
    )
    assert [one.failure for one in found] == [None, None]
    # Letting go twice is letting go.
    assert list(dict.fromkeys(events)) == order
