"""Train all models of the demo pack: `python -m demo.training --out DIR`."""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from demo.training.optimisation import Tick
from demo.training.recipe import Recipe, VerifierRecipe, short_name

Report = dict[str, float]
REPORT = "report.json"


@dataclass(frozen=True, slots=True)
class Stage:
    """A resumable stage: its folder, its length in ticks, and the function that fills it."""

    name: str
    ticks: int
    fill: Callable[[Path, Tick], Report | None]


def stages(recipe: Recipe, work: Path) -> Iterator[Stage]:
    """The stages in order; each may read the folders of earlier ones."""
    from demo.training.autoencoder import Autoencoder, train_autoencoder
    from demo.training.editor import train_editor
    from demo.training.latents import CHUNK, write_latents
    from demo.training.oracle import train_oracle
    from demo.training.scorer import train_scorer
    from demo.training.tokenizer import load_tokenizer, write_tokenizer

    def tokenizer(folder: Path, tick: Tick) -> None:
        write_tokenizer(folder)
        tick()

    def autoencoder(folder: Path, tick: Tick) -> Report:
        return train_autoencoder(recipe, folder, tick)

    yield Stage("tokenizer", 1, tokenizer)
    yield Stage("autoencoder", recipe.autoencoder.steps, autoencoder)
    words, codec = load_tokenizer(work / "tokenizer"), Autoencoder(work / "autoencoder")

    def latents(folder: Path, tick: Tick) -> None:
        write_latents(recipe, codec, words, folder, tick)

    def editor(folder: Path, tick: Tick) -> None:
        train_editor(recipe, work / "latents", words, folder, tick)

    def scorer(folder: Path, tick: Tick) -> Report:
        return train_scorer(recipe, codec, words, folder, tick)

    def oracle(folder: Path, tick: Tick) -> Report:
        return train_oracle(recipe, codec, folder, tick)

    yield Stage("latents", -(-recipe.pairs // CHUNK), latents)
    yield Stage("editor", recipe.editor_first.steps + recipe.editor_second.steps, editor)
    yield Stage("scorer", recipe.scorer_first.steps + recipe.scorer_second.steps, scorer)
    yield Stage("oracle", recipe.oracle.steps, oracle)


def verifier_stages(recipe: VerifierRecipe, pack: Path, work: Path) -> Iterator[Stage]:
    """The stages for a verifier; they need the pack's editors and codec."""
    from demo.training.autoencoder import Autoencoder
    from demo.training.evidence import TASKS_IN_BATCH, Attempted, Rendered
    from demo.training.reader import load_reader, train_reader
    from demo.training.tokenizer import load_tokenizer
    from demo.training.verifier import train_instructions, train_verifier
    from eacps.demo.tasks import EASY

    editor = pack / EASY.settings.editor
    words, codec = load_tokenizer(editor / "tokenizer"), Autoencoder(editor / "vae")

    def reader(folder: Path, tick: Tick) -> Report:
        return train_reader(recipe, codec, folder, tick)

    def attempts(folder: Path, tick: Tick) -> None:
        Attempted(recipe, pack, load_reader(work / "reader"), words).write(folder, tick)

    def renders(folder: Path, tick: Tick) -> None:
        Rendered(recipe, codec, words).write(folder, tick)

    def instructions(folder: Path, tick: Tick) -> Report:
        return train_instructions(recipe, words, folder, tick)

    def verifier(folder: Path, tick: Tick) -> None:
        train_verifier(recipe, work, editor / "tokenizer", folder, tick)

    yield Stage("reader", recipe.reader.steps, reader)
    yield Stage("attempts", -(-recipe.attempted_tasks // TASKS_IN_BATCH), attempts)
    yield Stage("renders", -(-recipe.rendered_tasks // TASKS_IN_BATCH), renders)
    yield Stage("instructions", recipe.instructions.steps, instructions)
    yield Stage("verifier", recipe.verifier.steps, verifier)


@contextmanager
def _progress() -> Iterator[Progress]:
    columns = TextColumn("{task.description:<12}"), BarColumn(), MofNCompleteColumn()
    with Progress(*columns, TimeRemainingColumn()) as progress:
        yield progress


def run(recipe: Recipe, out: Path, work: Path) -> dict[str, Report]:
    """Train missing parts, assemble the pack in `out`, and return the measurements."""
    from demo.training.package import assemble

    work = work / recipe.digest
    measured = _finished(stages(recipe, work), work)
    assemble(work, out)
    _record(out, "pack", asdict(recipe), measured)
    return measured


def run_verifier(recipe: VerifierRecipe, out: Path, work: Path) -> dict[str, Report]:
    """Train a verifier on attempts of the pack's editors, and add it to the pack in `out`."""
    from demo.training.package import add_verifier

    work = work / f"verifier-{recipe.digest}-{_editors_digest(out)}"
    measured = _finished(verifier_stages(recipe, out, work), work)
    add_verifier(work, out)
    _record(out, "verifier", asdict(recipe), measured)
    return measured


def _editors_digest(pack: Path) -> str:
    from demo.training.package import EDITORS
    from eacps.weights import weights_digest

    return short_name([weights_digest(pack / name) for name in EDITORS])


def _finished(stages_in_order: Iterator[Stage], work: Path) -> dict[str, Report]:
    reports: dict[str, Report] = {}
    with _progress() as progress:
        for stage in stages_in_order:
            task = progress.add_task(stage.name, total=stage.ticks)
            reports[stage.name] = _done(stage, work, partial(progress.advance, task))
            progress.update(task, completed=stage.ticks)
    return {name: report for name, report in reports.items() if report}


def _record(out: Path, part: str, recipe: dict[str, Any], measured: dict[str, Report]) -> None:
    """Update `training.json` with the recipe and the measurements of a part."""
    path = out / "training.json"
    known = json.loads(path.read_text()) if path.is_file() else {}
    known[part] = {"recipe": recipe, "measured": measured}
    path.write_text(json.dumps(known, indent=2) + "\n")


def _done(stage: Stage, work: Path, tick: Tick) -> Report:
    """Run a stage unless its folder exists; returns its report."""
    folder = work / stage.name
    if not folder.is_dir():
        unfinished = work / f"{stage.name}.partial"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        report = stage.fill(unfinished, tick) or {}
        (unfinished / REPORT).write_text(json.dumps(report))
        unfinished.rename(folder)
    finished: Report = json.loads((folder / REPORT).read_text())
    return finished


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(prog="python -m demo.training", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="where the pack is written")
    parser.add_argument(
        "--work",
        type=Path,
        default=Path("build/bear-studio"),
        help="folder for finished stages, to resume interrupted runs",
    )
    parser.add_argument("--scale", type=float, default=1.0, help="factor for all numbers of steps")
    parser.add_argument(
        "--quick", action="store_true", help="only two steps of everything, as a smoke test"
    )
    parser.add_argument(
        "--only",
        choices=["verifier"],
        help="train only this, with the editors of the pack in --out",
    )
    parser.add_argument("--threads", type=int, default=2, help="CPU threads for torch")
    options = parser.parse_args(arguments)
    import torch
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    torch.set_num_threads(options.threads)
    for library in (diffusers_logging, transformers_logging):
        library.set_verbosity_error()
        library.disable_progress_bar()
    if options.only and not (options.out / "editor").is_dir():
        parser.exit(2, f"{options.out} has no editor; train the whole pack there first\n")
    measured: dict[str, Report] = {}
    if options.only is None:
        recipe = Recipe.quick() if options.quick else Recipe.full(options.scale)
        measured |= run(recipe, options.out, options.work)
    judge = VerifierRecipe.quick() if options.quick else VerifierRecipe.full(options.scale)
    measured |= run_verifier(judge, options.out, options.work)
    print(json.dumps(measured, indent=2))


if __name__ == "__main__":
    main()
