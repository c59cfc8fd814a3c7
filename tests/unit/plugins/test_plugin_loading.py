"""Loading plug-ins: what was edited is loaded again, and what cannot be loaded is named."""

from __future__ import annotations

import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from eacps import plugins
from eacps.errors import SettingsError
from eacps.plugins import Context, Registry, lacks, loaded
from eacps.settings import Settings
from tests.installed import install

GROUP = "eacps.tests"
TOOLS = Registry[Any](
    "tool",
    group=GROUP,
    setting="EACPS_TOOL",
    built_ins={},
    problem=lambda tool: lacks(tool, "value"),
)


def write(value: int, name: str = "mine.py") -> str:
    Path(name).write_text(f"class Tool:\n    value = {value}\n")
    return f"{name}:Tool"


def modules_of_plugins() -> set[str]:
    return {name for name in sys.modules if name.startswith("eacps_plugin_")}


def test_an_edited_file_is_loaded_anew_even_within_the_same_second() -> None:
    name = write(1)
    first, before = TOOLS.get(name), plugins.identity(name, GROUP)
    moment = Path("mine.py").stat()
    write(2)
    # As long as it was, and as old: all that Python's own cache of compiled files looks at.
    os.utime("mine.py", ns=(moment.st_atime_ns, moment.st_mtime_ns))
    assert TOOLS.get(name).value == 2
    assert first.value == 1
    assert plugins.identity(name, GROUP) != before


def test_a_file_as_it_was_is_the_same_class_again() -> None:
    name = write(1)
    first = TOOLS.get(name)
    write(2)
    TOOLS.get(name)
    write(1)
    assert TOOLS.get(name) is first


def test_a_file_that_several_threads_want_at_once_is_executed_once_and_whole() -> None:
    Path("slow.py").write_text(
        "import time\n"
        "open('executed', 'a').write('once ')\n"
        "time.sleep(0.3)\n"
        "class Tool:\n    value = 1\n"
    )
    together = threading.Barrier(8)

    def load(_: int) -> int:
        together.wait()
        return int(TOOLS.get("slow.py:Tool").value)

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(load, range(8))) == {1}
    assert Path("executed").read_text() == "once "


def test_nothing_is_left_beside_a_plugins_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    TOOLS.get(write(1))
    assert [path.name for path in Path().iterdir()] == ["mine.py"]


def test_files_of_one_name_do_not_replace_each_other() -> None:
    for folder in ("a", "b"):
        Path(folder).mkdir()
    one, other = write(1, "a/mine.py"), write(2, "b/mine.py")
    assert (TOOLS.get(one).value, TOOLS.get(other).value) == (1, 2)
    same = write(1, "b/mine.py")
    assert TOOLS.get(same) is not TOOLS.get(one)


def test_a_file_may_define_dataclasses_and_pydantic_models_and_look_at_its_source() -> None:
    Path("typed.py").write_text(
        "from __future__ import annotations\n"
        "import inspect\nfrom dataclasses import dataclass, field\nfrom pydantic import BaseModel\n"
        "@dataclass\nclass Point:\n    x: int = 1\n    others: list[Point] = field(default=())\n"
        "class Model(BaseModel):\n    points: list[Point] = []\n"
        "class Tool:\n    value = Model(points=[Point()]).points[0].x\n"
        "    source = inspect.getsource(Point)\n"
    )
    tool = TOOLS.get("typed.py:Tool")
    assert tool.value == 1
    assert "class Point" in tool.source


