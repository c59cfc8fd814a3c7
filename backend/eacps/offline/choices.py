"""The options of `eacps run` that choose settings, such as --strategy and --set NAME=VALUE."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from eacps.domain import SearchPlan
from eacps.errors import SettingsError
from eacps.files import parsed_json
from eacps.offline.tt_scale_flux import RunConfig
from eacps.search import budget, describe
from eacps.settings import Settings, field_of, load_settings, variable_names

_COUNTS = ("n", "renders", "k", "rounds", "waves", "k_local", "max_steps")
"""Parameters that say how many candidates a strategy tries, in the order of preference."""
MOST_CANDIDATES = 4096


@dataclass(frozen=True)
class Choices:
    """What the options choose; empty where they were not given."""

    strategy: str = ""
    seed: int | None = None
    candidates: int | None = None
    devices: str = ""
    others: Sequence[str] = field(default_factory=tuple)
    """Texts such as `steps=8` or `EACPS_STEPS=8`."""

    def added_to(self, config: RunConfig) -> RunConfig:
        """The config of a run with these choices, which are stronger than its file."""
        given = dict(self._given())
        chosen = {**config.chosen, **{name: value for name, (_, value) in given.items()}}
        keys = {**config.keys, **{name: option for name, (option, _) in given.items()}}
        if self.strategy and "strategy_params" not in given:
            # Those of the environment or of the file belong to another strategy.
            before = self._strategy_before(config)
            if before != self.strategy:
                chosen["strategy_params"] = {}
        asked = replace(config, chosen=chosen, keys=keys, options=frozenset(given))
        if self.candidates is None:
            return asked
        settings = asked.settings()
        params = params_for(settings, self.candidates)
        return replace(asked, chosen={**chosen, "strategy_params": params})

    @staticmethod
    def _strategy_before(config: RunConfig) -> str:
        return str(config.chosen.get("strategy") or load_settings().strategy)

    def _given(self) -> Iterator[tuple[str, tuple[str, Any]]]:
        for text in self.others:
            name, equals, value = text.partition("=")
            if not equals or not name.strip():
                raise SettingsError(
                    f"--set {text!r} is not NAME=VALUE.", hint="Write --set steps=8, for example."
                )
            yield _chosen(name.strip(), value.strip())
        if self.devices:
            yield "devices", ("--devices", self.devices)
        if self.strategy:
            yield "strategy", ("--strategy", self.strategy)
        if self.seed is not None:
            yield "seed", ("--seed", self.seed)


def _chosen(name: str, value: str) -> tuple[str, tuple[str, Any]]:
    try:
        found = field_of(name.lower().removeprefix("eacps_"))
    except SettingsError as error:
        raise SettingsError(f"--set {name}: {error.message}", hint=error.hint) from None
    if not value:
        raise SettingsError(f"--set {name}= has no value.", hint=f"Write --set {name}=VALUE.")
    option = f"--set {name}"
    if isinstance(Settings.model_fields[found].default, dict):
        try:
            return found, (option, parsed_json(value))
        except ValueError:
            raise SettingsError(
                f"{option}: {value[:80]} is not JSON.",
                hint=f"""Write --set {name}='{{"name": 1}}'; names and texts need double quotes.""",
            ) from None
    return found, (option, value)


def params_for(settings: Settings, candidates: int) -> dict[str, Any]:
    """The strategy's parameters, so changed that it tries so many candidates."""
    name, params = settings.strategy, dict(settings.strategy_params)
    there = [known.name for known in describe(name).parameters]
    near: set[int] = set()
    for count in (each for each in _COUNTS if each in there):
        for value in range(1, MOST_CANDIDATES + 1):
            changed = {**params, count: value}
            number = _budget(SearchPlan(name, changed))
            if number == candidates:
                return changed
            near |= {number} if number else set()
            if number and number > candidates:
                break
    raise SettingsError(
        f"--candidates {candidates}: the strategy {name} {_possible(near, candidates)}.",
        hint="Choose one of those, another --strategy, or --set strategy_params='{…}'.",
    )


def _budget(plan: SearchPlan) -> int | None:
    try:
        return budget(plan)
    except SettingsError:
        return None


def _possible(numbers: set[int], wanted: int) -> str:
    below = [number for number in numbers if number < wanted]
    above = [number for number in numbers if number > wanted]
    nearest = [str(number) for number in (*sorted(below)[-1:], *sorted(above)[:1])]
    if not nearest:
        return "has no number of candidates that can be chosen"
    return f"can try {' or '.join(nearest)} candidates"


def as_variables(chosen: Mapping[str, Any]) -> dict[str, str]:
    """Environment variables that give another process these settings."""
    return {
        variable_names(name)[0]: value if isinstance(value, str) else json.dumps(value)
        for name, value in chosen.items()
    }
