"""Writes the report from the rows: tables as Markdown and HTML, plots as PNG."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from benchmarks.search.bank import END
from benchmarks.search.entries import BASELINE
from benchmarks.search.fair import equal_cost, few_steps, restated, sources, words
from benchmarks.search.judges import CLIP, ORACLE
from benchmarks.search.plots import draw
from benchmarks.search.results import Results, Run, duel, reached
from benchmarks.search.statistics import Estimate, mean_interval
from benchmarks.search.tables import Table


def report(rows: Sequence[Mapping[str, Any]], out: Path, name: str) -> list[Path]:
    """Write NAME.md, NAME.html and NAME.png next to the rows; returns their paths."""
    pairs = [(row["level"], row["part"]) for row in rows if row["kind"] == "set"]
    sets = [Results(rows, level, part) for level, part in pairs]
    main = _set(sets, "new")
    chosen_on = _set(sets, "held-in")
    tables = [*_main_tables(main, chosen_on), _sets(sets)]
    tables += [_searches(one, one.best_judge) for one in sets]
    tables += [_searches(main, judge) for judge in (CLIP, ORACLE)]
    out.mkdir(parents=True, exist_ok=True)
    picture = draw(main, chosen_on, out / f"{name}.png")
    written = [out / f"{name}.md", out / f"{name}.html", picture]
    written[0].write_text(_markdown(rows[0], tables, picture.name))
    written[1].write_text(_html(rows[0], tables, picture.name))
    Console().print(restated(main, chosen_on).markdown, "\n".join(map(str, written)))
    return written


def _set(sets: Sequence[Results], part: str) -> Results:
    """The medium level's set of this part, or the closest one."""

    def distance(one: Results) -> tuple[bool, bool]:
        return one.part != part, one.level != "medium"

    return min(sets, key=distance)


def _main_tables(main: Results, chosen_on: Results) -> list[Table]:
    judge, kin = main.best_judge, main if main.moves else chosen_on
    found = [
        restated(main, chosen_on),
        equal_cost(main, chosen_on, judge, "seconds"),
        equal_cost(main, chosen_on, judge, "nfe"),
        equal_cost(main, chosen_on, CLIP, "seconds"),
        few_steps(main),
        sources(kin),
        *(_judges(main), _reach(main), _previews(main)),
        *([_children(kin), _moves(main)] if kin.moves else []),
    ]
    return [table for table in found if table is not None]


def _sets(sets: Sequence[Results]) -> Table:
    rows = []
    for one in sets:
        ceiling = one.baseline(ORACLE)
        first = one.run("best of 1", ORACLE)
        assert first is not None
        gain = duel(ceiling, first).difference
        rows.append(
            (
                one.level,
                one.part,
                str(one.facts["tasks"]),
                one.single().percent(),
                mean_interval(ceiling.success).percent(),
                gain.percent(signed=True),
            )
        )
    return Table(
        "The sets",
        "Success of a single attempt, and of the best of 8 as the oracle itself would choose: the "
        "room that a search has. In percent.",
        ("level", "set", "tasks", "one attempt", "oracle's best of 8", "room"),
        rows,
    )


def _judges(main: Results) -> Table:
    rows = []
    single = main.run("best of 1", CLIP)
    assert single is not None
    for judge in main.judges:
        run = main.baseline(judge)
        rows.append(
            (
                judge,
                str(main.auc(judge)),
                mean_interval(run.success).percent(),
                duel(run, single).difference.percent(signed=True),
                *(
                    duel(other, single).difference.percent(signed=True) if other else "-"
                    for other in _samples(main, judge)
                ),
            )
        )
    return Table(
        f"Gain of search against the judge ({main.level}, {main.part})",
        "AUC: how often a judge puts a success above a failure of the same task. Gains are points "
        "of success over a single attempt. With noise on its own score the oracle is every judge "
        "between a coin and the truth; the oracle itself is the ceiling, not a method.",
        ("judge", "AUC", "best of 8, %", "gain", *(f"gain of {n}" for n in SAMPLES)),
        rows,
    )


SAMPLES: Final = ("halving 16 5@20% 2@50%", "EACPS 4/2/2, angle 0.4")


def _samples(main: Results, judge: str) -> list[Run | None]:
    return [main.run(name, judge) for name in SAMPLES]


def _reach(main: Results) -> Table:
    rows = []
    for judge in (main.best_judge, ORACLE):
        goal = main.baseline(judge)
        for family in main.families:
            points = main.under(judge, family)
            if points:
                rows.append((judge, family, _nfe(reached(points, goal)), str(points[0].tasks)))
    weak = main.baseline(CLIP)
    for family in main.families:
        points = main.under(main.best_judge, family)
        if points:
            name = f"{main.best_judge}, to reach CLIP's"
            rows.append((name, family, _nfe(reached(points, weak)), str(points[0].tasks)))
    return Table(
        f"NFE to reach best of 8's quality ({main.level}, {main.part})",
        "The cost, in full renders, at which a family's curve reaches the success of best of 8; "
        "`never` where it does not within what was tried.",
        ("judge", "family", "NFE to reach", "tasks"),
        rows,
    )


