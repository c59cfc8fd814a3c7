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
