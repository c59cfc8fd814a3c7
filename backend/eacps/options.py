"""Typed options: described for people, and checked with errors that name the setting to change."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, is_dataclass
from typing import Any, Final, TypeVar, cast

from pydantic import PydanticUserError, TypeAdapter, ValidationError
from pydantic.dataclasses import is_pydantic_dataclass

from eacps.errors import SettingsError

T = TypeVar("T")

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
    """One option of a strategy or plug-in, for docs, the command line and error messages."""

    name: str
    kind: str
    default: Any
    help: str
    minimum: float | None = None
    maximum: float | None = None
    above: float | None = None
    below: float | None = None
    choices: tuple[Any, ...] = ()
    secret: bool = False

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


_described: dict[type[Any], tuple[Parameter, ...]] = {}


def parameters(kind: type[Any]) -> tuple[Parameter, ...]:
    """The options that a dataclass or pydantic model stands for; raises SettingsError for a class
    that is neither, or that no JSON can fill."""
    # A schema costs milliseconds, and every plan is checked against it.
    if kind not in _described:
        try:
            schema = TypeAdapter(kind).json_schema()
        except PydanticUserError as error:
            problem = str(error).split(". ", maxsplit=1)[0].splitlines()[0]
            raise SettingsError(
                f"{kind.__module__}:{kind.__qualname__} cannot be read from JSON: {problem}.",
                hint="Options are a dataclass or a pydantic model of values that JSON has.",
            ) from None
        parts = schema.get("$defs", {})
        # A class that holds values of its own kind is itself one of the parts.
        facts = parts.get(_part(schema), schema).get("properties", {})
        _described[kind] = tuple(_parameter(name, each, parts) for name, each in facts.items())
    return _described[kind]


def checked(kind: type[T], raw: Any, *, what: str, setting: str, hidden: Collection[str] = ()) -> T:
    """Raw JSON as `kind`; raises SettingsError saying what is wrong and what is allowed.

    `what` names the options in a sentence, such as "The parameters of strategy 'eacps'"; `hidden`
    are options whose values no error may show, besides those that are secret.
    """
    if not isinstance(raw, Mapping):
        problem = f"They are {short(raw)}, not names with values."
        raise refusal(kind, problem, what, setting)
    allowed = {parameter.name for parameter in parameters(kind)}
    for name in raw:
        if name not in allowed:
            problem = f"There is no parameter {short(name)}."
            raise refusal(kind, problem, what, setting)
    try:
        if is_dataclass(kind) and not is_pydantic_dataclass(kind):
            return cast(T, TypeAdapter(kind).validate_python(dict(raw)))
        return cast(T, kind(**raw))
    except ValidationError as error:
        secret = {parameter.name for parameter in parameters(kind) if parameter.secret}
        # Not `from error`: it holds every value, and a traceback would show them.
        raise refusal(kind, _first_problem(error, {*secret, *hidden}), what, setting) from None


def from_environment(raw: Mapping[str, Any], setting: str) -> dict[str, Any]:
    """The same options with each text `$NAME`, also within lists and tables, replaced by that
    environment variable: keys and tokens then stand in no settings file, and in no fingerprint."""
    return {name: _from_environment(value, setting) for name, value in raw.items()}


def short(value: object) -> str:
    """A value for an error message."""
    try:
        text = repr(value)
    except Exception:  # an integer of 5,000 digits has no repr
        text = f"an unprintable {type(value).__name__}"
    return text if len(text) <= 60 else f"{text[:57]}..."


def shown(options: Any, written: Mapping[str, Any]) -> dict[str, str]:
    """Every option's value for people, without what is secret. `written` are the options as the
    setting has them: of what is taken from the environment only the variable's name is shown."""
    values = TypeAdapter(type(options)).dump_python(options, by_alias=True, warnings=False)
    found = {}
    for parameter in parameters(type(options)):
        value, as_written = values[parameter.name], str(written.get(parameter.name))
        if parameter.secret:
            found[parameter.name] = "(set)" if value else ""
        else:
            text = "" if value is None else str(value)
            found[parameter.name] = as_written if "$" in as_written else text
    return found


def _from_environment(value: Any, setting: str) -> Any:
    if isinstance(value, Mapping):
        return from_environment(value, setting)
    if isinstance(value, list):
        return [_from_environment(each, setting) for each in value]
    if not (isinstance(value, str) and value.startswith("$") and len(value) > 1):
        return value
    name = value[1:]
    if name not in os.environ:
        raise SettingsError(
            f"{setting} takes a value from the environment variable {name}, which is not set.",
            hint=f"Set {name} for the workers.",
        )
    return os.environ[name]


def _first_problem(error: ValidationError, hidden: Collection[str]) -> str:
    problem = error.errors(include_url=False)[0]
    message = problem["msg"].removeprefix("Value error, ")
    if not problem["loc"]:
        return f"{message}."
    name = str(problem["loc"][0])
    if problem["type"] == "missing":
        # Its input are all the others.
        return f"{'.'.join(map(str, problem['loc']))} is missing."
    value = "" if name in hidden else f" is {short(problem['input'])}"
    return f"{name}{value}: {message}."


def refusal(kind: type[Any], problem: str, what: str, setting: str) -> SettingsError:
    """The error for wrong options: what is wrong, and everything that is allowed."""
    allowed = "; ".join(f"{each.name}: {each.allowed}" for each in parameters(kind))
    return SettingsError(
        f"{what} are wrong. {problem}", hint=f"Change {setting}. Allowed: {allowed or 'none'}."
    )


def _parameter(name: str, facts: Mapping[str, Any], parts: Mapping[str, Any]) -> Parameter:
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
        secret=_holds_secret(facts, parts),
    )


def _holds_secret(facts: Any, parts: Mapping[str, Any], seen: frozenset[str] = frozenset()) -> bool:
    """Whether a value is secret, or may hold one: `SecretStr | None`, a list of them, a table."""
    if isinstance(facts, list):
        return any(_holds_secret(each, parts, seen) for each in facts)
    if not isinstance(facts, Mapping):
        return False
    part = _part(facts)
    if part and part not in seen and _holds_secret(parts.get(part), parts, seen | {part}):
        return True
    return bool(facts.get("writeOnly")) or _holds_secret(list(facts.values()), parts, seen)


def _part(facts: Mapping[str, Any]) -> str:
    """The part of a schema that these facts refer to; empty if to none."""
    return str(facts.get("$ref", "")).rpartition("/")[2]
