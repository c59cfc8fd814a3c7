"""Two installed versions share a jobs database: nothing is lost, and nothing is done twice.

The newer version is this one with another number, built and installed in a folder of its own.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import sqlalchemy as sa

from eacps.jobs import names
from eacps.jobs.contract import mixed_versions, waiting_words
from eacps.jobs.database import Records, database_url, open_engine
from tests.chaos.jobs_play import job
from tests.chaos.stage import CANDIDATES, SECOND_ROUND, Stage
from tests.patience import PATIENCE

ROOT = Path(__file__).parents[2]
POSTGRES = os.environ.get("EACPS_TEST_POSTGRES_URL", "")
NEWER = "9.9.9"


@pytest.fixture(scope="session")
def newer(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of an installed version whose workflows have other steps than ours."""
    folder = tmp_path_factory.mktemp("newer")
    source = folder / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", "model.py", "_wsgi.py"):
        shutil.copy(ROOT / name, source)
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
    shutil.copytree(ROOT / "backend", source / "backend", ignore=ignored)
    package = source / "backend" / "eacps"
    replace(package / "__init__.py", '__version__ = "', f'__version__ = "{NEWER}"  # "')
    later = str(int(names.VERSION) + 1)
    replace(
        package / "jobs" / "names.py", f'\nVERSION = "{names.VERSION}"', f'\nVERSION = "{later}"'
    )
    installed = folder / "installed"
    built = subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation",
         "--no-index", "--target", str(installed), str(source)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert built.returncode == 0, built.stderr
    return str(installed)


def replace(path: Path, old: str, new: str) -> None:
    content = path.read_text()
    assert old in content, f"{path} has no {old!r}"
    path.write_text(content.replace(old, new, 1))


@pytest.fixture(params=["sqlite", "postgres"])
def stage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stage]:
    """The machine `here` runs this version."""
    if request.param == "postgres" and not POSTGRES:
        pytest.skip("EACPS_TEST_POSTGRES_URL names no server")
    address = f"{POSTGRES.rsplit('/', 1)[0]}/rolling_{uuid.uuid4().hex[:12]}"
    stage = Stage(tmp_path, address if request.param == "postgres" else "", batch_timeout=900)
    try:
        yield stage
    finally:
        stage.close()


