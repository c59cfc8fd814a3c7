"""Swaps faces in this process, without loading an editor or scorers."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from math import inf, isfinite
from typing import Any

from PIL.Image import Image

from eacps.domain import EditTask, Swap, to_json
from eacps.errors import EacpsError, FaceError
from eacps.faces import content_credentials
from eacps.faces.choices import swaps_of
from eacps.faces.marking import marked
from eacps.faces.ranges import IDENTITY, IDENTITY_BEFORE
from eacps.faces.registry import OpenedEngine, open_engine
from eacps.faces.session import Swapped, SwapSession
from eacps.images import TaskImages
from eacps.labelstudio.tasks.origins import Origin
from eacps.offline.hooks import file_reader
from eacps.runner import potential_of
from eacps.settings import Settings

log = logging.getLogger(__name__)

DIGITS = 4


@dataclass(frozen=True)
class SwapFile:
    """A swapped image as PNG, and facts about it as JSON."""

    png: bytes
    facts: dict[str, Any]


@dataclass(frozen=True)
class _Ranked:
    potential: float
    recipe: Swap
    swapped: Swapped


class FaceSwapper:
    """Swaps faces of tasks; creating it loads the engine, which takes seconds."""

    def __init__(self, settings: Settings, device: str) -> None:
        # Check this first, because an incomplete setup makes every swap fail.
        content_credentials.wanted(settings)
        self._settings = settings
        self._reader = file_reader(settings)
        self._potential = potential_of(settings, "face_swap")
        # OpenCV reads this when it is loaded below; its warnings are useless for users.
        os.environ.setdefault("OPENCV_LOG_LEVEL", "ERROR")
        with _quiet_output():
            self._opened = open_engine(settings, device)

    @property
    def words(self) -> str:
        """A description of the engine and its models."""
        return self._opened.words

    def swap(self, origin: Origin) -> SwapFile:
        """Swap the task's most likely faces with the recipe that ranks highest."""
        started = time.perf_counter()
        try:
            with _quiet_output():
                read = self._reader.read(origin)
                return self._best(read.edit_task(self._settings, _named), read.images, started)
        except EacpsError:
            raise
        except Exception as error:
            log.debug("a swap failed", exc_info=True)
            raise FaceError(
                f"The swap failed: {type(error).__name__}: {error}"[:300].rstrip(" .") + ".",
                hint="EACPS_LOG_LEVEL=DEBUG shows where.",
            ) from error

    def _best(self, task: EditTask, images: TaskImages, started: float) -> SwapFile:
        opened = self._opened
        session = SwapSession(opened.engine, task, images, notes=opened.notes)
        best = self._highest(session, task)
        facts = _facts(opened, best)
        metadata = {
            "instruction": task.instruction,
            "fingerprint": task.fingerprint,
            "swap": to_json(best.recipe),
            "scores": facts["scores"],
            "potential": facts["potential"],
        }
        _, png = marked(best.swapped.image, metadata, opened.engine, self._settings)
        return SwapFile(png, {**facts, "seconds": round(time.perf_counter() - started, 2)})

    def _highest(self, session: SwapSession, task: EditTask) -> _Ranked:
        best: _Ranked | None = None
        for recipe in _recipes(session, task):
            swapped = session.swap(recipe)
            if swapped is not None:
                potential = self._potential.judge(swapped.scores).value
                ranked = _Ranked(-inf if potential is None else potential, recipe, swapped)
                # Keep only the best, because swaps of a large scene need much memory.
                best = ranked if best is None or ranked.potential > best.potential else best
        if best is None:
            raise FaceError(
                f"Engine {self._opened.engine.name} supports none of the configured recipes.",
                hint="Change EACPS_FACE_BOOSTS.",
            )
        return best


def _recipes(session: SwapSession, task: EditTask) -> list[Swap]:
    """The distinct recipes of the most likely mapping on this engine."""
    recipes = (session.usual(swap) for swap in swaps_of(task.plan) if swap.assignment == 0)
    return list(dict.fromkeys(recipes))


def _named(image: Image) -> str:
    """The name of an image, which is not stored."""
    content = hashlib.sha256(f"{image.mode} {image.size}".encode())
    content.update(image.tobytes())
    return f"{content.hexdigest()[:40]}.png"


def _facts(opened: OpenedEngine, best: _Ranked) -> dict[str, Any]:
    engine, swapped = opened.engine, best.swapped
    scores = {name: round(float(value), DIGITS) for name, value in swapped.scores.items()}
    return {
        "engine": engine.name,
        "models": list(engine.models),
        "providers": list(engine.providers),
        "face": swapped.detail.removesuffix(f"; {best.recipe.words}"),
        "look": best.recipe.words,
        IDENTITY: scores[IDENTITY],
        IDENTITY_BEFORE: scores[IDENTITY_BEFORE],
        "same_person_from": engine.same_person,
        "same_person": scores[IDENTITY] >= engine.same_person,
        "scores": scores,
        "potential": round(best.potential, DIGITS) if isfinite(best.potential) else None,
        "warnings": list(swapped.notes),
    }


@contextlib.contextmanager
def _quiet_output() -> Iterator[None]:
    # Libraries print to standard output, which may be used for JSON.
    with contextlib.redirect_stdout(sys.stderr):
        yield
