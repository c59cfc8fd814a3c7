"""What a project and a task choose for themselves, within the server's limits.

A name is that of the server's setting in lower case, e.g. `eacps_steps`: in a task's data, as an
attribute of a View in the label config, and in the ML backend's `extra_params`, where it may also
be without `eacps_`. All values are untrusted.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, Literal

from pydantic import TypeAdapter

from eacps.domain import SearchPlan
from eacps.errors import SettingsError, TaskError
from eacps.labelstudio.tasks.columns import COLUMNS, columns_of, is_column
from eacps.labelstudio.tasks.regions import attributes_of_views, mapping, text
from eacps.options import short
from eacps.plugins import STRATEGIES, identity, is_reference
from eacps.search import budget, create, with_budget
from eacps.settings import Settings

PREFIX: Final = "eacps_"
BUDGET: Final = "budget"
INSTRUCTION: Final = "default_instruction"
ROUTE: Final = "route"
MAX_CHARACTERS: Final = 10_000
MAX_EXTRA_CHARACTERS: Final = 20_000
BAD_CHOICE: Final = "bad_choice"
_OURS: Final = ("eacps_state",)
"""Fields of a task's data that deliveries write."""
_TEXTS: Final = ("strategy", INSTRUCTION, ROUTE, *COLUMNS)
_TEXT: Final = TypeAdapter(str)
_NUMBER: Final = TypeAdapter(int)
_KINDS: Final[Mapping[str, tuple[TypeAdapter[Any], str]]] = {
    "strategy": (_TEXT, "the name of a strategy"),
    "strategy_params": (TypeAdapter(dict[str, Any]), "a JSON object"),
    BUDGET: (_NUMBER, "a whole number"),
    "steps": (_NUMBER, "a whole number"),
    "seed": (_NUMBER, "a whole number"),
    "potential": (TypeAdapter(Literal["eacps", "weighted"]), "`eacps` or `weighted`"),
    "weights": (TypeAdapter(dict[str, float]), "a JSON object of numbers"),
    INSTRUCTION: (_TEXT, "a text"),
    ROUTE: (_TEXT, "a text"),
    **dict.fromkeys(COLUMNS, (_TEXT, "the name of a field")),
}
NAMES: Final = tuple(_KINDS)
_SEARCH: Final = ("strategy", "strategy_params", BUDGET, "steps", "seed", "potential", "weights")
"""What decides about results; the rest decides what is read from a task."""
_FOR_TASKS: Final = tuple(name for name in NAMES if name != INSTRUCTION)
_RENDERED: Final = ("steps", "potential", "weights")
"""Settings that workers read from the task instead of from their own settings."""

Raw = Mapping[str, Any]


class ChoiceError(TaskError):
    """A project or a task asks for what it may not, or for what does not exist."""

    code = BAD_CHOICE


@dataclass(frozen=True)
class Choices:
    """What a project and a task choose; `refused` says why it cannot be."""

    columns: Mapping[str, str]
    project: Mapping[str, Any]
    task: Mapping[str, Any]
    default_instruction: str = ""
    task_route: str = ""
    project_route: str = ""
    refused: str = ""


def choices_of(
    data: Mapping[str, Any], label_config: Any, extra_params: Any, settings: Settings
) -> Choices:
    """The choices for a task. Never raises: a task that is refused says so when it is prepared."""
    try:
        extra = _from_extra(extra_params)
        config = _from_config(text(label_config))
        own = _from_task(data)
    except ChoiceError as error:
        columns = columns_of(data, label_config, {}, settings)
        return Choices(columns, {}, {}, settings.default_instruction, refused=str(error))
    project = over(extra, config)
    named = {name: value for name, value in {**project, **own}.items() if is_column(name)}
    return Choices(
        columns_of(data, label_config, named, settings),
        _of_search(project),
        _of_search(own),
        project.get(INSTRUCTION, settings.default_instruction),
        own.get(ROUTE, ""),
        project.get(ROUTE, ""),
    )


def over(lower: Raw, upper: Raw) -> dict[str, Any]:
    """The choices of two levels as one: another strategy does not inherit parameters, and
    parameters replace a budget."""
    kept = dict(lower)
    if upper.get("strategy", kept.get("strategy")) != kept.get("strategy"):
        kept.pop("strategy_params", None)
    if "strategy_params" in upper:
        kept.pop(BUDGET, None)
    if "weights" in upper:
        kept.pop("potential", None)
    return {**kept, **upper}


def applied(settings: Settings, choices: Raw, *, run_plugins: bool = True) -> Settings:
    """The settings with these choices; raises ChoiceError if the server does not allow them.

    Without `run_plugins`, as in the web process, nothing is asked that runs the code of plug-ins.
    """
    if not choices:
        return settings
    try:
        return _applied(settings, choices, run_plugins)
    except ChoiceError:
        raise
    except SettingsError as error:
        raise ChoiceError(f"{_words(choices)}: {error}") from None


