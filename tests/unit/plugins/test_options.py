"""Typed options: what is allowed is described, what is wrong is named, what is secret is hidden."""

from __future__ import annotations

import traceback
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import pydantic
import pytest
from pydantic import BaseModel, Field, SecretStr

from eacps.errors import SettingsError
from eacps.options import checked, from_environment, parameters, shown

PASSWORD = "correct-horse-battery-staple"


class Model(BaseModel):
    side: int = Field(512, ge=16, le=4096, description="longer side, in pixels")
    share: float = Field(0.5, gt=0, lt=1)
    mode: Literal["fast", "fine"] = "fast"
    name: str | None = None


@dataclass
class Plain:
    side: Annotated[int, Field(ge=16, le=4096, description="longer side, in pixels")] = 512
    share: Annotated[float, Field(gt=0, lt=1)] = 0.5
    mode: Literal["fast", "fine"] = "fast"
    name: str | None = None


@pydantic.dataclasses.dataclass
class Pydantic(Plain):
    pass


class Account(BaseModel):
    user: str = ""
    password: SecretStr = SecretStr("")


class Secrets(BaseModel):
    token: SecretStr = SecretStr("")
    maybe: SecretStr | None = None
    many: list[SecretStr] = []
    account: Account = Account()
    headers: dict[str, str] = {}
    limit: int = 3


every_kind = pytest.mark.parametrize("kind", [Model, Plain, Pydantic])


def options(kind: type[Any], **raw: Any) -> Any:
    return checked(kind, raw, what="The options of judge 'x'", setting="EACPS_PLUGIN_OPTIONS")


def refused(kind: type[Any], raw: Any, hidden: tuple[str, ...] = ()) -> SettingsError:
    with pytest.raises(SettingsError) as caught:
        checked(kind, raw, what="The options of judge 'x'", setting="EACPS_TEST", hidden=hidden)
    return caught.value


@every_kind
def test_options_are_described_alike_whatever_declares_them(kind: type[Any]) -> None:
    found = {each.name: each for each in parameters(kind)}
    assert {name: each.allowed for name, each in found.items()} == {
        "side": "whole number, 16 to 4096",
        "share": "number, above 0, below 1",
        "mode": "`fast` or `fine`",
        "name": "value",
    }
    assert found["side"].help == "longer side, in pixels"
    assert [each.default for each in found.values()] == [512, 0.5, "fast", None]


@every_kind
def test_right_options_become_the_declared_type_and_the_rest_is_the_default(
    kind: type[Any],
) -> None:
    made = options(kind, side="64", mode="fine")
    assert type(made) is kind
    assert (made.side, made.share, made.mode, made.name) == (64, 0.5, "fine", None)


@every_kind
@pytest.mark.parametrize(
    ("raw", "words"),
    [
        ({"side": 15}, "side is 15: Input should be greater than or equal to 16."),
        ({"side": "wide"}, "side is 'wide': Input should be a valid integer"),
        ({"share": 1}, "share is 1: Input should be less than 1."),
        ({"mode": "slow"}, "mode is 'slow': Input should be 'fast' or 'fine'."),
        ({"sides": 64}, "There is no parameter 'sides'."),
        ({"side": "x" * 999}, "side is 'xxx"),
        ([64], "They are [64], not names with values."),
        (None, "They are None, not names with values."),
    ],
)
def test_what_is_wrong_is_said_with_all_that_is_allowed(
    kind: type[Any], raw: Any, words: str
) -> None:
    error = refused(kind, raw)
    assert error.message.startswith(f"The options of judge 'x' are wrong. {words}")
    assert len(error.message) < 300
    assert error.hint == (
        "Change EACPS_TEST. Allowed: side: whole number, 16 to 4096; share: number, above 0, "
        "below 1; mode: `fast` or `fine`; name: value."
    )


class Needs(BaseModel):
    url: str
    token: SecretStr


def test_what_is_missing_is_named_without_showing_the_others() -> None:
    error = refused(Needs, {"token": PASSWORD})
    assert "url is missing." in error.message
    assert PASSWORD not in str(error)


def test_a_rule_over_all_options_is_said_in_its_own_words() -> None:
    class Even(BaseModel):
        side: int = 2

        @pydantic.model_validator(mode="after")
        def _even(self) -> Even:
            if self.side % 2:
                raise ValueError("side must be even")
            return self

    assert "are wrong. side must be even." in refused(Even, {"side": 3}).message


