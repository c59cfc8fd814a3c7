"""Logs name the task and hide secrets."""

from __future__ import annotations

import json
import logging

import pytest

from eacps import log


def test_lines_name_the_task_and_hide_secrets(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure("INFO", "json")
    with log.ids(task=42, key="abc123", job=None):
        logging.getLogger("x").info("Authorization: Token s3cr3t-token and postgresql://u:pw@h/d")
    line = json.loads(capsys.readouterr().err.strip().splitlines()[-1])
    assert (line["task"], line["key"]) == ("42", "abc123")
    assert "job" not in line
    assert line["message"] == "Authorization: Token *** and postgresql://u:***@h/d"


@pytest.mark.parametrize(
    "line",
    [
        '{"access_token": "s3cr3t"}',
        "{'password': 's3cr3t'}",
        "token=s3cr3t&x=1",
        "/artifacts/x?sig=s3cr3t",
        "EACPS_API_KEY: s3cr3t",
    ],
)
def test_whatever_looks_like_a_secret_is_masked(line: str) -> None:
    shown = log.masked(f"before {line} after")
    assert "s3cr3t" not in shown
    assert "***" in shown
    assert shown.startswith("before ")
    assert shown.endswith(" after")


def test_text_lines_outside_a_task_have_a_dash(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure("INFO", "text", "web")
    logging.getLogger("x").warning("hello")
    assert "web [-] hello" in capsys.readouterr().err


def test_ids_are_added_and_taken_away_with_their_block(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure("INFO", "json", "web")
    with log.ids(request="r1", project=3), log.ids(job="j", request="r2"):
        logging.getLogger("x").info("inside")
    logging.getLogger("x").info("outside")
    inside, outside = map(json.loads, capsys.readouterr().err.splitlines())
    assert {name: inside[name] for name in ("request", "project", "job")} == {
        "request": "r2",
        "project": "3",
        "job": "j",
    }
    assert not outside.keys() & set(log.ID_NAMES)
    assert (inside["process"], inside["level"], inside["logger"]) == ("web", "INFO", "x")


def test_text_lines_have_the_request_and_the_key(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure("INFO", "text", "worker 0")
    with log.ids(request="r1", key="k1", batch="b1"):
        logging.getLogger("x").info("hello")
    assert "worker 0 [r1 k1] hello" in capsys.readouterr().err


def test_a_port_is_no_password() -> None:
    assert log.masked("on http://127.0.0.1:9090/status") == "on http://127.0.0.1:9090/status"
    assert log.masked("postgresql://eacps:p@ss@host/e") == "postgresql://eacps:***@host/e"
