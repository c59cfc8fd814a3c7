"""Renders and judges looks with the level's editor, the scorers and the oracle."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy
from numpy.typing import NDArray
from PIL import Image

from benchmarks.search.bank import END, Bank, Scores, Shard, Wanted, noise_of, start_of
from benchmarks.search.problems import Problem, settings_of
from demo.manifest import PACK
from demo.oracle import Oracle
from demo.training.autoencoder import Autoencoder
from eacps.domain import SearchPlan, Trial, digest
from eacps.editors import open_editor
from eacps.images import TaskImages
from eacps.scoring import open_scorers
from eacps.weights import weights_digest

PREVIEWS: Final = (0.2, 0.3, 0.4, 0.5, 0.6)
LEAST_TO_PREVIEW: Final = 4
BATCH: Final = 16
CLIP_METRICS: Final = ("pf", "pf_dir", "cons", "lpips")
VERIFIER_METRICS: Final = ("satisfied", "preserved", "intact", "verified")
VERIFIER: Final = PACK / "verifier"

Numbers = NDArray[numpy.float64]
Scoring = Callable[
    [Problem, list[Image.Image], list[float]], tuple[Sequence[str], Numbers, Numbers]
]
"""Names, a row of values per image, and a row of features per image (empty: none)."""


def has_verifier() -> bool:
    """Whether the pack contains a verifier that this version can open."""
    return VERIFIER.is_dir()


class Models:
    """The editor, scorers and oracles of one level, loaded when they are first needed."""

    def __init__(self, level: str) -> None:
        self.settings = settings_of(level)
        if has_verifier():
            self.settings = self.settings.model_copy(update={"verifier": str(VERIFIER)})

    @cached_property
    def editor(self) -> Any:
        """The level's editor."""
        return open_editor(self.settings, "cpu")

    @cached_property
    def scorers(self) -> dict[str, Scoring]:
        """The scorers, by names that contain the digest of their weights."""
        found: dict[str, Scoring] = {
            f"clip-{weights_digest(PACK / 'clip')[:8]}": self._clip,
            f"oracle-{weights_digest(PACK / 'oracle')[:8]}": self._truth,
        }
        if has_verifier():
            found[f"verifier-told-{weights_digest(VERIFIER)[:8]}"] = self._verifier
        return found

    def _clip(
        self, problem: Problem, images: list[Image.Image], progress: list[float]
    ) -> tuple[Sequence[str], Numbers, Numbers]:
        from eacps.scoring.tower import clip_tower

        values = self._metrics(self._clip_scorers, problem, images, progress, CLIP_METRICS)
        features = clip_tower(self.settings.clip, "cpu").features(images).vectors.double().numpy()
        return CLIP_METRICS, values, features

    def _verifier(
        self, problem: Problem, images: list[Image.Image], progress: list[float]
    ) -> tuple[Sequence[str], Numbers, Numbers]:
        values = self._metrics(self._verifier_scorers, problem, images, progress, VERIFIER_METRICS)
        return VERIFIER_METRICS, values, _none(images)

    def _metrics(
        self,
        scorers: Sequence[Any],
        problem: Problem,
        images: list[Image.Image],
        progress: list[float],
        names: Sequence[str],
    ) -> Numbers:
        task, source = problem.task(SearchPlan()), TaskImages(problem.bear.image)
        rows: list[dict[str, float]] = [{} for _ in images]
        for scorer in scorers:
            for row, more in zip(rows, scorer.score(task, source, images, progress), strict=True):
                row.update(more)
        return numpy.array([[row[name] for name in names] for row in rows])

    def _truth(
        self, problem: Problem, images: list[Image.Image], _progress: list[float]
    ) -> tuple[Sequence[str], Numbers, Numbers]:
        verdicts = self._oracle.judge(problem.bear, images)
        strict = self._strict_oracle.judge(problem.bear, images)
        rows = [
            [float(one.success), float(other.success), one.score]
            for one, other in zip(verdicts, strict, strict=True)
        ]
        return ("success", "strict", "score"), numpy.array(rows), _none(images)

    @cached_property
    def _clip_scorers(self) -> Sequence[Any]:
        return [
            scorer
            for scorer in open_scorers(self.settings, "cpu", CLIP_METRICS)
            if set(CLIP_METRICS) & set(scorer.ranges)
        ]

    @cached_property
    def _verifier_scorers(self) -> Sequence[Any]:
        return [
            scorer
            for scorer in open_scorers(self.settings, "cpu", VERIFIER_METRICS)
            if "verified" in scorer.ranges
        ]

    @cached_property
    def _oracle(self) -> Oracle:
        return Oracle.load(show=Autoencoder(PACK / "editor" / "vae").shown)

    @cached_property
    def _strict_oracle(self) -> Oracle:
        return Oracle.load()


