"""What a model said about an edit, as a verifier's answers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from eacps.rubrics.reading import Call, Question, Rubric
from eacps.verifiers.language.likelihood import expected
from eacps.verifiers.language.parsing import YES_NO, Said, Scalar, parsed
from eacps.verifiers.language.services.contract import Answer
from eacps.verifiers.protocol import Answers


@dataclass(frozen=True)
class Reply:
    """The answers to one call about one edit."""

    said: Said = field(default_factory=Said)
    words: str = ""
    problem: str = ""
    down: bool = False
    passes: bool = False


def understood(call: Call, answer: Answer) -> Said:
    """The answers to a call's questions, as expected values where the tokens' probabilities are
    known; raises UnclearError if the text holds none."""
    said = parsed(call, answer.text)
    for question in call.questions:
        place = said.places.get(question.name)
        if answer.tokens and place is not None:
            start, end = _inside(answer.text, place)
            fine = expected(answer.tokens, answer.text, start, end, allowed(question))
            if fine is not None:
                said.values[question.name] = fine
    return said


def combined(rubric: Rubric, replies: Sequence[Reply]) -> Answers:
    """One edit's answers: the mean of its passes as the rubric's metrics, and the reasons."""
    given: dict[str, list[float]] = {}
    reasons: dict[str, str] = {}
    told: dict[str, str] = {}
    problems: dict[str, str] = {}
    of_task = rubric.task_questions
    for reply in replies:
        if reply.problem:
            problems.setdefault("", reply.problem)
        problems |= {name: why for name, why in reply.said.missing.items() if name not in problems}
        for name, value in reply.said.values.items():
            given.setdefault(name, []).append(value)
        for name, reason in reply.said.reasons.items():
            reasons.setdefault(name, reason)
        if reply.words and of_task:
            told.setdefault(of_task.name, f"{of_task.name}: {reply.words}")
    values = {name: math.fsum(each) / len(each) for name, each in given.items()}
    own = {name: why for name, why in reasons.items() if not of_task or name != of_task.name}
    words = [_sentence(name, reason, own) for name, reason in own.items()]
    words += told.values()
    words += [_spread(name, each) for name, each in given.items() if len(set(each)) > 1]
    words += [
        f"({f'{name} missing' if name else 'No answer'}: {why.rstrip('.')}.)"
        for name, why in problems.items()
        if not name or name not in values
    ]
    return Answers(rubric.values(values), " ".join(words), reasons)


def allowed(question: Question) -> Mapping[str, float]:
    """The answers that a question may have, as a model writes them, with their values."""
    if question.kind == "yes_no":
        return YES_NO
    low, high = question.ends
    return {str(value): float(value) for value in range(low, high + 1)}


def _inside(text: str, place: Scalar) -> tuple[int, int]:
    """Where a value stands, without its quotes, which may be tokens of their own."""
    quoted = text[place.start] == '"'
    return (place.start + 1, place.end - 1) if quoted else (place.start, place.end)


def _sentence(name: str, reason: str, reasons: Mapping[str, str]) -> str:
    text = reason if reason.endswith((".", "!", "?", "…")) else f"{reason}."
    return text if len(reasons) == 1 else f"{name}: {text}"


def _spread(name: str, values: Sequence[float]) -> str:
    return f"({name} was {min(values):.3g} to {max(values):.3g} in {len(values)} passes.)"
