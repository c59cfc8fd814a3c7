"""The searches to compare: strategies with settings, and judges."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from benchmarks.search.judges import (
    ALPHAS,
    CLIP,
    DIRECTION,
    EACPS,
    NOISES,
    ORACLE,
    TOGETHER,
    Judge,
    best_judge,
    eacps_with,
    misheard,
)
from benchmarks.search.workshop import has_verifier
from eacps.domain import SearchPlan
from eacps.errors import SettingsError
from eacps.plugins import is_reference, label
from eacps.search import names
from eacps.search.registry import STRATEGIES, describe

BASELINE_FAMILY: Final = "best of N"
BASELINE: Final = "best of 8"
FEWER: Final = (2, 3, 4, 6)
"""Steps of a render, besides those of the level's editor."""
PREVIEWED: Final = 4
"""The fewer steps of strategies that judge previews."""
CHILDREN: Final = 3
"""The fewer steps of strategies that make children, which are expensive to measure."""
BATCH_SIZE: Final = 4
Rungs = list[list[float]]


@dataclass(frozen=True)
class Entry:
    """A point of a curve: a strategy with settings, and its judges."""

    label: str
    family: str
    strategy: str
    params: Mapping[str, Any] = field(default_factory=dict)
    judges: tuple[str, ...] = ()
    batch_size: int = BATCH_SIZE
    steps: int = 0
    """Denoising steps of a full render; 0: those of the level's editor."""
    local: bool = False
    """It makes children, which depend on the judge and are expensive, so it runs on fewer tasks."""

    def plan(self, judge: Judge, seed: int, steps: int) -> SearchPlan:
        """The plan, with parameters that depend on the judge's range of potentials."""
        known = {parameter.name for parameter in describe(self.strategy).parameters}
        spans = {"lowest": judge.lowest, "highest": judge.highest}
        spans = {name: value for name, value in spans.items() if name in known}
        params = {**spans, **self.params}
        return SearchPlan(self.strategy, params, seed, self.batch_size, steps)

    def in_steps(self, steps: int, judges: Sequence[str]) -> Entry:
        """The same search with renders of so many steps."""
        own = tuple(judge for judge in self.judges if judge in judges)
        return replace(self, label=f"{self.label}, {steps} steps", judges=own, steps=steps)


def entries(strategies: Sequence[str] = ()) -> list[Entry]:
    """All entries, or only these strategies and best of N."""
    found = [*_baselines(), *_searches()]
    known = {entry.strategy for entry in found}
    referred = [name for name in strategies if is_reference(name)]
    for name in dict.fromkeys([*referred, *names()]):
        found += [] if name in known else _of_others(name)
    found += [
        entry.in_steps(steps, (CLIP, best_judge(), ORACLE))
        for entry in found
        for steps in _fewer(entry)
    ]
    found += _many_drafts()
    chosen = {"best_of_n", *strategies}
    unknown = set(strategies) - {entry.strategy for entry in found}
    if unknown:
        raise SettingsError(
            f"There is no strategy {', '.join(sorted(unknown))}.",
            hint=f"Choose among {', '.join(sorted({entry.strategy for entry in found}))}.",
        )
    return [entry for entry in found if not strategies or entry.strategy in chosen]


def _fewer(entry: Entry) -> tuple[int, ...]:
    """In which numbers of steps, besides the usual one, a search is measured."""
    if entry.strategy == "best_of_n":
        return FEWER
    return (CHILDREN,) if entry.local or entry.strategy == "random" else (PREVIEWED,)


def _many_drafts() -> list[Entry]:
    """Best of N with as many renders of few steps as cost no more than usual ones."""
    judges = (CLIP, best_judge(), ORACLE)
    return [
        Entry(
            f"best of {n}, {steps} steps", BASELINE_FAMILY, "best_of_n", {"n": n}, judges, 4, steps
        )
        for steps, counts in ((2, (24, 32)), (3, (24,)), (4, (20,)))
        for n in counts
        for name in (f"best of {n}, {steps} steps",)
    ]


