"""`eacps judge measure`: how well judges put candidates into their known order."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from PIL import Image

from eacps.domain import EditTask
from eacps.errors import EacpsError, SettingsError
from eacps.images import TaskImages
from eacps.judge_names import is_judge_name, rubric_of
from eacps.offline.judging import statistics
from eacps.offline.judging.datasets import Labelled, digest_of
from eacps.offline.judging.statistics import Group, share
from eacps.plugins import Context
from eacps.rubrics.reading import read_rubric
from eacps.settings import Settings
from eacps.verifiers.protocol import Comparing, Verifier
from eacps.verifiers.registry import find_verifier
from eacps.verifiers.scorer import VERIFIED, VerifierScorer
from eacps.verifiers.tournament import Pair, tournament

POTENTIAL: Final = "potential"
"""Instead of a judge's name: the potential of the present settings."""
SUMMARY: Final = "summary.json"
PLOT: Final = "auc.svg"
MEASURES: Final[Mapping[str, Callable[[Group], float | None]]] = {
    "auc": statistics.auc,
    "pairs_right": statistics.accuracy,
    "tasks_right": statistics.all_right,
    "best_chosen": statistics.best_chosen,
    "rank_correlation": statistics.rank_correlation,
    "ties": statistics.ties,
    "missing": statistics.missing,
}
Values = Sequence[float | None]
Rate = Callable[[EditTask, TaskImages, Sequence[Image.Image]], tuple[Values, str]]


@dataclass(frozen=True)
class Rater:
    """A judge to be measured: its name, and how it rates candidates."""

    name: str
    rate: Rate


@dataclass(frozen=True)
class Setup:
    """What is measured how."""

    settings: Settings
    device: str = "cpu"
    metric: str = ""
    pairs: int = 0


def measure(
    names: Sequence[str],
    items: Sequence[Labelled],
    folder: Path,
    setup: Setup,
    on_progress: Callable[[str, int, int], None] = lambda *_: None,
) -> dict[str, Any]:
    """Measure each judge; what is in the folder already is not asked again."""
    folder.mkdir(parents=True, exist_ok=True)
    found = {}
    for name in names:
        rows = _measured(open_rater(name, setup), items, folder, on_progress)
        found[name] = summary(rows)
    (folder / SUMMARY).write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    (folder / PLOT).write_text(plot(found), encoding="utf-8")
    return found


def open_rater(name: str, setup: Setup) -> Rater:
    """The judge of this name, loaded."""
    if name == POTENTIAL:
        return Rater(name, _by_potential(setup))
    settings = setup.settings.model_copy(update={"verifier": name, "verifier_weights": {}})
    if setup.pairs:
        verifier = find_verifier(name, settings).load(settings, setup.device)
        if not isinstance(verifier, Comparing):
            raise SettingsError(f"{name} cannot compare two edits.", hint="Leave out --pairs.")
        return Rater(f"{name} in pairs", _in_pairs(verifier, setup.pairs))
    metric = setup.metric or _main(name, settings)
    return Rater(name, _by_answers(VerifierScorer.load(Context(settings, setup.device)), metric))


def summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """All measures over the rows of one judge."""
    groups = [Group(row["truth"], row["values"]) for row in rows]
    seconds = sorted(row["seconds"] / max(1, len(row["truth"])) for row in rows)
    found: dict[str, Any] = {
        name: asdict(each) if (each := share(groups, measured)) else None
        for name, measured in MEASURES.items()
    }
    found["calibration_error"] = statistics.calibration_error(groups)
    found["tasks"] = len(rows)
    found["candidates"] = sum(len(row["truth"]) for row in rows)
    found["seconds_per_candidate"] = {
        "median": seconds[len(seconds) // 2] if seconds else None,
        "slowest_tenth": seconds[int(len(seconds) * 0.9)] if seconds else None,
    }
    found |= {name: sum(row[name] for row in rows) for name in ("calls", "read", "written", "cost")}
    problems = [row["problem"] for row in rows if row["problem"]]
    found["problems"] = {each: problems.count(each) for each in dict.fromkeys(problems)}
    return found


def _measured(
    rater: Rater,
    items: Sequence[Labelled],
    folder: Path,
    on_progress: Callable[[str, int, int], None],
) -> list[dict[str, Any]]:
    """One row for each task. A row is written as soon as it is known."""
    file = folder / f"{re.sub(r'[^A-Za-z0-9._-]+', '_', rater.name)}.jsonl"
    known = _known(file)
    rows = []
    with file.open("a", encoding="utf-8") as written:
        for number, item in enumerate(items):
            identity = digest_of(item)
            row = known.get(identity)
            if row is None:
                row = {"item": identity, "name": item.name, **_rated(rater, item)}
                # What failed as a whole is tried again the next time.
                if not row["problem"]:
                    written.write(json.dumps(row) + "\n")
                    written.flush()
            rows.append(row)
            on_progress(rater.name, number + 1, len(items))
    return rows


def _rated(rater: Rater, item: Labelled) -> dict[str, Any]:
    images = TaskImages(item.source())
    edited = [load() for load in item.candidates]
    task = EditTask(f"measured-{digest_of(item)}", item.instruction)
    values: Values = [None] * len(edited)
    problem = ""
    before = _spent(task)
    started = time.monotonic()
    try:
        values, problem = rater.rate(task, images, edited)
    except EacpsError as error:
        problem = error.message
    seconds = round(time.monotonic() - started, 4)
    spent = {name: value - before[name] for name, value in _spent(task).items()}
    row = {"truth": list(item.truth), "values": list(values), "seconds": seconds}
    return {**row, "problem": problem, **spent}


def _spent(task: EditTask) -> dict[str, float]:
    from eacps.verifiers.language.storage import opened

    totals = [storage.spent_on(task.key) for storage in opened()]
    return {
        name: sum(total[name] for total in totals) for name in ("calls", "read", "written", "cost")
    }


def _known(file: Path) -> dict[str, dict[str, Any]]:
    """The rows of an earlier measurement; a line that was cut off is left out."""
    found: dict[str, dict[str, Any]] = {}
    if not file.is_file():
        return found
    text = file.read_text("utf-8")
    for line in text.splitlines():
        try:
            row = json.loads(line)
            found[row["item"]] = row
        except (ValueError, KeyError, TypeError):
            continue
    if text and not text.endswith("\n"):
        with file.open("a", encoding="utf-8") as written:
            written.write("\n")
    return found


def _main(name: str, settings: Settings) -> str:
    if is_judge_name(name):
        return read_rubric(rubric_of(name, settings)).main
    return VERIFIED


def _by_answers(scorer: VerifierScorer, metric: str) -> Rate:
    def rate(
        task: EditTask, images: TaskImages, edited: Sequence[Image.Image]
    ) -> tuple[Values, str]:
        rows = scorer.score(task, images, edited, [1.0] * len(edited))
        return [row.get(metric) for row in rows], ""

    return rate


def _by_potential(setup: Setup) -> Rate:
    from eacps.runner import potential_of
    from eacps.scoring import open_scorers

    potential = potential_of(setup.settings, "edit", with_reference=False)
    scorers = open_scorers(setup.settings, setup.device, potential.metric_names)

    def rate(
        task: EditTask, images: TaskImages, edited: Sequence[Image.Image]
    ) -> tuple[Values, str]:
        rows: list[dict[str, float]] = [{} for _ in edited]
        for scorer in scorers:
            scores = scorer.score(task, images, edited, [1.0] * len(edited))
            rows = [{**row, **each} for row, each in zip(rows, scores, strict=True)]
        return [potential.judge(row).value for row in rows], ""

    return rate


def _in_pairs(verifier: Verifier, most: int) -> Rate:
    assert isinstance(verifier, Comparing)
    comparing: Comparing = verifier

    def rate(
        task: EditTask, images: TaskImages, edited: Sequence[Image.Image]
    ) -> tuple[Values, str]:
        def meet(pairs: Sequence[Pair]) -> list[float | str]:
            return [_met(comparing, task, images, edited, pair) for pair in pairs]

        standing = tournament(len(edited), meet, most=most)
        if not standing.met:
            return [None] * len(edited), next(iter(standing.problems), "")
        return list(standing.strengths), ""

    return rate


def _met(
    verifier: Comparing,
    task: EditTask,
    images: TaskImages,
    edited: Sequence[Image.Image],
    pair: Pair,
) -> float | str:
    try:
        return verifier.compare(task, images, edited[pair[0]], edited[pair[1]]).first
    except EacpsError as error:
        return error.message


def plot(found: Mapping[str, Any]) -> str:
    """The AUC of each judge with its interval, as a picture that needs no program."""
    rows = [(name, each["auc"]) for name, each in found.items() if each["auc"]]
    height = 50 + 34 * len(rows)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="760" height="{height}" '
        'font-family="sans-serif" font-size="14">',
        '<text x="12" y="22">AUC inside a task, 95 % interval (0.5 is chance)</text>',
        f'<line x1="{_x(0.5)}" x2="{_x(0.5)}" y1="34" y2="{height - 6}" stroke="#999" '
        'stroke-dasharray="4 4"/>',
    ]
    for number, (name, auc) in enumerate(rows):
        y = 54 + 34 * number
        shown = name.replace("&", "&amp;").replace("<", "&lt;")
        parts += [
            f'<text x="12" y="{y + 5}">{shown}</text>',
            f'<line x1="{_x(auc["low"])}" x2="{_x(auc["high"])}" y1="{y}" y2="{y}" '
            'stroke="#15803d" stroke-width="4"/>',
            f'<circle cx="{_x(auc["mean"])}" cy="{y}" r="6" fill="#15803d"/>',
            f'<text x="700" y="{y + 5}">{auc["mean"]:.3f}</text>',
        ]
    return "\n".join([*parts, "</svg>", ""])


def _x(value: float) -> int:
    return round(300 + 380 * value)