def for_workers(settings: Settings, effective: Settings) -> dict[str, Any]:
    """What workers need to know, of settings that are not the server's."""
    found = {name: getattr(effective, name) for name in _RENDERED}
    return {name: value for name, value in found.items() if value != getattr(settings, name)}


def extra_params_text(given: Any) -> str:
    """`extra_params` as they are remembered. What is not an object is remembered as that, so that
    tasks say so."""
    try:
        content = _extra_object(given)
    except ChoiceError:
        return json.dumps("not an object")
    return json.dumps(content, sort_keys=True) if content else ""


def _applied(settings: Settings, choices: Raw, run_plugins: bool) -> Settings:
    changes = {name: choices[name] for name in ("steps", "seed", "potential") if name in choices}
    if "weights" in choices:
        changes |= {
            "weights": choices["weights"],
            "potential": changes.get("potential", "weighted"),
        }
    plan = _plan(settings, choices)
    changes |= {"strategy": plan.strategy, "strategy_params": dict(plan.params)}
    effective = settings.changed(changes)
    _require_steps(settings, effective)
    if run_plugins or is_built_in(effective.strategy):
        create(effective.plan)
        _require_few(settings, plan, choices, run_plugins)
    if run_plugins and "potential" in changes:
        _require_metrics(settings, effective)
    return effective


def is_built_in(strategy: str) -> bool:
    """Whether a strategy is not one of a plug-in."""
    return not is_reference(strategy) and not identity(strategy, STRATEGIES)


def _limit(settings: Settings, run_plugins: bool) -> int:
    known = run_plugins or is_built_in(settings.strategy)
    return max(settings.max_candidates, budget(settings.plan) if known else 0)


def _require_few(settings: Settings, plan: SearchPlan, choices: Raw, run_plugins: bool) -> None:
    limit = _limit(settings, run_plugins)
    if budget(plan) > limit:
        raise ChoiceError(
            f"{_words(choices)}: the search would begin {budget(plan):,} candidates; the server "
            f"allows {limit:,}.",
            hint="Ask for fewer, or ask the administrator to raise EACPS_MAX_CANDIDATES.",
        )


def _plan(settings: Settings, choices: Raw) -> SearchPlan:
    strategy = choices.get("strategy", settings.strategy)
    if is_reference(strategy) and strategy != settings.strategy:
        raise ChoiceError(
            f"The strategy {short(strategy)} is a file or module, which only the server's "
            "EACPS_STRATEGY may name.",
            hint="Use the name of an installed strategy.",
        )
    params = settings.strategy_params if strategy == settings.strategy else {}
    plan = SearchPlan(
        strategy,
        choices.get("strategy_params", params),
        choices.get("seed", settings.seed),
        settings.editor_batch_size,
        choices.get("steps", settings.steps),
    )
    if BUDGET not in choices:
        return plan
    if choices[BUDGET] < 1:
        raise ChoiceError("A search needs a budget of at least 1.", hint="Correct `eacps_budget`.")
    if not is_built_in(strategy):
        raise ChoiceError(
            f"The strategy {short(strategy)} of a plug-in takes no budget.",
            hint="Set its parameters with `eacps_strategy_params`.",
        )
    # Before it is spent: parameters have limits of their own, with other words.
    limit = _limit(settings, is_built_in(settings.strategy))
    return with_budget(plan, min(choices[BUDGET], limit + 1))


def _require_steps(settings: Settings, effective: Settings) -> None:
    if effective.steps == settings.steps:
        return
    if {"sigmas", "timesteps"} & settings.pipeline_args.keys():
        raise ChoiceError(
            "The number of steps cannot be chosen: EACPS_PIPELINE_ARGS of the server fixes them.",
            hint="Remove `eacps_steps`.",
        )
    limit = max(settings.max_steps, settings.steps)
    if not 2 <= effective.steps <= limit:
        raise ChoiceError(
            f"`eacps_steps` is {short(effective.steps)}; the server allows 2 to {limit}.",
            hint="Correct it, or ask the administrator to raise EACPS_MAX_STEPS.",
        )


def _require_metrics(settings: Settings, effective: Settings) -> None:
    from eacps.runner.potentials import measured_metrics, potential_of

    asked = potential_of(effective, "edit", with_reference=False).metric_names
    measured = measured_metrics(settings)
    missing = [name for name in asked if name not in measured]
    if missing:
        raise ChoiceError(
            f"The potential needs {', '.join(missing)}, which this server does not measure; it "
            f"measures {', '.join(sorted(measured))}.",
            hint="Use these in `eacps_weights`, or ask the administrator to add the scorer with "
            "EACPS_SCORERS.",
        )


def _words(choices: Raw) -> str:
    named = [f"`{PREFIX}{name}`" for name in choices if name in _SEARCH]
    return f"The choice of {', '.join(named)}"


