from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from demo.training.__main__ import main
from eacps.demo.tasks import demo_tasks
from eacps.domain import EditTask
from eacps.images import TaskImages
from eacps.plugins import Context
from eacps.settings import Settings
from eacps.verifiers.scorer import VerifierScorer
from eacps.weights import verify_manifest

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("training")
    main(
        ["--quick", "--threads", "1", "--out", str(folder / "pack"), "--work", str(folder / "work")]
    )
    return folder


def test_a_quick_run_makes_a_pack_whose_parts_load_and_run(
    trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import open_clip

    from benchmarks.pack import attempts, load_editor, summary
    from demo.oracle import Oracle

    pack = trained / "pack"
    verify_manifest(pack)
    [task] = demo_tasks(1, seed=1, size=64)
    for name in ("editor", "editor-early"):
        images = attempts(load_editor(pack / name), task, count=2, seed=0)
        assert [image.size for image in images] == [(64, 64)] * 2
    verdicts = Oracle.load(pack / "oracle").judge(task, images)
    assert 0 <= summary([verdicts])["single"] <= 1
    model, _ = open_clip.create_model_from_pretrained(f"local-dir:{pack / 'clip'}")
    words = open_clip.get_tokenizer(f"local-dir:{pack / 'clip'}")([task.instruction])
    assert model.encode_text(words).shape == (1, 128)
    verifier = VerifierScorer.load(
        Context(Settings(_env_file=None, verifier=str(pack / "verifier")))
    )
    asked = EditTask("bear", task.instruction)
    for row in verifier.score(asked, TaskImages(task.source), images, [1.0] * len(images)):
        assert 0 < row["verified"] < 1


def test_a_second_run_takes_up_what_the_first_one_finished(trained: Path) -> None:
    stage = next(trained.glob("work/*/autoencoder/*.safetensors"))
    written = stage.stat().st_mtime_ns
    main(
        [
            "--quick",
            "--threads",
            "1",
            "--out",
            str(trained / "again"),
            "--work",
            str(trained / "work"),
        ]
    )
    assert stage.stat().st_mtime_ns == written
    first, second = ((trained / name / "manifest.json").read_text() for name in ("pack", "again"))
    assert first == second


def test_the_verifier_alone_is_trained_for_a_pack_that_is_there(
    trained: Path, tmp_path: Path
) -> None:
    pack = shutil.copytree(trained / "pack", tmp_path / "pack")
    shutil.rmtree(pack / "verifier")
    clip = (pack / "clip" / "open_clip_model.safetensors").read_bytes()
    options = ["--quick", "--threads", "1", "--out", str(pack), "--work", str(tmp_path / "work")]
    main([*options, "--only", "verifier"])
    verify_manifest(pack)
    assert (pack / "verifier" / "model.safetensors").is_file()
    assert (pack / "clip" / "open_clip_model.safetensors").read_bytes() == clip
    assert not list(tmp_path.glob("work/*/autoencoder"))
    assert json.loads((pack / "training.json").read_text()).keys() == {"pack", "verifier"}


def test_a_verifier_needs_the_editors_of_a_pack(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["--quick", "--only", "verifier", "--out", str(tmp_path), "--work", str(tmp_path)])
    assert "has no editor; train the whole pack" in capsys.readouterr().err
