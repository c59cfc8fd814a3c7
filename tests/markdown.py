"""Code blocks of Markdown files, so that tests can run what the docs show."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_BLOCK = re.compile(r"^```(\w*)[ ]?([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """One fenced block: "```python sharpness.py" has a language and a file's name."""

    language: str
    file: str
    text: str


def blocks(path: Path) -> Iterator[Block]:
    """The blocks of a file, in order."""
    for language, file, text in _BLOCK.findall(path.read_text()):
        yield Block(language, file.strip(), text)
