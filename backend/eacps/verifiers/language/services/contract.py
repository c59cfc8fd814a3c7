"""What every server is asked and answers, whatever its wire format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

Json = dict[str, Any]


@dataclass(frozen=True)
class Shown:
    """A picture of a request: the bytes of a file, and their type."""

    content: bytes = field(repr=False)
    media_type: str


Part = str | Shown


@dataclass(frozen=True)
class Question:
    """One request: texts and pictures in order, and the form of the answer."""

    system: str
    parts: tuple[Part, ...]
    schema: Mapping[str, Any]
    max_tokens: int
    temperature: float | None = None
    seed: int | None = None
    logprobs: bool = False


@dataclass(frozen=True)
class Token:
    """One token of an answer, with the log-probabilities of those that were likely instead."""

    text: str
    logprob: float
    others: Mapping[str, float]


@dataclass(frozen=True)
class Usage:
    """Tokens by the server's own count."""

    read: int = 0
    written: int = 0

    @property
    def total(self) -> int:
        """Both together."""
        return self.read + self.written

    def __add__(self, other: Usage) -> Usage:
        return Usage(self.read + other.read, self.written + other.written)


@dataclass(frozen=True)
class Answer:
    """What a server said. `ended` is `whole`, or why the text is not the whole answer."""

    text: str
    ended: Literal["whole", "cut", "refused"] = "whole"
    refusal: str = ""
    usage: Usage = Usage()
    tokens: tuple[Token, ...] = ()


class UnreadableError(Exception):
    """The server's answer does not have the form that its protocol prescribes."""


class Service(Protocol):
    """A wire format. Its functions are pure, so that they can be compared with official clients."""

    @property
    def name(self) -> str:
        """The service's name in EACPS_VERIFIER."""

    @property
    def key_variables(self) -> Sequence[str]:
        """The environment variables that may have the key."""

    @property
    def address_variables(self) -> Sequence[str]:
        """The environment variables that may have the address."""

    @property
    def default_address(self) -> str:
        """The provider's own address."""

    @property
    def optional(self) -> Sequence[str]:
        """Parts of a request that a server may not know, and that can be left out."""

    def path(self, model: str) -> str:
        """The path of a request, below the address."""

    def headers(self, key: str) -> dict[str, str]:
        """The headers that carry the key; none without one."""

    def body(self, model: str, question: Question, left_out: frozenset[str]) -> Json:
        """The body of a request, without the optional parts that are left out."""

    def answer(self, body: Json) -> Answer:
        """What an answer's body says; raises UnreadableError."""

    def problem(self, body: Any) -> str:
        """The message in an error's body; empty if there is none."""


def count(content: Mapping[str, Any], *names: str) -> int:
    """The sum of numbers of tokens, each of which may be missing or nonsense."""
    found = (content.get(name) for name in names)
    return sum(each for each in found if isinstance(each, int) and each >= 0)


def mapping(content: Any, what: str) -> Json:
    """This part of an answer, which must be an object."""
    if not isinstance(content, dict):
        raise UnreadableError(f"the answer has no {what}")
    return content


def first(content: Any, what: str) -> Json:
    """The first entry of this part of an answer, which must be a list of objects."""
    if not isinstance(content, list) or not content:
        raise UnreadableError(f"the answer has no {what}")
    return mapping(content[0], what)


def number(content: Any) -> float | None:
    """A finite number, or None."""
    if isinstance(content, bool) or not isinstance(content, int | float):
        return None
    return float(content) if abs(content) < float("inf") else None


def error_text(body: Any) -> str:
    """The message in an error's body, in any of the forms in use; empty if there is none."""
    found = body.get("error", body) if isinstance(body, dict) else body
    if isinstance(found, dict):
        found = found.get("message") or found.get("detail") or found.get("status")
    return found if isinstance(found, str) else ""
