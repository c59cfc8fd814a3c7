"""Search strategies, one per file and free of side effects; `create` makes one from a plan."""

from eacps.options import Parameter
from eacps.search.protocol import AskTellError, Strategy
from eacps.search.ranking import best, finished, ranked
from eacps.search.registry import (
    Description,
    budget,
    cost,
    create,
    describe,
    names,
    stops_early,
    with_budget,
)

__all__ = [
    "AskTellError",
    "Description",
    "Parameter",
    "Strategy",
    "best",
    "budget",
    "cost",
    "create",
    "describe",
    "finished",
    "names",
    "ranked",
    "stops_early",
    "with_budget",
]
