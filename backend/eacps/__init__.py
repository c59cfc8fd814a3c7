"""Inference-time scaling for image edits, reviewed in place in Label Studio.

What this module names is what others extend and call; it is provisional until 1.0, and whatever
changes is in the CHANGELOG. Everything below it may move at any time.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"

if TYPE_CHECKING:
    from eacps.domain import EditTask, Failure, Noise, Outcome, Trial
    from eacps.editors.diffusers.family import Family
    from eacps.editors.protocol import Editor, EditSession, Render
    from eacps.errors import EacpsError
    from eacps.faces.protocol import FaceEngine
    from eacps.images import TaskImages
    from eacps.in_process import Edit, Edits, edit
    from eacps.metric_range import MetricRange
    from eacps.plugins import Context
    from eacps.scoring.protocol import Scorer
    from eacps.search.protocol import Strategy
    from eacps.search.roundwise import RoundwiseStrategy
    from eacps.verifiers.protocol import Answers, Preference, Verifier

_PLACES = {
    "Answers": "eacps.verifiers.protocol",
    "Context": "eacps.plugins",
    "EacpsError": "eacps.errors",
    "Edit": "eacps.in_process",
    "EditSession": "eacps.editors.protocol",
    "EditTask": "eacps.domain",
    "Editor": "eacps.editors.protocol",
    "Edits": "eacps.in_process",
    "FaceEngine": "eacps.faces.protocol",
    "Failure": "eacps.domain",
    "Family": "eacps.editors.diffusers.family",
    "MetricRange": "eacps.metric_range",
    "Noise": "eacps.domain",
    "Outcome": "eacps.domain",
    "Preference": "eacps.verifiers.protocol",
    "Render": "eacps.editors.protocol",
    "RoundwiseStrategy": "eacps.search.roundwise",
    "Scorer": "eacps.scoring.protocol",
    "Strategy": "eacps.search.protocol",
    "TaskImages": "eacps.images",
    "Trial": "eacps.domain",
    "Verifier": "eacps.verifiers.protocol",
    "edit": "eacps.in_process",
}

__all__ = [
    "Answers",
    "Context",
    "EacpsError",
    "Edit",
    "EditSession",
    "EditTask",
    "Editor",
    "Edits",
    "FaceEngine",
    "Failure",
    "Family",
    "MetricRange",
    "Noise",
    "Outcome",
    "Preference",
    "Render",
    "RoundwiseStrategy",
    "Scorer",
    "Strategy",
    "TaskImages",
    "Trial",
    "Verifier",
    "__version__",
    "edit",
]


def __getattr__(name: str) -> Any:
    # Looked up when it is asked for: the web process imports this package, and must stay light.
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_PLACES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
