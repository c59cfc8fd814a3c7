"""The arrows of the architecture point down only."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Set
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "backend" / "eacps"
GROUND = {
    *("artifacts", "settings", "domain", "errors", "images", "log", "weights", "metric_range"),
    *("plugins", "settings_table", "options", "fingerprints", "demo_defaults"),
    *(
        "recent",
        "files",
        "metrics",
        "tracing",
        "judge_names",
        "judge_advice",
        "rubrics",
        "preparing",
    ),
}
SIBLINGS = {"search", "editors", "scoring", "verifiers", "faces"}
HEIGHT = (
    dict.fromkeys(GROUND, 0)
    | dict.fromkeys(SIBLINGS, 1)
    | {
        "runner": 2,
        "plugins_in_use": 2,
        "in_process": 3,
        "testing": 3,
        "jobs": 3,
        "labelstudio": 4,
        "offline": 5,
        "demo": 5,
    }
    | {"doctor": 6, "export": 6, "cli": 7, "__main__": 8}
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
    "jinja2": {"labelstudio"},
    "markupsafe": {"labelstudio"},
    "prometheus_client": {"metrics", "jobs", "labelstudio"},
    "opentelemetry": {"tracing"},
    "pyarrow": {"export", "offline"},
}
MODULES = sorted(PACKAGE.rglob("*.py"))


def part_of(module: str) -> str:
    """`eacps.search.strategies.eacps` lies in `search`."""
    return module.split(".")[1] if "." in module else ""


def imports(path: Path) -> Iterator[str]:
    """The modules that a file imports, by full name."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide the arrows"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def executed(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes below this one, without those that only a type checker sees."""
    for child in ast.iter_child_nodes(node):
        typing_only = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
        if not typing_only:
            yield from (child, *executed(child))


def needs(path: Path, modules: Set[str]) -> Set[str]:
    """Those of the modules that a file imports, at once or late: importing late hides a circle,
    but does not break it."""
    found = set()
    for node in executed(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                # `from package import module` needs that module, not everything in the package.
                found.add(full if full in modules else node.module or "")
    return found & modules


def circle(files: Mapping[str, Path]) -> list[str]:
    """Modules that need each other, in order; [] where there are none."""
    try:
        TopologicalSorter({name: needs(files[name], files.keys()) for name in files}).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


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
        assert not [
            node
            for node in executed(ast.parse(path.read_text()))
            if isinstance(node, ast.Import | ast.ImportFrom) and "eacps" in ast.unparse(node)
        ]
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


def test_no_modules_need_each_other() -> None:
    dotted = {path: ".".join(path.relative_to(PACKAGE.parent).parts) for path in MODULES}
    names = {path: dotted[path].removesuffix(".py").removesuffix(".__init__") for path in MODULES}
    assert not circle({name: path for path, name in names.items()})


def test_a_circle_is_seen_and_types_make_none(tmp_path: Path) -> None:
    contents = {
        "one": "def f():\n    from pack import two\n",
        "two": "from pack.three import x\n",
        "three": "import typing\nif typing.TYPE_CHECKING:\n    import pack.one\n",
    }
    files = {f"pack.{name}": tmp_path / f"{name}.py" for name in contents}
    for name, content in contents.items():
        (tmp_path / f"{name}.py").write_text(content)
    assert circle(files) == []
    (tmp_path / "three.py").write_text("import pack.one\n")
    assert set(circle(files)) == set(files)