def _previews(main: Results) -> Table:
    steps, total = main.preview_steps, main.facts["steps"]
    rows = []
    for judge in main.judges:
        if "noise" in judge:
            continue
        for what, ask in (
            ("its own end", main.foresight),
            ("the truth at the end", main.foretold_truth),
            ("AUC for success", main.auc),
        ):
            shown = [_point(ask(judge, step)) for step in (*steps, END)]
            rows.append((judge, what, *shown))
    return Table(
        f"What previews tell ({main.level}, {main.part})",
        "Rank correlation, inside tasks, of what a judge says of a preview with what it says of "
        "the result, and with the truth; and how well it tells success.",
        ("judge", "of", *(f"{step / total:.0%}" for step in steps), "100%"),
        rows,
    )


def _children(main: Results) -> Table:
    rows = [
        (
            move,
            str(main.likeness(move)),
            *(str(main.kinship(move, judge)) for judge in (ORACLE, main.best_judge, CLIP)),
        )
        for move in main.moves
    ]
    return Table(
        f"How children take after their parents ({main.level}, {main.part})",
        "CLIP's cosine of child and parent, and the correlation of their scores, both less the "
        "mean of their task's candidates: 0 is a stranger, 1 a copy.",
        ("child by", "likeness", "truth", f"score by {main.best_judge}", "score by CLIP"),
        rows,
    )


def _moves(main: Results) -> Table:
    rows = []
    for judge in (main.best_judge, ORACLE):
        base = main.baseline(judge)
        offset = main.run("EACPS 4/2/2, seed offsets", judge)
        for run in main.under(judge, "EACPS"):
            if not run.search.startswith("EACPS 4/2/2"):
                continue
            against = duel(run, offset) if offset and offset is not run else None
            rows.append(
                (
                    judge,
                    run.search,
                    mean_interval(run.success).percent(),
                    duel(run, base).difference.percent(signed=True),
                    against.difference.percent(signed=True) if against else "-",
                    words(against.scores) if against else "-",
                )
            )
    return Table(
        f"Seed offsets against noise-space children ({main.level}, {main.part})",
        "EACPS 4/2/2 at 8 NFE with each kind of child: success in percent, points over best of 8 "
        "and over seed offsets on the same tasks, wins, ties and losses by the graded score.",
        ("judge", "search", "success", "over best of 8", "over seed offsets", "W/T/L"),
        rows,
    )


def _searches(one: Results, judge: str) -> Table:
    base, weak = one.baseline(judge), one.baseline(CLIP)
    rows = []
    for run in one.under(judge):
        same, other = duel(run, base), duel(run, weak)
        is_base = run.search == BASELINE
        rows.append(
            (
                run.search,
                f"{run.nfe:.2f}",
                f"{run.seconds:.2f}",
                f"{run.judged:.1f}",
                str(run.tasks),
                mean_interval(run.success).percent(),
                f"{run.values('score').mean():.3f}",
                "-" if is_base else same.difference.percent(signed=True),
                "-" if is_base else same.graded.percent(signed=True),
                "-" if is_base else words(same.successes),
                f"{other.successes.share.percent()} ({words(other.successes)})",
                f"{run.values('pf').mean():.3f}",
                f"{run.values('lpips').mean():.3f}",
                f"{run.values('potential').mean():.3f}",
            )
        )
    cost = ("search", "NFE", "seconds", "judged", "tasks")
    head = (*cost, "success, %", "score", "over best of 8", "graded", "W/T/L")
    more = ("wins of decided against best of 8 by CLIP, %", "PF", "LPIPS", "potential")
    ceiling = " This is the ceiling: the judge is the oracle itself." if judge == ORACLE else ""
    return Table(
        f"All searches judged by {judge} ({one.level}, {one.part})",
        "Points of success and of graded score over best of 8 by the same judge, on the same "
        f"tasks; wins, ties and losses by success.{ceiling}",
        (*head, *more),
        rows,
    )


def _point(one: Estimate) -> str:
    return f"{one.value:.2f} ± {(one.high - one.low) / 2:.2f}"


def _nfe(one: Estimate) -> str:
    low, value, high = (
        "never" if bound == float("inf") else f"{bound:.2f}"
        for bound in (one.low, one.value, one.high)
    )
    return f"{value} [{low}, {high}]"


def _words(header: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in header["versions"].items())
    return (
        f"`{header['command']}` on {header['date']}: {header['cores']} cores "
        f"({header['processor']}), Python {header['python']}, {versions}."
    )


def _markdown(header: Mapping[str, Any], tables: Sequence[Table], picture: str) -> str:
    parts = ["# Searches compared", _words(header), f"![Curves]({picture})"]
    return "\n\n".join([*parts, *(table.markdown for table in tables)])


def _html(header: Mapping[str, Any], tables: Sequence[Table], picture: str) -> str:
    style = (
        "body{font:15px/1.5 system-ui;max-width:75rem;margin:2rem auto;padding:0 1rem}"
        "table{border-collapse:collapse;font-size:.85rem}td,th{padding:.2rem .6rem;"
        "border-bottom:1px solid #ddd;text-align:left}img{max-width:100%}"
    )
    body = "".join(table.html for table in tables)
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><title>Searches compared</title>"
        f"<style>{style}</style><h1>Searches compared</h1>"
        f"<p>{html.escape(_words(header)).replace('`', '')}</p>"
        f'<img src="{picture}" alt="Curves of quality against cost">{body}</html>\n'
    )
