"""Judges that ask the server of the tests, and tasks for them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from eacps.domain import EditTask
from eacps.images import TaskImages
from eacps.settings import Settings
from eacps.verifiers import Answers
from eacps.verifiers.language.judge import ServerJudge
from eacps.verifiers.registry import find_verifier
from tests.judge_server import picture_of

KEY = "sk-test-0123456789abcdef"
SOURCE = picture_of(3)
IMAGES = TaskImages(SOURCE)
SERVICES = ("openai", "anthropic", "gemini")


def settings_of(folder: Path, **changes: Any) -> Settings:
    """Settings of a test, with data in a folder of its own."""
    return Settings(_env_file=None, data_dir=folder, **changes)


def judge_at(
    address: str,
    folder: Path,
    service: str = "openai",
    *,
    settings: dict[str, Any] | None = None,
    **options: Any,
) -> ServerJudge:
    """A judge of this service that asks the server at this address, and does not wait between
    attempts."""
    path = "/v1" if service == "openai" else ""
    name = f"{service}:tiny@{address}{path}"
    given = {"wait_seconds": 0.0, "timeout_seconds": 60, "api_key": KEY} | options
    known = settings_of(folder, verifier=name, plugin_options={service: given}, **(settings or {}))
    judge = find_verifier(name, known).load(known, "cpu")
    assert isinstance(judge, ServerJudge)
    return judge


def task_of(instruction: str = "add a red hat", **more: Any) -> EditTask:
    """A task with this instruction."""
    return EditTask("a.png", instruction, **more)


def judged(
    judge: ServerJudge, edited: Sequence[Image.Image], instruction: str = "add a red hat"
) -> Sequence[Answers]:
    """What the judge answers about finished edits."""
    return judge.judge(task_of(instruction), IMAGES, edited, [1.0] * len(edited))
