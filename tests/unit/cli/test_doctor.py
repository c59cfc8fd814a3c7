"""`eacps doctor`: every line says what to do, secrets stay secret, nothing is changed."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from backend.settings import DEMO_PACK
from tests.label_studio_server import free_port

Eacps = Any


def line(shown: str, subject: str) -> str:
    return next(line for line in shown.splitlines() if f"{subject}:" in line)


def test_a_fresh_folder_is_ready_and_stays_empty(eacps: Eacps, tmp_path: Path) -> None:
    shown = eacps("doctor")
    assert shown.code == 0
    assert "0 to mend first" in shown.out
    assert "made at the first start" in line(shown.out, "Database")
    assert "eacps serve" in line(shown.out, "Workers")
    assert "LABEL_STUDIO_URL" in line(shown.out, "Label Studio")
    assert not list(tmp_path.iterdir())


def test_damaged_weights_are_noticed(
    eacps: Eacps, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shutil.copytree(DEMO_PACK, tmp_path / "pack")
    (tmp_path / "pack" / "clip" / "open_clip_model.safetensors").write_bytes(b"damaged")
    monkeypatch.setenv("EACPS_CLIP", str(tmp_path / "pack" / "clip"))
    shown = eacps("doctor")
    assert shown.code == 1
    assert "fail" in line(shown.out, "Weights")
    assert "open_clip_model.safetensors" in line(shown.out, "Weights")


def test_a_wrong_weights_path_names_its_setting(
    eacps: Eacps, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EACPS_EDITOR", "/nowhere/model")
    shown = eacps("doctor")
    assert shown.code == 1
    assert "Change EACPS_EDITOR" in line(shown.out, "EACPS_EDITOR")


def test_an_unreachable_database_is_one_line_without_its_password(
    eacps: Eacps, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"postgresql://me:very-secret@127.0.0.1:{free_port()}/jobs"
    monkeypatch.setenv("EACPS_DATABASE_URL", url)
    shown = eacps("doctor")
    assert shown.code == 1
    assert "EACPS_DATABASE_URL" in line(shown.out, "Database")
    assert "very-secret" not in shown.out + shown.err
    assert "Workers:" not in shown.out
    assert not shown.err


def test_an_unreachable_label_studio_names_its_setting(
    eacps: Eacps, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LABEL_STUDIO_URL", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", "very-secret")
    shown = eacps("doctor")
    assert shown.code == 1
    assert "LABEL_STUDIO_URL" in line(shown.out, "Label Studio")
    assert "very-secret" not in shown.out + shown.err


def test_a_missing_token_is_asked_for(eacps: Eacps, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABEL_STUDIO_URL", "http://127.0.0.1:9")
    assert "LABEL_STUDIO_API_KEY" in line(eacps("doctor").out, "Label Studio")


@pytest.mark.parametrize("url", ["nonsense://store", "s3://"])
def test_an_artifact_store_that_cannot_be_used_names_its_setting(
    eacps: Eacps, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("EACPS_ARTIFACTS_URL", url)
    assert "EACPS_ARTIFACTS_URL" in line(eacps("doctor").out, "Artifacts")
