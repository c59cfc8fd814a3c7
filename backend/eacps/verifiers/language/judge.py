"""A judge that reads language: asks what its rubric says about every edit."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final

from PIL import Image

from eacps.domain import EditTask, digest
from eacps.errors import JudgeDownError, ScoringError
from eacps.images import TaskImages
from eacps.log import current_ids
from eacps.rubrics.reading import Call, Question, Rubric
from eacps.verifiers.language import prompts
from eacps.verifiers.language.asking import Asker, NoAnswerError
from eacps.verifiers.language.keys import without_secrets
from eacps.verifiers.language.likelihood import expected
from eacps.verifiers.language.options import ServerOptions
from eacps.verifiers.language.parsing import (
    YES_NO,
    Said,
    UnclearError,
    clean,
    one_object,
    parsed,
    scalars,
)
from eacps.verifiers.language.services.contract import Answer
from eacps.verifiers.language.services.contract import Question as Asked
from eacps.verifiers.language.storage import Account, Storage
from eacps.verifiers.protocol import Answers, Preference

log = logging.getLogger(__name__)

CACHE_FORMAT: Final = 1
LONGER: Final = 4
"""An answer that was cut off is asked for once more with so many times the tokens."""


@dataclass(frozen=True)
class Reply:
    """The answers to one call about one edit."""

    said: Said = field(default_factory=Said)
    problem: str = ""
    down: bool = False
    passes: bool = False


class ServerJudge:
    """Asks a server's model. Each edit is asked about by itself, several at once; answers are
    matched to edits by their place, and one that cannot be read is missing."""

    waits = True
    """It waits for a server, so that several judges can be asked at once."""

    def __init__(
        self,
        name: str,
        rubric: Rubric,
        options: ServerOptions,
        asker: Asker,
        storage: Storage,
        *,
        engine: str,
        routes: Sequence[str] = ("edit",),
    ) -> None:
        self.ranges = rubric.ranges
        self._name = name
        self._rubric = rubric
        self._options = options
        self._asker = asker
        self._storage = storage
        self._engine = engine
        self._routes = tuple(routes)

    def judge(
        self,
        task: EditTask,
        images: TaskImages,
        edited: Sequence[Image.Image],
        progress: Sequence[float],
    ) -> Sequence[Answers]:
        """The answers about each edit; raises ScoringError if the server answered nothing."""
        self._allow(task)
        if not edited:
            return []
        own = prompts.pictures_of(images, self._options.image_side)
        account = self._account(task)
        work: list[tuple[prompts.Request, Call, int]] = [
            (self._request(task, images, own, image, share, call), call, number)
            for image, share in zip(edited, progress, strict=True)
            for call in self._rubric.calls
            for number in range(self._options.passes)
        ]
        replies = self._in_parallel(lambda one: self._reply(one[0], one[1], one[2], account), work)
        each = len(self._rubric.calls) * self._options.passes
        rows = [replies[start : start + each] for start in range(0, len(replies), each)]
        self._require_one(replies)
        return [self._answers(row) for row in rows]

    def compare(
        self, task: EditTask, images: TaskImages, first: Image.Image, second: Image.Image
    ) -> Preference:
        """Which of two edits is better, asked in both orders; raises ScoringError without any
        answer."""
        self._allow(task)
        account = self._account(task)
        side = self._options.image_side
        source = prompts.shown(images.source, side)
        one, other = (
            prompts.shown(prompts.at_the_size_of(images.source, image), side)
            for image in (first, second)
        )
        instruction = task.instruction
        asked = [
            prompts.comparing(self._rubric, instruction, source, *pair)
            for pair in ((one, other), (other, one))
        ]
        found = self._in_parallel(lambda request: self._preference(request, account), asked)
        shares = [
            share if place == 0 else 1 - share
            for place, (share, _) in enumerate(found)
            if share is not None
        ]
        if not shares:
            raise ScoringError(found[0][1])
        return Preference(math.fsum(shares) / len(shares), found[0][1])

    def _allow(self, task: EditTask) -> None:
        if task.route not in self._routes:
            raise ScoringError(
                f"Pictures of route {task.route} are not sent to servers.",
                hint=f"EACPS_JUDGE_ROUTES={','.join((*self._routes, task.route))} would allow it.",
            )

    def _account(self, task: EditTask) -> Account:
        # A search that several projects share counts for the one that began it.
        project = current_ids().get("project", "")
        return Account(task.key, str(project), self._name)

    def _request(
        self,
        task: EditTask,
        images: TaskImages,
        own: Mapping[str, Any],
        edited: Image.Image,
        share: float,
        call: Call,
    ) -> prompts.Request:
        fitting = prompts.at_the_size_of(images.source, edited)
        pictures = {**own, "edited": prompts.shown(fitting, self._options.image_side)}
        preview = self._rubric.preview if share < 1 else ""
        return prompts.judging(self._rubric, call, task.instruction, pictures, preview=preview)

    def _in_parallel(self, function: Callable[[Any], Any], work: Sequence[Any]) -> list[Any]:
        threads = min(len(work), self._options.concurrency)
        with ThreadPoolExecutor(max_workers=threads, thread_name_prefix="judge") as pool:
            return list(pool.map(function, work))

    def _reply(self, request: prompts.Request, call: Call, number: int, account: Account) -> Reply:
        key = self._key(request, number)
        kept = self._storage.recall(key)
        if isinstance(kept, dict):
            return Reply(Said(kept["values"], kept["reasons"]))
        try:
            said = self._said(request, call, number, account)
        except NoAnswerError as error:
            return Reply(problem=error.reason, down=error.down, passes=error.passes)
        except UnclearError as error:
            return Reply(problem=str(error))
        if not said.missing:
            self._storage.keep(key, {"values": said.values, "reasons": said.reasons})
        return Reply(said)

    def _said(self, request: prompts.Request, call: Call, number: int, account: Account) -> Said:
        """The answers to a call. One that cannot be read is asked for once more."""
        try:
            said = self._asked_once(request, call, number, account)
        except UnclearError as error:
            log.info("judge %s: %s; asked again", self._name, error)
        else:
            if not said.missing:
                return said
        return self._asked_once(request, call, number, account, again=True)

    def _asked_once(
        self,
        request: prompts.Request,
        call: Call,
        number: int,
        account: Account,
        *,
        again: bool = False,
    ) -> Said:
        answer = self._ask(request, number, account, again=again)
        said = parsed(call, answer.text)
        for question in call.questions:
            place = said.places.get(question.name)
            if answer.tokens and place is not None:
                fine = expected(
                    answer.tokens, answer.text, place.start, place.end, _allowed(question)
                )
                if fine is not None:
                    said.values[question.name] = fine
        hidden = self._asker.hides
        for name, reason in said.reasons.items():
            said.reasons[name] = without_secrets(reason, hidden)
        return said

    def _ask(
        self, request: prompts.Request, number: int, account: Account, *, again: bool
    ) -> Answer:
        """The server's whole answer; raises UnclearError for one that was cut off."""
        most = self._options.max_tokens * (LONGER if again else 1)
        question = Asked(
            request.system,
            request.parts,
            request.schema,
            max_tokens=most,
            temperature=self._options.temperature,
            # Another question than before, or the same answer would come again.
            seed=number + (1000 if again else 0),
            logprobs=self._options.way != "pointwise",
        )
        answer = self._asker.ask(question, account)
        if answer.ended == "refused":
            reason = clean(without_secrets(answer.refusal, self._asker.hides)).rstrip(".")
            raise NoAnswerError(f"it declined ({reason})")
        if answer.ended == "cut":
            raise UnclearError(f"the answer was cut off after {most} tokens (max_tokens)")
        return answer

    def _preference(self, request: prompts.Request, account: Account) -> tuple[float | None, str]:
        """1 if the edit shown first is better, and the reason; None and why not, without an
        answer."""
        key = self._key(request, 0)
        kept = self._storage.recall(key)
        if isinstance(kept, dict):
            return float(kept["first"]), str(kept["why"])
        try:
            answer = self._ask(request, 0, account, again=False)
            first, why = read_preference(answer)
        except NoAnswerError as error:
            return None, error.reason
        except UnclearError as error:
            return None, str(error)
        why = without_secrets(why, self._asker.hides)
        self._storage.keep(key, {"first": first, "why": why})
        return first, why

    def _key(self, request: prompts.Request, number: int) -> str:
        """The name of an answer: by whom it was asked, what, how, and for which time."""
        options = self._options
        how = [options.way, options.temperature, options.max_tokens, number]
        rubric = [self._rubric.name, self._rubric.version]
        return digest([CACHE_FORMAT, self._engine, rubric, how, request.key])

    def _require_one(self, replies: Sequence[Reply]) -> None:
        if replies and all(reply.problem for reply in replies):
            down = next((reply.problem for reply in replies if reply.down), "")
            if down or len({reply.problem for reply in replies}) == 1:
                passes = all(reply.passes for reply in replies)
                error = JudgeDownError if passes else ScoringError
                raise error((down or replies[0].problem).rstrip(".") + ".")

    def _answers(self, replies: Sequence[Reply]) -> Answers:
        """One edit's answers: the mean of its passes as the rubric's metrics, and the reasons."""
        given: dict[str, list[float]] = {}
        reasons: dict[str, str] = {}
        problems: dict[str, str] = {}
        for reply in replies:
            if reply.problem:
                problems.setdefault("", reply.problem)
            problems |= {
                name: why for name, why in reply.said.missing.items() if name not in problems
            }
            for name, value in reply.said.values.items():
                given.setdefault(name, []).append(value)
            for name, reason in reply.said.reasons.items():
                reasons.setdefault(name, reason)
        values = {name: math.fsum(each) / len(each) for name, each in given.items()}
        words = [_sentence(name, reason, reasons) for name, reason in reasons.items()]
        words += [_spread(name, each) for name, each in given.items() if len(set(each)) > 1]
        words += [
            f"({f'{name} missing' if name else 'No answer'}: {why.rstrip('.')}.)"
            for name, why in problems.items()
            if not name or name not in values
        ]
        return Answers(self._rubric.values(values), " ".join(words))


