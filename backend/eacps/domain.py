"""The data types shared by all parts: immutable, convertible to JSON, without I/O."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import isfinite
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, TypeAdapter

Route = Literal["edit", "face_swap", "character"]
Stage = Literal["global", "local", "final"]
FaceMapping = Literal["auto", "order", "regions", "similarity"]
ROUTES: tuple[Route, ...] = ("edit", "face_swap", "character")
T = TypeVar("T")
StoredIfAny = Annotated[Mapping[str, Any], Field(exclude_if=lambda value: not value)]
"""An object that is stored only if there is something in it: older versions do not know it."""
ReasonsIfAny = Annotated[Mapping[str, str], Field(exclude_if=lambda value: not value)]
TextsIfAny = Annotated[tuple[str, ...], Field(exclude_if=lambda value: not value)]


@dataclass(frozen=True, slots=True)
class Move:
    """A step in noise space: z' = cos(angle) z + sin(angle) eps(seed)."""

    angle: float
    seed: int


@dataclass(frozen=True, slots=True)
class Noise:
    """A recipe for a starting noise, from which the editor makes a tensor."""

    seed: int
    moves: tuple[Move, ...] = ()

    def moved(self, angle: float, seed: int) -> Noise:
        """This noise with one more move."""
        return replace(self, moves=(*self.moves, Move(angle, seed)))


DEFAULT_BOOST = 256
DEFAULT_SHAPE = 0.7


@dataclass(frozen=True, slots=True)
class Swap:
    """A recipe for a face swap, like Noise for a render.

    `assignment` 0 is the most likely mapping of characters to faces, 1 the second most likely, and
    so on. `boost` is the side of the swapped crop in pixels, `blend` the opacity of the new face,
    `shape` how far it takes on the character's proportions.
    """

    assignment: int = 0
    boost: int = DEFAULT_BOOST
    restore: bool = False
    blend: float = 1.0
    shape: float = DEFAULT_SHAPE

    @property
    def words(self) -> str:
        """The recipe in words for a card, without default values."""
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
    """A strategy's request to render one noise up to step `to_step` (None: to the end); as a
    `draft`, the whole render in so few steps.

    The editor appends `instruction_suffix`, after a space, to the task's instruction; scorers
    judge by the instruction alone. `state` is the artifact from which a paused trial resumes; the
    runner sets it. With `again`, the editor edits the parent's picture instead of the task's; the
    runner sets `start` to its artifact, and strategies that go on from it keep it. On route
    `face_swap`, `swap` replaces the noise.
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
    again: Annotated[bool, Field(exclude_if=lambda again: not again)] = False
    start: Annotated[str, Field(exclude_if=lambda start: not start)] = ""
    draft: Annotated[bool, Field(exclude_if=lambda draft: not draft)] = False

    @property
    def lineage(self) -> str:
        """The origin of this trial in words, for a card."""
        drafted = f", drafted in {self.to_step} steps" if self.draft else ""
        return self._origin + drafted

    @property
    def _origin(self) -> str:
        if self.swap is not None:
            return self.swap.words
        if self.parent is None:
            return "global"
        told = f", told: {self.instruction_suffix}" if self.instruction_suffix else ""
        if self.again:
            return f"edit of {self.parent}{told}"
        if self.noise.moves:
            return f"child of {self.parent} at angle {self.noise.moves[-1].angle:.2g}{told}"
        return f"child of {self.parent} by seed offset{told}"


@dataclass(frozen=True, slots=True)
class Failure:
    """An error as a value, for cards, logs and the status page."""

    code: str
    message: str


LEAST_CONVINCING_SHARE = 0.2
"""If even the best candidate has less than this share of its potential's range, people are told."""
JUDGE_DOWN = "judge_down"
"""The code of a picture that no judge could be asked about, which is delivered without a rank."""
PRUNED = "pruned"
"""The code of a candidate that was stopped early in favour of others, which is no error."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a trial as a strategy sees it: its potential, or the reason why it has none.

    `reasons` are judges' words about single scores.
    """

    trial: Trial
    potential: float | None = None
    scores: Mapping[str, float] = field(default_factory=dict)
    nfe: int = 0
    failure: Failure | None = None
    reasons: Mapping[str, str] = field(default_factory=dict)

    @property
    def usable(self) -> bool:
        """Whether the trial may be ranked."""
        return self.failure is None and self.potential is not None and isfinite(self.potential)


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric of a candidate, and what it contributes to the potential."""

    name: str
    value: float
    normalised: float
    weight: float
    contribution: float


@dataclass(frozen=True, slots=True)
class Candidate:
    """A rendered trial: artifact names of its image and thumbnail, its metrics and its cost.

    `notes` are warnings, `detail` holds other decisions such as which face was swapped, and `why`
    the judges' reasons in words. `reasons` has those of single scores, and `prepared` what judges
    wrote for the task, such as the questions that every candidate is asked. The image of a paused
    trial is a preview, and `state` is the artifact from which it can resume.
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
    reasons: ReasonsIfAny = field(default_factory=dict)
    prepared: TextsIfAny = ()

    @property
    def id(self) -> str:
        """The candidate's name on cards and in rankings (`c1`)."""
        return self.trial.id

    @property
    def pruned(self) -> bool:
        """Whether it was stopped early in favour of others."""
        return self.failure is not None and self.failure.code == PRUNED

    @property
    def unjudged(self) -> bool:
        """Whether it was rendered to the end and has no rank, because no judge could be asked."""
        whole = self.trial.to_step is None or self.trial.draft
        return whole and self.image is not None and self.failure is None and self.potential is None

    @property
    def outcome(self) -> Outcome:
        """This candidate as the strategy sees it."""
        scores = {metric.name: metric.value for metric in self.metrics}
        return Outcome(
            self.trial, self.potential, scores, self.nfe, self.failure, dict(self.reasons)
        )


