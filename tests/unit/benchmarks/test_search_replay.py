"""A search replayed from kept renders ends as the same search does on the real device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import pytest
import torch

from benchmarks.search.bank import Banks
from benchmarks.search.judges import EACPS, ORACLE, judges
from benchmarks.search.measure import filled
from benchmarks.search.problems import Problem, problems
from benchmarks.search.replay import Recording
from benchmarks.search.workshop import Workshop
from eacps.artifacts import ArtifactStore
from eacps.domain import Candidate, EditTask, SearchPlan, SearchResult, Trial
from eacps.images import encode_png
from eacps.runner import search
from eacps.runner.device import open_device
from eacps.runner.judging import NEAREST

Searched = Callable[[SearchPlan], SearchResult]
LEVEL = "medium"
SEARCHES: list[tuple[str, dict[str, Any]]] = [
    ("halving", {"n": 4, "rungs": [[0.3, 2], [0.6, 1]]}),
    ("ade_cot", {"n": 4, "difficulty": False, "lowest": 4.0, "highest": 10.5}),
    (
        "refine",
        {"n": 2, "max_steps": 2, "per_step": 1, "edits": "best", "critic": "none", "tau_low": 0.0},
    ),
    ("draft", {"n": 4, "share": 0.3, "finish": 1}),
    ("eacps", {"k": 2, "m": 1, "k_local": 1, "local_rungs": [[0.5, 1]]}),
]


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    return Workshop(LEVEL, tmp_path_factory.mktemp("bank"))


@pytest.fixture(scope="module")
def problem() -> Problem:
    return problems(LEVEL, "held-in", 1)[0]


@pytest.fixture(scope="module")
def on_the_device(
    workshop: Workshop, problem: Problem, tmp_path_factory: pytest.TempPathFactory
) -> Searched:
    """The product's own way: artifacts, editor, scorers, potential."""
    store = ArtifactStore(f"file://{tmp_path_factory.mktemp('store')}")
    device = open_device(workshop.settings, store, "cpu")
    image = store.put(encode_png(problem.bear.image), "png")

    def run(plan: SearchPlan) -> SearchResult:
        task = EditTask(image, problem.bear.instruction, plan=plan)

        def batches(asked: Sequence[Sequence[Trial]]) -> list[Candidate]:
            return [one for batch in asked for one in device.run_batch(task, batch)]

        return search(task, batches)

    return run


def kept(workshop: Workshop, problem: Problem) -> tuple[Callable[[int], Workshop], Banks]:
    @cache
    def workshops(drafted: int) -> Workshop:
        return Workshop(LEVEL, workshop.cache, drafted) if drafted else workshop

    return workshops, Banks(lambda drafted: workshops(drafted).bank(problem))


def told(result: SearchResult) -> list[tuple[str, bool, int, int | None]]:
    return [(c.id, c.pruned, c.nfe, c.trial.to_step) for c in result.candidates]


def scores(result: SearchResult, names: set[str]) -> list[float]:
    rows = [{m.name: m.value for m in c.metrics} for c in result.candidates]
    return [row[name] for row in rows for name in sorted(names & row.keys())]


@pytest.mark.parametrize(("strategy", "params"), SEARCHES, ids=[name for name, _ in SEARCHES])
def test_a_replayed_search_equals_the_real_one(
    strategy: str,
    params: dict[str, Any],
    workshop: Workshop,
    problem: Problem,
    on_the_device: Searched,
) -> None:
    plan = SearchPlan(strategy, params, problem.seed, 4, workshop.steps)
    real = on_the_device(plan)
    workshops, banks = kept(workshop, problem)
    recording = Recording(problem, banks, judges()[EACPS], workshop.nfe_per_step)
    replayed = filled(workshops, problem, banks, lambda: recording.searched(plan))
    assert told(replayed) == told(real)
    assert replayed.nfe == real.nfe
    assert replayed.decisions == real.decisions
    # batches of other sizes round differently; a level of 255 moves these by less than 1e-3
    assert [c.potential for c in replayed.candidates] == pytest.approx(
        [c.potential for c in real.candidates], abs=5e-3
    )
    names = {"pf", "pf_dir", "cons", "lpips", NEAREST}
    assert scores(replayed, names) == pytest.approx(scores(real, names), abs=1e-3)


def test_nothing_is_rendered_twice(
    workshop: Workshop, problem: Problem, monkeypatch: pytest.MonkeyPatch
) -> None:
    strategy, params = SEARCHES[0]
    plan = SearchPlan(strategy, params, problem.seed, 4, workshop.steps)

    def replay(judge: str) -> SearchResult:
        workshops, banks = kept(Workshop(LEVEL, workshop.cache), problem)
        recording = Recording(problem, banks, judges()[judge], workshop.nfe_per_step)
        return filled(workshops, problem, banks, lambda: recording.searched(plan))

    first = replay(EACPS)
    monkeypatch.setattr(Workshop, "make", lambda *_: pytest.fail("it was rendered before"))
    assert replay(EACPS) == first
    assert replay(ORACLE).best.outcome.usable
