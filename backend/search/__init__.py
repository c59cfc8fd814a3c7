"""Search strategies: pure, one per file; `create` makes one from a plan."""

from backend.search.protocol import AskTellError, Strategy
from backend.search.ranking import best, rankable, ranked
from backend.search.registry import (
    Description,
    Parameter,
    budget,
    create,
    describe,
    names,
)

__all__ = [
    "AskTellError",
    "Description",
    "Parameter",
    "Strategy",
    "best",
    "budget",
    "create",
    "describe",
    "names",
    "rankable",
    "ranked",
]