class Workshop:
    """Renders and judges one level's tasks, in one number of steps."""

    def __init__(self, level: str, cache: Path, steps: int = 0, models: Models | None = None):
        self._models = models or Models(level)
        self.settings = self._models.settings
        if steps:
            self.settings = self.settings.model_copy(update={"steps": steps})
        sampling = (self.steps, self.settings.guidance, self.settings.image_guidance)
        made = digest([weights_digest(self.settings.editor), *sampling])[:10]
        self.cache = cache
        self._folder = cache / f"{level}-{made}"

    @property
    def steps(self) -> int:
        """Denoising steps of a full render."""
        return self.settings.steps

    @property
    def preview_steps(self) -> list[int]:
        """The steps at which every render is previewed; none where the whole is a draft."""
        if self.steps < LEAST_TO_PREVIEW:
            return []
        return sorted({min(max(round(p * self.steps), 1), self.steps - 1) for p in PREVIEWS})

    @cached_property
    def nfe_per_step(self) -> int:
        """Denoiser passes per image and step: two with guidance."""
        return 2 if self.settings.guidance > 1 else 1

    @property
    def scorers(self) -> dict[str, Scoring]:
        """The scorers, by names that contain the digest of their weights."""
        return self._models.scorers

    def bank(self, problem: Problem) -> Bank:
        """The cached looks of a task; new judges score existing renders."""
        asked = digest([problem.bear.instruction, problem.bear.source.tobytes().hex()])[:8]
        bank = Bank(self._folder / problem.part / f"{problem.index:04d}-{asked}")
        bank.load(self.scorers, lambda shard, name: self._scored(problem, shard, name))
        return bank

    def session(self, problem: Problem, source: Image.Image | None = None) -> Any:
        """The task, or an edit of it, encoded by the editor."""
        task = problem.task(SearchPlan(steps=self.steps))
        return self._models.editor.open(task, TaskImages(source or problem.bear.image))

    def make(self, problem: Problem, bank: Bank, looks: Sequence[Wanted]) -> None:
        """Render the looks, judge and store them."""
        asked = {look.step for look in looks if look.step != END}
        steps = sorted({*self.preview_steps, *asked})
        keys = list(dict.fromkeys(look.key for look in looks))
        for edited in dict.fromkeys(map(start_of, keys)):
            source = Image.fromarray(bank.picture(edited)) if edited else None
            session = self.session(problem, source)
            own = [key for key in keys if start_of(key) == edited]
            for start in range(0, len(own), BATCH):
                shard = _rendered(session, own[start : start + BATCH], steps)
                scores = {name: self._scored(problem, shard, name) for name in self.scorers}
                bank.add(shard, scores)

    def _scored(self, problem: Problem, shard: Shard, name: str) -> Scores:
        count, looks = shard.pictures.shape[:2]
        flat = shard.pictures.reshape(count * looks, *shard.pictures.shape[2:])
        images = [Image.fromarray(each) for each in flat]
        done = [1.0 if step == END else step / self.steps for step in shard.steps]
        names, values, features = self.scorers[name](problem, images, done * count)
        shape = (count, looks, -1)
        return Scores(
            list(names), values.reshape(shape), features.reshape(*shape[:2], features.shape[1])
        )


def _rendered(session: Any, keys: list[str], steps: list[int]) -> Shard:
    trials = []
    for number, key in enumerate(keys):
        noise, suffix = noise_of(key)
        trials.append(Trial(f"c{number}", noise, instruction_suffix=suffix))
    size = session.inputs.source.size
    columns, failures = [], [""] * len(keys)
    for step in (*steps, None):
        renders = session.advance([replace(trial, to_step=step) for trial in trials])
        for row, render in enumerate(renders):
            if render.failure:
                failures[row] = f"{render.failure.code}: {render.failure.message}"
        images = [render.image or Image.new("RGB", size) for render in renders]
        columns.append(numpy.stack([numpy.asarray(image) for image in images]))
    return Shard(keys, [*steps, END], numpy.stack(columns, axis=1), failures)


def _none(images: Sequence[Image.Image]) -> Numbers:
    return numpy.zeros((len(images), 0))
