"""The interface of a strategy: ask and tell for the runner, its class for the registry.

Pausing. A trial with a `to_step` stops at that step and is paused there; a trial without one is
rendered to the end. To resume a paused trial, the strategy asks for it again with the same id,
noise and lineage, and with a larger `to_step` or None. A trial that is never asked for again was
pruned. That is certain only when the search has ended, because a strategy may come back to it.

- The Outcome of a paused trial has the potential and the scores of its preview. Every Outcome
  counts only the NFE that its own call spent.
- An editor that no longer has the state of a paused trial renders it from the start, and counts
  that NFE too.
- One `ask` contains each trial at most once, but its trials may start and stop at different steps
  and may have different instruction suffixes. The caller decides what goes into one batch.
- A trial whose outcome has no finite potential is never resumed.

Drafts. A trial with `draft` and a `to_step` is rendered whole, in so few steps: what solvers of few
and of many steps make of one noise is alike. Its outcome is that of a preview. To render the noise
in full, the strategy asks for it again without `draft`; that starts anew, as a draft has no state.

Comparisons. A round may consist of trials that ended well before, with the stage `final`: nothing
is rendered for it, and they meet in pairs (see comparing.py). Their outcomes have no potential, but
the score `preference`, their strength among those that met, or lack it if no judge compared them. A
trial may be compared any number of times.

Scores. Some strategies read scores of an Outcome by name, and work without those that are missing:

- `satisfied`, `preserved` and `intact`: the answers of a verifier, 0 to 1;
- `region`: the share of the change that is inside the edited region;
- `caption`, or else `pf`: similarity to a caption of the wished-for image, or to the instruction;
- `instance`: the share of the questions written for the task that are answered with yes; finished
  images only;
- `nearest_similarity`: the highest similarity (cosine of image features) of this preview to a
  better preview of the same batch. Previews with equal potentials count in the order of the batch.
  The best preview has no such score.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from eacps.domain import Outcome, Trial
from eacps.errors import EacpsError


class AskTellError(EacpsError, ValueError):
    """The caller broke the rules of ask and tell; the strategy's state is unchanged."""

    code = "bad_search_step"


@runtime_checkable
class Strategy(Protocol):
    """Decides which trials to render; renders and scores nothing itself.

    It may also have an attribute `expected`: the most trials that it will have begun at its end, as
    far as it knows by now. Without it, that is the budget of its parameters.
    """

    def ask(self) -> Sequence[Trial]:
        """Return every trial that can be chosen now, in order of preference; [] when finished.

        The caller splits the trials into batches, so return them all: no device should wait
        while there is work. A strategy that may stop after any result returns one batch at a time.
        Raises AskTellError while a trial of an earlier ask has no outcome.
        """
        ...

    def tell(self, outcomes: Sequence[Outcome]) -> None:
        """Record how trials ended, in any order and over any number of calls.

        Failed trials have outcomes too. Raises AskTellError, and records nothing, if a trial was
        never asked for or already has an outcome.
        """
        ...

    @property
    def notes(self) -> Sequence[str]:
        """Its decisions so far, as sentences for a report: what it pruned, why it stopped."""
        ...


class Params(Protocol):
    """The parameters of a strategy: a pydantic dataclass (see parameters.py) that knows its cost.

    A strategy that pauses trials also has a method `cost(steps)`: the denoising steps of the whole
    search, in full renders. Without it, every trial counts as one render (see registry.cost). A
    strategy that may begin fewer trials than its budget has an attribute `stops_early`, which is
    true for the parameters that make it do so. The built-in ones have a method `within(budget)`,
    which returns the parameters to change for a number of candidates. They may exceed it only with
    an attribute `budgets_average` that is true.
    """

    @property
    def budget(self) -> int:
        """The number of trials that the search begins; it may begin fewer if `stops_early`."""
        ...


class StrategyClass(Protocol):
    """A strategy class, as the registry and the entry points in `eacps.strategies` hold it."""

    @property
    def Params(self) -> type[Any]:  # noqa: N802 - it is a class
        """The parameters: a frozen pydantic dataclass or model with a `budget`."""
        ...

    def __call__(self, params: Any, *, seed: int, batch_size: int, steps: int) -> Strategy:
        """Begin a search. All devices together take `batch_size` trials at a time, and a full
        render has `steps` denoising steps."""
        ...
