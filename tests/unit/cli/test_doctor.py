"""`eacps doctor`: every line says what to do, secrets stay secret, nothing is changed."""

from __future__ import annotations

import gzip
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from eacps.jobs.client import JobClient
from eacps.jobs.contract import Job
from eacps.settings import DEMO_PACK, FACE_MODELS, Settings
from tests.label_studio_server import free_port

Eacps = Any


def line(shown: str, subject: str) -> str:
    return next(line for line in shown.splitlines() if f"{subject}:" in line)


def state_of(told: str) -> str:
    """The word behind the mark."""
    return told.split()[1]


def test_a_fresh_folder_is_ready_and_stays_empty(eacps: Eacps, tmp_path: Path) -> None:
    shown = eacps("doctor")
    assert shown.code == 0
    assert "0 to fix" in shown.out
    assert "made at the first start" in line(shown.out, "Database")
    assert "eacps serve" in line(shown.out, "Workers")
    assert "LABEL_STUDIO_URL" in line(shown.out, "Label Studio")
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("face_models")
def test_the_engine_for_faces_is_named_and_why_it_is_not_the_other(eacps: Eacps) -> None:
    told = line(eacps("doctor").out, "Faces")
    assert state_of(told) == "ok"
    assert "basic" in told
    assert "Not insightface" in told
    assert "EACPS_FACE_LICENSE_ACCEPTED=true" in told


@pytest.mark.parametrize(
    ("engine", "state", "code", "words"),
    [
        ("auto", "warn", 0, "`eacps face-models`"),
        ("basic", "fail", 1, "`eacps face-models`"),
        ("insightface", "fail", 1, "EACPS_FACE_LICENSE_ACCEPTED=true"),
    ],
)
def test_a_missing_engine_for_faces_is_a_fault_only_where_it_is_named(
    eacps: Eacps, monkeypatch: pytest.MonkeyPatch, engine: str, state: str, code: int, words: str
) -> None:
    monkeypatch.setenv("EACPS_FACE_MODELS", "nowhere")
    monkeypatch.setenv("EACPS_FACE_ENGINE", engine)
    shown = eacps("doctor")
    assert shown.code == code
    assert state_of(line(shown.out, "Faces")) == state
    assert words in line(shown.out, "Faces")


