"""The words of the product as frozen values: JSON in, JSON out, no I/O, no heavy imports."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import isfinite
from typing import Any, Literal, TypeVar

from pydantic import TypeAdapter

Route = Literal["edit", "face_swap", "character"]
Stage = Literal["global", "local"]
FaceMapping = Literal["auto", "order", "regions", "similarity"]
ROUTES: tuple[Route, ...] = ("edit", "face_swap", "character")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Move:
    """A step in noise space: z' = cos(angle) z + sin(angle) eps(seed)."""

    angle: float
    seed: int


@dataclass(frozen=True, slots=True)
class Noise:
    """A recipe for a starting noise, not a tensor: the editor materialises it."""

    seed: int
    moves: tuple[Move, ...] = ()

    def moved(self, angle: float, seed: int) -> Noise:
        """The neighbour reached by one more move."""
        return replace(self, moves=(*self.moves, Move(angle, seed)))


DEFAULT_BOOST = 256
DEFAULT_SHAPE = 0.7


@dataclass(frozen=True, slots=True)
class Swap:
    """A recipe for a face swap, as a Noise is one for a render.

    `assignment` 0 maps characters to faces in the likeliest way, 1 in the next likely, and so on.
    `boost` is the side, in pixels, of the crop that is swapped; `blend` is how strongly it
    replaces the scene's face; `shape` is how far the face takes on the character's proportions.
    """

    assignment: int = 0
    boost: int = DEFAULT_BOOST
    restore: bool = False
    blend: float = 1.0
    shape: float = DEFAULT_SHAPE

    @property
    def words(self) -> str:
        """The recipe in words for a card; what is as usual goes without saying."""
        parts = [f"blend {self.blend:.0%}"]
        if self.shape != DEFAULT_SHAPE:
            parts.append(f"shape {self.shape:.0%}")
        if self.boost != DEFAULT_BOOST:
            parts.append(f"{self.boost} px")
        if self.restore:
            parts.append("restored")
        if self.assignment:
            parts.append("another face")
        return ", ".join(parts)


@dataclass(frozen=True, slots=True)
class Trial:
    """One noise to advance to step `to_step` (None: to the end); what a strategy asks for.

    The editor appends `instruction_suffix`, after a space, to the task's instruction; scorers
    judge against the instruction alone. `state` names the artifact from which a paused trial goes
    on: the pipeline fills it in. On route `face_swap` the trial is its `swap`, without noise.
    """

    id: str
    noise: Noise
    stage: Stage = "global"
    round: int = 0
    parent: str | None = None
    to_step: int | None = None
    instruction_suffix: str = ""
    state: str | None = None
    swap: Swap | None = None

    @property
    def lineage(self) -> str:
        """How this trial came to be, in words for a card."""
        if self.swap is not None:
            return self.swap.words
        if self.parent is None:
            return "global"
        told = f", told: {self.instruction_suffix}" if self.instruction_suffix else ""
        if self.noise.moves:
            return f"child of {self.parent} at angle {self.noise.moves[-1].angle:.2g}{told}"
        return f"child of {self.parent} by seed offset{told}"


@dataclass(frozen=True, slots=True)
class Failure:
    """An error as a value: what a card, the log and the status page show."""

    code: str
    message: str


PRUNED = "pruned"
"""Code of a candidate that was stopped early in favour of others: no error."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a strategy is told about a trial: its potential, or why there is none."""

    trial: Trial
    potential: float | None = None
    scores: Mapping[str, float] = field(default_factory=dict)
    nfe: int = 0
    failure: Failure | None = None

    @property
    def usable(self) -> bool:
        """Whether the trial may be ranked."""
        return self.failure is None and self.potential is not None and isfinite(self.potential)


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric of one candidate: raw value, normalised value, weight and contribution."""

    name: str
    value: float
    normalised: float
    weight: float
    contribution: float


@dataclass(frozen=True, slots=True)
class Candidate:
    """A finished trial: artifact names of its image and thumbnail, its metrics, its cost.

    `notes` are warnings; `detail` is what else was decided, such as which face was swapped; `why`
    is what its judges say of it.
    A paused trial's image is a preview, and `state` names the artifact from which it can go on.
    """

    trial: Trial
    image: str | None = None
    thumbnail: str | None = None
    metrics: tuple[Metric, ...] = ()
    potential: float | None = None
    nfe: int = 0
    seconds: float = 0.0
    failure: Failure | None = None
    notes: tuple[str, ...] = ()
    editor: str = ""
    detail: str = ""
    state: str | None = None
    why: str = ""

    @property
    def id(self) -> str:
        """The candidate's name on cards and in rankings (`c1`)."""
        return self.trial.id

    @property
    def pruned(self) -> bool:
        """Whether it was stopped early in favour of others."""
        return self.failure is not None and self.failure.code == PRUNED

    @property
    def outcome(self) -> Outcome:
        """This candidate as the strategy sees it."""
        scores = {metric.name: metric.value for metric in self.metrics}
        return Outcome(self.trial, self.potential, scores, self.nfe, self.failure)


