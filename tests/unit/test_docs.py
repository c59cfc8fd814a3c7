"""The documents say what is so: commands, options, settings, links, targets, requirements."""

from __future__ import annotations

import ast
import importlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.core import TyperGroup

from eacps.cli.app import app
from eacps.errors import FaceError
from eacps.faces.download import MODELS
from eacps.faces.readiness import CONSENT
from eacps.settings import Settings, variable_names
from eacps.settings_table import settings_table
from tests.markdown import blocks

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("backend", "benchmarks", "demo", "docs", "examples", "tests")
DOCUMENTS = sorted(
    [*ROOT.glob("*.md"), *(path for name in FOLDERS for path in (ROOT / name).rglob("*.md"))]
)
COMMAND = typer.main.get_command(app)
STARTED = re.compile(r"(?<!--strategies)(?:^|[\s`/(])eacps +(?!import )((?:[a-z-]+)(?: [^`\n|]*)?)")
SETTING = re.compile(r"\b(?:EACPS|LABEL_STUDIO|BASIC_AUTH)_[A-Z][A-Z_]*[A-Z]\b")
LINK = re.compile(r"\]\(([^)\s]+)\)")
OTHERS = {
    "LABEL_STUDIO_HOST",
    "LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT",
    "LABEL_STUDIO_USER_ADDITIONAL_BANNED_SUBNETS",
    "LABEL_STUDIO_USE_DEFAULT_BANNED_SUBNETS",
}
"""Label Studio's own settings."""