def test_a_users_own_insightface_is_named_with_its_licence(
    eacps: Eacps, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    models = tmp_path / "models"
    (models / "buffalo_l").mkdir(parents=True)
    (models / "buffalo_l" / "w600k_r50.onnx").touch()
    (models / "inswapper_128.onnx").touch()
    monkeypatch.setenv("EACPS_INSIGHTFACE_ROOT", str(tmp_path))
    monkeypatch.setenv("EACPS_FACE_LICENSE_ACCEPTED", "true")
    told = line(eacps("doctor").out, "Faces")
    assert "insightface (buffalo_l, inswapper_128.onnx)" in told
    assert "non-commercial research only" in told


@pytest.mark.usefixtures("face_models")
def test_damaged_face_models_are_noticed(
    eacps: Eacps, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shutil.copytree(FACE_MODELS, tmp_path / "faces")
    (tmp_path / "faces" / "face_landmark.tflite").write_bytes(b"damaged")
    monkeypatch.setenv("EACPS_FACE_MODELS", str(tmp_path / "faces"))
    shown = eacps("doctor")
    assert shown.code == 1
    assert "face_landmark.tflite" in line(shown.out, "Faces")
    assert "eacps face-models" in line(shown.out, "Faces")


def test_damaged_weights_are_noticed(
    eacps: Eacps, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shutil.copytree(DEMO_PACK, tmp_path / "pack")
    (tmp_path / "pack" / "clip" / "open_clip_model.safetensors").write_bytes(b"damaged")
    monkeypatch.setenv("EACPS_CLIP", str(tmp_path / "pack" / "clip"))
    shown = eacps("doctor")
    assert shown.code == 1
    assert state_of(line(shown.out, "Weights")) == "fail"
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


def test_unfinished_work_of_an_earlier_version_is_said_before_it_is_taken_over(
    eacps: Eacps, tmp_path: Path
) -> None:
    dump = Path(__file__).parents[2] / "fixtures" / "stored" / "0.1" / "jobs" / "sqlite.sql.gz"
    (tmp_path / ".eacps").mkdir()
    with closing(sqlite3.connect(tmp_path / ".eacps" / "jobs.sqlite")) as connection:
        connection.executescript(gzip.decompress(dump.read_bytes()).decode())
    shown = eacps("doctor").out
    told = line(shown, "Upgrade")
    assert "unfinished jobs of an earlier version" in told
    assert "wait for a worker" not in shown
    assert "back up the database" in told


def test_what_the_potential_does_not_ask_for_is_said(
    eacps: Eacps, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = "EACPS_VERIFIER has no effect"
    assert "no effect" not in eacps("doctor").out
    monkeypatch.setenv("EACPS_VERIFIER", str(DEMO_PACK / "verifier"))
    monkeypatch.setenv("EACPS_POTENTIAL", "eacps")
    assert words in eacps("doctor").out
    monkeypatch.delenv("EACPS_POTENTIAL")
    shown = eacps("doctor").out
    assert "no effect" not in shown
    assert "potential weighted: 1 verified" in line(shown, "Ranking")


def test_an_installation_without_a_judge_is_told_which_one_to_use(
    eacps: Eacps, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert "No judge is set" not in eacps("doctor").out
    monkeypatch.setenv("EACPS_EDITOR", str(tmp_path / "editor"))
    monkeypatch.setattr("eacps.doctor.gpu_megabytes", lambda: [])
    for name in ("OPENAI_BASE_URL", "OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GOOGLE_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    told = line(eacps("doctor").out, "No judge is set")
    assert "EACPS_VERIFIER=openai:MODEL with OPENAI_BASE_URL" in told
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-secret-of-the-test")
    told = line(eacps("doctor").out, "No judge is set")
    assert "EACPS_VERIFIER=anthropic:MODEL" in told
    assert "sk-secret" not in told
    monkeypatch.setattr("eacps.doctor.gpu_megabytes", lambda: [81_559, 81_559])
    assert "Serve Qwen3-VL-8B-Instruct" in line(eacps("doctor").out, "No judge is set")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://gpu1:8000/v1")
    assert "the server at http://gpu1:8000/v1" in line(eacps("doctor").out, "No judge is set")
    monkeypatch.setenv("EACPS_VERIFIER", "openai:m")
    assert "No judge is set" not in eacps("doctor").out


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("EACPS_CLIP", "nonsense", "'nonsense' is neither a folder nor a model"),
        ("EACPS_CLIP", "nonsense/laion2b_s34b_b79k", "such as ViT-B-32/laion2b_s34b_b79k"),
        (
            "EACPS_VERIFIER",
            "gpt-5",
            "'gpt-5' is neither a folder nor a judge. Write a folder,",
        ),
        ("EACPS_VERIFIER", "local:nowhere", "There is no folder 'nowhere'"),
        ("EACPS_EDITOR", "nonsense", "neither a folder nor a hub id"),
        ("EACPS_EDITOR", "no hub id", "neither a folder nor a hub id"),
        ("EACPS_EDITOR", "a/b/c", "neither a folder nor a hub id"),
        ("EACPS_EDITOR", "nobody/has-downloaded-this", "HF_HUB_OFFLINE forbids downloads"),
    ],
)
def test_models_that_no_worker_can_load_are_found_before_one_starts(
    eacps: Eacps,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    variable: str,
    value: str,
    words: str,
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setenv(variable, value)
    shown = eacps("doctor")
    assert shown.code == 1
    assert state_of(line(shown.out, variable)) == "fail"
    assert words in line(shown.out, variable)
    # `eacps run` and `eacps serve` refuse to start with the same sentence.
    (tmp_path / "a.png").touch()
    started = eacps("run", "--image", "a.png", "--prompt", "x", "--out", "out")
    assert started.code == 2
    assert words in " ".join(started.err.split())


def test_a_model_of_open_clip_is_left_to_the_workers(
    eacps: Eacps, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EACPS_CLIP", "ViT-B-32/laion2b_s34b_b79k")
    assert state_of(line(eacps("doctor").out, "EACPS_CLIP")) == "warn"


@pytest.mark.usefixtures("face_models")
def test_a_provider_that_the_engine_ignores_is_said(
    eacps: Eacps, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = "EACPS_FACE_PROVIDER=cuda has no effect"
    assert words not in eacps("doctor").out
    monkeypatch.setenv("EACPS_FACE_PROVIDER", "cuda")
    assert words in eacps("doctor").out


def test_deep_reads_everything_that_is_stored_and_says_what_is_lost(
    eacps: Eacps, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EACPS_DATA_DIR", str(tmp_path / "data"))
    assert eacps("doctor", "--deep").code == 0, "nothing is stored yet"
    client = JobClient(Settings(_env_file=None, data_dir=tmp_path / "data"))
    client.submit(Job("job-7", {"data": {"image": "data:" + "x" * 5000}}))
    client.close()
    shown = eacps("doctor", "--deep")
    assert shown.code == 0
    assert "SQLite's own check found nothing" in shown.out
    assert "1 files (0.0 MB) are needed, and all of them are intact" in shown.out
    [file] = (tmp_path / "data" / "artifacts").rglob("*.json")
    file.write_bytes(b"garbled")
    shown = eacps("doctor", "--deep")
    assert shown.code == 1
    assert "0 are missing, 1 are damaged. 1 jobs need them (job-7)" in shown.out
    assert "eacps jobs restart" in shown.out
    assert file.read_bytes() == b"garbled"
    assert eacps("doctor").code == 0
