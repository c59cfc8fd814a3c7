"""What a model said, as answers. What cannot be read with certainty is missing, with its reason."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from eacps.options import short
from eacps.rubrics.reading import Call, Question

YES_NO: Final = {"yes": 1.0, "no": 0.0}
REASON_LENGTH: Final = 300
_THOUGHT: Final = "</think>"
_LEXEME: Final = re.compile(
    r'"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?|true|false|null|[\[\]{}:,]', re.DOTALL
)


class UnclearError(Exception):
    """A text holds no answer, or not exactly one."""


@dataclass(frozen=True)
class Scalar:
    """A value of a JSON text: its path, and where it stands."""

    path: tuple[str | int, ...]
    start: int
    end: int


@dataclass(frozen=True)
class Said:
    """The answers in a text: values and reasons by question, and why others are missing."""

    values: dict[str, float] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    places: dict[str, Scalar] = field(default_factory=dict)


def parsed(call: Call, text: str) -> Said:
    """The answers to a call's questions; raises UnclearError if the text holds none."""
    content, offset, body = one_object(text)
    places = {one.path: one for one in scalars(body)}
    said = Said()
    for place, question in enumerate(call.questions):
        try:
            path, value, reason = _found(call, content, question, place)
            said.values[question.name] = _value(question, value)
        except UnclearError as error:
            said.missing[question.name] = str(error)
            continue
        if reason:
            said.reasons[question.name] = reason
        at = places.get(path)
        if at is not None:
            said.places[question.name] = Scalar(path, at.start + offset, at.end + offset)
    return said


def one_object(text: str) -> tuple[Mapping[str, Any], int, str]:
    """The only JSON object in a text, where it begins, and its text.

    Thoughts before it, a fence around it and words beside it are no harm. Two different objects
    are: one may be an example, or stand in what was judged.
    """
    if text.lstrip().startswith("<think>") and _THOUGHT not in text:
        raise UnclearError("the answer ends in the middle of a thought")
    start = text.rfind(_THOUGHT) + len(_THOUGHT) if _THOUGHT in text else 0
    found = list(_objects(text, start))
    contents = [content for content, _, _ in found]
    if not found:
        raise UnclearError("the answer holds no JSON object")
    if any(content != contents[0] for content in contents):
        raise UnclearError("the answer holds several JSON objects")
    content, begin, end = found[-1]
    return content, begin, text[begin:end]


def _objects(text: str, start: int) -> Iterator[tuple[Mapping[str, Any], int, int]]:
    """The outermost JSON objects of a text."""
    decoder = json.JSONDecoder(object_pairs_hook=_without_twins, parse_constant=_no_constant)
    while (begin := text.find("{", start)) >= 0:
        try:
            content, end = decoder.raw_decode(text, begin)
        except RecursionError:
            raise UnclearError("the answer is nested too deeply") from None
        except ValueError:
            if text[begin:].lstrip("{ \n\t").startswith('"'):
                # It begins as an answer does: cut off, or wrong in the middle.
                raise UnclearError("the answer holds JSON that is broken") from None
            start = begin + 1
            continue
        yield content, begin, end
        start = end


def _without_twins(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        raise UnclearError("the answer names something twice")
    return content


def _no_constant(name: str) -> float:
    raise UnclearError(f"the answer holds {name}")


def _found(
    call: Call, content: Mapping[str, Any], question: Question, place: int
) -> tuple[tuple[str | int, ...], Any, str]:
    """Where a question's value stands, the value, and the reason for it."""
    if call.layout == "score_list":
        scores = content.get("score")
        if not isinstance(scores, list) or len(scores) != len(call.questions):
            given = len(scores) if isinstance(scores, list) else "no"
            raise UnclearError(f"the answer has {given} scores instead of {len(call.questions)}")
        reason = content.get("reasoning") if place == 0 else ""
        return ("score", place), scores[place], clean(reason)
    if question.name not in content:
        raise UnclearError("the answer leaves it out")
    given = content[question.name]
    key = "answer" if question.kind == "yes_no" else "score"
    if not isinstance(given, dict):
        # Models that are not held to the form often give the value alone.
        return (question.name,), given, ""
    if key not in given:
        raise UnclearError(f"the answer has no {key}")
    return (question.name, key), given[key], clean(given.get("reason"))


def _value(question: Question, value: Any) -> float:
    if question.kind == "yes_no":
        word = value.strip().lower() if isinstance(value, str) else value
        if isinstance(word, bool):
            return float(word)
        if word not in YES_NO:
            raise UnclearError(f"the answer was {short(value)}, not yes or no")
        return YES_NO[word]
    low, high = question.ends
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UnclearError(f"the answer was {short(value)}, not a number")
    if not low <= value <= high:
        raise UnclearError(f"the answer was {short(value)}, not {low} to {high}")
    return float(value)


def clean(text: Any) -> str:
    """A model's sentence in one line of limited length, without characters that a terminal or a
    page would obey."""
    if not isinstance(text, str):
        return ""
    line = " ".join(text.split())
    line = "".join(one for one in line if one.isprintable())
    return line if len(line) <= REASON_LENGTH else line[: REASON_LENGTH - 1].rstrip() + "…"


def scalars(text: str) -> Iterator[Scalar]:
    """Every value of a JSON text that is no object and no list, with its place."""
    stack: list[str | int] = []
    kinds: list[str] = []
    key: str | None = None
    for found in _LEXEME.finditer(text):
        lexeme = found[0]
        if lexeme in "{[":
            _descend(stack, kinds, key)
            kinds.append(lexeme)
            stack.append(0 if lexeme == "[" else "")
            key = None
        elif lexeme in "}]":
            kinds.pop()
            stack.pop()
            key = None
        elif lexeme == ",":
            key = None
            if kinds and kinds[-1] == "[":
                stack[-1] = int(stack[-1]) + 1
        elif lexeme == ":":
            continue
        elif kinds and kinds[-1] == "{" and key is None:
            key = json.loads(lexeme)
        else:
            _descend(stack, kinds, key)
            yield Scalar(tuple(stack), found.start(), found.end())


def _descend(stack: list[str | int], kinds: Sequence[str], key: str | None) -> None:
    if kinds and kinds[-1] == "{":
        stack[-1] = key or ""
