"""Stored renders survive any kind of crash."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.search.bank import END, Bank, Scores, Shard, Wanted, key_of, missing, noise_of
from eacps.domain import Noise

ROOT = Path(__file__).resolve().parents[3]
WHOLE = 3
WRITER = """
import os, signal, sys
from pathlib import Path
from tests.unit.benchmarks.test_search_bank import WHOLE, scores_of, shard_of
from benchmarks.search import bank as module

bank = module.Bank(Path(sys.argv[1]))
for number in range(WHOLE):
    bank.add(shard_of(number), scores_of(shard_of(number)))

left, at = int(sys.argv[2]), sys.argv[3]

def die():
    global left
    left -= 1
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)

write, replace = module.numpy.savez_compressed, Path.replace

def killed_while_writing(file, **arrays):
    file.write(b"PK half of it")
    file.flush()
    die()
    file.seek(0)
    write(file, **arrays)

def killed_before_the_name(path, target):
    die()
    return replace(path, target)

if at == "content":
    module.numpy.savez_compressed = killed_while_writing
else:
    Path.replace = killed_before_the_name
bank.add(shard_of(WHOLE), scores_of(shard_of(WHOLE)))
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


@pytest.mark.parametrize("at", ["content", "name"])
@pytest.mark.parametrize("file", [1, 2], ids=["scores", "pictures"])
def test_a_killed_writer_leaves_only_whole_shards(tmp_path: Path, file: int, at: str) -> None:
    command = [sys.executable, "-c", WRITER, str(tmp_path), str(file), at]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'backend'}{os.pathsep}{ROOT}"}
    done = subprocess.run(command, env=environment, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    bank = Bank(tmp_path)
    bank.load(["mean"], never)
    assert len(bank.keys) == 4 * WHOLE
    bank.add(shard_of(99), scores_of(shard_of(99)))
    again = Bank(tmp_path)
    again.load(["mean"], never)
    assert again.keys == bank.keys
