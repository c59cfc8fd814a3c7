"""Checks for an engine's packages without importing them."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence

from eacps.errors import FaceError


def missing_packages_error(engine: str, packages: Sequence[str]) -> FaceError | None:
    """The error if packages of the engine are not installed, or None."""
    absent = [name for name in packages if importlib.util.find_spec(name) is None]
    if not absent:
        return None
    # insightface is in no extra: its own requirements conflict (docs/dependencies.md).
    bare = " and `pip install --no-deps insightface`" if "insightface" in absent else ""
    return FaceError(
        f"Engine {engine} needs Python packages that are not installed: {', '.join(absent)}.",
        hint=f"Run `pip install 'eacps[faces]'`{bare}, or `make install` in a checkout.",
        code="package_missing",
    )
