"""Turns a rubric and the pictures of a task into requests."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from PIL import Image

from eacps.domain import digest
from eacps.images import TaskImages, fit_within
from eacps.rubrics.reading import (
    ANSWER,
    INSTRUCTION,
    NUMBER,
    Call,
    Question,
    Rubric,
    TaskQuestions,
)
from eacps.verifiers.language.services.contract import Part, Shown

SMALL_BYTES: Final = 300_000
"""A PNG up to this size is sent as it is; a larger picture as a JPEG of high quality."""
LONGEST_INSTRUCTION: Final = 8000
BETTER: Final = ("first", "second", "neither")
TITLES: Final = {
    "source": "The source picture:",
    "edited": "The edited picture:",
    "mask": "The mask (only what is white in it may change):",
    "reference": "A picture of the character:",
}
_COMPARE: Final = """
The first picture is the source. The second and the third are two edits of it: edit one and edit \
two. The request: {instruction}

Which edit is better? First give the reason in one short sentence, then the better one.

{answer}"""


Picture = TypeVar("Picture")
"""A picture as a server or a model on this machine takes it."""


@dataclass(frozen=True)
class Request:
    """The texts and pictures of one request, and the form of its answer."""

    system: str
    parts: tuple[Part, ...]
    schema: Mapping[str, Any]

    @property
    def key(self) -> str:
        """A hash of everything that is sent."""
        parts = [
            each if isinstance(each, str) else digest(each.content.hex()) for each in self.parts
        ]
        return digest([self.system, parts, dict(self.schema)])


def pictures_of(images: TaskImages, side: int) -> dict[str, Shown]:
    """A task's own pictures as they are sent."""
    found = {"source": shown(images.source, side)}
    if images.mask is not None:
        mask = images.mask.convert("L").resize(images.source.size)
        found["mask"] = shown(mask, side)
    if images.reference is not None:
        found["reference"] = shown(images.reference, side)
    return found


def shown(image: Image.Image, side: int) -> Shown:
    """A picture as it is sent: encoded anew, so that nothing but its pixels leaves the machine."""
    small = fit_within(image if image.mode == "L" else image.convert("RGB"), side)
    file = io.BytesIO()
    small.save(file, "PNG")
    if file.tell() <= SMALL_BYTES:
        return Shown(file.getvalue(), "image/png")
    file = io.BytesIO()
    small.save(file, "JPEG", quality=95, subsampling=0)
    return Shown(file.getvalue(), "image/jpeg")


def at_the_size_of(source: Image.Image, edited: Image.Image) -> Image.Image:
    """The edit at its source's size, so that a judge compares like with like."""
    if edited.size == source.size:
        return edited
    return edited.resize(source.size, Image.Resampling.LANCZOS)


def judging(
    rubric: Rubric, call: Call, instruction: str, pictures: Mapping[str, Shown], *, preview: str
) -> Request:
    """The request for one call about one edit; pictures that the task does not have are left
    out."""
    parts = parts_of(rubric, call, instruction, pictures, preview=preview)
    return Request(rubric.system, parts, schema_of(call))


def parts_of(
    rubric: Rubric,
    call: Call,
    instruction: str,
    pictures: Mapping[str, Picture],
    *,
    preview: str,
) -> tuple[str | Picture, ...]:
    """What one call shows and asks about one edit, in order."""
    trained = call.layout == "score_list"
    parts: list[str | Picture] = []
    for number, name in enumerate(filter(pictures.__contains__, call.pictures), start=1):
        # Judges that were trained with their own prompts never saw our titles.
        title = rubric.label.replace(NUMBER, str(number)) if trained else TITLES[name]
        parts += [title, pictures[name]] if title else [pictures[name]]
    described = "" if trained else described_answer(call.questions)
    text = _filled(call.text, instruction, described, rubric.instruction)
    note = f"\n\n{preview}" if preview else ""
    return (*parts, (text if trained else text.strip()) + note)


