"""The parts of the engine that need no process to be seen at work."""

from __future__ import annotations

import subprocess
import sys
from itertools import islice
from pathlib import Path

import pytest

from eacps.domain import EditTask, SearchPlan
from eacps.errors import EacpsError, SettingsError
from eacps.jobs.beats import Reaper
from eacps.jobs.codec import JsonSerializer, RecordedError, refuse_pickle
from eacps.jobs.database import database_url
from eacps.jobs.launch import process_lock, process_name
from eacps.jobs.orchestrator import failure_of, pauses, require_own_code
from eacps.settings import Settings


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_only_a_counter_that_stands_still_means_death() -> None:
    clock = Clock()
    reaper = Reaper("me", 10, clock)
    dead: list[str] = []
    for moment in range(0, 24, 2):
        clock.now = moment
        dead += reaper.dead({"alive": moment, "silent": 5, "me": 1}, {"alive", "silent", "me"})
        if dead:
            break
    assert dead == ["silent"]
    assert clock.now == 12


def test_a_process_without_any_heartbeat_is_dead_too() -> None:
    clock = Clock()
    reaper = Reaper("me", 10, clock)
    for moment in range(0, 12, 2):
        clock.now = moment
        assert reaper.dead({}, {"gone"}) == []
    clock.now = 12
    assert reaper.dead({}, {"gone"}) == ["gone"]


def test_a_reaper_that_slept_judges_nobody_by_that_time() -> None:
    clock = Clock()
    reaper = Reaper("me", 10, clock)
    reaper.dead({"other": 5}, {"other"})
    clock.now = 500
    assert reaper.dead({"other": 5}, {"other"}) == []


def test_pauses_grow_to_a_minute_and_end_with_the_retention() -> None:
    assert list(islice(pauses(1e9), 8)) == [1, 2, 4, 8, 16, 32, 60, 60]
    assert sum(pauses(600)) < 600 + 60


def test_values_and_errors_survive_the_database_as_json() -> None:
    serializer = JsonSerializer()
    value = {"args": [1, "ø", None], "kwargs": {}}
    assert serializer.deserialize(serializer.serialize(value)) == value
    error = serializer.deserialize(serializer.serialize(ValueError("bad")))
    assert isinstance(error, RecordedError)
    assert str(error) == "ValueError: bad"


def test_a_pickle_in_the_database_is_never_loaded() -> None:
    from dbos._serialization import DBOSDefaultSerializer

    refuse_pickle()
    text = DBOSDefaultSerializer.serialize({"harmless": True})
    with pytest.raises(ValueError, match="never loaded"):
        DBOSDefaultSerializer.deserialize(text)


@pytest.mark.parametrize("name", ["/tmp/evil.py:Strategy", "os:system"])
def test_a_row_of_the_database_names_no_code_to_run(name: str) -> None:
    task = EditTask("a", "b", plan=SearchPlan(name))
    with pytest.raises(SettingsError, match="EACPS_STRATEGY no longer names"):
        require_own_code(task, Settings(_env_file=None))
    require_own_code(task, Settings(_env_file=None, strategy=name))
    require_own_code(EditTask("a", "b", plan=SearchPlan("halving")), Settings(_env_file=None))


def test_errors_become_sentences_that_say_what_to_do() -> None:
    known = failure_of(EacpsError("It is broken.", hint="Mend it.", code="broken"))
    assert (known.code, known.message) == ("broken", "It is broken. Mend it.")
    assert failure_of(KeyError("x")).code == "internal_error"


def test_two_processes_never_hold_one_name(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, host_name="a host/with: odd name")
    name = process_name(settings, "device-0")
    code = f"""
import fcntl, pathlib
path = next(pathlib.Path({str(tmp_path / "locks")!r}).glob("*.lock"))
file = path.open("w")
fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
"""
    with process_lock(settings, name):
        held = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    free = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert b"BlockingIOError" in held.stderr
    assert free.returncode == 0


@pytest.mark.parametrize("given", ["postgres://u:p@h/d", "postgresql://u:p@h/d"])
def test_any_spelling_of_a_postgres_url_works(given: str, tmp_path: Path) -> None:
    url = database_url(Settings(data_dir=tmp_path, database_url=given))
    assert url.render_as_string(hide_password=False) == "postgresql+psycopg://u:p@h/d"


@pytest.mark.parametrize("module", ["contract", "client", "supervisor", "lifeline"])
def test_what_the_web_imports_is_light(module: str) -> None:
    heavy = {"dbos", "sqlalchemy", "torch", "numpy", "PIL"}
    code = f"import sys, eacps.jobs.{module}; print(sorted({heavy!r} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
