"""Strategies by name: made from a plan, described for people, extended by other packages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from inspect import getdoc
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from eacps.domain import SearchPlan
from eacps.errors import SettingsError
from eacps.search.protocol import Params, Strategy, StrategyClass
from eacps.search.strategies.ade_cot import AdeCot
from eacps.search.strategies.auto import Auto
from eacps.search.strategies.best_of_n import BestOfN
from eacps.search.strategies.eacps import Eacps
from eacps.search.strategies.halving import Halving
from eacps.search.strategies.random_rounds import RandomRounds
from eacps.search.strategies.refine import Refine
from eacps.search.strategies.waves import Waves
from eacps.search.strategies.zero_order import ZeroOrder

STRATEGIES: Final[dict[str, StrategyClass]] = {
    "auto": Auto,
    "best_of_n": BestOfN,
    "random": RandomRounds,
    "eacps": Eacps,
    "zero_order": ZeroOrder,
    "halving": Halving,
    "waves": Waves,
    "ade_cot": AdeCot,
    "refine": Refine,
}
ENTRY_POINT_GROUP: Final = "eacps.strategies"
MAXIMUM_TRIALS: Final = 1_000_000
SEED_LIMIT: Final = 2**63
KINDS: Final = {
    "integer": "whole number",
    "number": "number",
    "string": "text",
    "boolean": "true or false",
    "array": "list",
    "object": "names with numbers",
}


@dataclass(frozen=True, slots=True)
class Parameter:
    """One setting of a strategy, for docs, the command line and error messages."""

    name: str
    kind: str
    default: Any
    help: str
    minimum: float | None = None
    maximum: float | None = None
    above: float | None = None
    below: float | None = None
    choices: tuple[Any, ...] = ()

    @property
    def allowed(self) -> str:
        """The allowed values, in words."""
        if self.choices:
            return " or ".join(f"`{choice}`" for choice in self.choices)
        kind = KINDS.get(self.kind, self.kind)
        if self.minimum is not None and self.maximum is not None:
            return f"{kind}, {self.minimum} to {self.maximum}"
        limits = {
            "at least": self.minimum,
            "above": self.above,
            "at most": self.maximum,
            "below": self.below,
        }
        stated = [f"{words} {limit}" for words, limit in limits.items() if limit is not None]
        return ", ".join([kind, *stated])


@dataclass(frozen=True, slots=True)
class Description:
    """A strategy in one sentence, with its settings."""

    name: str
    summary: str
    parameters: tuple[Parameter, ...]


def names() -> tuple[str, ...]:
    """Every strategy that `EACPS_STRATEGY` may name: the built-in ones first."""
    others = {point.name for point in entry_points(group=ENTRY_POINT_GROUP)}
    return (*STRATEGIES, *sorted(others - STRATEGIES.keys()))


def describe(name: str) -> Description:
    """What the strategy does and which settings it takes."""
    strategy = _strategy(name)
    summary = (getdoc(strategy) or name).splitlines()[0]
    return Description(name, summary, _parameters(strategy.Params))


def budget(plan: SearchPlan) -> int:
    """How many trials the plan uses when nothing fails."""
    return _params(plan).budget


def cost(plan: SearchPlan) -> float:
    """What the plan spends on denoising, in full renders: at most, and when nothing fails.

    Strategies that may stop early spend less; at equal NFE they are compared by what they spent.
    """
    params = _params(plan)
    own = getattr(params, "cost", None)
    return float(own(plan.steps)) if own else float(params.budget)


def create(plan: SearchPlan) -> Strategy:
    """A new search as planned; raises SettingsError when the plan makes no sense."""
    params = _params(plan)
    if not isinstance(plan.steps, int) or plan.steps < 1:
        raise SettingsError(
            f"A render of {_short(plan.steps)} steps is none.", hint="Set EACPS_STEPS to 2 or more."
        )
    if not isinstance(plan.seed, int) or not -SEED_LIMIT <= plan.seed < SEED_LIMIT:
        raise SettingsError(
            f"The search's seed is {_short(plan.seed)}, which is not a 64-bit whole number.",
            hint="Set EACPS_SEED, or the task's own seed, to a number such as 0.",
        )
    return _strategy(plan.strategy)(
        params, seed=plan.seed, batch_size=plan.batch_size, steps=plan.steps
    )


def _strategy(name: str) -> StrategyClass:
    if isinstance(name, str) and name in STRATEGIES:
        return STRATEGIES[name]
    for point in entry_points(group=ENTRY_POINT_GROUP):
        if point.name == name:
            return _loaded(point)
    raise SettingsError(
        f"There is no strategy {_short(name)}.",
        hint=f"Set EACPS_STRATEGY to one of: {', '.join(names())}.",
    )


def _loaded(point: EntryPoint) -> StrategyClass:
    hint = "Repair or remove that package, or set EACPS_STRATEGY to another strategy."
    try:
        strategy = point.load()
    except Exception as error:  # whatever a stranger's module raises while it is imported
        raise SettingsError(
            f"The strategy '{point.name}' ({point.value}) could not be loaded: {error!r}.",
            hint=hint,
        ) from error
    if not callable(strategy) or not hasattr(getattr(strategy, "Params", None), "budget"):
        raise SettingsError(
            f"The strategy '{point.name}' ({point.value}) has no Params class with a budget.",
            hint=hint,
        )
    return strategy  # type: ignore[no-any-return]


def _params(plan: SearchPlan) -> Params:
    strategy = _strategy(plan.strategy)
    if not isinstance(plan.params, Mapping):
        raise _refusal(plan, f"They are {_short(plan.params)}, not names with values.")
    allowed = {parameter.name for parameter in _parameters(strategy.Params)}
    for name in plan.params:
        if name not in allowed:
            raise _refusal(plan, f"There is no parameter {_short(name)}.")
    try:
        params: Params = strategy.Params(**plan.params)
    except ValidationError as error:
        raise _refusal(plan, _first_problem(error)) from error
    if params.budget > MAXIMUM_TRIALS:
        raise _refusal(plan, f"They ask for {params.budget} trials, over {MAXIMUM_TRIALS}.")
    return params


def _first_problem(error: ValidationError) -> str:
    problem = error.errors(include_url=False)[0]
    message = problem["msg"].removeprefix("Value error, ")
    if not problem["loc"]:
        return f"{message}."
    return f"{problem['loc'][0]} is {_short(problem['input'])}: {message}."


def _refusal(plan: SearchPlan, problem: str) -> SettingsError:
    parameters = _parameters(_strategy(plan.strategy).Params)
    allowed = "; ".join(f"{parameter.name}: {parameter.allowed}" for parameter in parameters)
    return SettingsError(
        f"The parameters of strategy '{plan.strategy}' are wrong. {problem}",
        hint=f"Change EACPS_STRATEGY_PARAMS. Allowed: {allowed or 'none'}.",
    )


_described: dict[type[Any], tuple[Parameter, ...]] = {}


def _parameters(params: type[Any]) -> tuple[Parameter, ...]:
    # A schema costs milliseconds, and every plan is checked against it.
    if params not in _described:
        facts = TypeAdapter(params).json_schema().get("properties", {})
        _described[params] = tuple(_parameter(name, each) for name, each in facts.items())
    return _described[params]


def _parameter(name: str, facts: Mapping[str, Any]) -> Parameter:
    return Parameter(
        name=name,
        kind=facts.get("type", "value"),
        default=facts.get("default"),
        help=facts.get("description", ""),
        minimum=facts.get("minimum"),
        maximum=facts.get("maximum"),
        above=facts.get("exclusiveMinimum"),
        below=facts.get("exclusiveMaximum"),
        choices=tuple(facts.get("enum", ())),
    )


def _short(value: object) -> str:
    try:
        text = repr(value)
    except Exception:  # an integer of 5,000 digits has no repr
        text = f"an unprintable {type(value).__name__}"
    return text if len(text) <= 60 else f"{text[:57]}..."