def _of_search(raw: Raw) -> dict[str, Any]:
    return {name: raw[name] for name in _SEARCH if name in raw}


def _from_task(data: Mapping[str, Any]) -> dict[str, Any]:
    found = {name: data[name] for name in data if name.startswith(PREFIX) and name not in _OURS}
    if not found:
        return {}
    return dict(_read(found, "The task's field `{}`", known_only=True, allowed=_FOR_TASKS))


@lru_cache(maxsize=8)
def _from_config(label_config: str) -> Raw:
    found: dict[str, str] = {}
    for name, value in attributes_of_views(label_config):
        if name.lower().startswith(PREFIX):
            found.setdefault(name.lower(), value)
    return dict(_read(found, "The label config's attribute `{}`"))


def _from_extra(extra_params: Any) -> Raw:
    found = _extra_object(extra_params)
    named = {f"{PREFIX}{name.lower().removeprefix(PREFIX)}": found[name] for name in found}
    return dict(_read(named, "`{}` in the ML backend's extra_params"))


def _extra_object(given: Any) -> Mapping[str, Any]:
    if given in (None, ""):
        return {}
    try:
        content = json.loads(given) if isinstance(given, str) else given
        size = len(json.dumps(content))
    except (ValueError, TypeError, RecursionError):
        content, size = None, 0
    if not isinstance(content, dict) or size > MAX_EXTRA_CHARACTERS:
        raise ChoiceError(
            "The ML backend's extra_params are not a JSON object of at most "
            f"{MAX_EXTRA_CHARACTERS:,} characters.",
            hint='Write them as {"eacps_strategy": "eacps", "eacps_budget": 16}.',
        )
    return content


def _read(
    found: Mapping[str, Any],
    where: str,
    *,
    known_only: bool = False,
    allowed: tuple[str, ...] = NAMES,
) -> Iterator[tuple[str, Any]]:
    for written, value in found.items():
        name = written.removeprefix(PREFIX)
        place = where.format(written[:60])
        if value in (None, "") and not isinstance(value, bool):
            continue
        if name in allowed:
            yield name, _parsed(name, value, place)
        elif name in NAMES or name in Settings.model_fields:
            raise ChoiceError(
                f"{place}: this is for the {'project' if name in NAMES else 'server'} to set.",
                hint=f"Remove it. EACPS_{name.upper()} is the server's setting.",
            )
        elif nearest := difflib.get_close_matches(name[:60], allowed, n=1, cutoff=0.8):
            raise ChoiceError(f"{place}: there is no such setting.",
                              hint=f"Did you mean `{PREFIX}{nearest[0]}`?")  # fmt: skip
        elif not known_only:
            raise ChoiceError(
                f"{place}: there is no such setting.",
                hint=f"There are: {', '.join(PREFIX + each for each in allowed)}.",
            )


def _parsed(name: str, value: Any, place: str) -> Any:
    kind, words = _KINDS[name]
    is_json = name not in _TEXTS and name != "potential"
    try:
        content = json.loads(_short(value)) if is_json and isinstance(value, str) else value
        parsed = kind.validate_python(content, strict=True)
        _short(json.dumps(parsed, allow_nan=False))
    except (ValueError, RecursionError):
        raise ChoiceError(
            f"{place} is {short(value)}, which is not {words}.", hint="Correct it."
        ) from None
    if name == "seed" and not 0 <= parsed < 2**63:
        raise ChoiceError(f"{place} must be from 0 to 2^63 - 1.", hint="Correct it.")
    return parsed.strip() if isinstance(parsed, str) else parsed


def _short(value: str) -> str:
    if len(value) > MAX_CHARACTERS:
        raise ValueError("too long")
    return value


def version_of(settings: Settings, project: Raw) -> str:
    """The model version of a project's results; the server's, if its choices are refused."""
    try:
        return effective(settings, project).model_version
    except ChoiceError:
        return settings.model_version


def effective(settings: Settings, choices: Raw) -> Settings:
    """The same as `applied` without plug-ins, remembered: a request may hold thousands of tasks."""
    if not choices:
        return settings
    found = _remembered(Server(settings), json.dumps(choices, sort_keys=True))
    if isinstance(found, ChoiceError):
        raise ChoiceError(found.message, hint=found.hint)
    return found


def problem_with(settings: Settings, choices: Raw) -> str:
    """Why the server does not allow these choices, or an empty string."""
    try:
        effective(settings, choices)
    except ChoiceError as error:
        return str(error)
    return ""


@dataclass(frozen=True, eq=False)
class Server:
    """The server's settings as a key: settings hold dicts, so they have no hash."""

    settings: Settings

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Server) and self.settings is other.settings

    def __hash__(self) -> int:
        return id(self.settings)


@lru_cache(maxsize=256)
def _remembered(server: Server, choices: str) -> Settings | ChoiceError:
    try:
        return applied(server.settings, mapping(json.loads(choices)), run_plugins=False)
    except ChoiceError as error:
        return error