def ids(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


every_document = pytest.mark.parametrize("document", DOCUMENTS, ids=ids)


def code(text: str) -> Iterator[str]:
    """What stands between backticks or in fenced blocks."""
    blocks = re.split(r"^```.*$", text, flags=re.MULTILINE)
    for index, block in enumerate(blocks):
        if index % 2:
            yield from (line.split("   #")[0] for line in block.splitlines())
        else:
            yield from re.findall(r"`([^`]+)`", block)


def quoted_commands() -> set[tuple[str, str]]:
    found = set()
    for document in DOCUMENTS:
        for line in code(document.read_text()):
            for match in STARTED.finditer(f" {line}"):
                found.add((ids(document), match[1].strip()))
    for name in ("Dockerfile", "docker-compose.yml"):
        for words in re.findall(r"\[\"eacps\", ([^\]]+)\]", (ROOT / name).read_text()):
            found.add((name, " ".join(re.findall(r'"([^"]+)"', words))))
    return found


def subcommand(words: list[str]) -> tuple[Any, list[str]]:
    command: Any = COMMAND
    while words and hasattr(command, "commands") and not words[0].startswith("-"):
        assert words[0] in command.commands, f"there is no command {words[0]}"
        command = command.commands[words.pop(0)]
    return command, words


@pytest.mark.parametrize(("document", "command"), sorted(quoted_commands()))
def test_quoted_commands_and_their_options_exist(document: str, command: str) -> None:
    found, rest = subcommand(command.split())
    options = {name for parameter in found.params for name in (*parameter.opts,)} | {"--help"}
    for word in rest:
        if word.startswith("--"):
            assert word.split("=")[0].rstrip(".,;:") in options, f"{document}: eacps {command}"


def test_every_command_is_in_the_command_lines_document() -> None:
    text = (ROOT / "docs" / "cli.md").read_text()
    assert isinstance(COMMAND, TyperGroup)
    for name, command in COMMAND.commands.items():
        if command.hidden:
            continue
        for full in [f"{name} {sub}" for sub in getattr(command, "commands", {})] or [name]:
            assert f"`eacps {full}" in text


def test_the_settings_document_is_what_the_command_prints() -> None:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("EACPS_", "LABEL_STUDIO_"))}
    printed = subprocess.run(
        [sys.executable, "-m", "eacps", "settings", "--markdown"],
        cwd=ROOT / "docs",
        env={**kept, "PYTHONPATH": str(ROOT / "backend")},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert (ROOT / "docs" / "settings.md").read_text() == printed, (
        "run `eacps settings --markdown > docs/settings.md`"
    )


@pytest.mark.parametrize(
    "document", [*DOCUMENTS, ROOT / "docker-compose.yml", ROOT / "Dockerfile"], ids=ids
)
def test_every_setting_that_is_named_exists(document: Path) -> None:
    known = {name for field in Settings.model_fields for name in variable_names(field)} | OTHERS
    named = {
        name
        for name in SETTING.findall(document.read_text())
        if not name.startswith(("EACPS_TEST_", "EACPS_DEMO_"))
    }
    assert named <= known, named - known


@every_document
def test_links_lead_somewhere(document: Path) -> None:
    for target in LINK.findall(document.read_text()):
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        path, _, anchor = target.partition("#")
        found = document.parent / path if path else document
        assert found.exists(), f"{target} is not there"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", found.read_text(), flags=re.MULTILINE)
            assert anchor in {slug(heading) for heading in headings}, (
                f"{target} has no such heading"
            )


def slug(heading: str) -> str:
    """The anchor that GitHub makes of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@every_document
def test_what_python_blocks_import_exists(document: Path) -> None:
    for block in blocks(document):
        if block.language != "python":
            continue
        for node in ast.walk(ast.parse(block.text)):
            if isinstance(node, ast.ImportFrom) and str(node.module).split(".")[0] == "eacps":
                module = importlib.import_module(str(node.module))
                for alias in node.names:
                    full = f"{node.module}.{alias.name}"
                    assert hasattr(module, alias.name) or find_spec(full), full


@every_document
def test_make_targets_exist(document: Path) -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z][a-z-]*):", makefile, flags=re.MULTILINE))
    for line in code(document.read_text()):
        match = re.match(r"\s*make ([a-z][a-z-]*)", line)
        if match:
            assert match[1] in targets


@every_document
def test_files_and_folders_that_are_named_exist(document: Path) -> None:
    for line in code(document.read_text()):
        for name in re.findall(rf"(?<![\w./-])(?:{'|'.join(FOLDERS)})/[\w./-]+(?![\w<…])", line):
            # EACPS_EDITOR=demo/pack/... means the pack, wherever it is installed.
            own = re.sub("^demo/pack/", "backend/eacps/demo/pack/", name)
            assert (ROOT / own).exists(), f"{name} is not there"


@every_document
def test_modules_that_are_run_exist(document: Path) -> None:
    for line in code(document.read_text()):
        for name in re.findall(r"python -m ([\w.]+)", line):
            assert find_spec(name.rstrip(".")), f"there is no module {name}"


def test_every_code_of_a_face_error_is_explained() -> None:
    sources = [
        *(ROOT / "backend" / "eacps" / "faces").rglob("*.py"),
        *(ROOT / "backend" / "eacps" / "labelstudio").rglob("*.py"),
        *(ROOT / "backend" / "eacps" / "offline").rglob("*.py"),
    ]
    raised = {
        code
        for path in sources
        for error in re.findall(r"FaceError\(.*?\n    *\)", path.read_text(), flags=re.DOTALL)
        for code in re.findall(r"code=\"([a-z_]+)\"", error)
    }
    assert {"no_face", "licence_not_accepted"} <= raised
    text = (ROOT / "docs" / "faces.md").read_text()
    assert {code for code in raised | {FaceError.code} if f"| `{code}` |" not in text} == set()


def test_every_setting_of_faces_is_explained() -> None:
    text = (ROOT / "docs" / "faces.md").read_text()
    rows = [row for row in settings_table(Settings()) if row.group == "Faces"]
    assert [row.variable for row in rows if f"`{row.variable}`" not in text] == []


def test_the_notice_on_consent_is_where_people_begin() -> None:
    for document in (ROOT / "README.md", ROOT / "docs" / "faces.md"):
        quoted = re.sub(r"\s+", " ", document.read_text().replace("\n> ", " "))
        assert CONSENT in quoted


def test_the_licences_of_the_free_models_are_named() -> None:
    text = (ROOT / "docs" / "faces.md").read_text()
    for model in MODELS:
        name = re.search(r"\((?:MediaPipe )?([\w ]+)\)", model.purpose)
        assert name, model.purpose
        assert f"{name[1]} ({model.licence})" in text


def requirements(name: str) -> set[str]:
    lines = (ROOT / name).read_text().splitlines()
    stated = [line for line in lines if line.strip() and not line.startswith(("#", "-r"))]
    return {re.split(r"[=<>\[ ]", line)[0].lower().replace("_", "-") for line in stated}


def test_the_reason_of_every_requirement_is_documented() -> None:
    text = (ROOT / "docs" / "dependencies.md").read_text()
    listed = text.split("| package | for |")[1].split("\n\n")[0]
    table = [line.split("|")[1] for line in listed.splitlines() if line.startswith("| ")]
    cells = [re.sub(r"\(.*?\)", "", cell) for cell in table]
    documented = {
        name.strip().lower().replace("_", "-") for cell in cells for name in cell.split(",")
    }
    assert documented == requirements("requirements.txt") | requirements("requirements-no-deps.txt")
    for name in requirements("requirements-dev.txt"):
        assert name in text.replace("_", "-").lower()


def tracked_files() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [path for name in listed.stdout.splitlines() if (path := ROOT / name).is_file()]


def test_no_file_names_this_machine_or_a_package_registry() -> None:
    # Written in pieces, or this file would name them itself.
    hosts = ("pypi" + ".org", "pythonhosted" + ".org", "artifact" + "ory", "index" + "-url")
    places = ["/" + folder + "/" for folder in ("work", "root", "home/[a-z]+", "Users/[A-Za-z]+")]
    pattern = re.compile(
        "|".join([*map(re.escape, hosts), *(rf"(?<![\w.~$}}*]){p}" for p in places)])
    )
    for path in tracked_files():
        if path.suffix in (".safetensors", ".png", ".jpg"):
            continue
        found = pattern.search(path.read_text(errors="replace"))
        assert not found, f"{path.relative_to(ROOT)} names {found[0]}"


def test_the_numbers_in_the_readme_are_those_of_the_committed_results() -> None:
    tables = (ROOT / "docs" / "results" / "search.md").read_text()
    start = tables.index("### All searches judged by verified (medium, new)")
    measured = {}
    for line in tables[start : tables.index("\n### ", start + 10)].splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) > 6:
            measured[cells[0]] = (cells[1], cells[2], cells[5], cells[7])
    readme = (ROOT / "README.md").read_text()
    table = readme.split("| search | cost | seconds | success, % | points over best of 8 |")[1]
    rows = [line for line in table.split("\n\n")[0].splitlines() if line.startswith("| ")]
    assert len(rows) > 3
    for row in rows:
        name, *numbers = (cell.strip() for cell in row.strip("|").split("|"))
        assert tuple(numbers) == measured[name]