def _baselines() -> list[Entry]:
    weak = (CLIP, EACPS, DIRECTION)
    heard = tuple(misheard(noise) for noise in NOISES)
    every = (*_without_truth(*weak), ORACLE)
    more = {BASELINE: heard, "best of 4": tuple(map(eacps_with, ALPHAS))}
    return [
        Entry(name, BASELINE_FAMILY, "best_of_n", {"n": n}, (*every, *more.get(name, ())))
        for n in (1, 2, 3, 4, 6, 8, 12, 16)
        for name in (f"best of {n}",)
    ]


def _without_truth(*judges: str) -> tuple[str, ...]:
    """These judges and the best available one."""
    together = (TOGETHER,) if has_verifier() else ()
    return tuple(dict.fromkeys((*judges, best_judge(), *together)))


def _searches() -> list[Entry]:
    best = best_judge()
    main = (*_without_truth(CLIP, DIRECTION), ORACLE)
    every = (*main, EACPS, *(misheard(noise) for noise in NOISES))
    return [
        *(
            Entry(f"random, {r} rounds", "random", "random", {"rounds": r}, (CLIP, best))
            for r in (1, 2, 3)
        ),
        *_zero_order((best,)),
        *_eacps((best, ORACLE), tuple(dict.fromkeys((CLIP, EACPS, best, ORACLE)))),
        *_halving(main, every),
        *_waves((best, ORACLE)),
        Entry("auto", "auto", "auto", {}, main),
        *_drafts((CLIP, best, ORACLE)),
        *_ade_cot(main, (*_without_truth(best), ORACLE)),
        _refine(2, 3, 2, best),
        _refine(4, 2, 2, best),
        *_chains((best,)),
    ]


def _refine(n: int, steps: int, each: int, judge: str) -> Entry:
    params = {"n": n, "max_steps": steps, "per_step": each}
    label = f"refine {n}+{steps}x{each}"
    return Entry(label, "refine", "refine", params, (judge,), local=True)


def _chains(judges: tuple[str, ...]) -> list[Entry]:
    """Searches that edit their best edit again, without words: the demo's editor reads few."""
    return [
        Entry(
            f"edits of edits {n}+{steps}x{each}",
            "edits of edits",
            "refine",
            {
                **{"n": n, "max_steps": steps, "per_step": each, "edits": "best"},
                **{"critic": "none", "tau_low": low, "tau_high": 0.95},
            },
            judges,
        )
        for n, steps, each, low in ((4, 2, 2, 0.5), (8, 2, 4, 0.5))
    ]


def _zero_order(judges: tuple[str, ...]) -> list[Entry]:
    return [
        Entry(
            f"zero order {rounds}x{neighbours}, cosine {cosine:g}",
            "zero order",
            "zero_order",
            {"rounds": rounds, "num_neighbors": neighbours, "threshold": cosine},
            judges,
            local=True,
        )
        for rounds, neighbours, cosine in ((2, 3, 0.95), (2, 3, 0.7))
    ]


def _eacps(few: tuple[str, ...], main: tuple[str, ...]) -> list[Entry]:
    def shaped(label: str, judges: tuple[str, ...], *shape: int, **more: Any) -> Entry:
        params = {**dict(zip(("k", "m", "k_local"), shape, strict=True)), **more}
        name = f"EACPS {'/'.join(map(str, shape))}{label}"
        return Entry(name, "EACPS", "eacps", params, judges, local=True)

    sources = (*main, *map(eacps_with, ALPHAS))
    wide: Rungs = [[0.2, 6], [0.5, 2]]
    return [
        shaped(", angle 0.2", few, 4, 2, 2, angle=0.2),
        shaped(", angle 0.4", sources, 4, 2, 2, angle=0.4),
        shaped(", angle 0.8", few, 4, 2, 2, angle=0.8),
        shaped(", angle 1.2", few, 4, 2, 2, angle=1.2),
        shaped(", seed offsets", (*few, EACPS, *map(eacps_with, ALPHAS)), 4, 2, 2, moves="seed"),
        shaped(", rungs", few, 8, 2, 2, rungs=[[0.3, 4], [0.5, 2]], local_rungs=[[0.5, 2]]),
        shaped(", rungs, angle 0.4", few, 12, 1, 2, rungs=wide, angle=0.4),
        shaped(", rungs, angle 0.8", few, 12, 1, 2, rungs=wide, angle=0.8),
        shaped(", adaptive", few, 8, 2, 2, adaptive=True, k_first=4),
    ]


