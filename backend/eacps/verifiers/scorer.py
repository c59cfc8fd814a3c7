"""Metrics from the answers of the verifiers in EACPS_VERIFIER."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from numbers import Real
from typing import Any, ClassVar, Final

from PIL import Image

from eacps.domain import EditTask
from eacps.errors import JudgeDownError, ScoringError, SettingsError
from eacps.images import TaskImages
from eacps.metric_range import MetricRange
from eacps.options import short
from eacps.plugins import Context
from eacps.preparing import Kept, Prepared
from eacps.settings import Settings
from eacps.verifiers.protocol import Answers, Comparing, Preparing, Verifier
from eacps.verifiers.registry import NamedVerifier, require_verifier, verifiers_of
from eacps.verifiers.tournament import Pair, tournament

log = logging.getLogger(__name__)

VERIFIED: Final = "verified"
PAIRS_EACH: Final = 2
"""A final has at most so many pairs for each finalist."""
PARTS: Final = ("satisfied", "preserved")
DISAGREEMENT: Final = 0.3
"""From this share of a question's range on, a card says that the verifiers disagree."""
Explained = tuple[Mapping[str, float], str]
Reasoned = tuple[Mapping[str, float], str, Mapping[str, str]]


class VerifierScorer:
    """One metric for each question that the verifiers answer, by default:

    - `satisfied`: the instruction was carried out;
    - `preserved`: everything else is unchanged;
    - `intact`: the image is undamaged;
    - `verified`: `satisfied` x `preserved`.

    If several verifiers answer a question, the metric is the mean of their answers, weighted by
    EACPS_VERIFIER_WEIGHTS. Those that wait for a server are asked at the same time.
    """

    ranges: ClassVar[Mapping[str, MetricRange]] = {
        name: MetricRange(worst=0, best=1) for name in (*PARTS, "intact", VERIFIED)
    }

    def __init__(
        self, verifiers: Mapping[str, Verifier], weights: Mapping[str, float] | None = None
    ) -> None:
        self._verifiers = verifiers
        self._weights = weights or {}

    @property
    def waits(self) -> bool:
        """Whether all verifiers wait for servers, so that the device is free meanwhile."""
        return all(getattr(each, "waits", False) for each in self._verifiers.values())

    @property
    def captions(self) -> bool:
        """Whether a verifier says what the wished-for picture of a task shows."""
        return any(getattr(each, "captions", False) for each in self._verifiers.values())

    @classmethod
    def metric_ranges(cls, settings: Settings) -> Mapping[str, MetricRange]:
        """The ranges of the verifiers' answers, or the default ones if no verifier can be found.

        A verifier that cannot be read is no error here: it may not be needed, and opening it says
        what is wrong.
        """
        try:
            found = verifiers_of(settings)
        except ScoringError:
            found = []
        if not found:
            return cls.ranges
        answered: dict[str, MetricRange] = {}
        for each in found:
            for name, span in each.plugin.ranges.items():
                if answered.setdefault(name, span) != span:
                    raise SettingsError(
                        f"Two verifiers answer {name!r} on different scales; their mean would say "
                        "nothing.",
                        hint="Change the `ranges` of one, or name only one in EACPS_VERIFIER.",
                    )
        if all(part in answered for part in PARTS):
            answered[VERIFIED] = cls.ranges[VERIFIED]
        return answered

    @classmethod
    def load(cls, context: Context) -> VerifierScorer:
        """Load every verifier that EACPS_VERIFIER names."""
        require_verifier(context.settings, ", ".join(cls.ranges))
        found = verifiers_of(context.settings)
        titles = Counter(each.title for each in found)
        opened, weights = {}, {}
        given = context.settings.verifier_weights
        for each in found:
            # Two folders, or classes, may be called the same.
            name = each.title if titles[each.title] == 1 else each.location or each.name
            opened[name] = each.load(context.settings, context.device)
            weights[name] = given.get(each.written, given.get(each.title, 1.0))
        _require_known(given, found)
        return cls(opened, weights)

    def prepare(self, task: EditTask, images: TaskImages, kept: Kept) -> Prepared:
        """Let every verifier prepare the task. The first one that writes captions says what the
        wished-for picture shows, so that all edits are compared with the same words."""
        preparing = {n: one for n, one in self._verifiers.items() if isinstance(one, Preparing)}
        if not preparing:
            return Prepared()

        def ask(verifier: Preparing) -> Prepared:
            try:
                return verifier.prepare(task, images, kept)
            except ScoringError as error:
                return Prepared(problem=str(error))

        with ThreadPoolExecutor(max_workers=len(preparing)) as pool:
            begun = {n: pool.submit(copy_context().run, ask, v) for n, v in preparing.items()}
            found = {name: future.result() for name, future in begun.items()}
        several = len(self._verifiers) > 1
        told = [f"{n}: {words}" if several else words for n, p in found.items() for words in p.told]
        captioning = next((found[n] for n, one in preparing.items() if one.captions), Prepared())
        return Prepared(tuple(told), captioning.caption, captioning.problem)

    def score(
        self,
        task: EditTask,
        images: TaskImages,
        edited: Sequence[Image.Image],
        progress: Sequence[float],
    ) -> Sequence[Mapping[str, float]]:
        """One mapping of answers per edited image."""
        return [scores for scores, _ in self.explained(task, images, edited, progress)]

    def explained(
        self,
        task: EditTask,
        images: TaskImages,
        edited: Sequence[Image.Image],
        progress: Sequence[float],
    ) -> Sequence[Explained]:
        """Answers and reasons. Verifiers that fail are left out; raises ScoringError if all do."""
        return [each[:2] for each in self.reasoned(task, images, edited, progress)]

    def reasoned(
        self,
        task: EditTask,
        images: TaskImages,
        edited: Sequence[Image.Image],
        progress: Sequence[float],
    ) -> Sequence[Reasoned]:
        """Like `explained`, and the reason of each answer by itself."""
        if not edited:
            return []
        given: list[dict[str, Answers]] = [{} for _ in edited]
        problems = []
        away = False
        asked = self._asked(task, images, edited, progress)
        for name in self._verifiers:
            rows = asked[name]
            if isinstance(rows, Exception):
                problems.append(f"{name}: {rows}")
                away = away or isinstance(rows, JudgeDownError)
                continue
            for answers, row in zip(given, rows, strict=True):
                answers[name] = row
        if len(problems) == len(self._verifiers):
            raise (JudgeDownError if away else ScoringError)("; ".join(problems))
        return [_merged(answers, problems, self._weights, self._spans) for answers in given]

    def preferences(
        self, task: EditTask, images: TaskImages, edited: Sequence[Image.Image]
    ) -> Sequence[tuple[float, str]]:
        """The strength of each finished image in a tournament of pairs, and why it won or lost;
        raises ScoringError if too few pairs could be compared."""
        judges = {name: one for name, one in self._verifiers.items() if isinstance(one, Comparing)}
        if not judges:
            raise ScoringError("No verifier in EACPS_VERIFIER can compare two edits.")
        reasons: dict[int, str] = {}

        def meet(pairs: Sequence[Pair]) -> list[float | str]:
            with ThreadPoolExecutor(max_workers=len(pairs)) as pool:
                begun = [
                    pool.submit(
                        copy_context().run, _met, judges, self._weights, task, images, edited, pair
                    )
                    for pair in pairs
                ]
                found = [future.result() for future in begun]
            for pair, (share, why) in zip(pairs, found, strict=True):
                if isinstance(share, float) and share != 0.5 and why:
                    reasons[pair[0] if share > 0.5 else pair[1]] = why
            return [share for share, _ in found]

        count = len(edited)
        most = min(count * (count - 1) // 2, PAIRS_EACH * count)
        standing = tournament(count, meet, most=most)
        if len(standing.met) < count - 1:
            raise ScoringError(next(iter(standing.problems), "No pair could be compared."))
        return [
            (strength, f"Preferred in pairs: {reasons[place]}" if place in reasons else "")
            for place, strength in enumerate(standing.strengths)
        ]

    @property
    def _spans(self) -> Mapping[str, MetricRange]:
        each = (verifier.ranges.items() for verifier in self._verifiers.values())
        return {name: span for items in each for name, span in items}

    def _asked(
        self,
        task: EditTask,
        images: TaskImages,
        edited: Sequence[Image.Image],
        progress: Sequence[float],
    ) -> Mapping[str, list[Answers] | Exception]:
        """What each verifier answered, or how it failed. Those that wait for servers wait in
        threads; the others share this worker's device, and take turns in this one."""

        def ask(name: str) -> list[Answers] | Exception:
            try:
                return _answers(self._verifiers[name], task, images, edited, progress)
            except ScoringError as error:
                log.warning("verifier %s failed: %s", name, error)
                return error
            except Exception as error:
                log.exception("verifier %s failed", name)
                return error

        waiting = [name for name, each in self._verifiers.items() if getattr(each, "waits", False)]
        with ThreadPoolExecutor(max_workers=max(1, len(waiting))) as pool:
            begun = {name: pool.submit(copy_context().run, ask, name) for name in waiting}
            found = {name: ask(name) for name in self._verifiers if name not in begun}
            return found | {name: future.result() for name, future in begun.items()}


def _met(
    judges: Mapping[str, Comparing],
    weights: Mapping[str, float],
    task: EditTask,
    images: TaskImages,
    edited: Sequence[Image.Image],
    pair: Pair,
) -> tuple[float | str, str]:
    """Which of two is better by the mean of the judges that answer, and the first one's reason; or
    why none answers."""
    shares: dict[str, float] = {}
    reasons, problems = [], []
    for name, judge in judges.items():
        try:
            answer = judge.compare(task, images, edited[pair[0]], edited[pair[1]])
        except Exception as error:
            problems.append(f"{name}: {error}")
            continue
        shares[name] = answer.first
        reasons.append(answer.why)
    if not shares:
        return "; ".join(problems), ""
    return _weighted(shares, weights), next(filter(None, reasons), "")


def uses_answers(settings: Settings) -> bool:
    """Whether the potential asks a verifier at all."""
    asked = settings.weights.keys() if settings.potential == "weighted" else set()
    return bool(VerifierScorer.metric_ranges(settings).keys() & asked)


def _require_known(weights: Mapping[str, float], found: Sequence[NamedVerifier]) -> None:
    known = [name for each in found for name in dict.fromkeys((each.written, each.title))]
    unknown = sorted(weights.keys() - set(known))
    if unknown:
        raise SettingsError(
            f"EACPS_VERIFIER_WEIGHTS names {', '.join(map(short, unknown))}, which EACPS_VERIFIER "
            "does not.",
            hint=f"Known: {', '.join(known)}.",
        )


def _answers(
    verifier: Verifier,
    task: EditTask,
    images: TaskImages,
    edited: Sequence[Image.Image],
    progress: Sequence[float],
) -> list[Answers]:
    """One verifier's valid answers about every image. Answers about some of them are none: which
    ones is unknown, and the images could not be compared."""
    rows = verifier.judge(task, images, edited, progress)
    if len(rows) != len(edited):
        raise ScoringError(f"It answered about {len(rows)} images instead of {len(edited)}.")
    return [_valid_answers(row, verifier.ranges) for row in rows]


def _valid_answers(row: Answers, ranges: Mapping[str, MetricRange]) -> Answers:
    """The answers without unknown questions and without values outside their range, so that a
    judge that says 7 on a scale up to 1 does not decide the search."""
    problems = {name: _problem(value, ranges.get(name)) for name, value in row.values.items()}
    kept = {name: float(value) for name, value in row.values.items() if not problems[name]}
    refused = [f"({name} {problem}.)" for name, problem in problems.items() if problem]
    why = " ".join([*([row.why] if row.why else []), *refused])
    return Answers(kept, why, _valid_reasons(row.reasons, kept))


def _valid_reasons(reasons: Any, kept: Mapping[str, float]) -> dict[str, str]:
    given = reasons if isinstance(reasons, Mapping) else {}
    return {name: why for name in kept if isinstance(why := given.get(name), str) and why}


def _problem(value: Any, span: MetricRange | None) -> str:
    """What is wrong with an answer; empty if nothing is."""
    if span is None:
        return "is none of its questions"
    if not isinstance(value, Real):
        return f"was {short(value)}, not a number"
    number = float(value)
    if min(span.worst, span.best) <= number <= max(span.worst, span.best):
        return ""
    return f"was {number:g}, not {span.worst:g} to {span.best:g}"


def _merged(
    given: Mapping[str, Answers],
    problems: Sequence[str],
    weights: Mapping[str, float],
    spans: Mapping[str, MetricRange],
) -> Reasoned:
    values: dict[str, dict[str, float]] = {}
    for judge, answers in given.items():
        for name, value in answers.values.items():
            values.setdefault(name, {})[judge] = float(value)
    scores = {name: _weighted(each, weights) for name, each in values.items()}
    if all(part in scores for part in PARTS):
        scores[VERIFIED] = scores["satisfied"] * scores["preserved"]
    several = len(given) + len(problems) > 1
    reasons = [
        f"{name}: {answers.why}" if several else answers.why
        for name, answers in given.items()
        if answers.why
    ]
    differing = [
        f"They disagree about {name}: {', '.join(f'{judge} {v:.3g}' for judge, v in each.items())}."
        for name, each in values.items()
        if _disagreement(each, spans[name]) >= DISAGREEMENT
    ]
    silent = [f"No answer from {problem}" for problem in problems]
    words = " ".join([*reasons, *differing, *silent])
    return scores, words, _criticism(given, values, spans)


def _criticism(
    given: Mapping[str, Answers],
    values: Mapping[str, Mapping[str, float]],
    spans: Mapping[str, MetricRange],
) -> dict[str, str]:
    """For each question the reason of the verifier that finds the edit worst, if it gives one."""
    found = {}
    for name, each in values.items():
        worst = sorted(each, key=lambda judge: spans[name].normalised(each[judge]))
        reasons = (given[judge].reasons.get(name, "") for judge in worst)
        reason = next(filter(None, reasons), "")
        if reason:
            found[name] = reason
    return found


def _weighted(values: Mapping[str, float], weights: Mapping[str, float]) -> float:
    total = math.fsum(weights.get(judge, 1.0) for judge in values)
    return math.fsum(weights.get(judge, 1.0) * value for judge, value in values.items()) / total


def _disagreement(values: Mapping[str, float], span: MetricRange) -> float:
    """How far apart the answers are, as a share of the question's range."""
    shares = [span.normalised(value) for value in values.values()]
    return max(shares) - min(shares)
