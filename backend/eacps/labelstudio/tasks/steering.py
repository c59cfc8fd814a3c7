"""What a person asked for on the review panel, as part of a job's origin."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, get_args

from PIL import Image, ImageDraw
from pydantic import Field

from eacps.domain import EditTask, Move, Noise, Route, to_json
from eacps.errors import TaskError
from eacps.search.strategies.steered import Pick

Action = Literal["more", "like", "refine", "instruction", "here", "face", "finish"]
ACTIONS: tuple[Action, ...] = get_args(Action)
ON_PICKS: tuple[Action, ...] = ("like", "refine", "finish")
"""Actions that need candidates to start from."""
MAX_SHAPES = 200
MAX_POINTS = 20_000
IN_WORDS: Mapping[Action, str] = {
    "more": "more candidates",
    "like": "more like {picks}",
    "refine": "{picks} again, with the words “{words}”",
    "instruction": "another instruction",
    "here": "an edit of the drawn part only",
    "face": "a swap of the drawn face",
    "finish": "the rest of {picks}",
}
ASKED: Mapping[str, str] = {
    "panel": "asked for in the panel",
    "review": "ranked in a submitted annotation",
}
"""By what a search was asked for, in words."""
EDITOR_CHANGED = (
    "The editor or its settings have changed since {picks} was made, so the same noise may give "
    "another picture now."
)


@dataclass(frozen=True)
class Picked:
    """A candidate that was picked: its card's id and its recipe. `rendered` says which editor with
    which settings made it, `steps` how many a full render had, `start` which picture it edits, if
    that is not the task's."""

    id: str
    seed: int
    moves: tuple[Move, ...] = ()
    suffix: str = ""
    stopped_at: int | None = None
    steps: int = 0
    rendered: str = ""
    start: Annotated[str, Field(exclude_if=lambda start: not start)] = ""

    @property
    def noise(self) -> Noise:
        """Its noise."""
        return Noise(self.seed, self.moves)


@dataclass(frozen=True)
class KeptFile:
    """A stored file, and its address where Label Studio has a copy."""

    file: str
    url: str = ""


@dataclass(frozen=True)
class Continued:
    """The search that is continued: what was asked for, where, and of which route."""

    search: str
    instruction: str
    route: Route = "edit"
    mask: KeptFile | None = None


