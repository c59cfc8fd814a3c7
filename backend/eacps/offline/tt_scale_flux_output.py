"""Writes tt-scale-flux's output files from the results of `eacps run`."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, Final

from eacps.domain import Candidate, SearchResult, Trial, from_json
from eacps.offline.output import DATA_FOLDER, TREES, OutputFolder, json_object
from eacps.offline.tt_scale_flux import config_of, metric_of
from eacps.settings import Settings

LONGEST_STEM: Final = 100
WORDS_OF_LONG_STEMS: Final = 85


def tree_writer(settings: Settings) -> Callable[[Path, str], None]:
    """A callback that writes the output tree of a task after it has ended."""

    def write(folder: Path, name: str) -> None:
        write_tree(folder, name, settings)

    return write


def write_tree(folder: Path, name: str, settings: Settings) -> None:
    """Write `tt-scale-flux/NAME/` with images, a JSON per round and config.json.

    Failed tasks and face swaps, which have no seed to name files, get no folder.
    """
    result = _result(folder / f"{name}.json")
    output = OutputFolder(folder, folder / DATA_FOLDER)
    place = f"{TREES}/{name}"
    if result is None:
        output.remove(place)
        return
    with output.filling(place) as fresh:
        _fill(fresh, folder / name, folder / place, result, settings)


def _result(report: Path) -> SearchResult | None:
    content = json_object(report)
    result = from_json(SearchResult, content) if "best" in content else None
    return result if result and result.task.route != "face_swap" else None


def seed_of(trial: Trial) -> int:
    """The seed that is unique in its search: that of the last move, or of the noise."""
    return trial.noise.moves[-1].seed if trial.noise.moves else trial.noise.seed


def rounds_of(result: SearchResult) -> list[tuple[int, list[Candidate]]]:
    """The usable candidates of each round, best first; empty rounds are left out."""
    in_rounds = sorted(result.usable, key=_round)
    return [(number, list(group)) for number, group in groupby(in_rounds, key=_round)]


def _round(candidate: Candidate) -> int:
    return candidate.trial.round


def _fill(fresh: Path, images: Path, final: Path, result: SearchResult, settings: Settings) -> None:
    _write(fresh / "config.json", config_of(settings, result))
    for number, candidates in rounds_of(result):
        for candidate in candidates:
            file = fresh / f"{_stem(result, candidate)}.png"
            shutil.copyfile(images / f"{candidate.id}.png", file)
        stem = _stem(result, candidates[0])
        facts = {
            **_facts(result, number, candidates, metric_of(settings)),
            "best_img_path": str(final / f"{stem}.png"),
        }
        _write(fresh / f"{stem}.json", facts)


def _stem(result: SearchResult, candidate: Candidate) -> str:
    prompt = result.task.instruction
    words = re.sub(r"[^a-zA-Z0-9]+", "_", prompt.strip())
    digest = hashlib.sha256(prompt.encode()).hexdigest()[:8]
    if len(f"prompt@{words}_hash@{digest}") > LONGEST_STEM:
        words = words[:WORDS_OF_LONG_STEMS]
    trial = candidate.trial
    return f"prompt@{words}_hash@{digest}_i@{trial.round}_s@{seed_of(trial)}"


def _facts(
    result: SearchResult, number: int, candidates: Sequence[Candidate], metric: str
) -> dict[str, Any]:
    best = candidates[0]
    facts: dict[str, Any] = {
        "prompt": result.task.instruction,
        "search_round": number,
        "num_noises": sum(_round(candidate) == number for candidate in result.candidates),
        "best_noise_seed": seed_of(best.trial),
        "best_score": {"explanation": _explanation(best), "score": best.potential},
        "choice_of_metric": metric,
    }
    if result.task.plan.strategy == "zero_order":
        facts["neighbors_improvement"] = _improves(candidates, result)
    return facts


def _improves(candidates: Sequence[Candidate], result: SearchResult) -> bool:
    known = {candidate.id: candidate.potential for candidate in result.usable}
    return any(
        _is_above(candidate.potential, known.get(candidate.trial.parent))
        for candidate in candidates
        if candidate.trial.parent is not None
    )


def _is_above(potential: float | None, of_base: float | None) -> bool:
    return potential is not None and (of_base is None or potential > of_base)


def _explanation(candidate: Candidate) -> str:
    parts = [
        f"{metric.name} {metric.value:.4g} gives {metric.contribution:+.4g}"
        for metric in candidate.metrics
        if metric.weight
    ]
    return f"{candidate.id}, {candidate.trial.lineage}: {'; '.join(parts)}."


def _write(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=4, ensure_ascii=False), encoding="utf-8")
