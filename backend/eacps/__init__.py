"""Inference-time scaling for image edits, reviewed in place in Label Studio.

The names exported here are the public API. It is provisional until 1.0; the CHANGELOG lists its
changes. Everything else in this package may change at any time.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"

if TYPE_CHECKING:
    from eacps.domain import EditTask, Failure, Noise, Outcome, Swap, Trial
    from eacps.editors.diffusers.family import Family
    from eacps.editors.protocol import Editor, EditSession, Render
    from eacps.errors import EacpsError
    from eacps.faces.protocol import Character, Face, FaceEngine, Patch
    from eacps.images import TaskImages
    from eacps.in_process import Edit, Edits, edit
    from eacps.metric_range import MetricRange
    from eacps.plugins import Context
    from eacps.scoring.protocol import Scorer
    from eacps.search.protocol import Strategy
    from eacps.search.ranking import ranked
    from eacps.search.roundwise import RoundwiseStrategy, Search
    from eacps.verifiers.protocol import Answers, Preference, Verifier

_PLACES = {
    "Answers": "eacps.verifiers.protocol",
    "Character": "eacps.faces.protocol",
    "Context": "eacps.plugins",
    "EacpsError": "eacps.errors",
    "Edit": "eacps.in_process",
    "EditSession": "eacps.editors.protocol",
    "EditTask": "eacps.domain",
    "Editor": "eacps.editors.protocol",
    "Edits": "eacps.in_process",
    "Face": "eacps.faces.protocol",
    "FaceEngine": "eacps.faces.protocol",
    "Failure": "eacps.domain",
    "Family": "eacps.editors.diffusers.family",
    "MetricRange": "eacps.metric_range",
    "Noise": "eacps.domain",
    "Outcome": "eacps.domain",
    "Patch": "eacps.faces.protocol",
    "Preference": "eacps.verifiers.protocol",
    "Render": "eacps.editors.protocol",
    "RoundwiseStrategy": "eacps.search.roundwise",
    "Scorer": "eacps.scoring.protocol",
    "Search": "eacps.search.roundwise",
    "Strategy": "eacps.search.protocol",
    "Swap": "eacps.domain",
    "TaskImages": "eacps.images",
    "Trial": "eacps.domain",
    "Verifier": "eacps.verifiers.protocol",
    "edit": "eacps.in_process",
    "ranked": "eacps.search.ranking",
}

__all__ = [
    "Answers",
    "Character",
    "Context",
    "EacpsError",
    "Edit",
    "EditSession",
    "EditTask",
    "Editor",
    "Edits",
    "Face",
    "FaceEngine",
    "Failure",
    "Family",
    "MetricRange",
    "Noise",
    "Outcome",
    "Patch",
    "Preference",
    "Render",
    "RoundwiseStrategy",
    "Scorer",
    "Search",
    "Strategy",
    "Swap",
    "TaskImages",
    "Trial",
    "Verifier",
    "__version__",
    "edit",
    "ranked",
]


def __getattr__(name: str) -> Any:
    # Import lazily: the web process imports this package, and must stay small.
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_PLACES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
