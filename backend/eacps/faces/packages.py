"""Whether the packages that an engine needs are installed; imports none of them."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence

from eacps.errors import FaceError


def packages_missing(engine: str, packages: Sequence[str]) -> FaceError | None:
    """What to say if the engine cannot be opened for want of packages."""
    absent = [name for name in packages if importlib.util.find_spec(name) is None]
    if not absent:
        return None
    return FaceError(
        f"Engine {engine} lacks Python packages: {', '.join(absent)}.",
        hint="Run `make install`.",
        code="package_missing",
    )
