"""Which code made a result is part of its model version, and of what it may be taken for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from eacps import fingerprints, plugins
from eacps.domain import ROUTES
from eacps.settings import Settings
from tests.installed import install

SCORER = '''
from eacps import MetricRange


class Fine:
    """A scorer."""

    ranges = {"fine": MetricRange(worst=0, best=1)}

    def score(self, task, images, edited, progress):
        return [{"fine": %s} for _ in edited]
'''


def names_with(**changes: Any) -> dict[str, str]:
    """Every name under which something that these settings make is kept, as of now."""
    settings = Settings(_env_file=None, **changes)
    return {
        "version": settings.model_version,
        "equipment": settings.equipment,
        "judged": fingerprints.judged(settings),
        **{route: fingerprints.rendered(settings, route) for route in ROUTES},
    }


def changed(before: dict[str, str], after: dict[str, str]) -> set[str]:
    return {name for name in before if before[name] != after[name]}


EVERYTHING = {"version", "equipment", "judged", "edit", "face_swap", "character"}


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("strategy", {"version"}),
        ("scorers", {"version", "equipment", "judged"}),
        ("verifier", {"version", "equipment", "judged"}),
        ("editor", {"version", "equipment", "edit", "character"}),
        ("face_engine", EVERYTHING - {"edit"}),
    ],
)
def test_what_a_plugins_file_decides_changes_with_its_bytes(field: str, expected: set[str]) -> None:
    named = {field: "mine.py:Fine"}
    Path("mine.py").write_text(SCORER % "0.25")
    before = names_with(**named)
    assert changed(before, names_with(**named)) == set()
    Path("mine.py").write_text(SCORER % "0.75")
    assert changed(before, names_with(**named)) == expected


def test_where_a_plugins_file_lies_changes_nothing(tmp_path: Path) -> None:
    for folder in ("here", "there"):
        Path(folder).mkdir()
        Path(folder, "mine.py").write_text(SCORER % "0.25")
    one, other = (f"{place}/mine.py:Fine" for place in ("here", tmp_path / "mine" / "there"))
    for field in ("strategy", "scorers", "verifier", "editor", "face_engine"):
        assert changed(names_with(**{field: one}), names_with(**{field: other})) == set()


@pytest.mark.parametrize("field", ["scorers", "verifier"])
@pytest.mark.parametrize("edited", ["one.py", "other.py"])
def test_of_two_classes_of_one_name_each_counts(field: str, edited: str) -> None:
    for name in ("one.py", "other.py"):
        Path(name).write_text(SCORER % "0.25")
    named = {field: "one.py:Fine,other.py:Fine"}
    before = names_with(**named)
    Path(edited).write_text(SCORER % "0.75")
    assert {"version", "judged"} <= changed(before, names_with(**named))


def test_a_scorer_and_an_editor_of_one_name_both_count() -> None:
    for name in ("judge.py", "edit.py"):
        Path(name).write_text(SCORER % "0.25")
    named = {"scorers": "judge.py:Fine", "editor": "edit.py:Fine"}
    before = names_with(**named)
    Path("edit.py").write_text(SCORER % "0.5")
    assert {"version", "equipment", "edit"} <= changed(before, names_with(**named))


@pytest.mark.parametrize("name", ["fine", "fine_tools:Fine"])
def test_another_version_of_a_package_is_another_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    found = []
    for version in ("1.0", "1.1"):
        folder = tmp_path / version
        points = {plugins.STRATEGIES: {"fine": "fine_tools:Fine"}}
        install(folder, "fine-tools", version, modules={"fine_tools": ""}, points=points)
        with monkeypatch.context() as patch:
            patch.syspath_prepend(folder)
            identity = plugins.identity(name, plugins.STRATEGIES)
            assert f"fine-tools {version}" in identity
            found.append(names_with(strategy=name))
    assert changed(*found) == {"version"}


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("strategy", {"version"}),
        ("scorers", {"version", "equipment", "judged"}),
        ("editor", {"version", "equipment", "edit", "character"}),
        ("face_engine", EVERYTHING - {"edit"}),
    ],
)
@pytest.mark.parametrize("key", ["Fine", "mine.py:Fine"])
def test_options_count_where_their_plugin_does(field: str, expected: set[str], key: str) -> None:
    Path("mine.py").write_text(SCORER % "0.25")
    named = {field: "mine.py:Fine"}
    before = names_with(**named, plugin_options={key: {"side": 1}})
    after = names_with(**named, plugin_options={key: {"side": 2}})
    assert changed(before, after) == expected
    assert changed(names_with(**named), after) == expected


def test_by_which_of_its_names_an_option_is_given_changes_nothing() -> None:
    Path("mine.py").write_text(SCORER % "0.25")
    found = [
        names_with(scorers="mine.py:Fine", plugin_options={key: {"side": 1}})
        for key in ("Fine", "mine.py:Fine")
    ]
    assert changed(*found) == set()


def test_options_of_what_is_not_in_use_change_nothing() -> None:
    plain = names_with()
    for key in ("Fine", "mine.py:Fine", "basic", "clip", "auto"):
        assert changed(plain, names_with(plugin_options={key: {"side": 1}})) == set()


def test_the_options_of_an_installed_scorer_count_without_its_being_named(site: Path) -> None:
    install(site, "fine", points={plugins.SCORERS: {"fine": "fine_tools:Fine"}})
    after = names_with(plugin_options={"fine": {"side": 1}})
    assert changed(names_with(), after) == {"version", "equipment", "judged"}


@pytest.mark.parametrize(
    ("group", "expected"),
    [
        (plugins.SCORERS, {"version", "equipment", "judged"}),
        (plugins.FAMILIES, {"version", "equipment", "edit", "character"}),
        (plugins.VERIFIER_FORMATS, {"version", "equipment", "judged"}),
        (plugins.STRATEGIES, set()),
        (plugins.EDITORS, set()),
        (plugins.VERIFIERS, set()),
        (plugins.FACE_ENGINES, set()),
    ],
)
def test_what_is_installed_counts_where_it_is_used_without_being_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, group: str, expected: set[str]
) -> None:
    before = names_with()
    install(tmp_path / "later", "fine", points={group: {"fine": "fine_tools:Fine"}})
    monkeypatch.syspath_prepend(tmp_path / "later")
    assert changed(before, names_with()) == expected


def test_a_token_from_the_environment_is_no_part_of_a_version(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Path("mine.py").write_text(SCORER % "0.25")
    found = []
    for token in ("first", "second"):
        monkeypatch.setenv("JUDGE_TOKEN", token)
        options = {"Fine": {"token": "$JUDGE_TOKEN"}}
        found.append(names_with(scorers="mine.py:Fine", plugin_options=options))
    assert changed(*found) == set()


def test_a_setting_that_names_nothing_that_can_be_is_no_crash() -> None:
    for name in ("~nobody-of-this-name/model", "x" * 9999, "a\0b"):
        assert names_with(editor=name, clip=name, verifier=name)
