"""What is left to do of each trial: from the step where it stands to the one asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from eacps.domain import EditTask, Trial
from eacps.editors.diffusers.states import (
    State,
    StateMemory,
    first_owner_of,
    from_bytes,
    owner_of,
    to_bytes,
)
from eacps.editors.protocol import States
from eacps.errors import EditorError
from eacps.settings import Settings

_LOST = "Its paused state was lost: rendered anew from the first step."


@dataclass(frozen=True, eq=False)
class Leg:
    """One trial from where it stands (None: its noise) to step `stop` (None: the end)."""

    trial: Trial
    stop: int | None = None
    state: State | None = None
    notes: tuple[str, ...] = ()

    @property
    def start(self) -> int:
        """The first step to run."""
        return self.state.step if self.state else 0

    @property
    def course(self) -> tuple[int, int | None, str]:
        """What legs must share to be rendered in one call."""
        return self.start, self.stop, self.trial.instruction_suffix


@dataclass
class Legs:
    """Makes legs of one session's trials, and keeps the states of those that pause.

    Sessions share the memory but not the states in it: what one search has spent must not make
    another look cheaper.
    """

    task: EditTask
    settings: Settings
    memory: StateMemory
    session: int
    _paused: set[str] = field(default_factory=set)

    @property
    def steps(self) -> int:
        """The steps of a full render."""
        given = self.settings.pipeline_args
        return len(given.get("sigmas") or given.get("timesteps") or ()) or self.settings.steps

    def stop(self, trial: Trial) -> int | None:
        """The step to pause at, None for the end; raises EditorError where nothing is to see."""
        if trial.to_step is None or trial.to_step >= self.steps:
            return None
        if trial.to_step < 1:
            raise EditorError(
                f"The trial {trial.id} is to pause at step {trial.to_step}, where there is no "
                "preview yet.",
                hint=f"Pause between step 1 and {self.steps - 1} (EACPS_STEPS is {self.steps}), "
                "or ask for the end with None.",
                code="cannot_pause",
            )
        return trial.to_step

    def leg(self, trial: Trial, states: States) -> Leg:
        """The trial from its furthest state that can still reach its stop; raises EditorError
        for a state handed in that is damaged or not this trial's."""
        owner = owner_of(self.task, self.settings, trial)
        owners = (owner, first_owner_of(self.task, self.settings, trial))
        contents = (self.memory.get(self._key(trial, owner)), states.get(trial.id))
        found = [from_bytes(content, *owners) for content in contents if content is not None]
        stop = self.stop(trial)
        end = self.steps if stop is None else stop
        usable = [state for state in found if 0 < state.step < end]
        if usable:
            return Leg(trial, stop, max(usable, key=lambda state: state.step))
        if found:
            note = f"It was already paused at step {found[0].step}: rendered anew from the first."
            return Leg(trial, stop, notes=(note,))
        was_paused = trial.id in states or self._key(trial, owner) in self._paused
        return Leg(trial, stop, notes=(_LOST,) if was_paused else ())

    def stored(self, leg: Leg, state: State) -> bytes:
        """A paused leg's state as bytes."""
        return to_bytes(state, owner_of(self.task, self.settings, leg.trial))

    def remember(self, paused: Sequence[tuple[Trial, bytes]], finished: Sequence[Trial]) -> None:
        """Keep the states of what is paused now, and none of what is finished."""
        for trial, content in paused:
            key = self._key(trial, owner_of(self.task, self.settings, trial))
            self._paused.add(key)
            self.memory.put(key, content)
        for trial in finished:
            self.memory.drop(self._key(trial, owner_of(self.task, self.settings, trial)))

    def _key(self, trial: Trial, owner: str) -> str:
        return f"{self.session} {trial.id} {owner}"
