"""What `eacps` itself names: complete, light to import, the same for people and type checkers."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import eacps

HEAVY = ("torch", "diffusers", "transformers", "numpy", "PIL", "flask", "dbos", "pydantic")


@pytest.mark.parametrize("name", eacps.__all__)
def test_every_name_is_there(name: str) -> None:
    assert getattr(eacps, name) is not None
    assert name in dir(eacps)


def test_type_checkers_see_the_same_names() -> None:
    seen = {
        f"{node.module}.{alias.name}"
        for node in ast.walk(ast.parse(Path(str(eacps.__file__)).read_text()))
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("eacps.")
        for alias in node.names
    }
    assert seen == {f"{place}.{name}" for name, place in eacps._PLACES.items()}
    assert set(eacps.__all__) == {*eacps._PLACES, "__version__"}


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'edits'"):
        _ = eacps.edits


def test_importing_it_imports_nothing_else() -> None:
    code = f"import sys, eacps; print([name for name in {HEAVY} if name in sys.modules])"
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert answer.stdout == "[]\n"
