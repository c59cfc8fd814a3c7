"""Segments of renders: the steps from where a trial stopped to where it should stop next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from eacps.domain import EditTask, Trial
from eacps.editors.diffusers.states import (
    State,
    StateCache,
    from_bytes,
    owner_of,
    owner_of_0_1,
    to_bytes,
)
from eacps.editors.protocol import States
from eacps.errors import EditorError
from eacps.settings import Settings

BatchKey = tuple[int, int | None, int, str]
_LOST = "Its paused state was lost; it was rendered again from the first step."


@dataclass(frozen=True, eq=False)
class Segment:
    """The steps of a trial from `state` (None: its noise) to step `stop` (None: the end)."""

    trial: Trial
    stop: int | None = None
    state: State | None = None
    notes: tuple[str, ...] = ()

    @property
    def start(self) -> int:
        """The first step to run."""
        return self.state.step if self.state else 0

    @property
    def drafted(self) -> int:
        """The steps of the whole render, if it is a draft; else 0."""
        return (self.trial.to_step or 0) if self.trial.draft else 0

    @property
    def batch_key(self) -> BatchKey:
        """Segments with the same key can be rendered in one pipeline call."""
        return self.start, self.stop, self.drafted, self.trial.instruction_suffix


@dataclass
class Segments:
    """Makes segments from the trials of one session, and stores the states of paused trials.

    Sessions share the cache but not its entries. Otherwise the work of one search would make
    another look cheaper.
    """

    task: EditTask
    settings: Settings
    cache: StateCache
    session: int
    _paused: set[str] = field(default_factory=set)

    @property
    def steps(self) -> int:
        """The number of steps of a full render."""
        return self._fixed or int(self.task.settings.get("steps", self.settings.steps))

    @property
    def _fixed(self) -> int:
        given = self.settings.pipeline_args
        return len(given.get("sigmas") or given.get("timesteps") or ())

    def stop(self, trial: Trial) -> int | None:
        """The step to pause at, or None for the end; raises EditorError for a step below 1, and
        for a draft where the steps are fixed."""
        if trial.draft:
            self._require_draft(trial)
            return None
        if trial.to_step is None or trial.to_step >= self.steps:
            return None
        if trial.to_step < 1:
            raise EditorError(
                f"Trial {trial.id} should pause at step {trial.to_step}, where there is no "
                "preview yet.",
                hint=f"Pause between step 1 and {self.steps - 1} (EACPS_STEPS is {self.steps}), "
                "or use None for the end.",
                code="cannot_pause",
            )
        return trial.to_step

    def _require_draft(self, trial: Trial) -> None:
        if self._fixed:
            raise EditorError(
                "This editor's steps are fixed by EACPS_PIPELINE_ARGS, so it renders no drafts.",
                hint="Remove sigmas and timesteps from it, or use a strategy without drafts.",
                code="cannot_pause",
            )
        if not 2 <= (trial.to_step or 0) < self.steps:
            raise EditorError(
                f"Trial {trial.id} should be drafted in {trial.to_step} of {self.steps} steps.",
                hint=f"Draft in 2 to {self.steps - 1} steps (EACPS_STEPS is {self.steps}).",
                code="cannot_pause",
            )

    def segment(self, trial: Trial, states: States) -> Segment:
        """Continue the trial from its latest state before its stop.

        Raises EditorError if a given state is damaged or belongs to another trial.
        """
        owner = owner_of(self.task, self.settings, trial)
        owners = (owner, owner_of_0_1(self.task, self.settings, trial))
        contents = (self.cache.get(self._key(trial, owner)), states.get(trial.id))
        found = [from_bytes(content, *owners) for content in contents if content is not None]
        stop = self.stop(trial)
        if trial.draft:
            return Segment(trial)
        end = self.steps if stop is None else stop
        usable = [state for state in found if 0 < state.step < end]
        if usable:
            return Segment(trial, stop, max(usable, key=lambda state: state.step))
        if found:
            note = (
                f"It was paused at step {found[0].step}; it was rendered again from the first step."
            )
            return Segment(trial, stop, notes=(note,))
        was_paused = trial.id in states or self._key(trial, owner) in self._paused
        return Segment(trial, stop, notes=(_LOST,) if was_paused else ())

    def stored(self, segment: Segment, state: State) -> bytes:
        """The state of a paused segment as bytes."""
        return to_bytes(state, owner_of(self.task, self.settings, segment.trial))

    def remember(self, paused: Sequence[tuple[Trial, bytes]], finished: Sequence[Trial]) -> None:
        """Store the states of paused trials, and drop those of finished ones."""
        for trial, content in paused:
            key = self._key(trial, owner_of(self.task, self.settings, trial))
            self._paused.add(key)
            self.cache.put(key, content)
        for trial in finished:
            self.cache.drop(self._key(trial, owner_of(self.task, self.settings, trial)))

    def _key(self, trial: Trial, owner: str) -> str:
        return f"{self.session} {trial.id} {owner}"
