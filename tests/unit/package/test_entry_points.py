"""The files at the top level work in a checkout, and there is one name for every module."""

from __future__ import annotations

import ast
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
SOURCES = [
    path
    for part in ("backend", "benchmarks", "demo", "examples", "tests")
    for path in sorted((ROOT / part).rglob("*.py"))
] + [ROOT / "model.py", ROOT / "_wsgi.py"]


def run(script: str, folder: Path, **variables: str) -> str:
    """A Python that knows the requirements, but not where our package lies."""
    # Without `site`, the editable installation's .pth file is not read.
    paths = [str(folder), sysconfig.get_paths()["purelib"]]
    done = subprocess.run(
        [sys.executable, "-S", "-c", f"import sys; sys.path[1:1] = {paths!r}\n{script}"],
        cwd=folder, env=variables, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_wsgi_works_in_a_checkout_with_only_the_requirements_installed(tmp_path: Path) -> None:
    script = """
import _wsgi, eacps
answer = _wsgi.app.test_client().get("/health")
print(answer.json["status"], eacps.__file__)
"""
    status, where = run(script, ROOT, EACPS_DATA_DIR=str(tmp_path)).split(" ", 1)
    assert status == "UP"
    assert Path(where) == ROOT / "backend" / "eacps" / "__init__.py"


def test_every_module_has_one_name(tmp_path: Path) -> None:
    script = """
import _wsgi, model
print([name for name in sys.modules if name.split(".")[0] == "backend"])
"""
    assert run(script, ROOT, EACPS_DATA_DIR=str(tmp_path)) == "[]"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_imports_the_folder_of_the_sources(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        assert not [name for name in names if name.split(".")[0] == "backend"]
