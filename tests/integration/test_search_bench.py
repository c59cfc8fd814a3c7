"""The bench of searches from its command line, with a newcomer's strategy on the curve."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.search.__main__ import main
from benchmarks.search.workshop import Workshop

ROOT = Path(__file__).resolve().parents[2]
NEWCOMER = '''
"""Every attempt is drawn, the first is trusted: a poor strategy, for comparison."""
from dataclasses import field
from typing import Annotated
from pydantic import Field
from pydantic.dataclasses import dataclass
from eacps.search.parameters import STRICT
from eacps.search.roundwise import RoundwiseStrategy

POINTS = [{"n": 1}, {"n": 3}]

@dataclass(frozen=True, config=STRICT)
class Params_:
    n: Annotated[int, Field(ge=1, description="attempts")] = 2

    @property
    def budget(self) -> int:
        return self.n

class OneByOne(RoundwiseStrategy):
    """N attempts, one after another."""

    Params = Params_

    def search(self):
        for _ in range(self.params.n):
            yield self.fresh_trials(1)
'''


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_newcomers_strategy_is_on_the_curve_after_one_file_and_one_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    newcomer = tmp_path / "one_by_one.py"
    newcomer.write_text(NEWCOMER)
    command = [
        *("--quick", "--tasks", "1", "--local-tasks", "0"),
        *("--strategies", f"{newcomer}:OneByOne", "--cache", str(tmp_path / "bank")),
        *("--out", str(tmp_path / "results"), "--name", "tiny"),
    ]
    started = [sys.executable, "-m", "benchmarks.search", *command, "--workers", "2"]
    subprocess.run(started, cwd=ROOT, check=True)
    results = tmp_path / "results"
    rows = rows_of(results / "tiny.jsonl")
    assert str(tmp_path) not in (results / "tiny.jsonl").read_text()
    assert {"machine", "set", "run", "preview"} == {row["kind"] for row in rows}
    mine = {row["search"]: row for row in rows if row.get("strategy") == "OneByOne"}
    usual = {"OneByOne {'n': 1}", "OneByOne {'n': 3}"}
    assert set(mine) == usual | {f"{name}, 4 steps" for name in usual}
    # three attempts from the same noises are best of 3, however they are asked for
    same = [r for r in rows if r["kind"] == "run" and r["search"].endswith((": 3}", "best of 3"))]
    by_judge: dict[str, set[str]] = {}
    for row in same:
        if row["judge"] in ("clip", "oracle"):
            outcome = json.dumps([row["success"], row["score"], row["nfe"]])
            by_judge.setdefault(f"{row['part']} {row['judge']}", set()).add(outcome)
    assert {len(outcomes) for outcomes in by_judge.values()} == {1}
    assert "OneByOne" in (results / "tiny.md").read_text()
    assert (results / "tiny.png").read_bytes().startswith(b"\x89PNG")
    assert '<img src="tiny.png"' in (results / "tiny.html").read_text()

    monkeypatch.setattr(Workshop, "make", lambda *_: pytest.fail("it was rendered before"))
    main(command)
    assert rows_of(results / "tiny.jsonl")[1:] == rows[1:]


def test_an_unknown_strategy_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"no strategy hill_climb.*\n?.*zero_order"):
        main(["--quick", "--strategies", "hill_climb", "--cache", str(tmp_path)])
