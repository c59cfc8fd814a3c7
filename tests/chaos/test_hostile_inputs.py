"""Some hundred hostile inputs from a seed; `python -m tests.hostile` sends thousands."""

from __future__ import annotations

import os

from tests.hostile.run import run

SEED = int(os.environ.get("EACPS_TEST_SEED", "1").split(",")[0])


def test_no_hostile_input_crashes_anything_or_gives_a_server_error() -> None:
    for tally in run(600, SEED, print):
        row = tally.row()
        assert row["inputs"] == 200
        assert not row["crashes"], (SEED, row)
        assert not row["server errors"], (SEED, row)
        assert not [name for name in row["outcomes"] if name.startswith("unexpected")], (SEED, row)
