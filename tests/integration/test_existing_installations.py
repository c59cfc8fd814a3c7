"""What 0.1 served is still served after an upgrade: with a warning, until it is made safe."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
import uuid
from base64 import b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import yaml  # type: ignore[import-untyped]

from eacps.jobs import installation
from eacps.jobs.database import prepare
from eacps.labelstudio.web.app import create_app
from eacps.settings import load_settings
from tests.chaos.test_upgrade import POSTGRES, restored
from tests.label_studio_server import free_port
from tests.patience import PATIENCE, wait_until
from tests.stack import ROOT

OPEN = {"EACPS_HOST": "0.0.0.0"}
ONLY_USER = {"EACPS_BASIC_AUTH_USER": "ls"}
ONLY_PASSWORD = {"EACPS_BASIC_AUTH_PASS": "secret"}
WHOLE = {**ONLY_USER, **ONLY_PASSWORD}


def authorization(user: str, word: str) -> dict[str, str]:
    return {"Authorization": f"Basic {b64encode(f'{user}:{word}'.encode()).decode()}"}


@dataclass
class Place:
    """A data folder, its database, and the commands that are run there."""

    folder: Path
    database: str
    port: int = field(default_factory=free_port)

    def environment(self, **variables: str) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("EACPS_", "LABEL_ST"))}
        return {
            **kept,
            "PYTHONPATH": str(ROOT / "backend"),
            "EACPS_DATA_DIR": str(self.folder),
            "EACPS_DATABASE_URL": self.database,
            "EACPS_PORT": str(self.port),
            "EACPS_DEVICES": "cpu",
            "COLUMNS": "1000",
            **variables,
        }

    def command(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "eacps", *arguments],
            cwd=self.folder, env=self.environment(**variables), text=True, check=False,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=PATIENCE,
        )  # fmt: skip

    @contextmanager
    def serving(self, *arguments: str, **variables: str) -> Iterator[Path]:
        """A running web server, and what it logs."""
        log = self.folder / "log"
        with log.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", *(arguments or ("eacps", "serve", "--web-only"))],
                cwd=self.folder, env=self.environment(**variables), stdout=file, stderr=file,
            )  # fmt: skip
        try:
            wait_until(lambda: self.answer("/health") == 200 or process.poll(), log.read_text)
            assert process.poll() is None, log.read_text()
            yield log
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(PATIENCE)

    def answer(self, path: str, **headers: str) -> int:
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest) -> str:
    if request.param == "postgres" and not POSTGRES:
        pytest.skip("EACPS_TEST_POSTGRES_URL names no server")
    return str(request.param)


@pytest.fixture
def of_01(database: str, tmp_path: Path) -> Place:
    return Place(tmp_path, restored(database, tmp_path, "http://127.0.0.1:9"))


@pytest.fixture
def fresh(database: str, tmp_path: Path) -> Place:
    if database == "sqlite":
        return Place(tmp_path, "")
    url = sa.make_url(POSTGRES).set(database=f"fresh_{uuid.uuid4().hex[:12]}")
    return Place(tmp_path, url.render_as_string(hide_password=False))


def test_an_open_address_without_a_password_starts_and_warns(of_01: Place) -> None:
    told = of_01.command("doctor", **OPEN).stdout
    assert "! warn" in told
    assert re.search(r"Access: Everybody .*Version 0\.3 will refuse to start", told)
    for _ in range(2):
        with of_01.serving(**OPEN) as log:
            assert of_01.answer("/status.json") == 200
            assert "EACPS_BASIC_AUTH_PASS" in log.read_text()
            assert "Version 0.3 will refuse to start" in log.read_text()


def test_other_machines_are_answered_as_before(
    of_01: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in of_01.environment(**OPEN).items():
        monkeypatch.setenv(name, value)
    web = create_app(load_settings()).test_client()
    assert web.get("/health", environ_base={"REMOTE_ADDR": "192.0.2.1"}).status_code == 200
    monkeypatch.setattr(installation, "_facts", lambda _: pytest.fail("asked at every request"))
    assert web.get("/health", environ_base={"REMOTE_ADDR": "192.0.2.1"}).status_code == 200


@pytest.mark.parametrize("safe", [WHOLE, {"EACPS_HOST": "127.0.0.1"}])
def test_the_exception_ends_with_the_first_safe_start(of_01: Place, safe: dict[str, str]) -> None:
    with of_01.serving(**{**OPEN, **safe}) as log:
        assert "0.3" not in log.read_text()
    refused = of_01.command("serve", "--web-only", **OPEN)
    assert refused.returncode == 2
    assert "EACPS_ALLOW_NO_PASSWORD" in refused.stdout


@pytest.mark.parametrize(
    ("half", "missing", "wanted"),
    [
        (ONLY_USER, "EACPS_BASIC_AUTH_PASS", ("ls", "")),
        (ONLY_PASSWORD, "EACPS_BASIC_AUTH_USER", None),
    ],
)
@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_half_a_password_means_what_it_meant(
    of_01: Place, half: Mapping[str, str], missing: str, wanted: tuple[str, str] | None, host: str
) -> None:
    told = of_01.command("doctor", EACPS_HOST=host, **half).stdout
    assert f"Access: {missing} is empty" in told
    with of_01.serving(EACPS_HOST=host, **half) as log:
        assert f"{missing} is empty" in log.read_text()
        assert of_01.answer("/status.json") == (401 if wanted else 200)
        if wanted:
            assert of_01.answer("/status.json", **authorization(*wanted)) == 200
            assert of_01.answer("/status.json", **authorization("ls", "x")) == 401


@pytest.mark.parametrize("variables", [OPEN, ONLY_USER, ONLY_PASSWORD])
@pytest.mark.parametrize("there", [False, True])
def test_a_new_installation_is_refused(
    fresh: Place, variables: dict[str, str], there: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if there:
        for name, value in fresh.environment().items():
            monkeypatch.setenv(name, value)
        prepare(load_settings())
    refused = fresh.command("serve", "--web-only", **variables)
    assert refused.returncode == 2, refused.stdout
    assert "EACPS_BASIC_AUTH_PASS" in refused.stdout
    if not there:
        assert not (fresh.folder / "jobs.sqlite").exists()


# --- the compose file


def compose_variables(**given: str) -> dict[str, str]:
    """The environment of the compose file's web server, above that of its image."""
    text = (ROOT / "docker-compose.yml").read_text()

    def substituted(found: re.Match[str]) -> str:
        return given.get(found[1]) or found[2]

    filled = re.sub(r"\$\{(\w+):-([^}]*)\}", substituted, text)
    image = dict(re.findall(r"(EACPS_\w+)=(\S+)", (ROOT / "Dockerfile").read_text()))
    web: dict[str, Any] = yaml.safe_load(filled)["services"]["web"]
    assert web["command"] == ["eacps", "serve", "--web-only"]
    return {**image, **web["environment"]}


