"""A name is a built-in, an entry point, `module:Class` or `file.py:Class`, wherever one is asked
for; where it leads is found out without running anything."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from eacps import plugins
from eacps.errors import SettingsError
from eacps.plugins import Registry, Source, clashes
from tests.installed import install

GROUP = "eacps.tests"
MARKING = "import pathlib\npathlib.Path({marker!r}).touch()\nclass Tool:\n    value = 1\n"


def registry(**built_ins: str) -> Registry[Any]:
    return Registry[Any]("tool", group=GROUP, setting="EACPS_TOOL", built_ins=built_ins)


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    """What appears as soon as one of the modules below is imported."""
    return tmp_path / "imported"


@pytest.fixture
def every_form(site: Path, marker: Path) -> dict[str, str]:
    """One name of each form; importing what any of them leads to writes the marker."""
    source = MARKING.format(marker=str(marker))
    install(
        site,
        "good-tools",
        "2.1",
        modules={"good_tools/__init__": source, "good_tools/deep": source},
        points={GROUP: {"hammer": "good_tools.deep:Tool"}},
    )
    (site / "lonely_tool.py").write_text(source)
    Path("mine.py").write_text(source)
    return {
        "entry point": "hammer",
        "module of a package": "good_tools.deep:Tool",
        "module of no package": "lonely_tool:Tool",
        "file": "mine.py:Tool",
    }


def test_a_built_in_is_told_by_having_no_identity() -> None:
    source = registry(halve="fractions:Fraction").source("halve")
    assert source == Source("halve", "fractions:Fraction", "built in", "")
    assert source.built_in
    assert plugins.identity("halve", GROUP) == ""


def test_every_form_of_a_name_says_where_it_leads(every_form: dict[str, str]) -> None:
    tools = registry()
    found = {form: tools.source(name) for form, name in every_form.items()}
    assert {form: source.origin for form, source in found.items()} == {
        "entry point": "good-tools 2.1",
        "module of a package": "module good_tools.deep",
        "module of no package": "module lonely_tool",
        "file": f"file {Path('mine.py').resolve()}",
    }
    assert not any(source.built_in for source in found.values())
    assert found["entry point"].identity == "good-tools 2.1 good_tools.deep:Tool"
    assert found["module of a package"].identity == "good-tools 2.1"
    # The same bytes are the same code, wherever they lie.
    assert found["file"].identity == found["module of no package"].identity
    assert found["file"].identity.startswith("sha256 ")


def test_finding_out_where_a_name_leads_imports_nothing(
    every_form: dict[str, str], marker: Path
) -> None:
    tools = registry()
    for name in every_form.values():
        assert tools.knows(name)
        assert tools.source(name).identity == plugins.identity(name, GROUP)
        plugins.label(name)
    assert clashes([tools]) == []
    assert tools.names() == ("hammer",)
    assert not marker.exists()
    assert not {"good_tools", "good_tools.deep", "lonely_tool"} & sys.modules.keys()


@pytest.mark.parametrize("form", ["entry point", "module of a package", "file"])
def test_every_form_of_a_name_is_loaded(
    every_form: dict[str, str], marker: Path, form: str
) -> None:
    assert registry().get(every_form[form]).value == 1
    assert marker.exists(), "the marker shows nothing"


class Local:
    """What a notebook's cell would define."""


def test_a_class_of_a_notebook_is_named_by_its_session(monkeypatch: pytest.MonkeyPatch) -> None:
    main = sys.modules["__main__"]
    monkeypatch.setattr(main, "Local", Local, raising=False)
    source = registry().source("__main__:Local")
    assert source.origin == "this session"
    assert registry().get("__main__:Local") is Local
    assert registry().source("__main__:Local") == source

    class Again:
        pass

    monkeypatch.setattr(main, "Local", Again)
    assert registry().source("__main__:Local").identity != source.identity
    monkeypatch.setattr(main, "Local", Local)
    assert registry().source("__main__:Local") == source


def test_a_class_that_no_session_has_is_refused() -> None:
    with pytest.raises(SettingsError, match="'__main__:Lost' is no class of this session"):
        registry().source("__main__:Lost")


