"""What is declared, what is pinned and what is imported are the same things."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[3]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
BY_NO_DEPS = {"insightface", "label-studio-ml"}
"""They clash with what everything else needs: docs/dependencies.md."""
BINARY = {"psycopg-binary"}
"""What `psycopg[binary]` stands for; requirements.txt is a constraints file too, without extras."""


def pinned(*files: str) -> dict[str, str]:
    lines = [line for file in files for line in (ROOT / file).read_text().splitlines()]
    pins = [line.split("==") for line in lines if re.match(r"^[A-Za-z0-9]", line)]
    return {canonicalize_name(name.partition("[")[0]): pin for name, pin in pins}


def declared(*extras: str) -> list[Requirement]:
    lines = [*PROJECT["dependencies"], *(line for extra in extras for line in EXTRAS[extra])]
    return [Requirement(line) for line in lines]


RUNTIME = sorted(EXTRAS.keys() - {"dev", "s3", "c2pa", "otel", "parquet"})


@pytest.mark.parametrize("requirement", declared(*EXTRAS), ids=str)
def test_what_is_declared_is_pinned_to_a_version_that_it_allows(requirement: Requirement) -> None:
    name = canonicalize_name(requirement.name)
    pins = pinned("requirements.txt", "requirements-dev.txt")
    assert requirement.specifier.contains(pins[name])


def test_what_is_pinned_is_declared() -> None:
    names = {canonicalize_name(each.name) for each in declared(*RUNTIME)}
    assert pinned("requirements.txt").keys() == names | BINARY
    dev = {canonicalize_name(Requirement(each).name) for each in EXTRAS["dev"]}
    assert pinned("requirements-dev.txt").keys() == dev
    assert pinned("requirements-no-deps.txt").keys() == BY_NO_DEPS


def test_the_pins_can_constrain_an_installation() -> None:
    for line in (ROOT / "requirements.txt").read_text().splitlines():
        assert not line.strip() or line.startswith("#") or "[" not in line


@pytest.mark.parametrize("name", sorted(pinned("requirements.txt")))
def test_what_is_installed_is_what_is_pinned(name: str) -> None:
    assert version(name) == pinned("requirements.txt")[name]


def imported() -> Iterator[tuple[str, str]]:
    for path in sorted((ROOT / "backend").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            for name in names:
                yield name.split(".")[0], path.relative_to(ROOT).as_posix()


def test_what_is_imported_is_declared() -> None:
    known = {
        canonicalize_name(each.name) for each in declared(*RUNTIME, "c2pa", "otel", "parquet")
    } | BY_NO_DEPS
    distributions = packages_distributions()
    for name, path in set(imported()):
        if name in sys.stdlib_module_names or name in ("eacps", "onnxruntime"):
            continue
        owners = {canonicalize_name(each) for each in distributions.get(name, ())}
        assert owners & known, f"{path} imports {name} of {owners or 'no package'}"


def test_each_has_its_reason_in_the_docs() -> None:
    text = canonicalize_name((ROOT / "docs" / "dependencies.md").read_text())
    for requirement in declared(*EXTRAS):
        assert canonicalize_name(requirement.name) in text, requirement.name
