"""What a panel's page may ask for: the request's body, read and checked."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping
from typing import Annotated, Any, Final

from pydantic import Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from eacps.labelstudio.panel.capability import PanelRefusedError
from eacps.labelstudio.tasks.reading import MAX_INSTRUCTION_CHARACTERS
from eacps.labelstudio.tasks.steering import MAX_POINTS, MAX_SHAPES, ON_PICKS, Action
from eacps.search.parameters import STRICT

MOST_BYTES: Final = 1_000_000
MOST_CANDIDATES: Final = 32
MOST_PICKS: Final = 16
MOST_WORDS: Final = 500

Percent = Annotated[float, Field(ge=-100, le=200)]
Point = Annotated[tuple[Percent, Percent], Field(strict=False)]


@dataclass(frozen=True, config=STRICT)
class Shape:
    """A rectangle (`x`, `y`, `width`, `height`) or a stroke (`points`, `radius`), in percent."""

    x: Percent | None = None
    y: Percent | None = None
    width: Annotated[float, Field(ge=0, le=200)] | None = None
    height: Annotated[float, Field(ge=0, le=200)] | None = None
    points: Annotated[list[Point], Field(min_length=1, max_length=MAX_POINTS)] | None = None
    radius: Annotated[float, Field(gt=0, le=50)] | None = None

    @property
    def content(self) -> dict[str, Any]:
        """The shape as a job stores it."""
        if self.points is not None and self.radius is not None:
            points = [[round(x, 2), round(y, 2)] for x, y in self.points]
            return {"points": points, "radius": round(self.radius, 3)}
        sides = {"x": self.x, "y": self.y, "width": self.width, "height": self.height}
        found = {name: round(side, 3) for name, side in sides.items() if side is not None}
        if len(found) < len(sides):
            raise wrong("A drawn shape is neither a rectangle nor a stroke.")
        return found


@dataclass(frozen=True, config=STRICT)
class Request:
    """A request. `token` is made by the page: the same one again is the same request."""

    token: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{8,64}$")]
    action: Action
    picks: Annotated[list[str], Field(max_length=MOST_PICKS)] = Field(default_factory=list)
    words: Annotated[str, Field(max_length=MOST_WORDS)] = ""
    instruction: Annotated[str, Field(max_length=MAX_INSTRUCTION_CHARACTERS)] = ""
    candidates: Annotated[int, Field(ge=1, le=MOST_CANDIDATES)] = 4
    angle: Annotated[float, Field(ge=0.05, le=1.5)] = 0.4
    shapes: Annotated[list[Shape], Field(max_length=MAX_SHAPES)] = Field(default_factory=list)
    reference: Annotated[int, Field(ge=0, le=7)] | None = None


_READER: Final = TypeAdapter(Request)


def read_request(body: Any) -> Request:
    """The request in a body; raises PanelRefusedError."""
    if not isinstance(body, Mapping):
        raise wrong("The request is no JSON object.")
    cleaned = {name: _cleaned(value) for name, value in body.items()}
    try:
        # From JSON, in which strict types still take a list as a tuple.
        found = _READER.validate_json(json.dumps(cleaned))
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        field = ".".join(map(str, first["loc"])) or "request"
        raise wrong(f"The request's `{field[:60]}` is wrong: {first['msg']}.") from None
    _require_complete(found)
    return found


def wrong(message: str) -> PanelRefusedError:
    """The error for a request that nobody could fulfil."""
    return PanelRefusedError(message, code="panel_request", status=400)


def _require_complete(asked: Request) -> None:
    if asked.action in ON_PICKS and not asked.picks:
        raise wrong("Pick the candidates first that this is about.")
    if len(set(asked.picks)) < len(asked.picks):
        raise wrong("A candidate is picked twice.")
    if asked.action == "refine" and not asked.words:
        raise wrong("Say in words what to do better.")
    if asked.action == "instruction" and not asked.instruction:
        raise wrong("Write the new instruction.")


def _cleaned(value: Any) -> Any:
    """The same value, its texts without control characters, which no database takes."""
    if not isinstance(value, str):
        return value
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise wrong("A text contains half a character.")
    visible = (" " if unicodedata.category(each) == "Cc" else each for each in value)
    return " ".join("".join(visible).split())
