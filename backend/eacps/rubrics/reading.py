"""Reads rubrics: TOML files that say what a judge is asked, and which metrics its answers become.

docs/judges.md describes the format. A rubric is data: it can be copied, changed and named in
EACPS_RUBRIC, and its content is part of the fingerprint.
"""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from eacps.errors import SettingsError
from eacps.metric_range import MetricRange

FOLDER: Final = Path(__file__).resolve().parent
SUFFIX: Final = ".toml"
FORMAT: Final = "eacps-rubric-1"
SETTING: Final = "EACPS_RUBRIC"
DEFAULT: Final = "edit"
MAX_BYTES: Final = 200_000
INSTRUCTION: Final = "{instruction}"
"""Where a question has the instruction; it is replaced once, by text that is marked as data."""
ANSWER: Final = "{answer}"
"""Where a question has the description of the answer's form."""
NUMBER: Final = "{number}"
"""Where a label has the place of its picture, counted from one."""
VERIFIED: Final = "verified"
"""`satisfied` x `preserved`, which is computed after the answers of all judges were combined."""

_Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,40}$")]
Picture = Literal["source", "edited", "mask", "reference"]
Combination = Literal["mean", "minimum", "product", "geometric_mean"]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Question(_Part):
    """One question, whose answer is a whole number in a range, or yes (1) or no (0)."""

    name: _Name
    text: str = Field(min_length=1, max_length=4000)
    kind: Literal["score", "yes_no"] = "score"
    minimum: int = 0
    maximum: int = 9

    @model_validator(mode="after")
    def _check(self) -> Question:
        if self.kind == "score" and not self.minimum < self.maximum <= 100:
            raise ValueError(f"{self.name}: minimum must be below maximum, which is at most 100")
        return self

    @property
    def ends(self) -> tuple[int, int]:
        """The lowest and the highest answer."""
        return (0, 1) if self.kind == "yes_no" else (self.minimum, self.maximum)


class Call(_Part):
    """One request: pictures, a text, and the questions that it answers."""

    name: _Name
    pictures: tuple[Picture, ...] = Field(min_length=1)
    text: str = Field(min_length=1, max_length=20_000)
    layout: Literal["object", "score_list"] = "object"
    questions: tuple[Question, ...] = Field(min_length=1, max_length=20)

    @model_validator(mode="after")
    def _check(self) -> Call:
        if "edited" not in self.pictures:
            raise ValueError(f"{self.name}: the pictures must include `edited`")
        _require_different([one.name for one in self.questions], "questions")
        return self


class AskedOfEdits(_Part):
    """How every edit is asked the questions that were written for its task."""

    pictures: tuple[Picture, ...] = Field(min_length=1)
    text: str = Field(min_length=1, max_length=20_000)
    previews: bool = False

    @model_validator(mode="after")
    def _check(self) -> AskedOfEdits:
        if "edited" not in self.pictures:
            raise ValueError("the pictures must include `edited`")
        return self


