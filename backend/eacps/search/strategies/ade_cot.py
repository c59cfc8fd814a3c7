"""ADE-CoT: an adaptive budget, early pruning, and depth-first stopping.

Qu et al. (2026), "From Scale to Speed: Adaptive Test-Time Scaling for Image Editing",
arXiv 2603.00141. Its three parts, each of which can be switched off:

1. Difficulty-aware resource allocation (`difficulty`). Render one edit; from its score S in
   [0, S_max] follows the number of candidates,
   N_a = N_min + round((N - N_min) (1 - S / S_max)^gamma), in `AdeCotParams.candidates_for`. If
   all questions that were written for the task are answered with yes, S is 0.5 of 10 higher.
2. Edit-specific verification in early pruning (`prune`). Rank previews by their general score plus
   region and caption scores, drop near-duplicates, and keep the best, at an early and at a late
   step (`AdeCot._by_promise`).
3. Depth-first opportunistic stopping (`stop`). Finish the most promising candidates first, and
   stop when enough results pass the verifier: generally, and by 4 of the 5 questions that were
   written for the task (`AdeCot._finish`).

Defaults are the paper's where it states them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, ClassVar, Final, Self

from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from eacps.domain import Outcome, Trial
from eacps.search import pruning
from eacps.search.gain import standard_scores
from eacps.search.parameters import (
    STRICT,
    AtLeast,
    AtMost,
    DuplicateSimilarity,
    Highest,
    Lowest,
    Rung,
    Share,
    require_at_most,
    require_less,
)
from eacps.search.pruning import Order, Pause
from eacps.search.quality import passes, quality
from eacps.search.ranking import finished, ranked
from eacps.search.roundwise import RoundwiseStrategy, Search

REGION: Final = ("region",)
CAPTION: Final = ("caption", "pf")
INSTANCE: Final = ("instance",)
ALL_YES: Final = 0.9
"""From this share of yes on, all questions count as answered with yes: judges that give
probabilities are never quite sure."""
ALL_YES_BONUS: Final = 0.05
Weight = Annotated[float, Field(ge=0, le=1000)]


@dataclass(frozen=True, config=STRICT)
class AdeCotParams:
    """Parameters of `ade_cot`."""

    stops_early: ClassVar[bool] = True

    n: Annotated[int, Field(ge=1, le=100_000, description="most candidates")] = 8
    difficulty: Annotated[
        bool,
        Field(description="part 1: finish one edit first; the better it is, the fewer follow"),
    ] = True
    n_min: Annotated[
        int, Field(ge=1, le=100_000, description="fewest candidates, for a perfect first edit")
    ] = 1
    gamma: Annotated[
        float,
        Field(
            gt=0,
            le=100,
            description="how the budget falls: n_min + (n - n_min) (1 - quality)^gamma",
        ),
    ] = 0.12
    prune: Annotated[
        bool, Field(description="part 2: prune by previews, at an early and a late step")
    ] = True
    early: Annotated[
        float, Field(gt=0, lt=1, description="the early look's share of the steps")
    ] = 0.29
    late: Annotated[
        float, Field(gt=0, lt=1, description="the late look's share of the steps, after early")
    ] = 0.57
    early_keep: Annotated[Share, Field(description="share of previews kept early")] = 0.5
    late_keep: Annotated[Share, Field(description="share of those kept late")] = 0.5
    region_weight: Annotated[
        Weight, Field(description="weight of `region` next to the potential")
    ] = 1.0
    caption_weight: Annotated[
        Weight, Field(description="weight of `caption`, or else `pf`, next to the potential")
    ] = 1.0
    duplicate_similarity: DuplicateSimilarity = 0.96
    stop: Annotated[
        bool,
        Field(description="part 3: finish the most promising first, and stop when enough pass"),
    ] = True
    enough: Annotated[int, Field(ge=1, le=100_000, description="how many results must pass")] = 1
    yes: Annotated[
        float,
        Field(
            ge=0,
            le=1,
            description="a result passes when a verifier's `satisfied`, `preserved` and `intact` "
            "are at least this and no threshold is missed",
        ),
    ] = 0.8
    instance: Annotated[
        float,
        Field(
            ge=0,
            le=1,
            description="a result that was asked the questions of its task passes only if at least "
            "this share of them was answered with yes",
        ),
    ] = 0.8
    at_least: AtLeast = Field(default_factory=dict)
    at_most: AtMost = Field(default_factory=dict)
    lowest: Lowest = 4.0
    highest: Highest = 10.5

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        require_at_most(n_min=self.n_min, n=self.n)
        require_less(early=self.early, late=self.late)
        require_less(lowest=self.lowest, highest=self.highest)
        return self

    @property
    def budget(self) -> int:
        """The most trials that the search begins."""
        return self.n

    def within(self, budget: int) -> dict[str, int]:
        """Parameters for at most this number of candidates."""
        return {"n": budget, "n_min": min(self.n_min, budget)}

    def cost(self, steps: int) -> float:
        """The most that the search costs in full renders when nothing fails."""
        finished_first = 1 if self.difficulty else 0
        others = self.n - finished_first
        return finished_first + pruning.cost(others, self.rungs(others), steps)

    def rungs(self, count: int) -> list[Rung]:
        """The rungs at which `count` candidates are pruned."""
        if not self.prune or not count:
            return []
        kept_early = math.ceil(count * self.early_keep)
        kept_late = math.ceil(kept_early * self.late_keep)
        return [(self.early, kept_early), (self.late, kept_late)]

    def candidates_for(self, first: float) -> int:
        """The number of candidates (N_a) for a task whose first edit has this quality (0 to 1).

        >>> params = AdeCotParams(n=8)
        >>> [params.candidates_for(quality) for quality in (0.0, 0.5, 0.9, 1.0)]
        [8, 7, 6, 1]
        """
        # N_a = N_min + round((N - N_min) (1 - S / S_max)^gamma), with `first` as S / S_max.
        return self.n_min + round((self.n - self.n_min) * math.pow(1 - first, self.gamma))


class AdeCot(RoundwiseStrategy[AdeCotParams]):
    """A budget by difficulty, pruning by previews, and a stop as soon as enough results pass.

    >>> from eacps.domain import Outcome
    >>> search = AdeCot(AdeCotParams(n=6), seed=7, batch_size=2, steps=12)
    >>> while trials := search.ask():
    ...     print([(trial.id, trial.to_step) for trial in trials])
    ...     good = {name: float(trials[0].id == "c6") for name in ("satisfied", "preserved")}
    ...     search.tell([Outcome(trial, int(trial.id[1:]), good) for trial in trials])
    [('c1', None), ('c2', 3)]
    [('c3', 3), ('c4', 3), ('c5', 3), ('c6', 3)]
    [('c6', 7), ('c5', 7), ('c4', 7)]
    [('c6', None), ('c5', None)]
    """

    Params: ClassVar[type[AdeCotParams]] = AdeCotParams

    def search(self) -> Search[None]:
        """Run the three parts in order, without those that are switched off."""
        pauses = self._pauses(self.params.n)
        first_step = pauses[0].to_step if pauses else None
        results: list[Outcome] = []
        previews: list[Outcome] = []
        wanted = self.params.n
        if self.params.difficulty:
            begun = yield from self._probe(first_step)
            results = finished(begun)
            previews = [outcome for outcome in begun if outcome.trial.to_step is not None]
            if not ranked(begun) or self._stops(self._passed(results), len(previews)):
                return
            wanted = self._budget(results)
        others = self.fresh_trials(max(0, wanted - len(results) - len(previews)))
        if not pauses:
            yield from self._finish(others, [], results)
            return
        wanted_previews = wanted - len(results)
        if not wanted_previews:
            return
        previews += yield pruning.advanced(others, first_step)
        pauses = self._pauses(wanted_previews)
        kept, reserve = yield from pruning.prune(previews, pauses, self.note, self._by_promise)
        yield from self._finish(kept, reserve, results)

    def _pauses(self, count: int) -> list[Pause]:
        return pruning.pauses_of(self.params.rungs(count), self.steps)

    def _probe(self, first_step: int | None) -> Search[list[Outcome]]:
        """Part 1: render one edit. The rest of its batch begins too, so that no device waits."""
        first, *others = self.fresh_trials(min(self.params.n, self.batch_size))
        return list((yield [first, *pruning.advanced(others, first_step)]))

    def _budget(self, results: Sequence[Outcome]) -> int:
        params = self.params
        first = max(map(self._quality, ranked(results)), default=0)
        wanted = params.candidates_for(first)
        self.note(f"First quality {first:.2f}: {wanted} of {params.n} candidates.")
        return wanted

    def _quality(self, result: Outcome) -> float:
        found = quality(result, self.params.lowest, self.params.highest)
        all_yes = (_score(result, INSTANCE) or 0.0) >= ALL_YES
        return min(1.0, found + ALL_YES_BONUS) if all_yes else found

    def _by_promise(self, previews: Sequence[Outcome]) -> Order:
        """Part 2: rank previews by the sum of potential, region and caption scores, each
        standardised; near-duplicates only replace failed candidates."""
        usable = ranked(previews)
        parts = [[outcome.potential or 0.0 for outcome in usable]]
        weights = [1.0]
        for names, weight in (
            (REGION, self.params.region_weight),
            (CAPTION, self.params.caption_weight),
        ):
            values = _of_all(usable, names)
            if values:
                parts.append(values)
                weights.append(weight)
        columns = [standard_scores(values) for values in parts]
        sums = [
            math.fsum(w * value for w, value in zip(weights, row, strict=True))
            for row in zip(*columns, strict=True)
        ]
        # The sort is stable: equal sums keep the order of potentials.
        order = [each for _, each in sorted(zip(sums, usable, strict=True), key=lambda x: -x[0])]
        return pruning.without_duplicates(order, self.params.duplicate_similarity, self.note)

    def _finish(
        self, kept: Sequence[Trial], reserve: Sequence[Trial], results: Sequence[Outcome]
    ) -> Search[list[Outcome]]:
        """Part 3: finish the most promising first, a batch at a time, until enough results pass.

        Without part 3, all are finished in one round.
        """
        done, passed = list(results), self._passed(results)
        size = self.batch_size if self.params.stop else max(1, len(kept))
        for start in range(0, len(kept), size):
            batch = yield pruning.advanced(kept[start : start + size], None)
            done += batch
            passed += self._passed(batch)
            if self._stops(passed, unfinished=max(0, len(kept) - start - size)):
                return done
        return (yield from pruning.replace_failed(done, reserve, 1, self.note))

    def _passed(self, results: Sequence[Outcome]) -> int:
        return sum(map(self._passes, ranked(results)))

    def _passes(self, result: Outcome) -> bool:
        params = self.params
        instance = _score(result, INSTANCE)
        if instance is not None and instance < params.instance:
            return False
        return passes(result, params.yes, params.at_least, params.at_most)

    def _stops(self, passed: int, unfinished: int) -> bool:
        if not self.params.stop or passed < self.params.enough:
            return False
        results = "1 result" if passed == 1 else f"{passed} results"
        self.note(f"Stopped when {results} had passed; {unfinished} were left unfinished.")
        return True


def _score(outcome: Outcome, names: Sequence[str]) -> float | None:
    """The first of the named scores that is present and finite, or None."""
    values = (outcome.scores.get(name, math.nan) for name in names)
    return next((value for value in values if math.isfinite(value)), None)


def _of_all(outcomes: Sequence[Outcome], names: Sequence[str]) -> list[float]:
    """The first of the named scores that all of them have, else none: values of different scores,
    or of some of them only, are not comparable."""
    for name in names:
        values = [_score(outcome, (name,)) for outcome in outcomes]
        present = [value for value in values if value is not None]
        if len(present) == len(outcomes):
            return present
    return []
