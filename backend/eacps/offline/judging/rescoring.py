"""`eacps rescore`: finished results of `eacps run` under other judges or another potential.

Nothing is rendered: pictures come from the results' own artifact store.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from eacps import fingerprints
from eacps import images as pixels
from eacps.artifacts import ArtifactStore, MissingArtifactError, open_store
from eacps.domain import JUDGE_DOWN, Candidate, SearchResult, from_json, to_json
from eacps.errors import EacpsError, SettingsError
from eacps.offline.output import DATA_FOLDER, OutputFolder, json_object
from eacps.offline.run import at_home
from eacps.runner import image_limits, load_images, potential_of, potential_range, ranked
from eacps.runner.judging import Judge
from eacps.runner.loop import NOT_JUDGED
from eacps.runner.pictures import Picture
from eacps.runner.rendering import Rendered, StoredImage
from eacps.scoring import open_scorers
from eacps.settings import Settings


@dataclass(frozen=True)
class Rescored:
    """A task's outcome: what was best before and is now, or why it stays as it was."""

    name: str
    before: str = ""
    after: str = ""
    problem: str = ""


def rescore(settings: Settings, results: Path, target: Path, device: str) -> Iterator[Rescored]:
    """Judge every finished task in a folder of results, and write the new order to another one."""
    files = sorted(path for path in results.glob("*.json") if "candidates" in json_object(path))
    if not files:
        raise SettingsError(
            f"{results} has no results of `eacps run`.", hint="Pass the folder of its --out."
        )
    if target.resolve() == results.resolve():
        raise SettingsError(
            "--out is the folder of the results, which are kept as they are.",
            hint="Choose another --out.",
        )
    store = open_store(at_home(settings, results))
    potential = potential_of(settings, "edit", with_reference=False)
    scorers = open_scorers(settings, device, potential.metric_names)
    judge = Judge(scorers, potential, settings)
    output = OutputFolder(target, target / DATA_FOLDER)
    for file in files:
        try:
            yield _rescored(file, judge, store, output, settings)
        except EacpsError as error:
            yield Rescored(file.stem, problem=str(error))


def _rescored(
    file: Path, judge: Judge, store: ArtifactStore, output: OutputFolder, settings: Settings
) -> Rescored:
    content = dict(json_object(file))
    result = _read(content, file)
    if result.task.route != "edit":
        words = f"Route {result.task.route} has its own metrics; it stays as it was."
        return Rescored(file.stem, problem=words)
    judged = judged_again(result, judge, store, settings)
    if not judged.usable:
        failures = (one.failure for one in judged.candidates if not one.pruned)
        failure = next(filter(None, failures), None)
        return Rescored(file.stem, problem=failure.message if failure else "Nothing was judged.")
    _write(file.stem, content, judged, store, output)
    return Rescored(file.stem, content["best"], judged.best.id)


def judged_again(
    result: SearchResult, judge: Judge, store: ArtifactStore, settings: Settings
) -> SearchResult:
    """The result with new metrics, potentials and order. Failed renders stay as they were."""
    start = load_images(result.task, store, settings)
    shown = [one for one in result.candidates if one.image and (one.pruned or _finished(one))]
    new = judge.candidates(result.task, start, [_rendered(one, store, settings) for one in shown])
    by_id = {old.id: _merged(old, fresh) for old, fresh in zip(shown, new, strict=True)}
    candidates = ranked([by_id.get(one.id, one) for one in result.candidates])
    task = replace(result.task, judged=fingerprints.judged(settings))
    span = potential_range(settings, task)
    notes = tuple(note for note in result.notes if not note.startswith(NOT_JUDGED))
    return replace(
        result,
        task=task,
        candidates=tuple(candidates),
        potential_range=span,
        notes=notes,
        decisions=_decisions(result, candidates),
    )


def _decisions(result: SearchResult, candidates: Sequence[Candidate]) -> tuple[str, ...]:
    """The decisions, with what the judges of now wrote for the task."""
    before = {words for one in result.candidates for words in one.prepared}
    now = next((one.prepared for one in candidates if one.prepared), ())
    return (*now, *(words for words in result.decisions if words not in before))


def _finished(candidate: Candidate) -> bool:
    """Whether it was rendered to the end; a candidate that could not be judged may be now."""
    return candidate.failure is None or candidate.failure.code in ("scoring_failed", JUDGE_DOWN)


def _merged(old: Candidate, new: Candidate) -> Candidate:
    judged = replace(
        old,
        metrics=new.metrics,
        potential=new.potential,
        why=new.why,
        reasons=new.reasons,
        prepared=new.prepared,
        notes=new.notes,
    )
    return judged if old.pruned else replace(judged, failure=new.failure)


def _rendered(candidate: Candidate, store: ArtifactStore, settings: Settings) -> Rendered:
    assert candidate.image is not None
    image = pixels.decode(store.get(candidate.image), image_limits(settings))
    picture = Picture(candidate.image, candidate.thumbnail or "", detail=candidate.detail)
    return Rendered(candidate.trial, StoredImage(picture, image, image), candidate.nfe)


def _read(content: dict[str, Any], file: Path) -> SearchResult:
    known = {name: content[name] for name in SearchResult.__dataclass_fields__ if name in content}
    try:
        return from_json(SearchResult, known)
    except ValidationError:
        raise SettingsError(
            f"{file} is not a result of this version of `eacps run`.",
            hint="Run `eacps run` again on that folder.",
        ) from None


def _write(
    name: str,
    content: dict[str, Any],
    result: SearchResult,
    store: ArtifactStore,
    output: OutputFolder,
) -> None:
    output.require_free(name, f"{name}.json")
    pictures = _pictures(result.usable, store)
    with output.filling(name) as fresh:
        for candidate, picture in pictures:
            (fresh / f"{candidate.id}.png").write_bytes(picture)
        (fresh / "best.png").write_bytes(pictures[0][1])
    written = {**content, "best": result.best.id, **to_json(result)}
    text = json.dumps(written, indent=2, ensure_ascii=False)
    output.write_file(f"{name}.json", text.encode())


def _pictures(
    candidates: Sequence[Candidate], store: ArtifactStore
) -> list[tuple[Candidate, bytes]]:
    found = []
    for candidate in candidates:
        try:
            found.append((candidate, store.get(candidate.image or "")))
        except MissingArtifactError:
            continue
    return found
