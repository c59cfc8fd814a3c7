"""The tables that compare a search with best of N as well tuned as itself.

Both are chosen on the held-in tasks, best of N with its number of steps, and both are reported on
other tasks. The first published tables (version 0.1) compared at equal NFE with a best of N whose
renders took more steps than they needed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from benchmarks.search.entries import BASELINE, FEWER
from benchmarks.search.judges import ALPHAS, CLIP, EACPS, ORACLE, VERIFIER, eacps_with
from benchmarks.search.results import Duel, Results, Run, champion, duel
from benchmarks.search.statistics import Record, mean_interval, record
from benchmarks.search.tables import Table

BUDGETS: Final = (1, 2, 4, 8, 16)
"""Budgets: what best of N costs in the level's own number of steps."""
WAVES: Final = "waves 8x4 2@40% 1@60%, good 0.85"
CHEAP_WAVES: Final = "waves 6x2 2@20% 1@40%, good 0.3"
HALVING: Final = "halving 16 5@20% 2@50%"
CHILDREN: Final = "EACPS 4/2/2, angle 0.4"
OFFSETS: Final = "EACPS 4/2/2, seed offsets"


@dataclass(frozen=True)
class Claim:
    """What was published in version 0.1: points of success of one search over another one."""

    ours: str
    theirs: str
    published: str
    judge: str = VERIFIER
    other_judge: str = VERIFIER


CLAIMS: Final = (
    Claim(WAVES, BASELINE, "+7.0 [+2.7, +11.0]"),
    Claim("auto", BASELINE, "+8.3 [+4.7, +12.3]"),
    Claim(HALVING, BASELINE, "+6.0 [+2.0, +10.0]"),
    Claim(CHEAP_WAVES, BASELINE, "-0.7 [-4.3, +3.0]"),
    Claim("best of 16", BASELINE, "+7.0 [+3.7, +10.3]"),
    Claim(CHILDREN, BASELINE, "+1.7 [-6.7, +10.0]"),
    Claim(WAVES, BASELINE, "+22.7", other_judge=CLIP),
)


def equal_cost(main: Results, chosen_on: Results, judge: str, cost: str) -> Table:
    """The best search of all against the best best-of-N, for several budgets."""
    rows = list(_duels(main, chosen_on, judge, cost))
    unit = "seconds of one device" if cost == "seconds" else "denoiser passes, in full renders"
    return Table(
        f"Against tuned best of N at equal {unit.split(',', maxsplit=1)[0]}, judged by {judge}",
        f"For each budget ({unit}), best of N with its number of steps, and any other search, as "
        f"chosen on {chosen_on.tasks} {chosen_on.part} tasks; reported on {main.tasks} others. "
        "Seconds are computed from measured prices of denoising, decoding and judging; judged is "
        "the number of pictures that the judge was shown.",
        (
            *("budget", "best of N", "seconds", "NFE", "judged", "success, %"),
            *("search", "seconds", "NFE", "judged", "success, %"),
            *("difference, points", "W/T/L", "won of decided, %"),
        ),
        rows,
    )


def _duels(main: Results, chosen_on: Results, judge: str, cost: str) -> Iterator[tuple[str, ...]]:
    for count in BUDGETS:
        reference = chosen_on.run(f"best of {count}", judge)
        if reference is None:
            continue
        budget = getattr(reference, cost)
        base = _chosen(main, chosen_on, judge, budget, cost, baseline=True)
        ours = _chosen(main, chosen_on, judge, budget, cost, baseline=False)
        if base is None or ours is None:
            continue
        found = duel(ours, base)
        yield (f"{budget:.2f}", *_facts(base), *_facts(ours), *_outcome(found))


def _chosen(
    main: Results, chosen_on: Results, judge: str, budget: float, cost: str, *, baseline: bool
) -> Run | None:
    best = champion(chosen_on, judge, budget, cost, baseline=baseline)
    return best and main.run(best.search, judge)


def _facts(run: Run) -> tuple[str, ...]:
    success = mean_interval(run.success).percent()
    return (run.search, f"{run.seconds:.2f}", f"{run.nfe:.2f}", f"{run.judged:.1f}", success)


def _outcome(found: Duel) -> tuple[str, str, str]:
    share = found.successes.share.percent()
    return found.difference.percent(signed=True), words(found.successes), share


def words(one: Record) -> str:
    """Wins, ties and losses."""
    return f"{one.wins}/{one.ties}/{one.losses}"


