"""Writes the tables of docs/reliability.md from the raw results in docs/results."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGE = DOCS / "reliability.md"
FAULTS = "reliability-faults.jsonl"
HOSTILE = "reliability-hostile.jsonl"
FIGURES = "reliability.jsonl"
FLEET = "reliability-fleet.jsonl"
Row = Mapping[str, Any]
WAITS = "from the start of an interrupted render to its next start, s"


def main() -> None:
    """`python -m benchmarks.reliability_tables` rewrites the page."""
    PAGE.write_text(with_tables(PAGE.read_text()))


def with_tables(page: str) -> str:
    """The page with every table as the results have it."""
    for name, table in TABLES.items():
        marked = re.compile(rf"(<!-- table: {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        parts = marked.split(page)
        if len(parts) == 4:
            page = "".join([parts[0], parts[1], table(), parts[2], parts[3]])
    return page


def rows(name: str) -> list[Row]:
    """The raw results in a file."""
    return [json.loads(line) for line in (DOCS / "results" / name).read_text().splitlines()]


def faults() -> str:
    """One line for each run, and their sum."""
    runs = rows(FAULTS)
    lines = [
        [
            f"{run['database']}, {run['hosts']} host{'s' if run['hosts'] > 1 else ''}",
            run["seed"],
            f"{run['minutes']:g}",
            *_counts(run),
            run["load"]["p50"],
        ]
        for run in runs
    ]
    total = [sum(values) for values in zip(*map(_counts, runs), strict=True)]
    minutes = f"{sum(run['minutes'] for run in runs):g}"
    lines.append(["**all**", "", minutes, *(f"**{value:,}**" for value in total), ""])
    return table(
        ["", "seed", "minutes", "kills", "processes killed", "other faults", "tasks", "lost",
         "doubled", "trials", "started again", "ended again", "load"],
        lines,
    )  # fmt: skip


def _counts(run: Row) -> list[int]:
    renders = run["renders"]
    return [
        run["kills"],
        run["processes killed"],
        sum(one["count"] for one in run["outages"].values()),
        run["tasks"],
        run["lost"],
        run["doubled"],
        renders["trials"],
        renders["started again"],
        renders["rendered to the end again"],
    ]


def kills() -> str:
    """What was killed."""
    counts: Counter[str] = Counter()
    for run in rows(FAULTS):
        counts.update(run["kills by role"])
    return table(["killed", "times"], [[role, count] for role, count in counts.most_common()])


def outages() -> str:
    """What was away, how often and how long."""
    found: dict[str, list[Row]] = {}
    for run in rows(FAULTS):
        for name, one in run["outages"].items():
            found.setdefault(name, []).append(one)
    lines = [
        [
            name,
            sum(one["count"] for one in ones),
            f"{sum(one['seconds'] for one in ones):.0f}",
            f"{max(one['longest'] for one in ones):.1f}",
        ]
        for name, ones in sorted(found.items())
    ]
    return table(["what", "times", "seconds in all", "longest, s"], lines)


def waits() -> str:
    """How long an interrupted render waited during the attacks."""
    lines = [
        [run["database"], where, one["count"], *_spread(one)]
        for run in rows(FAULTS)
        for where, one in run["renders"][WAITS].items()
        if one["count"]
    ]
    return table(["", "goes on at", "times", "median, s", "95 %, s", "worst, s"], lines)


def takeover() -> str:
    """How long it takes on a system that is not attacked otherwise."""
    lines = [
        [row["killed"], row["database"], row["seconds"]["count"], *_spread(row["seconds"]),
         row["load"]]
        for row in rows(FIGURES) if row["kind"] == "takeover"
    ]  # fmt: skip
    return table(["killed", "", "times", "median, s", "95 %, s", "worst, s", "load"], lines)


def hostile() -> str:
    """What came of hostile inputs."""
    found = rows(HOSTILE)
    lines = [
        [
            row["kind"].removeprefix("hostile "),
            f"{row['inputs']:,}",
            row["crashes"],
            row["server errors"],
            row["over 5 s"],
            row["slowest, s"],
            row["load"],
            ", ".join(f"{name}: {count:,}" for name, count in _most(row["outcomes"])),
        ]
        for row in found
    ]
    sums = (
        f"**{sum(row[name] for row in found):,}**"
        for name in ("inputs", "crashes", "server errors", "over 5 s")
    )
    lines.append(["**all**", *sums, "", "", ""])
    names = ["", "inputs", "crashes", "5xx", "over 5 s", "slowest, s", "load", "most frequent"]
    return table(names, lines)


def _most(outcomes: Mapping[str, int]) -> list[tuple[str, int]]:
    return list(outcomes.items())[:5]


def answers() -> str:
    """Answer times in milliseconds."""
    found = [row for row in rows(FIGURES) if row["kind"] == "answers"]
    lines = [
        [
            row["request"], row["database"], f"{row['jobs kept']:,}", row["condition"],
            row["requests"], *(f"{row['ms'][name]:g}" for name in ("p50", "p99", "worst")),
            row["load"],
        ]
        for row in found
    ]  # fmt: skip
    names = ["request", "", "jobs kept", "", "requests", "p50, ms", "p99, ms", "worst, ms", "load"]
    return table(names, lines)


def idle() -> str:
    """What an idle process costs."""
    found = [row for row in rows(FIGURES) if row["kind"] == "idle"]
    lines = [
        [
            row["process"] if row["process"] != "all" else f"all {row['hosts']} hosts together",
            row["database"],
            row.get("percent of a core", ""),
            row.get("resident MB", ""),
            row.get("transactions per second", ""),
            row["load"],
        ]
        for row in found
    ]
    names = ["process", "", "% of a core", "resident MB", "transactions/s", "load"]
    return table(names, lines)


def overhead() -> str:
    """Seconds per task that are not rendering, of two versions in one run."""
    found = rows(FLEET)
    lines = []
    for summary in (row for row in found if row["kind"] == "overhead summary"):
        of_this = [
            row
            for row in found
            if row["kind"] == "overhead" and row["batches"] == summary["batches"]
        ]
        load = max(row["load"] for row in of_this)
        values = [summary["other"], summary["this"], summary["ratio"]]
        lines.append([summary["batches"], *(f"{value:.3f}" for value in values), f"{load:.1f}"])
    return table(["batches per task", "before, s", "now, s", "ratio", "worst load"], lines)


def fleet() -> str:
    """The simulated fleet."""
    lines = [
        [
            row["workers"],
            f"{row['tasks']:,}",
            f"{row['batches']} of {row['batch_seconds']:g} s",
            f"{row['ideal_seconds'] / 60:.1f}",
            f"{row['seconds'] / 60:.1f}",
            f"{row['of_ideal']:.3f}",
            row["submit_seconds"],
            row["interactive_seconds"],
            row["cpu_cores"],
            f"{row['load'][2]:.1f}",
        ]
        for row in rows(FLEET)
        if row["kind"] == "fleet"
    ]
    return table(
        ["workers", "tasks", "batches", "ideal, min", "took, min", "of ideal", "submitted in, s",
         "somebody waited, s", "cores used", "load"],
        lines,
    )  # fmt: skip


def arrivals() -> str:
    """Searching while many tasks arrive."""
    lines = [
        [
            row["database"],
            f"{row['arriving']:,}",
            row["submit_seconds"],
            row["ended_per_second_alone"],
            row["ended_per_second_meanwhile"],
            row["ratio"],
            f"{row['load']:.1f}",
        ]
        for row in rows(FLEET)
        if row["kind"] == "arrivals"
    ]
    return table(
        ["database", "tasks", "stored in, s", "searches/s before", "searches/s meanwhile",
         "ratio", "load"],
        lines,
    )  # fmt: skip


def first_batch() -> str:
    """How soon a batch starts when nothing else is going on."""
    found = rows(FLEET)
    silences = [row for row in found if row["kind"] == "first batch after silence"]
    idles = [row for row in found if row["kind"] == "idle"]
    lines = [
        [
            each["database"],
            f"{each['seconds'] / 60:.0f}",
            row.get("after_the_silence", ""),
            len(row["delays"]),
            row["p50"],
            row["p95"],
            row["worst"],
            each["cpu_percent_per_process"],
            each["transactions_per_second_and_process"] or "",
            f"{each['load']:.1f}",
        ]
        for row, each in zip(silences, idles, strict=True)
    ]
    return table(
        ["database", "silence, min", "the first, s", "batches", "p50, s", "p95, s", "worst, s",
         "% of a core when idle", "transactions/s when idle", "load"],
        lines,
    )  # fmt: skip


def _spread(one: Row) -> list[float]:
    return [one["p50"], one["p95"], one["worst"]]


def table(head: Sequence[str], lines: Iterable[Sequence[object]]) -> str:
    """A Markdown table."""
    every = [head, ["---"] * len(head), *lines]
    return "".join(f"| {' | '.join(map(str, line))} |\n" for line in every)


TABLES: dict[str, Callable[[], str]] = {
    "faults": faults,
    "kills": kills,
    "outages": outages,
    "waits": waits,
    "takeover": takeover,
    "hostile": hostile,
    "answers": answers,
    "idle": idle,
    "overhead": overhead,
    "fleet": fleet,
    "arrivals": arrivals,
    "first_batch": first_batch,
}

if __name__ == "__main__":
    main()