@pytest.mark.parametrize(
    "name",
    ["~/mine.py:Tool", "a folder/my tool.py:Tool", "../mine/ünï.py:Tool", "link.py:Tool"],
)
def test_paths_with_a_home_spaces_and_links_are_followed(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    Path("a folder").mkdir()
    for file in (tmp_path / "mine.py", Path("a folder/my tool.py"), Path("ünï.py")):
        file.write_text("class Tool:\n    value = 7\n")
    Path("link.py").symlink_to(tmp_path / "mine.py")
    assert registry().knows(name)
    assert registry().get(name).value == 7
    assert plugins.label(name) == "Tool"


@pytest.mark.parametrize(
    "name",
    [
        "",
        "halv",
        ".py:Tool",
        "mine.py",
        "mine.py:",
        ":Tool",
        "a b:Tool",
        "mine.py:1Tool",
        "a.b",
        "x" * 9999,
    ],
)
def test_an_unknown_name_names_the_setting_and_the_choices(name: str) -> None:
    with pytest.raises(SettingsError) as caught:
        registry(halve="fractions:Fraction").source(name)
    assert "There is no tool" in caught.value.message
    assert "Set EACPS_TOOL to one of: halve" in caught.value.hint
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    "name", ["nowhere.py:Tool", "folder.py:Tool", "loose.py:Tool", f"{'x' * 999}.py:T"]
)
def test_a_file_that_cannot_be_read_is_refused_with_its_path(name: str) -> None:
    Path("folder.py").mkdir()
    Path("loose.py").symlink_to("nothing-there")
    with pytest.raises(SettingsError, match=r"cannot be read: .*it starts from the folder"):
        registry().source(name)


@pytest.mark.parametrize(
    "name", ["~nobody-of-this-name/mine.py:Tool", "mine\0.py:Tool", "round.py:Tool"]
)
def test_a_path_that_leads_nowhere_is_refused(name: str) -> None:
    Path("round.py").symlink_to("round.py")
    for ask in (registry().source, lambda asked: plugins.identity(asked, GROUP)):
        with pytest.raises(SettingsError, match=r"The plug-in's file .* cannot be (found|read)"):
            ask(name)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_refused() -> None:
    Path("secret.py").write_text("")
    Path("secret.py").chmod(0)
    with pytest.raises(SettingsError, match="Permission denied"):
        registry().source("secret.py:Tool")


@pytest.mark.parametrize("name", ["no_such_module:Tool", "fractions.deep:Tool", "sys:exit"])
def test_a_module_that_is_nowhere_is_refused(name: str) -> None:
    with pytest.raises(SettingsError, match=r"There is no module .*Install its package"):
        registry().source(name)


def test_the_code_of_a_namespace_package_is_found(site: Path) -> None:
    (site / "spread").mkdir()
    (site / "spread" / "tool.py").write_text("class Tool:\n    value = 3\n")
    assert registry().source("spread.tool:Tool").identity.startswith("sha256 ")
    assert registry().get("spread.tool:Tool").value == 3


def test_two_packages_of_one_name_are_both_named(site: Path) -> None:
    for name in ("first", "second"):
        install(site, name, points={GROUP: {"hammer": f"{name}_tools:Hammer"}})
    with pytest.raises(SettingsError) as caught:
        registry().source("hammer")
    assert "There are 2 tool plug-ins named 'hammer'" in caught.value.message
    assert "first_tools:Hammer of first 1.0" in caught.value.message
    assert "second_tools:Hammer of second 1.0" in caught.value.message
    assert clashes([registry()]) == [caught.value.message]
    # Which of them is meant can still be said.
    assert "`module:Class`" in caught.value.hint


def test_a_package_that_takes_a_built_in_name_is_named_beside_it(site: Path) -> None:
    install(site, "greedy", points={GROUP: {"halve": "greedy:Halve", "own": "greedy:Own"}})
    tools = registry(halve="fractions:Fraction")
    with pytest.raises(SettingsError, match=r"fractions:Fraction of eacps itself, and greedy:Halv"):
        tools.source("halve")
    assert tools.names() == ("halve", "own")
    assert tools.source("own").origin == "greedy 1.0"
    assert len(clashes([tools])) == 1


def test_a_name_of_a_kind_that_has_none_is_refused_without_an_empty_list() -> None:
    with pytest.raises(SettingsError, match="Set EACPS_TOOL to `module:Class` or "):
        registry().source("hammer")


def test_other_groups_do_not_matter(site: Path) -> None:
    install(site, "other", points={"eacps.others": {"hammer": "other:Hammer"}})
    assert registry().names() == ()
    assert not registry().knows("hammer")
