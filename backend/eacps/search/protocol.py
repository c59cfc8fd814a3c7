"""What a strategy is, to the pipeline (ask and tell) and to the registry (its class).

Pausing. A trial with a `to_step` is advanced to that step and paused there; without one it goes to
the end. To carry a paused trial on, the strategy asks for it again: the same id, noise and lineage
with a larger `to_step`, and None at last. A trial that is never asked for again was pruned, which
is certain only once the search has ended: one that was passed over may still be called back.

- The Outcome of a paused trial has the potential and the scores of its preview, and every Outcome
  has only the NFE that its own call spent.
- An editor that no longer has the state of a paused trial starts it again from its noise, and
  counts that NFE too.
- One ask holds a trial at most once, but may hold trials for different steps, from different
  steps, and with different instruction suffixes. What goes into one batch is the caller's affair.
- A trial whose outcome has no finite potential is not carried on, paused or not.

Scores. Some strategies read scores of an Outcome by name, and do without what is not there:
`satisfied`, `preserved`, `intact` (an instruction-conditioned verifier's answers, 0 to 1), `region`
(the share of the change inside the edited region), `caption` or else `pf` (likeness to the caption
or instruction), and `nearest_similarity`: the preview's similarity (cosine of image features) to
the nearest of those previews of the same batch that have a higher potential, or an equal one and an
earlier place. The first of a batch has none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from eacps.domain import Outcome, Trial
from eacps.errors import EacpsError


class AskTellError(EacpsError, ValueError):
    """A caller broke the rules of ask and tell; the strategy is as it was before the call."""

    code = "bad_search_step"


@runtime_checkable
class Strategy(Protocol):
    """Decides which trials are worth their cost; renders and scores nothing itself."""

    def ask(self) -> Sequence[Trial]:
        """Every trial that can be decided now, in order of preference; [] means finished.

        All of them at once, so that no device idles while there is work: the caller cuts them
        into batches. A strategy that may stop after any result asks for one batch at a time.
        Raises AskTellError while a trial of an earlier ask is still untold.
        """
        ...

    def tell(self, outcomes: Sequence[Outcome]) -> None:
        """How asked trials ended, in any order and in any portions; failures are outcomes too.

        Raises AskTellError, and records nothing, if a trial was never asked or is told twice.
        """
        ...

    @property
    def notes(self) -> Sequence[str]:
        """Its decisions so far, in words for a report: what it pruned, why it stopped."""
        ...


class Params(Protocol):
    """A strategy's settings: a pydantic dataclass (see parameters.py) that knows its cost.

    Where trials may be paused, a method `cost(steps)` says how many full renders the whole search
    is worth in denoising steps; without one, every trial counts as one (see registry.cost).
    Settings with which a search may end sooner have `stops_early`, which is true then.
    """

    @property
    def budget(self) -> int:
        """How many trials these settings begin at most; fewer only with `stops_early`."""
        ...


class StrategyClass(Protocol):
    """What the registry and the entry points of group `eacps.strategies` hold."""

    @property
    def Params(self) -> type[Any]:  # noqa: N802 - it is a class
        """The settings: a frozen pydantic dataclass or model, with `budget`."""
        ...

    def __call__(self, params: Any, *, seed: int, batch_size: int, steps: int) -> Strategy:
        """A new search; `batch_size` is how many trials the devices take at once, `steps` how
        many denoising steps a full render has."""
        ...