def eacps(stage: Stage, *arguments: str, **variables: str) -> subprocess.Popen[str]:
    """A command of the version that PYTHONPATH names."""
    process = subprocess.Popen(
        [sys.executable, "-m", "eacps", *arguments],
        cwd=stage.folder, env={**os.environ, **stage.variables, **variables}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    stage.started.append(process)
    return process


def log_of(stage: Stage) -> str:
    return (stage.folder / "log.txt").read_text()


def ended(process: subprocess.Popen[str], code: int = 0) -> str:
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == code, output
    return output


def beats(stage: Stage, name: str) -> int:
    """How often a process has given a sign of life; each time it asks for older work."""
    records = Records(open_engine(database_url(stage.settings)))
    workers = records.tables.workers
    with records.engine.connect() as connection:
        found = connection.execute(sa.select(workers.c.beats).where(workers.c.name == name))
        number = int(found.scalar_one())
    records.engine.dispose()
    return number


def start(stage: Stage, host: str, newer: str, workers: int = 3) -> subprocess.Popen[bytes]:
    """A machine with the newer version."""
    process = stage.play("supervisor", "2", EACPS_HOST_NAME=host, PYTHONPATH=newer)

    def is_ready() -> bool:
        live = stage.client.workers()
        return sum(each.name.startswith(f"{host}/") for each in live) == workers

    stage.until(is_ready)
    return process


def submit(stage: Stage, name: str, newer: str) -> None:
    """As the web server of the newer version does."""
    process = stage.play("submit", name, "1", PYTHONPATH=newer)
    assert process.communicate(timeout=PATIENCE)[0] == b"1"


def assert_once(stage: Stage, jobs: Sequence[str], texts: Sequence[str]) -> None:
    """Every job was delivered once, and every candidate begun and finished once."""
    for name in jobs:
        stage.assert_delivered_once(name)
    for text in texts:
        for event in ("start", "end"):
            trials = Counter(trial for each in stage.renders(text, event) for trial in each)
            assert trials == {f"c{number}": 1 for number in range(1, CANDIDATES + 1)}, text


@pytest.mark.parametrize("how", ["command", "signal"])
def test_old_and_new_work_side_by_side_until_the_old_has_drained(
    stage: Stage, newer: str, how: str
) -> None:
    stage.client.submit(job("old", hold=SECOND_ROUND))
    stage.until_halfway("old")
    there = start(stage, "there", newer)
    stage.client.submit(job("old too"))
    submit(stage, "new", newer)
    # The same search, asked for under both versions.
    stage.client.submit(job("twin", text="new"))
    stage.until_delivered("new")
    found = mixed_versions(stage.client.workers())
    assert NEWER in found
    assert "there" in found
    ours = {each.pid for each in stage.client.workers() if each.name.startswith("here/")}
    if how == "command":
        draining = eacps(stage, "drain", "here")
    else:
        stage.supervisor.send_signal(signal.SIGUSR1)
        draining = None
    stage.until(lambda: "draining: no more work is taken" in log_of(stage))
    stage.until(lambda: len([each for each in stage.client.workers() if each.pid in ours]) == 2)
    if draining:
        assert draining.poll() is None, "a batch is still being rendered"
        assert all(each.draining for each in stage.client.workers() if each.pid in ours)
        assert ended(eacps(stage, "drain", "here", "--timeout", "1"), 1).count("1 batch left") == 2
    stage.release("old")
    if draining:
        output = ended(draining)
        assert "here/device-0: stopped" in output
        assert "here has drained." in output
    assert stage.supervisor.wait(PATIENCE) == 0
    stage.until_delivered("old", "old too", "new", "twin")
    assert_once(stage, ["old", "old too", "new", "twin"], ["old", "old too", "new"])
    assert ours.isdisjoint(each.pid for each in stage.client.workers())
    # And the upgraded machine takes part again.
    start(stage, "here", newer)
    assert not mixed_versions(stage.client.workers())
    assert "has drained" in ended(eacps(stage, "drain", "there"))
    assert there.wait(PATIENCE) == 0
    submit(stage, "last", newer)
    stage.until_delivered("last")
    assert_once(stage, ["last"], ["last"])


def test_one_machine_drains_is_upgraded_and_continues(stage: Stage, newer: str) -> None:
    stage.client.submit(job("halfway", hold=SECOND_ROUND))
    stage.until_halfway("halfway")
    waiting = [f"waiting {number}" for number in range(6)]
    stage.client.submit_many([job(name) for name in waiting])
    draining = eacps(stage, "drain")
    stage.until(lambda: log_of(stage).count("draining: no more work is taken") == 3)
    stage.release("halfway")
    # The first one may have ended while the orchestrator was leaving.
    assert re.search("[67] unfinished jobs continue", ended(draining))
    assert stage.supervisor.wait(PATIENCE) == 0
    assert not stage.client.workers()
    before = stage.lines("renders")
    assert "Nothing is running on here." in ended(eacps(stage, "drain"))
    start(stage, "here", newer)
    stage.until_delivered("halfway", *waiting)
    assert stage.lines("renders")[: len(before)] == before
    assert_once(stage, ["halfway", *waiting], ["halfway", *waiting])


def test_workers_may_be_upgraded_before_the_orchestrator_of_their_searches(
    stage: Stage, newer: str
) -> None:
    stage.play("orchestrator", EACPS_HOST_NAME="control")
    stage.until(lambda: len(stage.client.workers()) == 4)
    ended(eacps(stage, "drain", "here"))
    stage.client.submit(job("old"))
    start(stage, "there", newer)
    stage.until(stage.client.waiting)
    [waiting] = stage.client.waiting()
    assert waiting.cause == "version", "nobody of the old version renders"
    asked = "import sys; from eacps.jobs.client import JobClient; from eacps.settings import "
    asked += "load_settings; print(*(w.cause for w in JobClient(load_settings()).waiting()))"
    told = subprocess.run(
        [sys.executable, "-c", asked], cwd=stage.folder, text=True, check=True,
        env={**os.environ, **stage.variables, "PYTHONPATH": newer}, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert told.stdout.strip() == "earlier version"
    assert "eacps drain" in waiting_words(waiting)
    submit(stage, "new", newer)
    stage.until_delivered("new")
    # Its batches are not taken away, however often the newer version asks for older work.
    before = beats(stage, "there/orchestrator")
    stage.until(lambda: beats(stage, "there/orchestrator") > before + 4)
    assert stage.status("old").state == "running"
    ended(eacps(stage, "drain", "control", PYTHONPATH=newer))
    stage.until_delivered("old")
    assert_once(stage, ["old", "new"], ["old", "new"])
