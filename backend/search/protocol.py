"""What a strategy is, to the pipeline (ask and tell) and to the registry (its class)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from backend.domain import Outcome, Trial
from backend.errors import EacpsError


class AskTellError(EacpsError, ValueError):
    """A caller broke the rules of ask and tell; the strategy is as it was before the call."""

    code = "bad_search_step"


@runtime_checkable
class Strategy(Protocol):
    """Decides which trials are worth their cost; renders and scores nothing itself."""

    def ask(self) -> Sequence[Trial]:
        """Every trial that can be decided now, in order of preference; [] means finished.

        All of them at once, so that no device idles while there is work: the caller cuts them
        into batches. Raises AskTellError while a trial of an earlier ask is still untold.
        """
        ...

    def tell(self, outcomes: Sequence[Outcome]) -> None:
        """How asked trials ended, in any order and in any portions; failures are outcomes too.

        Raises AskTellError, and records nothing, if a trial was never asked or is told twice.
        """
        ...


class Params(Protocol):
    """A strategy's settings: a pydantic dataclass (see params.py) that knows its cost."""

    @property
    def budget(self) -> int:
        """How many trials these settings use when nothing fails."""
        ...


class StrategyClass(Protocol):
    """What the registry and the entry points of group `eacps.strategies` hold."""

    @property
    def Params(self) -> type[Any]:  # noqa: N802 - it is a class
        """The settings: a frozen pydantic dataclass or model, with `budget`."""
        ...

    def __call__(self, params: Any, *, seed: int, batch_size: int) -> Strategy:
        """A new search; `batch_size` is how many trials the devices take at once."""
        ...
