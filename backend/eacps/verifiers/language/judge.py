"""A judge that reads language: asks what its rubric says about every edit."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Final

from PIL import Image

from eacps.domain import EditTask, digest
from eacps.errors import JudgeDownError, ScoringError
from eacps.images import TaskImages
from eacps.log import current_ids
from eacps.preparing import Kept, OncePerKey, Prepared
from eacps.rubrics.reading import Call, Rubric, TaskQuestions
from eacps.verifiers.language import prompts, task_questions
from eacps.verifiers.language.answers import Reply, combined, understood
from eacps.verifiers.language.asking import Asker, NoAnswerError
from eacps.verifiers.language.keys import without_secrets
from eacps.verifiers.language.likelihood import expected
from eacps.verifiers.language.options import ServerOptions
from eacps.verifiers.language.parsing import (
    Said,
    UnclearError,
    clean,
    one_object,
    scalars,
)
from eacps.verifiers.language.services.contract import Answer, Shown
from eacps.verifiers.language.services.contract import Question as Asked
from eacps.verifiers.language.storage import Account, Storage
from eacps.verifiers.language.task_questions import Written
from eacps.verifiers.protocol import Answers, Preference

log = logging.getLogger(__name__)

CACHE_FORMAT: Final = 1
REMEMBERED: Final = 200
"""The questions of so many tasks are at hand; those of others are read again."""
LONGER: Final = 4
"""An answer that was cut off is asked for once more with so many times the tokens."""


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
        self.captions = rubric.writes_captions
        self._name = name
        self._rubric = rubric
        self._options = options
        self._asker = asker
        self._storage = storage
        self._engine = engine
        self._routes = tuple(routes)
        self._written = OncePerKey[Written](REMEMBERED)
        self._kept: Kept | None = None

    def prepare(self, task: EditTask, images: TaskImages, kept: Kept) -> Prepared:
        """Have the questions of this task written, unless they are kept."""
        self._kept = kept
        if self._rubric.task_questions is None:
            return Prepared()
        self._allow(task)
        own = prompts.pictures_of(images, self._options.image_side)
        try:
            written = self._questions(task, own)
        except (NoAnswerError, UnclearError) as error:
            return Prepared(problem=str(error))
        return Prepared((written.told,), written.caption)

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
        previews = [share < 1 for share in progress]
        # Once for all, because the judge may fail to write questions: each would wait for it again.
        asked_more = {preview: self._more(task, own, preview) for preview in sorted(set(previews))}
        more = [asked_more[preview] for preview in previews]
        work: list[tuple[int, prompts.Request, Call, int]] = [
            (place, self._request(task, images, own, image, share, call), call, number)
            for place, (image, share) in enumerate(zip(edited, progress, strict=True))
            for call in (*self._rubric.calls, *more[place].calls)
            for number in range(self._options.passes)
        ]
        replies = self._in_parallel(lambda one: self._reply(one[1], one[2], one[3], account), work)
        self._require_one(replies)
        rows: list[list[Reply]] = [[] for _ in edited]
        for (place, _, call, _), reply in zip(work, replies, strict=True):
            own_words = call in more[place].calls
            rows[place].append(self._in_one(more[place], reply) if own_words else reply)
        return [
            combined(self._rubric, [*row, *each.missing])
            for row, each in zip(rows, more, strict=True)
        ]

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
        own: Mapping[str, Shown],
        edited: Image.Image,
        share: float,
        call: Call,
    ) -> prompts.Request:
        fitting = prompts.at_the_size_of(images.source, edited)
        pictures = {**own, "edited": prompts.shown(fitting, self._options.image_side)}
        preview = self._rubric.preview if share < 1 else ""
        return prompts.judging(self._rubric, call, task.instruction, pictures, preview=preview)

    def _more(self, task: EditTask, own: Mapping[str, Shown], preview: bool) -> _More:
        """What previews, or finished edits, are asked besides the rubric's own questions."""
        asked = self._rubric.task_questions
        if asked is None or (preview and not asked.asked.previews):
            return _More()
        try:
            written = self._questions(task, own)
        except (NoAnswerError, UnclearError) as error:
            missing = Said(missing={asked.name: f"no questions were written, because {error}"})
            return _More(missing=(Reply(missing),))
        return _More(written, (task_questions.call_of(asked, written),))

    def _in_one(self, more: _More, reply: Reply) -> Reply:
        asked = self._rubric.task_questions
        if reply.problem or asked is None or more.written is None:
            return reply
        said, words = task_questions.in_one(asked, more.written, reply.said)
        return replace(reply, said=said, words=words)

    def _questions(self, task: EditTask, own: Mapping[str, Shown]) -> Written:
        """The questions for this task: those that are kept, or new ones; raises NoAnswerError or
        UnclearError."""
        asked = self._rubric.task_questions
        assert asked is not None
        request = prompts.writing(self._rubric, asked, task.instruction, own)
        key = self._key(request, 0)
        account = self._account(task)

        def find() -> Written:
            # What all workers share counts; this machine's cache saves a call.
            shared, name = self._kept, self._shared_key(task, request)
            content = shared.recall(name) if shared else None
            content = content or self._storage.recall(key)
            found = task_questions.kept(asked, content)
            if found is None:
                found = self._write(asked, request, account)
                self._storage.keep(key, found.content)
            if shared is None:
                return found
            return task_questions.kept(asked, shared.keep_first(name, found.content)) or found

        return self._written.get_or_make(key, find)

    def _write(self, asked: TaskQuestions, request: prompts.Request, account: Account) -> Written:
        """New questions. An answer that cannot be used is asked for once more."""

        def written(*, again: bool) -> Written:
            answer = self._ask(request, 0, account, again=again)
            hidden = self._asker.hides
            return task_questions.read(asked, answer.text, lambda t: without_secrets(t, hidden))

        try:
            return written(again=False)
        except UnclearError as error:
            log.info("judge %s: %s; asked again", self._name, error)
        return written(again=True)

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
        said = understood(call, answer)
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

    def _shared_key(self, task: EditTask, request: prompts.Request) -> str:
        """The name of a task's questions for all workers, which may reach the judge at different
        addresses and encode pictures differently."""
        texts = [part for part in request.parts if isinstance(part, str)]
        pictures = [task.route, task.image, task.mask, list(task.references)]
        asked = [request.system, texts, dict(request.schema), pictures]
        options = self._options
        how = [options.temperature, options.max_tokens, options.image_side]
        return digest(["task questions", CACHE_FORMAT, self._name, how, asked])

    def _require_one(self, replies: Sequence[Reply]) -> None:
        if replies and all(reply.problem for reply in replies):
            down = next((reply.problem for reply in replies if reply.down), "")
            if down or len({reply.problem for reply in replies}) == 1:
                passes = all(reply.passes for reply in replies)
                error = JudgeDownError if passes else ScoringError
                raise error((down or replies[0].problem).rstrip(".") + ".")


@dataclass(frozen=True)
class _More:
    """What one edit is asked besides the rubric's own questions, or why it is not."""

    written: Written | None = None
    calls: tuple[Call, ...] = ()
    missing: tuple[Reply, ...] = ()


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
