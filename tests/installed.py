"""Packages as `pip install` leaves them behind: modules, and what the package says of itself."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def install(
    folder: Path,
    name: str,
    version: str = "1.0",
    *,
    modules: Mapping[str, str] | None = None,
    points: Mapping[str, Mapping[str, str]] | None = None,
) -> None:
    """Put a package into a folder of sys.path: `modules` are texts by path without `.py`, `points`
    are entry points by group and name."""
    facts = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    facts.mkdir(parents=True)
    (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    top = sorted({path.split("/", maxsplit=1)[0] for path in modules or {}})
    (facts / "top_level.txt").write_text("".join(f"{each}\n" for each in top))
    groups = {
        group: "".join(f"{point} = {value}\n" for point, value in each.items())
        for group, each in (points or {}).items()
    }
    text = "\n".join(f"[{group}]\n{lines}" for group, lines in groups.items())
    (facts / "entry_points.txt").write_text(text)
    for path, source in (modules or {}).items():
        file = folder / f"{path}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(source)
