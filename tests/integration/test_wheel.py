"""The wheel in an empty environment, outside of any checkout, used as a stranger would."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import skimage
from PIL import Image

from eacps.demo.label_studio import free_port
from tests.markdown import blocks
from tests.patience import PATIENCE, wait_until

ROOT = Path(__file__).resolve().parents[2]
INSTALL_SECONDS = 1800


@dataclass
class Stranger:
    """Somebody with an environment of their own, in a folder of their own."""

    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        """No setting of ours, and no path into the checkout."""
        ours = ("EACPS_", "LABEL_STUDIO_", "PYTHONPATH", "VIRTUAL_ENV")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        path = f"{self.folder / 'venv' / 'bin'}:/usr/bin:/bin"
        return {**kept, "PATH": path, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "2"}

    def run(self, command: str, *, code: int = 0) -> str:
        """What a command prints."""
        done = subprocess.run(
            ["bash", "-c", command], cwd=self.folder, env=self.environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=INSTALL_SECONDS, check=False,
        )  # fmt: skip
        assert done.returncode == code, done.stdout
        return done.stdout


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Stranger:
    folder = tmp_path_factory.mktemp("stranger")
    source = folder / "source"
    source.mkdir()
    # A copy: building in a checkout leaves files there, and takes up what it left before.
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info", "build")
    shutil.copytree(ROOT / "backend", source / "backend", ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    shutil.copy(ROOT / "requirements.txt", folder)
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    someone = Stranger(folder)
    someone.run("pip wheel --quiet --no-deps --wheel-dir dist ./source")
    shutil.rmtree(source)
    (wheel,) = (folder / "dist").glob("*.whl")
    # -qq: of a failure, the error alone. Twice: a registry may stumble.
    install = f"pip install -qq -c requirements.txt pytest setuptools '{wheel}[faces]'"
    someone.run(f"{install} || {install}")
    (folder / "examples").mkdir()
    shutil.copy(ROOT / "examples" / "bear.png", folder / "examples")
    shutil.copy(ROOT / "examples" / "bear.png", folder)
    person = Image.open(Path(skimage.__file__).parent / "data" / "astronaut.png")
    person.save(folder / "scene.png")
    person.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(folder / "portrait.png")
    return someone


def test_it_installs_one_package_and_breaks_no_other(stranger: Stranger) -> None:
    stranger.run("pip check")
    listed = stranger.run("pip show --files eacps").split("Files:")[1].split()
    tops = {Path(name).parts[0] for name in listed if not name.startswith("..")}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"eacps"}
    script = "import importlib.util as u; print([u.find_spec(n) for n in ('backend', 'model')])"
    assert stranger.run(f'python -c "{script}"').strip() == "[None, None]"
    assert not [name for name in listed if "oracle" in name], "the benchmarks' truth is shipped"


def test_help_label_config_and_doctor_work(stranger: Stranger) -> None:
    assert "search-again" in stranger.run("eacps --help")
    assert stranger.run("eacps label-config").startswith("<View")
    report = stranger.run("eacps doctor")
    assert "LABEL_STUDIO_URL" in report
    assert "label-studio-ml is not installed, and not needed" in " ".join(report.split())


def test_a_real_search_on_an_image(stranger: Stranger) -> None:
    stranger.run('eacps run --image bear.png --prompt "add a red top hat" --out run')
    found = json.loads((stranger.folder / "run" / "bear.json").read_text())
    assert len(found["candidates"]) == 8
    assert Image.open(stranger.folder / "run" / "bear" / "best.png").size == (192, 192)


@pytest.fixture
def address(stranger: Stranger) -> Iterator[str]:
    """The web server and workers, without label-studio-ml."""
    port = free_port()
    process = subprocess.Popen(
        [stranger.folder / "venv" / "bin" / "eacps", "serve"],
        cwd=stranger.folder,
        env={**stranger.environment, "EACPS_PORT": str(port)},
        start_new_session=True,
    )
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(PATIENCE)


def test_it_serves(address: str) -> None:
    def health() -> str:
        with urllib.request.urlopen(f"{address}/health", timeout=10) as answer:
            return str(json.load(answer)["status"])

    def is_up() -> bool:
        try:
            return health() == "UP"
        except OSError:
            return False

    wait_until(is_up)


def test_the_readmes_python_runs(stranger: Stranger) -> None:
    (block,) = (one for one in blocks(ROOT / "README.md") if one.language == "python")
    (stranger.folder / "readme.py").write_text(block.text)
    lines = stranger.run("python -W ignore readme.py").strip().splitlines()
    assert len([line for line in lines if line.startswith("c")]) > 1
    assert Image.open(stranger.folder / "best.png").size == (192, 192)


def test_extending_can_be_followed_word_by_word(stranger: Stranger) -> None:
    shutil.copytree(
        ROOT / "examples" / "eacps-example",
        stranger.folder / "eacps-example",
        ignore=shutil.ignore_patterns("__pycache__", "*.egg-info", "build"),
    )
    commands = ["set -ex", "trap 'kill $(jobs -p)' EXIT"]
    port = str(free_port())
    for block in blocks(ROOT / "docs" / "extending.md"):
        # The docs' port may be taken here.
        text = block.text.replace("8001", port)
        if block.language == "bash":
            commands.append(text)
        elif block.file:
            (stranger.folder / block.file).write_text(text)
    said = stranger.run("\n".join(commands))
    assert "of it is red" in said
    assert "Sharpness" in said
    assert "5 passed" in said
    assert json.loads((stranger.folder / "tinted" / "bear.json").read_text())["editor"] == "tint"