def _halving(main: tuple[str, ...], every: tuple[str, ...]) -> list[Entry]:
    shapes: list[tuple[int, Rungs, tuple[str, ...]]] = [
        (4, [[0.5, 1]], main),
        (4, [[0.3, 2], [0.5, 1]], main),
        (4, [[0.4, 2], [0.6, 1]], main),
        (5, [[0.3, 2], [0.5, 1]], main),
        (5, [[0.4, 1]], main),
        (6, [[0.2, 3], [0.5, 1]], main),
        (8, [[0.3, 4], [0.6, 2]], main),
        (8, [[0.2, 3], [0.5, 1]], main),
        (8, [[0.5, 2]], main),
        (12, [[0.3, 4], [0.6, 2]], main),
        (12, [[0.5, 4]], main),
        (16, [[0.2, 5], [0.5, 2]], every),
        (16, [[0.3, 5], [0.5, 2]], main),
        (16, [[0.3, 6], [0.6, 3]], main),
        (16, [[0.4, 4], [0.6, 2]], main),
        (16, [[0.2, 8], [0.4, 4], [0.6, 2]], main),
    ]
    return [
        Entry(
            f"halving {n} {_stairs(rungs)}", "halving", "halving", {"n": n, "rungs": rungs}, judges
        )
        for n, rungs, judges in shapes
    ]


def _waves(judges: tuple[str, ...]) -> list[Entry]:
    late: Rungs = [[0.4, 2], [0.6, 1]]
    shapes: list[tuple[int, int, Rungs, float]] = [
        (6, 2, [[0.2, 2], [0.4, 1]], 0.3),
        (6, 2, [[0.2, 3], [0.4, 1]], 0.4),
        (8, 2, [[0.2, 3], [0.4, 1]], 0.8),
        (8, 2, late, 0.7),
        (8, 2, late, 0.85),
        (8, 4, late, 0.7),
        (8, 4, late, 0.85),
        (8, 4, [[0.2, 4], [0.4, 2], [0.6, 1]], 0.85),
    ]
    return [
        Entry(
            f"waves {n}x{waves} {_stairs(rungs)}, good {good:g}",
            "waves",
            "waves",
            {"n": n, "waves": waves, "rungs": rungs, "good": good},
            judges,
        )
        for n, waves, rungs, good in shapes
    ]


def _drafts(judges: tuple[str, ...]) -> list[Entry]:
    shapes = [(8, 0.3, 1), (16, 0.2, 1), (16, 0.3, 1), (16, 0.3, 2), (16, 0.4, 2), (24, 0.3, 2)]
    return [
        Entry(
            f"draft {n} in {share:.0%}, {finish} whole",
            "draft",
            "draft",
            {"n": n, "share": share, "finish": finish},
            judges,
        )
        for n, share, finish in (*shapes, (16, 0.3, 4), (32, 0.2, 2))
    ]


def _ade_cot(main: tuple[str, ...], few: tuple[str, ...]) -> list[Entry]:
    parts = ("difficulty", "prune", "stop")

    def made(label: str, n: int, judges: tuple[str, ...], batch: int = 4, **more: Any) -> Entry:
        return Entry(f"ADE-CoT {n}{label}", "ADE-CoT", "ade_cot", {"n": n, **more}, judges, batch)

    alone = [
        made(f", only {part}", n, few, **{other: other == part for other in parts})
        for n in (8, 16)
        for part in parts
    ]
    return [
        *alone,
        *(made("", n, main) for n in (4, 8, 16)),
        *(made(", one at a time", n, main, 1) for n in (4, 8, 16)),
    ]


def _stairs(rungs: Rungs) -> str:
    return " ".join(f"{keep:g}@{share:.0%}" for share, keep in rungs)


def _of_others(name: str) -> list[Entry]:
    """The entries of another strategy: its defaults, or the parameters that its module lists as
    POINTS, one mapping per point of its curve."""
    module = sys.modules.get(getattr(STRATEGIES.get(name), "__module__", ""))
    points = getattr(module, "POINTS", [{}])
    judges = tuple(dict.fromkeys((CLIP, best_judge(), ORACLE)))
    shown = label(name)
    return [
        Entry(f"{shown} {params}" if params else shown, shown, name, params, judges)
        for params in points
    ]