class TaskQuestions(_Part):
    """Yes/no questions that the judge writes for a task, once, before it judges any edit of it; and
    with `caption` what the wished-for picture shows. The share of yes is the answer `name`."""

    name: _Name = "instance"
    count: int = Field(5, ge=1, le=20)
    caption: bool = False
    pictures: tuple[Picture, ...] = Field(min_length=1)
    system: str = Field("", max_length=20_000)
    text: str = Field(min_length=1, max_length=20_000)
    asked: AskedOfEdits

    @model_validator(mode="after")
    def _check(self) -> TaskQuestions:
        if "edited" in self.pictures:
            raise ValueError("there is no edited picture yet when the questions are written")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the questions."""
        return tuple(f"q{number}" for number in range(1, self.count + 1))


class MetricOf(_Part):
    """A metric: answers, or earlier metrics, each as a share of its range, combined and scaled to
    `worst` to `best`."""

    name: _Name
    of: tuple[_Name, ...] = Field(min_length=1)
    combine: Combination = "mean"
    worst: float = 0.0
    best: float = 1.0

    @model_validator(mode="after")
    def _check(self) -> MetricOf:
        if self.worst == self.best or not math.isfinite(self.worst - self.best):
            raise ValueError(f"{self.name}: worst and best must be different numbers")
        return self


class Rubric(_Part):
    """What is asked about every edit."""

    format: Literal["eacps-rubric-1"]
    name: _Name
    version: int = Field(ge=1)
    title: str = Field(min_length=1, max_length=200)
    license: str = ""
    source: str = ""
    main: _Name
    system: str = Field("", max_length=20_000)
    instruction: Literal["quoted", "plain"] = "quoted"
    label: str = Field("", max_length=200)
    preview: str = Field("", max_length=2000)
    compare: str = Field("", max_length=20_000)
    calls: tuple[Call, ...] = Field(min_length=1, max_length=10)
    task_questions: TaskQuestions | None = None
    metrics: tuple[MetricOf, ...] = Field(min_length=1, max_length=40)

    @model_validator(mode="after")
    def _check(self) -> Rubric:
        asked = [one.name for call in self.calls for one in call.questions]
        if self.task_questions:
            asked.append(self.task_questions.name)
        _require_different(asked, "questions")
        _require_different([call.name for call in self.calls], "calls")
        _require_different([one.name for one in self.metrics], "metrics")
        known = set(asked)
        for metric in self.metrics:
            for name in metric.of:
                if name not in known:
                    raise ValueError(f"metric {metric.name} is of {name!r}, which is not known")
            known.add(metric.name)
        if self.main not in self.ranges and self.main != VERIFIED:
            raise ValueError(f"main is {self.main!r}, which is none of its metrics")
        return self

    @property
    def compares(self) -> bool:
        """Whether a model on this machine can be asked which of two edits is better: not one that
        was trained to give scores only."""
        return bool(self.compare) or not any(call.layout == "score_list" for call in self.calls)

    @property
    def ranges(self) -> Mapping[str, MetricRange]:
        """The range of every metric."""
        return {one.name: MetricRange(one.worst, one.best) for one in self.metrics}

    @property
    def questions(self) -> Mapping[str, Question]:
        """Every question by its name, without those that are written for a task."""
        return {one.name: one for call in self.calls for one in call.questions}

    @property
    def writes_captions(self) -> bool:
        """Whether the judge writes what the wished-for picture of a task shows."""
        return self.task_questions is not None and self.task_questions.caption

    def values(self, answers: Mapping[str, float]) -> dict[str, float]:
        """The metrics of these answers; one of which an answer is missing is left out."""
        shares = {name: self._share(name, value) for name, value in answers.items()}
        found = {}
        for metric in self.metrics:
            if all(name in shares for name in metric.of):
                share = _combined(metric.combine, [shares[name] for name in metric.of])
                shares.setdefault(metric.name, share)
                found[metric.name] = metric.worst + share * (metric.best - metric.worst)
        return found

    def _share(self, name: str, answer: float) -> float:
        if self.task_questions and name == self.task_questions.name:
            return answer
        low, high = self.questions[name].ends
        return (answer - low) / (high - low)


def rubric_names() -> tuple[str, ...]:
    """The rubrics that come with this package, the default one first."""
    names = sorted(path.stem for path in FOLDER.glob(f"*{SUFFIX}"))
    return (DEFAULT, *(name for name in names if name != DEFAULT))


def rubric_path(name: str) -> Path:
    """The file of a rubric: one of this package's names, or a path that ends in `.toml`."""
    if re.fullmatch(r"[a-z0-9_]+", name) and name in rubric_names():
        return FOLDER / f"{name}{SUFFIX}"
    path = Path(name).expanduser()
    if path.suffix == SUFFIX and path.is_file():
        return path
    raise SettingsError(
        f"There is no rubric {name[:200]!r}.",
        hint=f"Set {SETTING} to {', '.join(rubric_names())}, or to the path of a {SUFFIX} file.",
    )


def rubric_text(name: str) -> str:
    """The content of a rubric's file."""
    path = rubric_path(name)
    try:
        if path.stat().st_size > MAX_BYTES:
            raise _refused(path, f"it has more than {MAX_BYTES:,} bytes")
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise _refused(path, f"it cannot be read ({error})") from None


def rubric_digest(name: str) -> str:
    """A hash of a rubric's content: what it says, wherever it lies."""
    return sha256(rubric_text(name).encode()).hexdigest()[:16]


def read_rubric(name: str) -> Rubric:
    """The rubric of this name or path; raises SettingsError saying what is wrong with it."""
    return _parsed(str(rubric_path(name)), rubric_text(name))


@lru_cache(maxsize=16)
def _parsed(path: str, text: str) -> Rubric:
    try:
        return Rubric.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise _refused(Path(path), f"it is not TOML: {error}") from None
    except ValidationError as error:
        raise _refused(Path(path), _first(error)) from None


def _first(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    return f"{place}: {message}" if place else message


def _refused(path: Path, problem: str) -> SettingsError:
    return SettingsError(
        f"The rubric {path} cannot be used: {problem}.",
        hint=f"Correct it, or set {SETTING} to {', '.join(rubric_names())}.",
    )


def _require_different(names: Sequence[str], what: str) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"two {what} are named {twice[0]!r}")


def _combined(how: Combination, shares: Sequence[float]) -> float:
    if how == "minimum":
        return min(shares)
    if how == "mean":
        return math.fsum(shares) / len(shares)
    product = math.prod(shares)
    return product if how == "product" else product ** (1 / len(shares))


def described(rubric: Rubric) -> dict[str, Any]:
    """A rubric in short, for people."""
    return {
        "name": rubric.name,
        "version": rubric.version,
        "title": rubric.title,
        "metrics": list(rubric.ranges),
        "calls": len(rubric.calls) + (1 if rubric.task_questions else 0),
    }
