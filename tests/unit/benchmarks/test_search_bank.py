"""Stored renders survive any kind of crash."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from benchmarks.search.bank import END, Bank, Scores, Shard, Wanted, key_of, missing, noise_of
from eacps.domain import Noise

ROOT = Path(__file__).resolve().parents[3]
WRITER = """
import sys
from pathlib import Path
from tests.unit.benchmarks.test_search_bank import scores_of, shard_of
from benchmarks.search.bank import Bank
bank = Bank(Path(sys.argv[1]))
for number in range(100_000):
    bank.add(shard_of(number), scores_of(shard_of(number)))
    print(number, flush=True)
"""


def shard_of(number: int) -> Shard:
    keys = [key_of(Noise(4 * number + row).moved(0.4, 7)) for row in range(4)]
    pictures = np.random.default_rng(number).integers(0, 255, (4, 2, 64, 64, 3), dtype=np.uint8)
    return Shard(keys, [3, END], pictures, ["", "", "", ""])


def scores_of(shard: Shard) -> dict[str, Scores]:
    values = shard.pictures.mean(axis=(2, 3))
    return {"mean": Scores(["red", "green", "blue"], values, values)}


def never(_shard: Shard, _name: str) -> Scores:
    pytest.fail("nothing is to be judged again")


def test_what_was_kept_is_found_again(tmp_path: Path) -> None:
    bank = Bank(tmp_path)
    for number in range(3):
        bank.add(shard_of(number), scores_of(shard_of(number)))
    again = Bank(tmp_path)
    again.load(["mean"], never)
    assert again.keys == bank.keys
    looks = [Wanted(key, step) for key in bank.keys for step in (3, END)]
    assert [again.view(look) for look in looks] == [bank.view(look) for look in looks]
    assert missing(again, [*looks, Wanted(looks[0].key, 5)]) == [Wanted(looks[0].key, 5)]


def test_a_new_judge_looks_at_old_pictures(tmp_path: Path) -> None:
    bank = Bank(tmp_path)
    bank.add(shard_of(0), scores_of(shard_of(0)))
    judged = []

    def score(shard: Shard, name: str) -> Scores:
        judged.append(name)
        values = shard.pictures.max(axis=(2, 3))[..., :1].astype(float)
        return Scores(["brightest"], values, np.zeros((4, 2, 0)))

    for _ in range(2):
        again = Bank(tmp_path)
        again.load(["mean", "max"], score)
    assert judged == ["max"]
    view = again.view(Wanted(key_of(Noise(0).moved(0.4, 7)), END))
    assert view is not None
    assert set(view) == {"red", "green", "blue", "brightest"}


def test_a_recipe_survives_being_text() -> None:
    noise = Noise(7).moved(0.4, 8).moved(0.2, 9)
    assert noise_of(key_of(noise, "Change nothing else.")) == (noise, "Change nothing else.")


def test_a_killed_writer_leaves_only_whole_shards(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'backend'}{os.pathsep}{ROOT}"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as writer:
        assert writer.stdout is not None
        for line in writer.stdout:
            told = int(line)
            if told >= 3:
                break
        time.sleep(0.005)  # into the middle of writing the next one
        writer.send_signal(signal.SIGKILL)
    bank = Bank(tmp_path)
    bank.load(["mean"], never)
    assert len(bank.keys) >= 4 * (told + 1)
    bank.add(shard_of(99), scores_of(shard_of(99)))
    again = Bank(tmp_path)
    again.load(["mean"], never)
    assert again.keys == bank.keys