class NoOptions:
    def __init__(self, side: int) -> None:
        self.side = side


@dataclass
class NotFromJson:
    judge: NoOptions = field(default_factory=lambda: NoOptions(3))


@pytest.mark.parametrize("kind", [NoOptions, NotFromJson])
def test_options_that_no_json_can_fill_are_the_authors_fault(kind: type[Any]) -> None:
    with pytest.raises(SettingsError, match=f"{kind.__name__} cannot be read from JSON") as caught:
        parameters(kind)
    assert "a dataclass or a pydantic model" in caught.value.hint


@pytest.mark.parametrize(
    "raw",
    [
        {"token": [PASSWORD]},
        {"maybe": {"is": PASSWORD}},
        {"many": [[PASSWORD]]},
        {"many": PASSWORD},
        {"account": {"password": [PASSWORD]}},
        {"account": PASSWORD},
        {"token": PASSWORD, "limit": "many"},
    ],
)
def test_no_error_shows_a_secret_nor_does_its_traceback(raw: dict[str, Any]) -> None:
    error = refused(Secrets, raw)
    assert next(iter(raw)) in error.message or "limit" in error.message
    assert PASSWORD not in "".join(traceback.format_exception(error))


def test_what_came_from_the_environment_is_shown_in_no_error() -> None:
    assert PASSWORD in refused(Secrets, {"limit": PASSWORD}).message
    error = refused(Secrets, {"limit": PASSWORD}, hidden=("limit",))
    assert "limit: Input should be a valid integer" in error.message
    assert PASSWORD not in "".join(traceback.format_exception(error))


def test_what_may_hold_a_secret_is_secret() -> None:
    secret = {each.name for each in parameters(Secrets) if each.secret}
    assert secret == {"token", "maybe", "many", "account"}


def test_options_that_hold_options_of_their_own_kind_are_described() -> None:
    assert {each.name: each.secret for each in parameters(Tree)} == {"next": True, "key": True}


class Tree(BaseModel):
    next: Tree | None = None
    key: SecretStr = SecretStr("")


def test_shown_values_are_those_in_use_but_never_a_secret() -> None:
    written = {
        "token": "$JUDGE_TOKEN",
        "many": [PASSWORD],
        "account": {"password": PASSWORD},
        "limit": 7,
    }
    made = options(Secrets, **{**written, "token": PASSWORD})
    assert shown(made, written) == {
        "token": "(set)",
        "maybe": "",
        "many": "(set)",
        "account": "(set)",
        "headers": "{}",
        "limit": "7",
    }
    assert shown(options(Secrets), {})["token"] == ""


def test_of_what_came_from_the_environment_only_the_variable_is_shown() -> None:
    written = {"headers": {"Authorization": "$JUDGE_TOKEN"}, "limit": "$JUDGE_LIMIT"}
    made = options(Secrets, headers={"Authorization": PASSWORD}, limit=9)
    told = shown(made, written)
    assert told["headers"] == "{'Authorization': '$JUDGE_TOKEN'}"
    assert told["limit"] == "$JUDGE_LIMIT"


def test_names_of_variables_are_replaced_wherever_they_stand(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("JUDGE_TOKEN", PASSWORD)
    raw = {
        "token": "$JUDGE_TOKEN",
        "many": ["$JUDGE_TOKEN", "as it is"],
        "headers": {"Authorization": {"deep": ["$JUDGE_TOKEN"]}},
        "price": "$",
        "middle": "a$JUDGE_TOKEN",
        "limit": 3,
    }
    assert from_environment(raw, "EACPS_TEST") == {
        "token": PASSWORD,
        "many": [PASSWORD, "as it is"],
        "headers": {"Authorization": {"deep": [PASSWORD]}},
        "price": "$",
        "middle": "a$JUDGE_TOKEN",
        "limit": 3,
    }
    assert raw["token"] == "$JUDGE_TOKEN"


def test_a_variable_that_is_not_set_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JUDGE_TOKEN", raising=False)
    with pytest.raises(SettingsError, match=r"EACPS_TEST takes .* JUDGE_TOKEN, which is not set"):
        from_environment({"many": ["$JUDGE_TOKEN"]}, "EACPS_TEST")
