"""A backend that others can reach has a password, or somebody has said that it needs none."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from eacps.errors import SettingsError
from eacps.labelstudio.web.app import create_app
from eacps.labelstudio.web.password import Password, is_loopback, require_password
from eacps.settings import Settings

ROOT = Path(__file__).resolve().parents[3]
Eacps = Any


def settings(**changes: Any) -> Settings:
    return Settings(_env_file=None, **changes)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.9.9.9", "::ffff:127.0.0.1"])
def test_this_machine_alone_needs_no_password(host: str) -> None:
    assert is_loopback(host)
    require_password(settings(host=host))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.0.2.1", "no-such-host.invalid"])
def test_an_address_that_others_reach_needs_one(host: str) -> None:
    with pytest.raises(SettingsError, match="EACPS_ALLOW_NO_PASSWORD") as caught:
        require_password(settings(host=host))
    assert "EACPS_BASIC_AUTH_USER" in str(caught.value)
    require_password(settings(host=host, allow_no_password=True))
    require_password(settings(host=host, basic_auth_user="ls", basic_auth_pass=SecretStr("secret")))


@pytest.mark.parametrize("half", [{"basic_auth_user": "ls"}, {"basic_auth_pass": SecretStr("x")}])
def test_half_a_password_is_refused_everywhere(half: dict[str, Any], tmp_path: Path) -> None:
    given = settings(**half, data_dir=tmp_path, allow_no_password=True)
    for refuses in (require_password, create_app):
        with pytest.raises(SettingsError) as caught:
            refuses(given)
        for name in ("EACPS_BASIC_AUTH_USER", "EACPS_BASIC_AUTH_PASS"):
            assert name in str(caught.value)


def test_only_the_whole_password_is_accepted() -> None:
    password = Password("ls", "a:b")
    assert password.accepts("Basic bHM6YTpi")
    for wrong in (
        "",
        "Basic",
        "Basic bHM6YTo=",
        "Basic bHM6",
        "Bearer bHM6YTpi",
        "Basic ???",
        "\xff",
    ):
        assert not password.accepts(wrong), wrong
    assert "a:b" not in repr(password)


def test_serve_does_not_start_and_doctor_says_so_before(
    eacps: Eacps, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EACPS_HOST", "0.0.0.0")
    shown = eacps("serve", "--web-only")
    assert shown.code
    assert "EACPS_ALLOW_NO_PASSWORD" in shown.out + shown.err
    told = eacps("doctor")
    assert told.code == 1
    assert "Access: EACPS_HOST is 0.0.0.0" in " ".join(told.out.split())
    monkeypatch.setenv("EACPS_ALLOW_NO_PASSWORD", "true")
    told = eacps("doctor")
    assert told.code == 0
    assert "Access: Everybody who can reach this backend may use it" in " ".join(told.out.split())


def test_other_commands_of_gunicorn_answer_only_this_machine(tmp_path: Path) -> None:
    def status(address: str, **changes: Any) -> int:
        web = create_app(settings(data_dir=tmp_path, **changes)).test_client()
        return web.get("/health", environ_base={"REMOTE_ADDR": address}).status_code

    assert status("127.0.0.1") == status("::1") == 200
    assert status("192.0.2.1") == status("fe80::1%eth0") == 403
    assert status("192.0.2.1", allow_no_password=True) == 200
    password = {"basic_auth_user": "ls", "basic_auth_pass": SecretStr("secret")}
    assert status("192.0.2.1", **password) == 200


def test_image_and_compose_file_say_what_they_need_to_start() -> None:
    image = (ROOT / "Dockerfile").read_text()
    said = dict(re.findall(r"(EACPS_\w+)=(\S+)", image))
    require_password(
        settings(host=said["EACPS_HOST"], allow_no_password=said["EACPS_ALLOW_NO_PASSWORD"])
    )
    compose = (ROOT / "docker-compose.yml").read_text()
    assert "${BACKEND_ADDRESS:-127.0.0.1:9090}:9090" in compose
    assert "EACPS_BASIC_AUTH_PASS: ${EACPS_BASIC_AUTH_PASS:-}" in compose
