"""`transformers serve` as the judge's server: a real one, with tiny models made on the spot. It has
neither schemas nor log-probabilities, and says so only in its own log."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from eacps.errors import ScoringError
from eacps.rubrics.reading import read_rubric
from eacps.verifiers.language import prompts
from eacps.verifiers.language.judge import ServerJudge
from eacps.verifiers.registry import find_verifier
from tests.judge_server import picture_of
from tests.patience import wait_until
from tests.tiny_judges import Lesson, build, random_judge, save, teach
from tests.unit.verifiers.language.judges import IMAGES, SOURCE, judged, settings_of, task_of

RUBRIC = """
format = "eacps-rubric-1"
name = "brightness"
version = 1
title = "How bright the edit is"
main = "right"

[[calls]]
name = "only"
pictures = ["source", "edited"]
text = "The request: {instruction}. {answer}"

[[calls.questions]]
name = "right"
text = "Is it right?"

[[metrics]]
name = "right"
of = ["right"]
"""
SAYS = {
    1: '{"right": {"reason": "Too dark.", "score": 2}}',
    5: '{"right": {"reason": "Grey.", "score": 5}}',
    9: '{"right": {"reason": "As bright as it should be.", "score": 8}}',
    3: "I cannot say.",
    7: '{"right": {"reason": "Good.", "score": 77}}',
}
"""What the taught model says about an edit of this brightness."""


@dataclass(frozen=True)
class Served:
    """The server: its address, its log, and the folder with the models `taught` and `random`."""

    address: str
    log: Path
    folder: Path


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """`transformers serve` on a port of its own choice, until the tests are done."""
    folder = tmp_path_factory.mktemp("served")
    (folder / "rubric.toml").write_text(RUBRIC)
    random_judge("qwen2.5", folder / "random")
    model, processor = build("qwen2.5")
    teach(model, processor, [Lesson(asked(folder, bright), says) for bright, says in SAYS.items()])
    save(model, processor, folder / "taught")
    log = folder / "log.txt"
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve"]
    options = ["--host", "127.0.0.1", "--port", "0", "--device", "cpu"]
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [*command, *options],
            cwd=folder,
            env={**os.environ, "HF_HUB_OFFLINE": "1", "NO_COLOR": "1"},
            stdout=stream,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_until(lambda: process.poll() is not None or port(log), log.read_text)
        assert process.poll() is None, log.read_text()
        yield Served(f"http://127.0.0.1:{port(log)}/v1", log, folder)
    finally:
        process.terminate()
        process.wait()


def port(log: Path) -> str:
    """The port that the server says it listens on; empty before it does."""
    found = re.search(r"running on http://127\.0\.0\.1:(\d+)", log.read_text())
    return found[1] if found else ""


def asked(folder: Path, brightness: int) -> list[str | Image.Image]:
    """What the judge sends about an edit of this brightness."""
    rubric = read_rubric(str(folder / "rubric.toml"))
    shown = {
        "source": prompts.shown(SOURCE, 1024),
        "edited": prompts.shown(picture_of(brightness), 1024),
    }
    request = prompts.judging(rubric, rubric.calls[0], task_of().instruction, shown, preview="")
    return [
        part if isinstance(part, str) else Image.open(io.BytesIO(part.content))
        for part in request.parts
    ]


def judge_of(served: Served, model: str, place: Path, **options: Any) -> ServerJudge:
    name = f"openai:{model}@{served.address}"
    given = {"rubric": str(served.folder / "rubric.toml"), "wait_seconds": 0.0, "attempts": 1}
    settings = settings_of(place, verifier=name, plugin_options={"openai": given | options})
    judge = find_verifier(name, settings).load(settings, "cpu")
    assert isinstance(judge, ServerJudge)
    return judge


def test_each_edit_gets_the_answer_to_its_own_picture(
    served: Served, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    judge = judge_of(served, "taught", tmp_path)
    rows = judged(judge, [picture_of(bright) for bright in (9, 1, 5, 1)])
    assert [row.values["right"] * 9 for row in rows] == pytest.approx([8, 2, 5, 2])
    assert [row.why for row in rows][:2] == ["As bright as it should be.", "Too dark."]
    # The server was asked for a form and for log-probabilities; it gave neither, with status 200.
    ignored = re.findall(r"Ignoring unsupported fields in the request: \{(.*?)\}", log_of(served))
    assert {"'response_format'", "'logprobs'", "'top_logprobs'"} <= set(ignored[0].split(", "))
    noticed = [one.message for one in caplog.records if "log-probabilities" in one.message]
    assert noticed == [
        "judge openai:taught gives no log-probabilities; the scores that it says count"
    ]


def test_tokens_are_counted_as_the_server_counts_them(served: Served, tmp_path: Path) -> None:
    judge = judge_of(served, "taught", tmp_path)
    judged(judge, [picture_of(9)])
    spent = judge._storage.totals()
    _, processor = build("qwen2.5")
    written = len(processor.tokenizer(SAYS[9]).input_ids)
    assert [row["calls"] for row in spent] == [1]
    assert [row["written"] for row in spent] == [written + 1]


def test_what_cannot_be_read_is_missing_and_says_why(served: Served, tmp_path: Path) -> None:
    judge = judge_of(served, "taught", tmp_path)
    prose, right, beyond = judged(judge, [picture_of(bright) for bright in (3, 9, 7)])
    assert right.values["right"] * 9 == pytest.approx(8)
    assert prose.values == {}
    assert prose.why == "(No answer: the answer holds no JSON object.)"
    assert beyond.values == {}
    assert beyond.why == "(right missing: the answer was 77, not 0 to 9.)"


def test_a_model_that_talks_nonsense_gives_no_scores(served: Served, tmp_path: Path) -> None:
    judge = judge_of(served, "random", tmp_path, max_tokens=16)
    with pytest.raises(ScoringError, match=r"^the answer (was cut off after 64|holds|ends)"):
        judged(judge, [picture_of(9)])
    with pytest.raises(ScoringError, match=r"^the answer (was cut off after 16|holds|ends)"):
        judge.compare(task_of(), IMAGES, picture_of(1), picture_of(9))


def test_a_model_that_the_server_does_not_have_is_named(served: Served, tmp_path: Path) -> None:
    judge = judge_of(served, "nowhere", tmp_path)
    with pytest.raises(ScoringError, match=r"it answers 500|no such model"):
        judged(judge, [picture_of(1)])


def log_of(served: Served) -> str:
    """The server's log, whose lines a terminal would wrap, in one line."""
    return " ".join(served.log.read_text().split())
