"""What the settings put to use, and the check that workers, `doctor` and `settings` begin with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from eacps import plugins
from eacps.errors import SettingsError
from eacps.plugins_in_use import check, plugins_in_use
from eacps.settings import Settings
from tests.installed import install

PLUGINS = '''
from pydantic import BaseModel, SecretStr
from eacps import MetricRange


class Options(BaseModel):
    """What EACPS_PLUGIN_OPTIONS may say."""

    side: int = 64
    token: SecretStr = SecretStr("")


class Judge:
    """Passes for a scorer and a verifier; has no options."""

    ranges = {"own": MetricRange(worst=0, best=1)}

    def score(self, task, images, edited, progress):
        return [{} for _ in edited]

    judge = score


class Tuned(Judge):
    """The same with options."""

    Options = Options
    ranges = {"tuned": MetricRange(worst=0, best=1)}
'''


def settings(**changes: Any) -> Settings:
    return Settings(_env_file=None, **changes)


def in_use(chosen: Settings) -> list[tuple[str, str]]:
    return [(each.kind, each.source.name) for each in plugins_in_use(chosen)]


@pytest.fixture(autouse=True)
def file() -> None:
    Path("mine.py").write_text(PLUGINS)


def test_without_plugins_none_is_in_use_and_nothing_is_wrong() -> None:
    assert in_use(settings()) == []
    check(settings())


def test_what_is_named_is_in_use_with_what_it_may_be_told() -> None:
    chosen = settings(scorers="mine.py:Tuned", verifier="mine.py:Judge")
    assert in_use(chosen) == [("scorer", "mine.py:Tuned"), ("verifier", "mine.py:Judge")]
    tuned, judge = plugins_in_use(chosen)
    assert [option.name for option in tuned.options] == ["side", "token"]
    assert judge.options == ()


def test_what_is_installed_is_in_use_without_being_named(site: Path) -> None:
    points = {plugins.SCORERS: {"tuned": "good_tools:Tuned"}}
    install(site, "good-tools", modules={"good_tools": PLUGINS}, points=points)
    assert in_use(settings()) == [("scorer", "tuned")]
    assert in_use(settings(scorers="tuned")) == [("scorer", "tuned")]
    check(settings(plugin_options={"tuned": {"side": 8}}))


@pytest.mark.parametrize("key", ["Tuned", "mine.py:Tuned"])
def test_options_are_given_by_class_or_by_full_name(key: str) -> None:
    check(settings(scorers="mine.py:Tuned", plugin_options={key: {"side": 8}}))
    with pytest.raises(SettingsError, match="side is 'wide'"):
        check(settings(scorers="mine.py:Tuned", plugin_options={key: {"side": "wide"}}))


def test_of_two_classes_of_one_name_each_may_have_its_own_options() -> None:
    Path("other.py").write_text(PLUGINS)
    given = {"Tuned": {"side": 8}, "other.py:Tuned": {"side": 9}}
    chosen = settings(verifier="mine.py:Tuned,other.py:Tuned", plugin_options=given)
    assert [
        plugins.options_for(each.plugin, each.source.name, each.kind, chosen).side
        for each in plugins_in_use(chosen)
    ] == [8, 9]


@pytest.mark.parametrize(
    ("chosen", "words"),
    [
        ({"scorers": "mine.py:Lost"}, "has no 'Lost'"),
        ({"verifier": "mine.py:Tuned", "plugin_options": {"tuned": {}}}, "options for 'tuned'"),
        ({"strategy": "mine.py:Judge"}, "The strategy 'mine.py:Judge'"),
        ({"editor": "mine.py:Judge"}, "has no `open`"),
        ({"face_engine": "mine.py:Judge"}, "has no `detect`"),
        ({"plugin_options": {"Judge": {}}}, "options for 'Judge', but no such plug-in is in use"),
        ({"plugin_options": {"basic": {"a": 1}}}, "options for 'basic', but no such plug-in"),
        (
            {"scorers": "mine.py:Judge", "plugin_options": {"Judge": {"side": 3}}},
            "The scorer 'mine.py:Judge' has no options",
        ),
        (
            {"scorers": "mine.py:Tuned", "plugin_options": {"Tuned": {"sides": 3}}},
            "There is no parameter 'sides'",
        ),
        (
            {"scorers": "mine.py:Tuned", "plugin_options": {"Tuned": {"side": "$NO_SUCH_NAME"}}},
            "the environment variable NO_SUCH_NAME, which is not set",
        ),
    ],
)
def test_what_is_wrong_is_refused_by_name(chosen: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsError) as caught:
        check(settings(**chosen))
    assert words in caught.value.message


def test_unknown_options_name_those_that_could_be_meant() -> None:
    given = {"Tunde": {"side": 3}}
    with pytest.raises(SettingsError) as caught:
        check(settings(scorers="mine.py:Tuned", plugin_options=given))
    assert "In use: Tuned, mine.py:Tuned." in caught.value.hint


def test_two_packages_of_one_name_are_refused_even_where_neither_is_used(site: Path) -> None:
    for name in ("first", "second"):
        install(site, name, points={plugins.EDITORS: {"brush": f"{name}_tools:Brush"}})
    with pytest.raises(SettingsError, match="There are 2 editor plug-ins named 'brush'") as caught:
        check(settings())
    assert "first_tools:Brush of first 1.0" in caught.value.message
    assert "second_tools:Brush of second 1.0" in caught.value.message


def test_a_value_from_the_environment_reaches_the_plugin_and_no_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("JUDGE_SIDE", "correct-horse")
    chosen = settings(
        scorers="mine.py:Tuned",
        plugin_options={"Tuned": {"token": "$JUDGE_SIDE"}},
    )
    (each,) = plugins_in_use(chosen)
    found = plugins.options_for(each.plugin, each.source.name, each.kind, chosen)
    assert found.token.get_secret_value() == "correct-horse"
    wrong = settings(scorers="mine.py:Tuned", plugin_options={"Tuned": {"side": "$JUDGE_SIDE"}})
    with pytest.raises(SettingsError, match="side: Input should be a valid integer") as caught:
        check(wrong)
    assert "correct-horse" not in str(caught.value)


def test_a_strategy_has_parameters_and_no_options() -> None:
    Path("search.py").write_text(
        "from eacps.search.strategies.best_of_n import BestOfN\nclass Mine(BestOfN):\n    pass\n"
    )
    chosen = settings(strategy="search.py:Mine", plugin_options={"Mine": {"k": 3}})
    with pytest.raises(SettingsError, match="which takes parameters") as caught:
        check(chosen)
    assert "EACPS_STRATEGY_PARAMS" in caught.value.hint
    check(settings(strategy="search.py:Mine"))


def test_settings_show_no_option_when_they_are_printed() -> None:
    chosen = settings(plugin_options={"Judge": {"token": "correct-horse"}})
    assert "correct-horse" not in f"{chosen!r} {chosen}"