def read_preference(answer: Answer) -> tuple[float, str]:
    """Which edit an answer prefers (1: the one shown first), and why; raises UnclearError."""
    content, offset, body = one_object(answer.text)
    better = content.get("better")
    word = better.strip().lower() if isinstance(better, str) else ""
    if word not in prompts.BETTER:
        raise UnclearError("the answer does not say which is better")
    why = clean(content.get("reason"))
    allowed = {"first": 1.0, "second": 0.0, "neither": 0.5}
    place = next(one for one in scalars(body) if one.path == ("better",))
    start, end = place.start + offset + 1, place.end + offset - 1
    fine = expected(answer.tokens, answer.text, start, end, allowed) if answer.tokens else None
    return allowed[word] if fine is None else fine, why


def _allowed(question: Question) -> Mapping[str, float]:
    if question.kind == "yes_no":
        return YES_NO
    low, high = question.ends
    return {str(value): float(value) for value in range(low, high + 1)}


def _sentence(name: str, reason: str, reasons: Mapping[str, str]) -> str:
    text = reason if reason.endswith((".", "!", "?", "…")) else f"{reason}."
    return text if len(reasons) == 1 else f"{name}: {text}"


def _spread(name: str, values: Sequence[float]) -> str:
    return f"({name} was {min(values):.3g} to {max(values):.3g} in {len(values)} passes.)"
