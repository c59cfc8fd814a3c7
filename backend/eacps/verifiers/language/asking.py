"""Asks a server a question: with attempts, waits, limits, and a breaker; counts what it takes."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from eacps import metrics
from eacps.verifiers.language.breaker import Breaker
from eacps.verifiers.language.keys import without_secrets
from eacps.verifiers.language.options import ServerOptions
from eacps.verifiers.language.services.contract import (
    Answer,
    Question,
    Service,
    UnreadableError,
    Usage,
)
from eacps.verifiers.language.storage import Account, LimitError, Storage
from eacps.verifiers.language.transport import Response, UnreachableError, post

log = logging.getLogger(__name__)

FIRST_WAIT: Final = 1.0
REASON_LENGTH: Final = 240
_REFUSED: Final = frozenset({400, 422})
_FOR_GOOD: Final = frozenset({301, 302, 303, 307, 308, 401, 402, 403, 404, 405, 410})
_WORDS: Final = {
    401: "it refuses the key",
    402: "its account has no credit",
    403: "it refuses the key",
    404: "it has no such model or address",
}


class NoAnswerError(Exception):
    """There is no answer; `down` where other questions will get none either for now. `passes`:
    without anybody changing a setting, it will be possible to ask again."""

    def __init__(self, reason: str, *, down: bool = False, passes: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.down = down
        self.passes = passes


class _FailedError(Exception):
    """One attempt failed; another may succeed unless it is `final`."""

    def __init__(
        self,
        reason: str,
        *,
        down: bool,
        final: bool = False,
        retry_after: float = 0.0,
        passes: bool = False,
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.down = down
        self.final = final
        self.retry_after = retry_after
        self.passes = passes


@dataclass(frozen=True)
class Place:
    """Where a model is asked."""

    service: Service
    model: str
    address: str
    key: str = field(repr=False)
    label: str


class Asker:
    """Asks one model."""

    def __init__(
        self,
        place: Place,
        options: ServerOptions,
        storage: Storage,
        *,
        sleep: Callable[[float], None] = time.sleep,
        chance: Callable[[], float] = random.random,
        breaker: Breaker | None = None,
    ) -> None:
        self._place = place
        self._options = options
        self._storage = storage
        self._sleep = sleep
        self._chance = chance
        self._breaker = breaker or Breaker()
        self._free = threading.BoundedSemaphore(options.concurrency)
        self._left_out: frozenset[str] = frozenset()
        self._noticed = False

    @property
    def hides(self) -> tuple[str, ...]:
        """What no text may show."""
        return (self._place.key,)

    def ask(self, question: Question, account: Account) -> Answer:
        """The server's answer; raises NoAnswerError."""
        with self._free:
            return self._asked(question, account)

    def _asked(self, question: Question, account: Account) -> Answer:
        refusal = self._breaker.refusal()
        if refusal:
            raise NoAnswerError(refusal, down=True, passes=self._breaker.passes)
        attempt = 0
        while True:
            attempt += 1
            try:
                answer = self._attempt(question, account)
            except _FailedError as error:
                self._after(error, attempt)
            else:
                self._breaker.succeeded()
                return answer

    def _after(self, error: _FailedError, attempt: int) -> None:
        """Wait before another attempt, or give up."""
        wait = max(error.retry_after, self._wait(attempt))
        over = error.final or attempt >= self._options.attempts
        if not over and wait <= self._options.wait_seconds:
            log.info("judge %s: %s; asked again in %.1f s", self._place.label, error.reason, wait)
            self._sleep(wait)
            return
        if error.down:
            # A server that says when it is back need not fail five times.
            at_once = error.final or error.retry_after > self._options.wait_seconds
            self._breaker.failed(
                error.reason, at_once=at_once, seconds=error.retry_after, passes=error.passes
            )
        raise NoAnswerError(error.reason, down=error.down, passes=error.passes)

    def _wait(self, attempt: int) -> float:
        longest = FIRST_WAIT * 2.0 ** (attempt - 1)
        return float(min(self._options.wait_seconds, longest * (0.5 + self._chance() / 2)))

    def _attempt(self, question: Question, account: Account) -> Answer:
        service = self._place.service
        while True:
            response = self._sent(question, account)
            if response.status not in _REFUSED or not self._leaves_out(response):
                break
        if response.status != 200:
            raise self._failure(response)
        if not isinstance(response.content, dict):
            raise self._counted("unreadable", "its answer is not JSON", down=False)
        try:
            answer = service.answer(response.content)
        except UnreadableError as error:
            problem = self._clean(service.problem(response.content)) or str(error)
            raise self._counted("unreadable", problem, down=False) from None
        self._spend(account, answer.usage)
        metrics.JUDGE_CALLS.labels(self._place.label, "answered").inc()
        self._notice(question, answer)
        return answer

    def _sent(self, question: Question, account: Account) -> Response:
        place = self._place
        try:
            self._storage.reserve(account)
        except LimitError as error:
            metrics.JUDGE_CALLS.labels(place.label, "limited").inc()
            raise _FailedError(str(error), down=False, final=True, passes=True) from None
        body = place.service.body(place.model, question, self._left_out)
        url = place.address + place.service.path(place.model)
        try:
            with metrics.JUDGE_SECONDS.labels(place.label).time():
                headers = place.service.headers(place.key)
                return post(url, headers, body, self._options.timeout_seconds)
        except UnreachableError as error:
            raise self._counted("unreachable", str(error), down=True) from None

    def _leaves_out(self, response: Response) -> bool:
        """Whether the server refused a part of the request that can be left out from now on."""
        said = self._place.service.problem(response.content).lower()
        for part in self._place.service.optional:
            if part not in self._left_out and _names(said, part):
                log.warning("judge %s takes no %s; it is left out", self._place.label, part)
                self._left_out |= {part}
                return True
        return False

    def _notice(self, question: Question, answer: Answer) -> None:
        """Say once if the server ignored that log-probabilities were asked for."""
        known = any("logprobs" in part.lower() for part in self._place.service.optional)
        if known and question.logprobs and answer.text and not answer.tokens and not self._noticed:
            self._noticed = True
            log.warning(
                "judge %s gives no log-probabilities; the scores that it says count",
                self._place.label,
            )

    def _failure(self, response: Response) -> _FailedError:
        status = response.status
        said = self._clean(self._place.service.problem(response.content))
        words = _WORDS.get(status, f"it answers {status}")
        reason = f"{words}: {said}" if said else words
        if status in _FOR_GOOD:
            return self._counted("refused", reason, down=True, final=True)
        if status in (408, 409, 425, 429) or status >= 500:
            after = response.retry_after
            return self._counted("unavailable", reason, down=True, retry_after=after)
        return self._counted("refused", reason, down=False, final=True)

    def _counted(
        self,
        outcome: str,
        reason: str,
        *,
        down: bool,
        final: bool = False,
        retry_after: float = 0.0,
    ) -> _FailedError:
        metrics.JUDGE_CALLS.labels(self._place.label, outcome).inc()
        passes = down and not final
        return _FailedError(reason, down=down, final=final, retry_after=retry_after, passes=passes)

    def _spend(self, account: Account, usage: Usage) -> None:
        options = self._options
        cost = (usage.read * options.price_read + usage.written * options.price_written) / 1e6
        self._storage.spend(account, usage, cost)
        metrics.JUDGE_TOKENS.labels(self._place.label, "read").inc(usage.read)
        metrics.JUDGE_TOKENS.labels(self._place.label, "written").inc(usage.written)

    def _clean(self, text: str) -> str:
        """A server's text in one short line, without the key."""
        line = " ".join(without_secrets(text, self.hides).split())
        return "".join(one for one in line if one.isprintable())[:REASON_LENGTH].rstrip(".")


def _names(said: str, part: str) -> bool:
    """Whether an error's message is about a part of a request; some servers write it in words."""
    words = {part.lower(), part.lower().replace("_", " ")}
    if part == "response_format":
        words |= {"json_schema", "guided", "structured output"}
    if part == "output_config":
        words |= {"output_format", "structured output", "json_schema"}
    if part == "responseJsonSchema":
        words |= {"response_json_schema", "response schema"}
    if part == "responseLogprobs":
        words |= {"logprobs", "response_logprobs"}
    return any(word in said for word in words)
