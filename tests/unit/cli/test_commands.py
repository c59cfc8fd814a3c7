"""What a newcomer reads: help that teaches, tables that fit, errors of one line."""

from __future__ import annotations

import json
import random
import socket
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy.exc
from PIL import Image

Eacps = Any

COMMANDS = (
    "demo", "serve", "worker", "run", "faceswap", "face-models", "collage", "doctor", "connect",
    "search-again", "label-config", "settings", "jobs list", "jobs show", "jobs cancel",
    "jobs retry", "jobs restart", "jobs prune",
)  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(eacps: Eacps, command: str) -> None:
    shown = eacps(*command.split(), "--help")
    assert shown.code == 0
    assert f" {command} " in next(line for line in shown.out.splitlines() if "Usage:" in line)
    assert max(map(len, shown.out.splitlines())) <= 80


@pytest.mark.parametrize("command", ["run", "faceswap", "serve", "worker", "connect"])
def test_commands_with_several_options_show_examples(eacps: Eacps, command: str) -> None:
    assert f"eacps {command}" in eacps(command, "--help").out.split("Examples:")[1]


def test_the_first_help_shows_where_to_begin(eacps: Eacps) -> None:
    shown = eacps("--help").out
    assert "eacps doctor" in shown
    assert "offline-workers" not in shown


def test_the_settings_list_fits_80_columns_and_says_where_values_come_from(
    eacps: Eacps, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EACPS_STEPS", "9")
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", "very-secret")
    shown = eacps("settings").out
    assert "* EACPS_STEPS = 9  ← environment (EACPS_STEPS)" in shown
    assert "EACPS_LABEL_STUDIO_API_KEY = (set)  ← environment (LABEL_STUDIO_API_KEY)" in shown
    assert "very-secret" not in shown
    prose = [line for line in shown.splitlines() if line.startswith("      ")]
    assert max(map(len, prose)) <= 80


def test_a_table_in_the_settings_list_can_be_pasted_back(
    eacps: Eacps, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = eacps("settings").out.splitlines()
    shown = next(line for line in lines if "EACPS_ROUTE_LABELS" in line).split(" = ")[1]
    assert json.loads(shown)["edit*"] == "edit"


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("EACPS_STEP", "9", "Did you mean EACPS_STEPS?"),
        ("EACPS_STEPS", "[red]many", "EACPS_STEPS"),
        ("EACPS_WEIGHTS", "{oops", "EACPS_WEIGHTS is not JSON"),
        ("LABEL_STUDIO_URL", "labels:8080", "LABEL_STUDIO_URL: must begin with http"),
        ("EACPS_DATABASE_URL", "mysql://me:pw@db/x", "must begin with postgresql://"),
        ("EACPS_STRATEGY", "magic", "Set EACPS_STRATEGY to one of: auto"),
        ("EACPS_WEIGHTS", '{"beauty": 1}', "EACPS_WEIGHTS names unknown metrics: beauty"),
        ("EACPS_FACE_WEIGHTS", '{"beauty": 1}', "EACPS_FACE_WEIGHTS names unknown metrics: beauty"),
        ("EACPS_EDITOR", "/nowhere/model", "Change EACPS_EDITOR"),
        ("EACPS_CLIP", "./nowhere", "Change EACPS_CLIP"),
        ("EACPS_DEVICES", "gpu", "Unknown device 'gpu'"),
    ],
)
def test_a_wrong_setting_stops_serve_with_one_line(
    eacps: Eacps, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, words: str
) -> None:
    monkeypatch.setenv("EACPS_POTENTIAL", "weighted")
    monkeypatch.setenv("EACPS_WEIGHTS", '{"pf": 1}')
    monkeypatch.setenv(variable, value)
    shown = eacps("serve")
    assert shown.code == 2
    assert words in shown.err
    assert len(shown.err.splitlines()) == 1


def test_a_folder_that_is_no_editor_is_refused_before_anything_starts(
    eacps: Eacps, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "model").mkdir()
    monkeypatch.setenv("EACPS_EDITOR", str(tmp_path / "model"))
    assert "has no model_index.json. Change EACPS_EDITOR" in eacps("worker").err