def composed(place: Place, **given: str) -> dict[str, str]:
    """That environment with the places of this machine instead of a container's."""
    ours = {"EACPS_DATABASE_URL": place.database, "EACPS_LOG_FORMAT": "text"}
    found = {**compose_variables(**given), **ours}
    # The parser reads nothing as null; compose fills in later, so that there it is an empty text.
    filled = {name: value or "" for name, value in found.items()}
    return {name: value.replace("/data", str(place.folder)) for name, value in filled.items()}


def test_compose_makes_a_password_at_the_first_start_and_keeps_it(fresh: Place) -> None:
    path = fresh.folder / "password"
    variables = composed(fresh)
    with fresh.serving(**variables) as log:
        assert str(path) in log.read_text()
        user, word = path.read_text().strip().split(":")
        assert path.stat().st_mode & 0o777 == 0o600
        assert word not in log.read_text()
        assert fresh.answer("/status.json") == 401
        assert fresh.answer("/status.json", **authorization(user, word)) == 200
    with fresh.serving(**variables):
        assert path.read_text().strip() == f"{user}:{word}"
        assert fresh.answer("/status.json", **authorization(user, word)) == 200
    assert word not in fresh.command("settings", **variables).stdout


def test_composes_own_password_wins(fresh: Place) -> None:
    with fresh.serving(**composed(fresh, **WHOLE)):
        assert fresh.answer("/status.json", **authorization("ls", "secret")) == 200
        assert not (fresh.folder / "password").exists()


def test_a_composed_installation_of_01_starts_as_before(of_01: Place) -> None:
    for _ in range(2):
        with of_01.serving(**composed(of_01)) as log:
            assert of_01.answer("/status.json") == 200
            assert "Everybody who can reach this backend" in log.read_text()
            assert not (of_01.folder / "password").exists()


def test_a_file_without_a_password_is_refused(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("no password\n")
    place = Place(tmp_path, "")
    refused = place.command("settings", EACPS_BASIC_AUTH_FILE=str(tmp_path / "password"))
    assert refused.returncode == 2
    assert "user:password" in refused.stdout
