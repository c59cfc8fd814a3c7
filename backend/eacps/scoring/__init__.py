"""Scorers, and the potential that ranks candidates. Importing this does not load torch."""

from __future__ import annotations

from eacps.scoring.potential import Judgement, Potential, without_effect
from eacps.scoring.protocol import Scorer
from eacps.scoring.registry import open_scorers

__all__ = ["Judgement", "Potential", "Scorer", "open_scorers", "without_effect"]