def writing(
    rubric: Rubric, asked: TaskQuestions, instruction: str, pictures: Mapping[str, Shown]
) -> Request:
    """The request for the questions of a task."""
    parts: list[Part] = []
    for name in asked.pictures:
        if name in pictures:
            parts += [TITLES[name], pictures[name]]
    forms = {name: f"<question {name[1:]}>" for name in asked.names}
    told = f"Write {asked.count} different questions, each in one sentence of at most 25 words."
    if asked.caption:
        told += " First write a caption: what the picture shows once the request is carried out, "
        told += "in one sentence of at most 25 words."
        forms = {"caption": "<caption>", **forms}
    form = json.dumps(forms)
    described = f"{told}\n\nAnswer with one JSON object and nothing else:\n{form}"
    text = _filled(asked.text, instruction, described, rubric.instruction)
    schema = _object({name: {"type": "string"} for name in forms})
    return Request(asked.system or rubric.system, (*parts, text.strip()), schema)


def comparing(
    rubric: Rubric, instruction: str, source: Shown, first: Shown, second: Shown
) -> Request:
    """The request which of two edits is better."""
    form = '{"reason": "<one sentence>", "better": "<first, second or neither>"}'
    described = f"Answer with one JSON object and nothing else:\n{form}"
    text = _filled(rubric.compare or _COMPARE, instruction, described, rubric.instruction)
    parts = ("Source:", source, "Edit one (first):", first, "Edit two (second):", second)
    return Request(rubric.system, (*parts, text.strip()), COMPARISON)


def asking_in_one_token(rubric: Rubric, call: Call, question: Question, instruction: str) -> str:
    """One question whose answer is a digit, for models whose probabilities are at hand."""
    low, high = question.ends
    form = "1 for yes, 0 for no" if question.kind == "yes_no" else f"a digit from {low} to {high}"
    described = (
        f"{' '.join(question.text.split())}\n\nAnswer with one digit and nothing else: {form}."
    )
    return _filled(call.text, instruction, described, rubric.instruction).strip()


def comparing_in_one_token(rubric: Rubric, instruction: str) -> str:
    """Which of two edits is better, as a digit."""
    described = "Answer with one digit and nothing else: 1 for edit one, 2 for edit two."
    return _filled(rubric.compare or _COMPARE, instruction, described, rubric.instruction).strip()


def described_answer(questions: Sequence[Question]) -> str:
    """The questions, and the form of their answer: also servers that know no schema must see it."""
    form = ", ".join(
        f'"{one.name}": {{"reason": "<one sentence>", {_value(one)}}}' for one in questions
    )
    asked = "\n".join(f"{one.name}: {' '.join(one.text.split())}" for one in questions)
    return f"{asked}\n\nAnswer with one JSON object and nothing else:\n{{{form}}}"


def schema_of(call: Call) -> dict[str, Any]:
    """The JSON schema of the answer to a call: reasons come before the scores that they explain."""
    if call.layout == "score_list":
        low, high = call.questions[0].ends
        scores = {"type": "array", "items": {"type": "integer", "enum": [*range(low, high + 1)]}}
        return _object({"reasoning": {"type": "string"}, "score": scores})
    return _object({one.name: _question(one) for one in call.questions})


def _question(question: Question) -> dict[str, Any]:
    reason = {"reason": {"type": "string"}}
    if question.kind == "yes_no":
        return _object({**reason, "answer": {"type": "string", "enum": ["yes", "no"]}})
    low, high = question.ends
    return _object({**reason, "score": {"type": "integer", "enum": [*range(low, high + 1)]}})


def _object(properties: Mapping[str, Any]) -> dict[str, Any]:
    # Every provider's strict form wants all of it required, and nothing else.
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(properties),
        "additionalProperties": False,
    }


COMPARISON: Final = _object(
    {"reason": {"type": "string"}, "better": {"type": "string", "enum": list(BETTER)}}
)


def _value(question: Question) -> str:
    if question.kind == "yes_no":
        return '"answer": "<yes or no>"'
    low, high = question.ends
    return f'"score": <{low} to {high}>'


def _filled(template: str, instruction: str, described: str, how: str) -> str:
    """The template with the answer's form and the instruction, each put in once: an instruction
    that contains a placeholder must not be filled in itself."""
    before, placeholder, after = template.replace(ANSWER, described).partition(INSTRUCTION)
    return before + _as_data(instruction, how) + after if placeholder else before


def _as_data(instruction: str, how: str) -> str:
    """The instruction as data: a JSON string, which no text in it can end."""
    short = instruction[:LONGEST_INSTRUCTION]
    return short if how == "plain" else json.dumps(short, ensure_ascii=False)