def few_steps(main: Results) -> Table:
    """What best of 8 makes of renders of fewer steps."""
    full = int(main.facts["steps"])
    base = main.baseline(main.best_judge)
    rows = []
    for steps in (*FEWER, full):
        suffix = "" if steps == full else f", {steps} steps"
        single = main.run(f"best of 1{suffix}", CLIP)
        runs = [main.run(BASELINE + suffix, each) for each in (main.best_judge, CLIP, ORACLE)]
        first = runs[0]
        if single is None or first is None:
            continue
        rows.append(
            (
                str(steps),
                mean_interval(single.success).percent(),
                *(mean_interval(run.success).percent() if run else "-" for run in runs),
                f"{first.nfe:.2f}",
                f"{first.seconds:.2f}",
                "-" if steps == full else duel(first, base).difference.percent(signed=True),
            )
        )
    judge = main.best_judge
    return Table(
        f"Steps of a render ({main.level}, {main.part}, {main.tasks} tasks)",
        f"Success, in percent, of one attempt and of best of 8 with renders of fewer steps. Points "
        f"are over best of 8 in {full} steps, both by {judge}.",
        (
            *("steps", "one attempt", f"best of 8 by {judge}", "by clip", "by oracle"),
            *("NFE", "seconds", "points over the usual steps"),
        ),
        rows,
    )


def restated(main: Results, chosen_on: Results) -> Table:
    """The claims of version 0.1 on new tasks, and against a best of N that was tuned, too."""
    rows = []
    for claim in CLAIMS:
        ours = main.run(claim.ours, claim.judge)
        theirs = main.run(claim.theirs, claim.other_judge)
        held_in = chosen_on.run(claim.ours, claim.judge)
        if ours is None or theirs is None or held_in is None:
            continue
        again = duel(ours, theirs).difference
        base = _chosen(
            main, chosen_on, claim.other_judge, held_in.seconds, "seconds", baseline=True
        )
        against = duel(ours, base) if base else None
        rows.append(
            (
                f"{claim.ours} over {claim.theirs}{_by(claim)}",
                str(ours.tasks),
                claim.published,
                again.percent(signed=True),
                _name(base) if base else "-",
                against.difference.percent(signed=True) if against else "-",
                _verdict(against),
            )
        )
    return Table(
        f"Published claims, measured again ({main.level}, {main.part})",
        "Points of success. Tuned best of N is the one that succeeds most often on held-in tasks "
        "for no more seconds than the search takes there.",
        (
            *("claim", "tasks", "published in 0.1", "the same comparison, new tasks"),
            *("tuned best of N", "over tuned best of N", "does it stand"),
        ),
        rows,
    )


def _by(claim: Claim) -> str:
    if claim.judge == claim.other_judge:
        return f", by {claim.judge}"
    return f" by {claim.other_judge}"


def _name(run: Run) -> str:
    return f"{run.search}: {run.seconds:.2f} s"


def _verdict(found: Duel | None) -> str:
    if found is None:
        return "-"
    if found.difference.low > 0:
        return "yes"
    return "no" if found.difference.high < 0 else "not shown"


def sources(main: Results) -> Table | None:
    """EACPS 4/2/2 by its own potential against best of 4, winners by metric."""
    base = main.run("best of 4", CLIP)
    rows = []
    for search in (OFFSETS, CHILDREN):
        for judge in (EACPS, *map(eacps_with, ALPHAS), CLIP, main.best_judge):
            ours = main.run(search, judge)
            if ours is None or base is None:
                continue
            count = min(ours.tasks, base.tasks)
            metrics = [
                words(record(_signed(ours, name)[:count], _signed(base, name)[:count]))
                for name in ("pf", "cons", "lpips", "score")
            ]
            lead = duel(ours, base).difference.percent(signed=True)
            rows.append((search, judge, str(count), *metrics, lead))
    if not rows:
        return None
    return Table(
        f"EACPS 4/2/2 against best of 4 by CLIP ({main.level}, {main.part})",
        "The comparison that the method was published with: wins, ties and losses per metric "
        "(lower LPIPS wins) and by the oracle's graded score. The published potential is "
        "pf + 10 cons - 3 lpips; alpha is the weight of cons.",
        ("search", "judged by", "tasks", "CLIP", "CONS", "LPIPS", "oracle", "success, points"),
        rows,
    )


def _signed(run: Run, name: str) -> list[float]:
    values = run.values(name)
    return [float(value) for value in (-values if name == "lpips" else values)]