@dataclass(frozen=True, slots=True)
class SearchPlan:
    """A strategy with its parameters, seed and batch size.

    `steps` is the number of steps of a full render, which strategies need to pause trials. `finals`
    is how many of the best meet in pairs at the end; 0: none.
    """

    strategy: str = "eacps"
    params: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    batch_size: int = 4
    steps: int = 12
    # Earlier versions had none, and what they stored, and tasks' keys, remain as they were.
    finals: Annotated[int, Field(exclude_if=lambda count: not count)] = 0


@dataclass(frozen=True, slots=True)
class EditTask:
    """What to edit and how to search. Images are artifact names, i.e. hashes of their content.

    `fingerprint` is a hash of every setting that changes results (see fingerprints.py). Three
    hashes of subsets of these settings are not part of the key: `equipment` (the models a worker
    must have loaded), `rendered` (what determines pictures) and `judged` (what determines scores).

    `references` are pictures of characters. `mapping` says how several characters are mapped to
    faces; `regions` are masks of single faces, in the order of the characters. `settings` replace
    those of the worker, for the steps of a render and the potential.
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
    settings: StoredIfAny = field(default_factory=dict)

    @property
    def key(self) -> str:
        """A hash of everything that determines the result."""
        content = to_json(self)
        for name in ("route_reason", "equipment", "rendered", "judged"):
            del content[name]
        return digest(content)


@dataclass(frozen=True, slots=True)
class SearchResult:
    """The ranked candidates of a search: usable ones best first, then those that no judge could be
    asked about, then pruned, then failed ones.

    `notes` are warnings, `decisions` the strategy's notes about what it did and why.
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
        """The candidates that people may choose: those with a rank, then the unjudged ones."""
        return tuple(c for c in self.candidates if c.outcome.usable or c.unjudged)

    @property
    def best(self) -> Candidate:
        """The best candidate, or the first one if none was judged; every SearchResult has one."""
        return self.usable[0]

    @property
    def margin(self) -> float | None:
        """The difference of the best two potentials, or None."""
        first, *rest = self.usable
        if not rest or first.potential is None or rest[0].potential is None:
            return None
        return first.potential - rest[0].potential

    @property
    def is_judged(self) -> bool:
        """Whether the order of the candidates says anything."""
        return self.best.potential is not None

    @property
    def is_convincing(self) -> bool:
        """Whether the best candidate is worth calling good; False if none was judged."""
        return self.share(self.best.potential) >= LEAST_CONVINCING_SHARE

    def share(self, potential: float | None) -> float:
        """A potential scaled to 0..1, for Label Studio's score column."""
        low, high = self.potential_range
        if potential is None or high <= low:
            return 0.0
        return min(1.0, max(0.0, (potential - low) / (high - low)))


_adapters: dict[Any, TypeAdapter[Any]] = {}


def _adapter(kind: Any) -> TypeAdapter[Any]:
    # Cached, because building an adapter takes milliseconds.
    if kind not in _adapters:
        _adapters[kind] = TypeAdapter(kind)
    return _adapters[kind]


def to_json(value: Any) -> Any:
    """A domain value as plain dicts, lists, strings and numbers."""
    return _adapter(type(value)).dump_python(value, mode="json")


def from_json(kind: type[T], content: Any) -> T:
    """Read what `to_json` wrote; raises pydantic's ValidationError for anything else."""
    return _adapter(kind).validate_python(content)  # type: ignore[no-any-return]


def digest(content: Any) -> str:
    """A short, stable hash of JSON content."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:24]
