"""The arrows of the architecture point down only."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "backend" / "eacps"
GROUND = {
    *("artifacts", "settings", "domain", "errors", "images", "log", "weights", "metric_range"),
    *("plugins", "options", "recent"),
}
SIBLINGS = {"search", "editors", "scoring", "verifiers", "faces"}
HEIGHT = (
    dict.fromkeys(GROUND, 0)
    | dict.fromkeys(SIBLINGS, 1)
    | {"runner": 2, "jobs": 3, "labelstudio": 4, "offline": 5, "demo": 5}
    | {"doctor": 6, "cli": 7, "__main__": 8}
)
HOMES = {
    "torch": {"editors", "scoring", "faces", "verifiers", "demo"},
    "diffusers": {"editors"},
    "transformers": {"editors", "scoring", "verifiers", "demo"},
    "open_clip": {"scoring"},
    "lpips": {"scoring"},
    "insightface": {"faces"},
    "onnxruntime": {"faces"},
    "cv2": {"faces"},
    "c2pa": {"faces"},
    "dbos": {"jobs"},
    "label_studio_sdk": {"labelstudio"},
    "label_studio_ml": {"labelstudio"},
    "flask": {"labelstudio"},
}
MODULES = sorted(PACKAGE.rglob("*.py"))


def part_of(module: str) -> str:
    """`eacps.search.strategies.eacps` lies in `search`."""
    return module.split(".")[1] if "." in module else ""


def imports(path: Path, *, only_at_import: bool = False) -> Iterator[str]:
    """The modules that a file imports, by full name."""
    tree = ast.parse(path.read_text())
    nodes = tree.body if only_at_import else list(ast.walk(tree))
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide the arrows"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def forbidden(path: Path, part: str) -> list[str]:
    """Imports of ours that point up or sideways."""
    wrong = []
    for name in imports(path):
        if not name.startswith("eacps."):
            if name.split(".")[0] in ("model", "_wsgi"):
                wrong.append(name)
            continue
        other = part_of(name)
        if other == part or other.startswith("__") or other not in HEIGHT:
            continue
        if HEIGHT[other] > HEIGHT[part] or (other in SIBLINGS and part in SIBLINGS):
            wrong.append(name)
    return wrong


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down_only(path: Path) -> None:
    relative = path.relative_to(PACKAGE)
    part = relative.parts[0].removesuffix(".py")
    if part == "__init__":
        assert not [name for name in imports(path) if name.startswith("eacps.")]
        return
    assert part in HEIGHT, f"{relative}: a new part needs its layer in this test"
    assert not forbidden(path, part)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_each_heavy_library_stays_in_its_folder(path: Path) -> None:
    part = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    for name in imports(path):
        homes = HOMES.get(name.split(".")[0])
        assert homes is None or part in homes, f"{path.name} imports {name}"


def test_an_import_that_points_up_is_seen(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.py"
    wrong.write_text("def f():\n    from eacps.jobs import client\n    import eacps.scoring\n")
    assert forbidden(wrong, "search") == [
        "eacps.jobs",
        "eacps.jobs.client",
        "eacps.scoring",
    ]
