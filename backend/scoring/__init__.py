"""Scorers and the potential that ranks. Importing this loads no torch."""

from __future__ import annotations

from backend.scoring.potential import Judgement, Potential
from backend.scoring.protocol import Scorer
from backend.scoring.registry import open_scorers

__all__ = ["Judgement", "Potential", "Scorer", "open_scorers"]
