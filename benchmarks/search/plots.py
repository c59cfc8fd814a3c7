"""The plots of the report."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from benchmarks.search.bank import END
from benchmarks.search.judges import CLIP, ORACLE
from benchmarks.search.results import Results, Run, duel
from benchmarks.search.statistics import Estimate

COLOURS: Final = (
    "#444444",
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#cc79a7",
    "#e69f00",
    "#56b4e9",
    "#999933",
)


def draw(main: Results, chosen_on: Results, target: Path) -> Path:
    """Draw six panels and write them as PNG."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 3, figsize=(16, 9), constrained_layout=True)
    _curves(axes[0, 0], main, chosen_on, main.best_judge)
    _curves(axes[0, 1], main, chosen_on, ORACLE)
    _gain(axes[0, 2], main)
    _foresight(axes[1, 0], main)
    _kinship(axes[1, 1], main)
    _leads(axes[1, 2], main)
    figure.suptitle(f"{main.level}, {main.part}: {main.facts['tasks']} tasks")
    figure.savefig(target, dpi=110)
    pyplot.close(figure)
    return target


def _curves(axis: Any, main: Results, chosen_on: Results, judge: str) -> None:
    """Quality against cost, with a colour per family; lines connect the points that are
    Pareto-optimal on the tasks for choosing."""
    for colour, family in zip(COLOURS * 3, main.families, strict=False):
        points = main.under(judge, family)
        if points:
            heights = [main.standing(run) for run in points]
            axis.scatter([run.seconds for run in points], heights, color=colour, s=8, alpha=0.5)
            best = _envelope(main, chosen_on, points)
            _curve(axis, main, best, color=colour, label=family)
    weak = _envelope(main, chosen_on, main.under(CLIP, "best of N"))
    _curve(axis, main, weak, color="k", linestyle=":", label="best of N by CLIP")
    ceiling = " (the ceiling)" if judge == ORACLE else ""
    axis.set(
        title=f"Success against cost, judged by {judge}{ceiling}",
        xlabel="seconds of one device (denoising, decoding, judging)",
        ylabel="oracle success",
        xscale="log",
    )
    _legend(axis)
    axis.grid(alpha=0.3)


def _curve(axis: Any, main: Results, runs: list[Run], **style: Any) -> None:
    heights = [main.standing(run) for run in runs]
    axis.plot([run.seconds for run in runs], heights, **style)


def _envelope(main: Results, chosen_on: Results, points: list[Run]) -> list[Run]:
    """The searches of a family that are Pareto-optimal on the tasks for choosing."""
    known = [chosen_on.run(run.search, run.judge) for run in points]
    kept: list[Run] = []
    for run in sorted((run for run in known if run), key=lambda run: run.seconds):
        if not kept or chosen_on.standing(run) > chosen_on.standing(kept[-1]):
            kept.append(run)
    found = [main.run(run.search, run.judge) for run in kept]
    return [run for run in found if run is not None]


def _gain(axis: Any, main: Results) -> None:
    single = main.run("best of 1", CLIP)
    assert single is not None
    for search, mark in (
        ("best of 8", "o-"),
        ("halving 16 5@20% 2@50%", "s-"),
        ("EACPS 4/2/2, angle 0.4", "^-"),
    ):
        points = []
        for judge in main.judges:
            run = main.run(search, judge)
            if run and (judge == ORACLE or "noise" in judge):
                points.append((main.auc(judge).value, duel(run, single).difference))
        points.sort(key=lambda point: point[0])
        if points:
            _line(axis, [x for x, _ in points], [y for _, y in points], mark, search)
    for judge in main.judges:
        if "noise" not in judge and judge != ORACLE:
            gain = duel(main.baseline(judge), single).difference
            place = (main.auc(judge).value, gain.value)
            axis.plot(*place, "k*")
            axis.annotate(judge, place, fontsize=7, xytext=(4, -8), textcoords="offset points")
    axis.axhline(0, color="k", linewidth=0.5)
    axis.set(
        title="Gain of search against the judge's AUC",
        xlabel="AUC (lines: the oracle with noise; stars: judges)",
        ylabel="points of success over one attempt / 100",
    )
    _legend(axis)
    axis.grid(alpha=0.3)


def _foresight(axis: Any, main: Results) -> None:
    total = main.facts["steps"]
    steps = [*main.preview_steps, END]
    shares = [1.0 if step == END else step / total for step in steps]
    for colour, judge in zip(COLOURS[1:], _real(main), strict=False):
        told = [main.foretold_truth(judge, step) for step in steps]
        _line(axis, shares, told, "o-", judge, colour)
    axis.axhline(0, color="k", linewidth=0.5)
    axis.set(
        title="Previews: rank correlation with the final truth",
        xlabel="share of the steps",
        ylabel="Spearman inside tasks",
    )
    _legend(axis)
    axis.grid(alpha=0.3)


def _kinship(axis: Any, main: Results) -> None:
    axis.set_visible(bool(main.moves))
    places = range(len(main.moves))
    for colour, judge in zip(COLOURS[1:], _real(main), strict=False):
        told = [main.kinship(move, judge) for move in main.moves]
        if told:
            _line(axis, list(places), told, "o-", judge, colour)
    axis.axhline(0, color="k", linewidth=0.5)
    axis.set_xticks(list(places), labels=main.moves, rotation=30, fontsize=7)
    axis.set(title="Children: correlation of scores with their parents'", ylabel="Pearson")
    _legend(axis)
    axis.grid(alpha=0.3)


def _leads(axis: Any, main: Results) -> None:
    """The lead over the baseline of searches with a similar cost."""
    judge = main.best_judge
    base = main.baseline(judge)
    near = [r for r in main.under(judge) if 2.0 <= r.nfe <= 9.0 and r.search != base.search]
    leads = sorted(
        ((duel(run, base).difference, run) for run in near), key=lambda pair: pair[0].value
    )[-22:]
    for row, (lead, _) in enumerate(leads):
        axis.errorbar(
            100 * lead.value,
            row,
            xerr=[[100 * (lead.value - lead.low)], [100 * (lead.high - lead.value)]],
            fmt="o",
            color=COLOURS[1],
            markersize=4,
        )
    labels = [f"{run.search} ({run.nfe:.1f})" for _, run in leads]
    axis.set_yticks(range(len(labels)), labels=labels, fontsize=6)
    axis.axvline(0, color="k", linewidth=0.5)
    axis.set(title="Points over best of 8, same judge (cost)", xlabel=f"success, judged by {judge}")
    axis.grid(alpha=0.3)


def _real(main: Results) -> list[str]:
    return [judge for judge in main.judges if "noise" not in judge]


def _line(
    axis: Any,
    places: list[Any],
    values: list[Estimate],
    mark: str,
    label: str,
    colour: str | None = None,
) -> None:
    axis.errorbar(
        places,
        [one.value for one in values],
        yerr=[
            [max(0.0, one.value - one.low) for one in values],
            [max(0.0, one.high - one.value) for one in values],
        ],
        fmt=mark,
        label=label,
        color=colour,
        capsize=2,
        linewidth=1,
    )


def _legend(axis: Any) -> None:
    if axis.get_legend_handles_labels()[0]:
        axis.legend(fontsize=7)
