"""Strategies by name: creates one from a plan and describes them to people."""

from __future__ import annotations

from dataclasses import dataclass, replace
from inspect import getdoc
from typing import Any, Final

from eacps.domain import SearchPlan
from eacps.errors import SettingsError
from eacps.options import Parameter, checked, parameters, refusal, short
from eacps.plugins import STRATEGIES as GROUP
from eacps.plugins import Registry, lacks
from eacps.search.protocol import Params, Strategy, StrategyClass

SETTING: Final = "EACPS_STRATEGY"
MAX_TRIALS: Final = 1_000_000
SEED_LIMIT: Final = 2**63


def _problem(strategy: Any) -> str:
    lacking = lacks(strategy, "Params", "ask", "tell", "notes")
    if not lacking and not hasattr(strategy.Params, "budget"):
        return "has a Params class without `budget`"
    return lacking


STRATEGIES: Final = Registry[StrategyClass](
    "strategy",
    group=GROUP,
    setting=SETTING,
    built_ins={
        "auto": "eacps.search.strategies.auto:Auto",
        "best_of_n": "eacps.search.strategies.best_of_n:BestOfN",
        "random": "eacps.search.strategies.random_rounds:RandomRounds",
        "eacps": "eacps.search.strategies.eacps:Eacps",
        "zero_order": "eacps.search.strategies.zero_order:ZeroOrder",
        "halving": "eacps.search.strategies.halving:Halving",
        "waves": "eacps.search.strategies.waves:Waves",
        "draft": "eacps.search.strategies.draft:Draft",
        "ade_cot": "eacps.search.strategies.ade_cot:AdeCot",
        "refine": "eacps.search.strategies.refine:Refine",
    },
    problem=_problem,
)

STEERED: Final = ("more", "children", "finish")
"""What the review panel plans. These begin with candidates of earlier searches, so EACPS_STRATEGY
cannot name them."""


@dataclass(frozen=True, slots=True)
class Description:
    """A one-sentence summary of a strategy, and its parameters."""

    name: str
    summary: str
    parameters: tuple[Parameter, ...]


def names() -> tuple[str, ...]:
    """The names of all strategies, the built-in ones first."""
    return STRATEGIES.names()


def describe(name: str) -> Description:
    """What the strategy does and which parameters it takes."""
    strategy = STRATEGIES.get(name)
    summary = (getdoc(strategy) or name).splitlines()[0]
    return Description(name, summary, parameters(strategy.Params))


def budget(plan: SearchPlan) -> int:
    """The number of trials that the plan begins when nothing fails."""
    return _params(plan).budget


def with_budget(plan: SearchPlan, candidates: int) -> SearchPlan:
    """The same plan, with its parameters changed so that it begins at most so many candidates;
    raises SettingsError if its strategy cannot do with so few."""
    params = _params(plan)
    within: Any = getattr(params, "within", None)
    if within is None:
        raise SettingsError(
            f"The strategy '{plan.strategy}' does not know how to spend a budget.",
            hint="Set its parameters instead of a budget.",
        )
    changed = replace(plan, params={**plan.params, **within(candidates)})
    if budget(changed) > candidates and not getattr(params, "budgets_average", False):
        raise SettingsError(
            f"The strategy '{plan.strategy}' cannot do with {candidates} candidates.",
            hint=f"It needs {budget(changed)} or more.",
        )
    return changed


def cost(plan: SearchPlan) -> float:
    """The most that the plan spends on denoising when nothing fails, in full renders.

    A strategy that stops early spends less: compare such strategies by the NFE they really spent.
    """
    params = _params(plan)
    own = getattr(params, "cost", None)
    return float(own(plan.steps)) if own else float(params.budget)


def stops_early(plan: SearchPlan) -> bool:
    """Whether the plan may begin fewer trials than its budget when nothing fails."""
    return bool(getattr(_params(plan), "stops_early", False))


def create(plan: SearchPlan) -> Strategy:
    """Begin the search that the plan describes; raises SettingsError if the plan is invalid."""
    params = _params(plan)
    if not isinstance(plan.steps, int) or plan.steps < 1:
        raise SettingsError(
            f"A render needs at least one step, not {short(plan.steps)}.",
            hint="Set EACPS_STEPS to 2 or more.",
        )
    if not isinstance(plan.seed, int) or not -SEED_LIMIT <= plan.seed < SEED_LIMIT:
        raise SettingsError(
            f"The seed of the search is {short(plan.seed)}, which is not a 64-bit whole number.",
            hint="Set EACPS_SEED, or the task's own seed, to a number such as 0.",
        )
    return _class(plan.strategy)(
        params, seed=plan.seed, batch_size=plan.batch_size, steps=plan.steps
    )


def _params(plan: SearchPlan) -> Params:
    if not isinstance(plan.strategy, str):
        raise SettingsError(f"There is no strategy {short(plan.strategy)}.", hint=_names())
    kind = _class(plan.strategy).Params
    what, setting = f"The parameters of strategy '{plan.strategy}'", "EACPS_STRATEGY_PARAMS"
    params: Params = checked(kind, plan.params, what=what, setting=setting)
    if params.budget > MAX_TRIALS:
        problem = f"They ask for {params.budget} trials; the maximum is {MAX_TRIALS}."
        raise refusal(kind, problem, what, setting)
    return params


def _class(name: str) -> StrategyClass:
    if name not in STEERED:
        return STRATEGIES.get(name)
    from eacps.search.strategies import steered

    return steered.STRATEGIES[name]


def _names() -> str:
    return f"Set {SETTING} to one of: {', '.join(names())}."