def test_an_editor_whose_index_is_nested_too_deeply_is_refused(
    eacps: Eacps, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model_index.json").write_text('{"a":' * 100_000)
    monkeypatch.setenv("EACPS_EDITOR", str(tmp_path / "model"))
    for command in (("worker",), ("run", "--image", "a.png", "--prompt", "x", "--out", "results")):
        (tmp_path / "a.png").touch()
        shown = eacps(*command)
        assert shown.code == 2
        assert "model_index.json cannot be read: it is nested too deeply" in shown.err


@pytest.mark.parametrize(
    "command",
    ["serve", "serve --web-only", "worker", "worker --orchestrator", "worker --slot 0",
     "offline-workers results"],
)  # fmt: skip
def test_a_data_folder_that_cannot_be_written_is_named(
    eacps: Eacps, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, command: str
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("EACPS_DATA_DIR", str(tmp_path / "file" / "data"))
    shown = eacps(*command.split())
    assert shown.code == 2
    assert "file/data cannot be written: Not a directory. Set EACPS_DATA_DIR" in shown.err
    assert len(shown.err.splitlines()) == 1


def test_an_output_folder_that_cannot_be_written_is_named(eacps: Eacps, tmp_path: Path) -> None:
    Image.new("RGB", (32, 32)).save(tmp_path / "a.png")
    (tmp_path / "file").touch()
    shown = eacps("run", "--image", "a.png", "--prompt", "x", "--out", "file/results")
    assert shown.code == 2
    assert "file/results cannot be written: Not a directory. Choose another --out." in shown.err


def damaged_jobs(folder: Path, seed: int) -> None:
    """A jobs database of which some pages are broken."""
    from eacps.jobs.client import JobClient
    from eacps.jobs.contract import Job
    from eacps.settings import load_settings

    client = JobClient(load_settings())
    client.submit_many([Job(f"job-{number}", {"task": number}) for number in range(40)])
    client.close()
    path = folder / ".eacps" / "jobs.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    content, chance = bytearray(path.read_bytes()), random.Random(seed)
    for _ in range(len(content) // 8000):
        place = chance.randrange(3 * 4096, len(content) - 200)
        content[place : place + 200] = chance.randbytes(200)
    path.write_bytes(content)


@pytest.mark.parametrize("seed", range(6))
def test_a_jobs_database_with_broken_pages_is_a_sentence(
    eacps: Eacps, tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    damaged_jobs(tmp_path, seed)
    monkeypatch.setattr("eacps.jobs.database._ready", set())
    for command in ("jobs list", "jobs show job-7", "jobs cancel job-8", "jobs prune"):
        shown = eacps(*command.split())
        assert shown.code in (0, 2)
        assert len(shown.err.splitlines()) == (shown.code == 2)


@pytest.mark.parametrize(
    "error",
    [
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
        json.JSONDecodeError("Expecting value", "x", 0),
        sqlite3.DatabaseError("database disk image is malformed"),
        sqlalchemy.exc.DatabaseError("SELECT 1", None, sqlite3.DatabaseError("disk I/O error")),
    ],
    ids=lambda error: type(error).__name__,
)
def test_every_way_a_jobs_database_breaks_is_one_sentence(
    eacps: Eacps, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    from eacps.jobs.client import JobClient
    from eacps.settings import load_settings

    client = JobClient(load_settings())
    client.counts()
    client.close()

    def broken(*_: object) -> None:
        raise error

    monkeypatch.setattr(JobClient, "page", broken)
    shown = eacps("jobs", "list")
    assert shown.code == 2
    assert "The jobs database" in shown.err
    assert "jobs.sqlite cannot be used: " in shown.err
    assert "SELECT" not in shown.err
    assert len(shown.err.splitlines()) == 1


def test_serve_says_that_its_port_is_taken(eacps: Eacps, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setenv("EACPS_PORT", str(taken.getsockname()[1]))
        shown = eacps("serve")
    assert shown.code == 2
    assert "Address already in use" in shown.err
    assert "EACPS_PORT" in shown.err


@pytest.mark.parametrize("command", ["list", "prune"])
def test_jobs_in_a_folder_without_jobs_names_the_setting_and_leaves_nothing_behind(
    eacps: Eacps, tmp_path: Path, command: str
) -> None:
    shown = eacps("jobs", command)
    assert shown.code == 2
    assert "EACPS_DATA_DIR" in shown.err
    assert not list(tmp_path.iterdir())


def test_jobs_name_what_is_wrong(eacps: Eacps, tmp_path: Path) -> None:
    from eacps.jobs.client import JobClient
    from eacps.jobs.contract import Job
    from eacps.settings import load_settings

    client = JobClient(load_settings())
    client.submit(Job("a1b2", {"task": 17}))
    client.close()
    assert "queued" in (line := eacps("jobs", "list").out)
    assert line.startswith("a1b2 ")
    assert "task 17" in line
    assert json.loads(eacps("jobs", "show", "a1b2").out)["state"] == "queued"
    assert "Cancelled a1b2" in eacps("jobs", "cancel", "a1b2").out
    again = eacps("jobs", "cancel", "a1b2")
    assert (again.code, again.out) == (2, "")
    assert "it is cancelled. There is nothing to cancel." in again.err
    assert "Queued a1b2 again" in eacps("jobs", "retry", "a1b2").out
    again = eacps("jobs", "retry", "a1b2")
    assert (again.code, again.out) == (2, "")
    assert "it is queued. There is nothing to retry." in again.err
    assert "There are no such jobs" in eacps("jobs", "list", "--state", "failed").out
    assert "There is no job 'zz'" in eacps("jobs", "show", "zz").err


def test_jobs_are_listed_by_project_task_and_code(eacps: Eacps) -> None:
    from eacps.jobs.client import JobClient
    from eacps.jobs.contract import Job
    from eacps.settings import load_settings
    from tests.unit.jobs.test_jobs_client import fail

    settings = load_settings()
    client = JobClient(settings)
    client.submit_many([Job(f"j{n}", {"project": n % 2 + 1, "task": n}) for n in range(6)])
    client.close()
    fail(settings, "j3", "label_studio_stumbled")

    def listed(*arguments: str) -> list[str]:
        out = eacps("jobs", "list", *arguments).out
        return [line.split()[0] for line in out.splitlines() if line.startswith("j")]

    assert sorted(listed()) == [f"j{n}" for n in range(6)]
    assert sorted(listed("--project", "2")) == ["j1", "j3", "j5"]
    assert sorted(listed("--project", "2", "--state", "queued")) == ["j1", "j5"]
    assert listed("--task", "4") == ["j4"]
    assert listed("--code", "label_studio_stumbled") == ["j3"]
    assert "task 3 of project 2" in eacps("jobs", "list", "--code", "label_studio_stumbled").out
    assert len(listed("--limit", "2")) == 2
    assert "--limit 20" in eacps("jobs", "list", "--limit", "2").out
    assert "--limit" not in eacps("jobs", "list", "--limit", "6").out
    unknown = eacps("jobs", "list", "--code", "label_studio_stumbles").out
    assert "There are no such jobs.\nCodes of jobs that failed: label_studio_stumbled." in unknown


def test_a_job_that_can_only_fail_again_is_not_retried_unasked(eacps: Eacps) -> None:
    from eacps.jobs.client import JobClient
    from eacps.jobs.contract import Job
    from eacps.settings import load_settings
    from tests.unit.jobs.test_jobs_client import fail

    settings = load_settings()
    client = JobClient(settings)
    client.submit_many([Job("a1", {}), Job("a2", {}), Job("a3", {})])
    client.close()
    fail(settings, "a1", "no_instruction")
    fail(settings, "a2", "no_instruction")
    fail(settings, "a3", "down")
    refused = eacps("jobs", "retry", "a1")
    assert refused.code == 2
    assert "would fail again: It failed. Correct the task" in refused.err
    every = eacps("jobs", "retry", "--failed", "--dry-run").out
    assert "1 job would be queued again." in every
    assert "Left out: 2 jobs whose tasks are wrong (no_instruction)" in every
    assert "Queued 1 job again." in eacps("jobs", "retry", "--failed").out
    assert "Queued a1 again." in eacps("jobs", "retry", "a1", "--anyway").out
    assert "Queued 1 job again." in eacps("jobs", "retry", "--failed", "--anyway").out


def test_all_failed_jobs_are_retried_by_time_and_code(eacps: Eacps) -> None:
    from eacps.jobs.client import JobClient
    from eacps.jobs.contract import Job
    from eacps.settings import load_settings
    from tests.unit.jobs.test_jobs_client import fail

    settings = load_settings()
    client = JobClient(settings)
    client.submit_many([Job("a1", {}), Job("a2", {}), Job("a3", {}), Job("a4", {})])
    client.close()
    for job, code, hours in (("a1", "bad_image", 0), ("a2", "down", 0), ("a3", "down", 5)):
        fail(settings, job, code, hours)
    assert "bad_image: It failed." in eacps("jobs", "list", "--state", "failed").out
    assert "1 job would" in eacps("jobs", "retry", "--failed", "--since", "2h", "--dry-run").out
    arguments = ("--failed", "--since", "2h", "--anyway", "--dry-run")
    shown = eacps("jobs", "retry", *arguments).out.split()
    assert shown[:4] == ["1", "bad_image", "1", "down"]
    assert "2 jobs would be queued" in " ".join(shown)
    assert "Queued 2 jobs again" in eacps("jobs", "retry", "--failed", "--code", "down").out
    assert (
        "Queued 1 job again"
        in eacps("jobs", "retry", "--failed", "--since", "2020-01-01", "--code", "bad_image").out
    )
    assert "nothing to retry" in eacps("jobs", "retry", "--failed").out


@pytest.mark.parametrize(
    "arguments",
    [(), ("a1", "--failed"), ("a1", "--dry-run"), ("--since", "2h"), ("--failed", "--since", "x")],
)
def test_a_retry_that_makes_no_sense_is_refused(eacps: Eacps, arguments: tuple[str, ...]) -> None:
    from eacps.jobs.client import JobClient
    from eacps.settings import load_settings

    client = JobClient(load_settings())
    client.counts()
    client.close()
    shown = eacps("jobs", "retry", *arguments)
    assert shown.code == 2
    assert "--since" in shown.err


def test_label_config_can_be_piped_into_a_file(eacps: Eacps) -> None:
    assert eacps("label-config").out.startswith("<View")


def test_jobs_restart_takes_one_job_or_all_that_wait(eacps: Eacps) -> None:
    from eacps.jobs.client import JobClient
    from eacps.jobs.contract import Job
    from eacps.settings import load_settings

    client = JobClient(load_settings())
    client.submit(Job("a1b2", {}))
    client.close()
    assert "Queued a1b2 again" in eacps("jobs", "restart", "a1b2").out
    assert "No job waits for a missing worker" in eacps("jobs", "restart", "--waiting").out
    for neither_or_both in ([], ["a1b2", "--waiting"]):
        shown = eacps("jobs", "restart", *neither_or_both)
        assert shown.code == 2
        assert "Pass either a job or --waiting" in shown.err


def test_the_settings_list_names_plugins_and_their_options_without_a_secret(
    eacps: Eacps, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "mine.py").write_text(JUDGE)
    options = {"Judge": {"phrase": SECRET, "password": SECRET, "url": "$JUDGE_URL", "side": 9}}
    monkeypatch.setenv("EACPS_VERIFIER", "mine.py:Judge")
    monkeypatch.setenv("EACPS_PLUGIN_OPTIONS", json.dumps(options))
    monkeypatch.setenv("JUDGE_URL", f"http://{SECRET}@judge")
    shown = eacps("settings")
    assert shown.code == 0
    assert SECRET not in shown.out + shown.err
    lines = [line.strip() for line in shown.out.splitlines()]
    assert "Plug-in Judge (verifier, file" in shown.out
    told = {line.split(" = ")[0]: line.split(" = ")[1] for line in lines if " = " in line}
    assert told["phrase"].startswith("(set) ")
    assert told["password"].startswith("*** ")
    assert told["url"].startswith("$JUDGE_URL ")
    assert told["side"].startswith("9  whole number, at least 1")
    assert told["note"].startswith("empty ")
    whole = json.loads(told["* EACPS_PLUGIN_OPTIONS"].split("  ←")[0])
    assert whole == {"Judge": {**dict.fromkeys(("phrase", "password"), "***"),
                               "url": "$JUDGE_URL", "side": 9}}  # fmt: skip


SECRET = "correct-horse"
JUDGE = """
from pydantic import BaseModel, Field, SecretStr
from eacps import Answers, MetricRange


class Options(BaseModel):
    phrase: SecretStr = SecretStr("")
    password: str = ""
    url: str = ""
    side: int = Field(64, ge=1)
    note: str | None = None


class Judge:
    Options = Options
    ranges = {"satisfied": MetricRange(worst=0, best=1)}

    def judge(self, task, images, edited, progress):
        return [Answers({}) for _ in edited]
"""