@dataclass(frozen=True, slots=True)
class SearchPlan:
    """Which strategy, with which settings, from which seed, in batches of which size.

    `steps` is how many a full render takes: strategies that pause trials count in them.
    """

    strategy: str = "eacps"
    params: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    batch_size: int = 4
    steps: int = 12


@dataclass(frozen=True, slots=True)
class EditTask:
    """What to edit and how to search. Images are artifact names, so the key follows content.

    `fingerprint` stands for every setting that changes results (see fingerprints.py). The three
    that follow from the same settings are no part of the key: `equipment`, what a worker needs to
    have loaded; `rendered`, which pictures trials become; `judged`, which scores pictures get.
    `references` are pictures of characters; with several of them `mapping` says which face each
    of them goes to, where `regions` are masks of single faces, in the characters' order.
    """

    image: str
    instruction: str
    route: Route = "edit"
    route_reason: str = ""
    mask: str | None = None
    references: tuple[str, ...] = ()
    plan: SearchPlan = field(default_factory=SearchPlan)
    fingerprint: str = ""
    regions: tuple[str, ...] = ()
    mapping: FaceMapping = "auto"
    model_version: str = ""
    equipment: str = ""
    rendered: str = ""
    judged: str = ""

    @property
    def key(self) -> str:
        """A hash of what matters: the same key means the same result."""
        content = to_json(self)
        for name in ("route_reason", "equipment", "rendered", "judged"):
            del content[name]
        return digest(content)


@dataclass(frozen=True, slots=True)
class SearchResult:
    """The ranked end of a search: best first, then the pruned, then the failed.

    `notes` are warnings, `decisions` what the strategy says it did and why.
    """

    task: EditTask
    candidates: tuple[Candidate, ...]
    nfe: int
    seconds: float
    editor: str = ""
    potential_range: tuple[float, float] = (0.0, 1.0)
    notes: tuple[str, ...] = ()
    decisions: tuple[str, ...] = ()

    @property
    def usable(self) -> tuple[Candidate, ...]:
        """The candidates that have an image and a rank."""
        return tuple(c for c in self.candidates if c.outcome.usable)

    @property
    def best(self) -> Candidate:
        """The winner; a SearchResult always has one."""
        return self.usable[0]

    @property
    def margin(self) -> float | None:
        """How far the best is ahead of the second, in units of the potential."""
        first, *rest = self.usable
        if not rest or first.potential is None or rest[0].potential is None:
            return None
        return first.potential - rest[0].potential

    def share(self, potential: float | None) -> float:
        """A potential as a number in 0..1, for Label Studio's score column."""
        low, high = self.potential_range
        if potential is None or high <= low:
            return 0.0
        return min(1.0, max(0.0, (potential - low) / (high - low)))


_adapters: dict[Any, TypeAdapter[Any]] = {}


def _adapter(kind: Any) -> TypeAdapter[Any]:
    # Building an adapter costs milliseconds; every value of a kind shares one.
    if kind not in _adapters:
        _adapters[kind] = TypeAdapter(kind)
    return _adapters[kind]


def to_json(value: Any) -> Any:
    """A domain value as plain dicts, lists, strings and numbers."""
    return _adapter(type(value)).dump_python(value, mode="json")


def from_json(kind: type[T], content: Any) -> T:
    """The domain value that `to_json` wrote; raises pydantic's error on anything else."""
    return _adapter(kind).validate_python(content)  # type: ignore[no-any-return]


def digest(content: Any) -> str:
    """A short, stable hash of JSON content."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:24]
