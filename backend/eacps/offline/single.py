"""What the options of `eacps run` say about a single image."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SingleTask:
    """A task of options: an image, and what is to be done with it. Files or addresses."""

    image: str
    prompt: str = ""
    mask: str = ""
    references: tuple[str, ...] = ()