def test_a_file_is_run_by_its_own_rules_and_not_by_ours() -> None:
    # Here annotations are texts, which a file that does not say so must not find.
    Path("mine.py").write_text("class Tool:\n    value: int = 1\n")
    assert TOOLS.get("mine.py:Tool").__annotations__ == {"value": int}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"raise RuntimeError('out of order')", "RuntimeError: out of order"),
        (b"raise RuntimeError('one line\\nand another')", "RuntimeError: one line"),
        (b"import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        (b"import sys\nsys.exit('usage: mine.py FILE')", "SystemExit: usage: mine.py FILE"),
        (b"import sys\nsys.exit(0)", "SystemExit: 0"),
        (b"<html>not Python</html>", "SyntaxError: invalid syntax"),
        (b"\x89PNG\r\n\x1a\n\0\0", "SyntaxError|ValueError"),
        (b"class Tool:\n  value = 1\0", "SyntaxError|ValueError"),
        (b"# coding: no-such-coding\n", "SyntaxError: unknown encoding"),
        (b"def again(): again()\nagain()", "RecursionError"),
        (b"class Other:\n  value = 1\n", "has no 'Tool'"),
        (b"", "has no 'Tool'"),
        (b"Tool = 3", "is not a class"),
        (b"class Tool:\n  pass\n", "has no `value`"),
    ],
)
def test_a_file_that_is_no_plugin_is_named_with_what_is_wrong(content: bytes, words: str) -> None:
    Path("mine.py").write_bytes(content)
    known = modules_of_plugins()
    with pytest.raises(SettingsError, match=words) as caught:
        TOOLS.get("mine.py:Tool")
    assert f"The tool 'mine.py:Tool' (file {Path('mine.py').resolve()})" in caught.value.message
    assert len(caught.value.message.splitlines()) == 1
    if "could not be loaded" in caught.value.message:
        assert "set EACPS_TOOL to another tool" in caught.value.hint
        assert modules_of_plugins() == known, "half a module is left"
    write(5)
    assert TOOLS.get("mine.py:Tool").value == 5


def test_a_module_that_removes_itself_is_not_blamed_for_that() -> None:
    Path("mine.py").write_text("import sys\ndel sys.modules[__name__]\nraise ValueError('gone')\n")
    with pytest.raises(SettingsError, match="ValueError: gone"):
        TOOLS.get("mine.py:Tool")


def test_a_misspelt_class_is_answered_with_the_nearest_name() -> None:
    Path("mine.py").write_text("class Tool:\n  value = 1\n")
    with pytest.raises(SettingsError, match=r"Did you mean 'Tool'\?"):
        TOOLS.get("mine.py:Tol")


def test_somebody_who_presses_ctrl_c_is_obeyed() -> None:
    Path("mine.py").write_text("raise KeyboardInterrupt\n")
    with pytest.raises(KeyboardInterrupt):
        TOOLS.get("mine.py:Tool")


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("tools_that_are_gone:Tool", "ModuleNotFoundError: No module named 'tools_that_are_gone'"),
        ("good_tools:Lost", "has no 'Lost'"),
        ("good_tools:Tool.Lost", r"has no 'Tool\.Lost'"),
        ("good_tools", "could not be loaded"),
    ],
)
def test_a_broken_package_is_named_with_its_version(site: Path, value: str, words: str) -> None:
    source = "class Tool:\n    value = 1\n"
    install(site, "bad", "0.3", modules={"good_tools": source}, points={GROUP: {"saw": value}})
    with pytest.raises(SettingsError, match=rf"The tool 'saw' \(bad 0\.3\) .*{words}"):
        TOOLS.get("saw")


@pytest.mark.parametrize("value", ["good_tools:Tool.Inner", "good_tools:Tool.Inner [gpu,web]"])
def test_an_entry_point_may_name_an_inner_class_and_extras(site: Path, value: str) -> None:
    source = "class Tool:\n    class Inner:\n        value = 4\n"
    install(site, "deep", modules={"good_tools": source}, points={GROUP: {"saw": value}})
    assert TOOLS.get("saw").value == 4


class Plain:
    pass


class Optioned:
    def __init__(self, options: object) -> None:
        self.options = options


class Loading:
    def __init__(self, context: Context) -> None:
        self.context = context

    @classmethod
    def load(cls, context: Context) -> Loading:
        return cls(context)


def test_a_plugin_is_called_as_it_asks_to_be() -> None:
    context = Context(Settings(_env_file=None), "cuda:1", {"a": 1}, "/weights")
    assert isinstance(loaded(Plain, Context(context.settings)), Plain)
    assert loaded(Optioned, context).options == {"a": 1}
    assert loaded(Loading, context).context is context
