"""The measurements as plain rows, from which the report is made."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from benchmarks.search.measure import Assignment, Bench, Measured
from eacps.plugins import label


def rows_of(
    work: Sequence[Assignment], done: Sequence[Measured], bench: Bench
) -> Iterator[dict[str, Any]]:
    """One row per level, part, search and judge, with a value per task; then what previews and
    children are worth."""
    sets: dict[tuple[str, str], list[tuple[Assignment, Measured]]] = {}
    for each, measured in zip(work, done, strict=True):
        sets.setdefault((each.level, each.part), []).append((each, measured))
    for (level, part), members in sets.items():
        where = {"level": level, "part": part}
        steps = bench.workshop(level).steps
        yield {"kind": "set", **where, "tasks": len(members), "steps": steps}
        yield from _runs(where, members, bench)
        yield from _previews(where, members)
        yield from _children(where, members)


def _runs(
    where: dict[str, str], members: Sequence[tuple[Assignment, Measured]], bench: Bench
) -> Iterator[dict[str, Any]]:
    for entry in bench.entries:
        for judge in entry.judges:
            key = (entry.label, judge)
            found = [measured.findings[key] for _, measured in members if key in measured.findings]
            if not found:
                continue
            yield {
                "kind": "run",
                **where,
                "search": entry.label,
                "family": entry.family,
                "strategy": label(entry.strategy),
                "params": dict(entry.params),
                "batch_size": entry.batch_size,
                "steps": entry.steps or bench.workshop(where["level"]).steps,
                "judge": judge,
                "success": _bits([one.success for one in found]),
                "strict": _bits([one.strict for one in found]),
                "score": [round(one.score, 3) for one in found],
                "nfe": [round(one.nfe, 2) for one in found],
                "judged": [one.judged for one in found],
                "potential": [round(one.potential, 3) for one in found],
                "pf": [round(one.pf, 3) for one in found],
                "lpips": [round(one.lpips, 3) for one in found],
                "cons": [round(one.cons, 3) for one in found],
            }


def _previews(
    where: dict[str, str], members: Sequence[tuple[Assignment, Measured]]
) -> Iterator[dict[str, Any]]:
    for judge, steps in members[0][1].previews.items():
        for step in steps:
            told = [measured.previews[judge][step] for _, measured in members]
            rounded = [[_short(value) for value in row] for row in told]
            yield {"kind": "preview", **where, "judge": judge, "step": int(step), "told": rounded}


def _children(
    where: dict[str, str], members: Sequence[tuple[Assignment, Measured]]
) -> Iterator[dict[str, Any]]:
    told = [measured.children for _, measured in members if measured.children]
    for move in told[0] if told else ():
        for judge in told[0][move]:
            pairs = [one[move][judge] for one in told]
            yield {"kind": "child", **where, "move": move, "judge": judge, "pairs": pairs}


def _bits(values: Sequence[bool]) -> str:
    return "".join("1" if value else "0" for value in values)


def _short(value: float) -> float | None:
    # JSON has no NaN: None means undefined for this task
    return None if value != value else round(value, 4)  # noqa: PLR0124
