"""Questions that a judge writes for one task, and then asks about every edit of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from eacps.rubrics.reading import Call, Question, TaskQuestions
from eacps.verifiers.language.parsing import Said, UnclearError, one_object

SHORTEST: Final = 5
LONGEST: Final = 300
"""Limits for a question and for the caption, in characters."""
YES: Final = 0.5
"""From this probability of yes on, the answer is told as yes."""


@dataclass(frozen=True)
class Written:
    """The questions for a task, and what the wished-for picture shows, if that was asked for."""

    questions: tuple[str, ...]
    caption: str = ""

    @property
    def content(self) -> dict[str, Any]:
        """What is kept of them."""
        return {"questions": list(self.questions), "caption": self.caption}

    @property
    def told(self) -> str:
        """The questions and the caption, for people."""
        asked = " ".join(f"{n}. {question}" for n, question in enumerate(self.questions, start=1))
        caption = f" The wished-for picture: {self.caption}" if self.caption else ""
        return f"Questions written for this task: {asked}{caption}"


def kept(asked: TaskQuestions, content: Any) -> Written | None:
    """What was kept, or None if that is not what this rubric asks for."""
    try:
        questions, caption = tuple(content["questions"]), content["caption"]
        given = dict(zip(asked.names, questions, strict=True))
        return _checked(asked, {**given, "caption": caption})
    except (KeyError, TypeError, ValueError, UnclearError):
        return None


def read(asked: TaskQuestions, text: str, clean: Callable[[str], str]) -> Written:
    """The questions in a model's answer; raises UnclearError unless all are there and usable.
    `clean` removes secrets."""
    content, _, _ = one_object(text)
    return _checked(
        asked, {name: clean(each) for name, each in content.items() if isinstance(each, str)}
    )


def _checked(asked: TaskQuestions, content: Mapping[str, Any]) -> Written:
    questions = [_line(content.get(name), f"question {name}") for name in asked.names]
    for name, question in zip(asked.names, questions, strict=True):
        if not question.endswith("?"):
            raise UnclearError(f"question {name} is no question")
    if len({question.casefold() for question in questions}) < len(questions):
        raise UnclearError("two questions are the same")
    caption = _line(content.get("caption"), "the caption") if asked.caption else ""
    return Written(tuple(questions), caption)


def _line(text: Any, what: str) -> str:
    if not isinstance(text, str):
        raise UnclearError(f"{what} is missing")
    line = "".join(one for one in " ".join(text.split()) if one.isprintable())
    if not SHORTEST <= len(line) <= LONGEST:
        raise UnclearError(f"{what} has {len(line)} characters, not {SHORTEST} to {LONGEST}")
    if "{" in line or "}" in line:
        # Neither a place of a rubric nor a piece of JSON may come in this way.
        raise UnclearError(f"{what} has braces")
    return line


def call_of(asked: TaskQuestions, written: Written) -> Call:
    """The request in which the questions are asked about an edit. They stand in it as data."""
    return Call(
        name="task_questions",
        pictures=asked.asked.pictures,
        text=asked.asked.text,
        questions=tuple(
            Question(name=name, text=json.dumps(question, ensure_ascii=False), kind="yes_no")
            for name, question in zip(asked.names, written.questions, strict=True)
        ),
    )


def in_one(asked: TaskQuestions, written: Written, said: Said) -> tuple[Said, str]:
    """The answers as one, the share of yes, and in words. Without one of them the share is missing:
    it would not be comparable with that of other edits."""
    missing = {name: why for name, why in said.missing.items() if name in asked.names}
    if missing:
        name, why = next(iter(missing.items()))
        return Said(missing={asked.name: f"question {name}: {why}"}), ""
    shares = [said.values[name] for name in asked.names]
    words, against = [], []
    for number, (name, question) in enumerate(
        zip(asked.names, written.questions, strict=True), start=1
    ):
        is_yes = said.values[name] >= YES
        reason = said.reasons.get(name, "")
        words.append(f"{number}. {question} {_answer(is_yes, reason)}")
        if not is_yes:
            against.append(reason or f"Not so: {question}")
    reasons = {asked.name: " ".join(against)} if against else {}
    return Said({asked.name: sum(shares) / len(shares)}, reasons), " ".join(words)


def _answer(is_yes: bool, reason: str) -> str:
    word = "Yes" if is_yes else "No"
    if not reason:
        return f"{word}."
    return f"{word}: {reason}" if reason.endswith((".", "!", "?", "…")) else f"{word}: {reason}."
