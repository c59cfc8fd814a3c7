"""States of paused renders, as bytes that are safe to load, and a cache of them."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import dataclass

import safetensors.torch
import torch

from eacps.domain import EditTask, Trial, digest, to_json
from eacps.errors import EditorError
from eacps.settings import Settings

_FORMAT = b"eacps-state-1"


@dataclass(frozen=True, eq=False)
class State:
    """One image's latents before step `step`, in float32 on the CPU, and the state of its
    generator if the sampler uses it."""

    step: int
    latents: torch.Tensor
    generator: torch.Tensor | None = None


def owner_of(task: EditTask, settings: Settings, trial: Trial) -> str:
    """A hash of everything that determines a trial's render, independent of judges and searches.

    A state can be resumed only by a trial with the same owner.
    """
    return digest(
        {
            "rendered": task.rendered or settings.fingerprint,
            "route": task.route,
            "image": task.image,
            "instruction": task.instruction,
            "references": list(task.references),
            "regions": list(task.regions),
            "mapping": task.mapping,
            "noise": to_json(trial.noise),
            "instruction_suffix": trial.instruction_suffix,
            # Only where there is one, because stored states have none.
            **({"start": trial.start} if trial.start else {}),
        }
    )


def owner_of_0_1(task: EditTask, settings: Settings, trial: Trial) -> str:
    """The owner as version 0.1 computed it, so that renders it paused can be resumed."""
    return digest(
        {
            "task": task.key,
            "settings": settings.fingerprint,
            "noise": to_json(trial.noise),
            "instruction_suffix": trial.instruction_suffix,
        }
    )


def to_bytes(state: State, owner: str) -> bytes:
    """The state as a safetensors file; `from_bytes` checks that the owner is the same."""
    tensors = {
        "latents": state.latents.contiguous(),
        "step": torch.tensor(state.step),
        "owner": _bytes(owner.encode()),
        "checksum": _bytes(_checksum(state, owner)),
    }
    if state.generator is not None:
        tensors["generator"] = state.generator
    return safetensors.torch.save(tensors)


def from_bytes(content: bytes, *owners: str) -> State:
    """Load what `to_bytes` wrote for one of these owners; raises EditorError for anything else."""
    try:
        tensors = safetensors.torch.load(content)
        state = State(int(tensors["step"]), tensors["latents"], tensors.get("generator"))
        found = bytes(tensors["owner"].tolist()).decode()
        intact = bytes(tensors["checksum"].tolist()) == _checksum(state, found)
    except Exception as error:  # bytes from outside may be wrong in any way
        raise _damaged(type(error).__name__) from error
    if not intact:
        raise _damaged("its checksum is wrong")
    if found not in owners:
        raise EditorError(
            "This paused render belongs to another task, noise, instruction or editor setting.",
            hint="Resume it with the settings that it was paused with, or render the trial again.",
            code="foreign_state",
        )
    return state


class StateCache:
    """An LRU cache of states with at most `limit` bytes in total."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._size = 0
        self._states: OrderedDict[str, bytes] = OrderedDict()

    def get(self, key: str) -> bytes | None:
        """The state of a key, or None."""
        if key in self._states:
            self._states.move_to_end(key)
        return self._states.get(key)

    def put(self, key: str, content: bytes) -> None:
        """Store a state, replacing the key's previous one."""
        self.drop(key)
        self._states[key] = content
        self._size += len(content)
        while self._size > self._limit:
            _, dropped = self._states.popitem(last=False)
            self._size -= len(dropped)

    def drop(self, key: str) -> None:
        """Remove the key's state, if there is one."""
        self._size -= len(self._states.pop(key, b""))


def _bytes(content: bytes) -> torch.Tensor:
    return torch.tensor(list(content), dtype=torch.uint8)


def _checksum(state: State, owner: str) -> bytes:
    summed = hashlib.sha256(_FORMAT)
    for part in (state.step, owner, state.latents.dtype, tuple(state.latents.shape)):
        summed.update(f"|{part}".encode())
    summed.update(state.latents.numpy().tobytes())
    if state.generator is not None:
        summed.update(state.generator.numpy().tobytes())
    return summed.digest()


def _damaged(reason: str) -> EditorError:
    return EditorError(
        f"The state of this paused render is damaged ({reason}).",
        hint="Render the trial again.",
        code="damaged_state",
    )