@dataclass(frozen=True)
class Steer:
    """A request of a person. `n` counts the requests of a task, `seed` is the root of its fresh
    noises, `used` the seeds that they must not have.

    `instruction` replaces that of the continued search. `shapes` are drawn on the panel, in
    percent of the image. `reference` is the number of the character's picture in the task.
    """

    action: Action
    n: int
    seed: int
    candidates: int = 0
    picks: tuple[Picked, ...] = ()
    words: str = ""
    instruction: str = ""
    angle: float = 0.4
    shapes: tuple[Mapping[str, Any], ...] = ()
    reference: int | None = None
    continued: Continued | None = None
    # Where a large value is left out, a text is in its place.
    used: Annotated[tuple[int, ...] | str, Field(union_mode="left_to_right")] = ()
    by: Literal["panel", "review"] = "panel"

    @property
    def reason(self) -> str:
        """Why there is this search."""
        return ASKED[self.by]

    @property
    def in_words(self) -> str:
        """What was asked for."""
        picks = ", ".join(pick.id for pick in self.picks)
        return IN_WORDS[self.action].format(picks=picks, words=self.words)

    @property
    def facts(self) -> dict[str, Any]:
        """What the task keeps about it."""
        found = {
            "action": self.action,
            "n": self.n,
            "by": self.by,
            "picks": [pick.id for pick in self.picks],
            "words": self.words,
        }
        return {name: value for name, value in found.items() if value}

    @property
    def count(self) -> int | None:
        """How many candidates are asked for; None for a search as it is configured."""
        return {
            "more": self.candidates,
            "like": self.candidates * len(self.picks),
            "refine": self.candidates * len(self.picks),
            "finish": len(self.picks),
        }.get(self.action)

    def route_of(self, own: Route) -> Route:
        """The route of its search; `own` is that of the task."""
        if self.action == "face":
            return "face_swap"
        route = self.continued.route if self.continued else own
        # Who writes an instruction wants an edit.
        edits = route == "face_swap" and self.action in ("instruction", "here")
        return "edit" if edits else route

    @property
    def draws(self) -> bool:
        """Whether the request says itself which part is edited."""
        return self.action in ("here", "face")

    def lineage_of(self, trial: str, before: str) -> str:
        """Where a candidate comes from, in words; `before` is what its trial says."""
        if self.action == "finish" and self.picks:
            # Where pausing failed, the second round begins the same picks anew.
            pick = self.picks[(int(trial[1:]) - 1) % len(self.picks)]
            before = f"the rest of {pick.id}"
        return f"{before}, {self.reason}"

    def planned(self, task: EditTask, rendered: str) -> EditTask:
        """The task with this request's search; `rendered` is what its pictures depend on now."""
        plan = replace(task.plan, seed=self.seed)
        suffix = {"suffix": self.words} if self.words else {}
        used = {"used": list(self.used)}
        if self.action == "more":
            plan = replace(plan, strategy="more", params={"n": self.candidates, **used})
        elif self.action in ("like", "refine"):
            params = {"per_pick": self.candidates, "angle": self.angle, **used, **suffix}
            params["picks"] = [self._pick(pick, None) for pick in self.picks]
            plan = replace(plan, strategy="children", params=params)
        elif self.action == "finish":
            picks = [self._pick(p, rendered if p.steps == plan.steps else None) for p in self.picks]
            plan = replace(plan, strategy="finish", params={"picks": picks})
        else:
            return task
        return replace(task, plan=plan)

    @staticmethod
    def _pick(pick: Picked, rendered: str | None) -> dict[str, Any]:
        # Another editor cannot continue a preview.
        at = pick.stopped_at if rendered is not None and rendered == pick.rendered else None
        content: dict[str, Any] = to_json(Pick(pick.id, pick.noise, pick.suffix, at, pick.start))
        return content

    def changed_since(self, rendered: str) -> str:
        """A warning if an editor with other settings made the picks, or an empty text."""
        changed = [pick.id for pick in self.picks if pick.rendered not in ("", rendered)]
        return EDITOR_CHANGED.format(picks=", ".join(changed)) if changed else ""


def drawn_mask(shapes: Sequence[Mapping[str, Any]], size: tuple[int, int]) -> Image.Image:
    """Shapes drawn on the panel as a mask, in which white is edited; raises TaskError.

    A shape is a rectangle (`x`, `y`, `width`, `height`) or a stroke (`points`, `radius`), all in
    percent of the image, and a radius in percent of its width.
    """
    _require_few(shapes)
    mask = Image.new("L", size, 0)
    for shape in shapes:
        try:
            _draw(ImageDraw.Draw(mask), shape, size)
        except (KeyError, TypeError, ValueError):
            raise TaskError(
                "A shape that was drawn on the panel cannot be read.",
                hint="Draw it again.",
                code="bad_mask",
            ) from None
    if mask.getbbox() is None:
        raise TaskError(
            "Nothing of the image is covered by what was drawn.",
            hint="Draw over the part to edit.",
            code="empty_mask",
        )
    return mask


def _require_few(shapes: Sequence[Mapping[str, Any]]) -> None:
    points = sum(len(shape.get("points") or ()) for shape in shapes)
    if len(shapes) > MAX_SHAPES or points > MAX_POINTS:
        raise TaskError(
            "What was drawn on the panel is too detailed.",
            hint="Draw fewer or shorter strokes.",
            code="bad_mask",
        )


def _draw(draw: ImageDraw.ImageDraw, shape: Mapping[str, Any], size: tuple[int, int]) -> None:
    width, height = size
    if "points" not in shape:
        left, top = _share(shape["x"]) * width, _share(shape["y"]) * height
        right = left + _share(shape["width"]) * width
        bottom = top + _share(shape["height"]) * height
        draw.rectangle((left, top, right, bottom), fill=255)
        return
    radius = max(0.5, _share(shape["radius"]) * width)
    points = [(_share(x) * width, _share(y) * height) for x, y in shape["points"]]
    if len(points) > 1:
        draw.line(points, fill=255, width=max(1, round(2 * radius)), joint="curve")
    for x, y in points:
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)


def _share(percent: Any) -> float:
    if isinstance(percent, bool) or not isinstance(percent, int | float):
        raise TypeError("not a number")
    if not math.isfinite(percent) or abs(percent) > 1000:
        raise ValueError("not within the image")
    return percent / 100
