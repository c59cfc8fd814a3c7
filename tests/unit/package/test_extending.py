"""docs/extending.md shows the example package as it is; tests/integration runs both."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.markdown import Block, blocks

ROOT = Path(__file__).resolve().parents[3]
EXAMPLE = ROOT / "examples" / "eacps-example"
NAMED = [block for block in blocks(ROOT / "docs" / "extending.md") if block.file]


@pytest.mark.parametrize("block", NAMED, ids=lambda block: block.file)
def test_the_docs_show_the_files_of_the_example(block: Block) -> None:
    (path,) = EXAMPLE.rglob(block.file)
    assert path.read_text() == block.text


def test_the_docs_show_every_file_of_the_example() -> None:
    files = {path.name for path in EXAMPLE.rglob("*.py")} - {"__init__.py"}
    assert {block.file for block in NAMED} == files | {"pyproject.toml"}
