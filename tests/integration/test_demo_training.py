import pytest

from backend.weights import verify_manifest
from demo.tasks import demo_tasks
from demo.training.__main__ import main

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("training")
    main(
        ["--quick", "--threads", "1", "--out", str(folder / "pack"), "--work", str(folder / "work")]
    )
    return folder


def test_a_quick_run_makes_a_pack_whose_parts_load_and_run(trained, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import open_clip

    from demo.measure import attempts, load_editor, summary
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


def test_a_second_run_takes_up_what_the_first_one_finished(trained):
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
