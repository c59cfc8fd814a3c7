"""Every way in which InsightFace's files can be wrong has its code and says what to change."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eacps.errors import FaceError
from eacps.faces.insightface.engine import InsightFaceEngine
from eacps.faces.insightface.files import availability
from eacps.plugins import Context
from eacps.settings import Settings
from tests import synthetic_face_models as synthetic
from tests.synthetic_face_models import ALICE, Drawn, picture

PACK = Path("models/synthetic")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthetic.build(tmp_path_factory.mktemp("built"))


@pytest.fixture
def root(built: Path, tmp_path: Path) -> Path:
    """A complete set of files for a test to break."""
    return Path(shutil.copytree(built, tmp_path / "insightface"))


def settings(root: Path, **changes: Any) -> Settings:
    values: dict[str, Any] = {
        "insightface_root": root,
        "insightface_pack": "synthetic",
        "inswapper": "swapper.onnx",
        "face_license_accepted": True,
        "threads": 1,
    }
    return Settings(**{**values, **changes})


def refusal(root: Path, **changes: Any) -> FaceError:
    with pytest.raises(FaceError) as caught:
        InsightFaceEngine.load(Context(settings(root, **changes)))
    assert caught.value.hint
    return caught.value


def test_without_an_accepted_licence_the_engine_stays_off(root: Path) -> None:
    error = refusal(root, face_license_accepted=False)
    assert error.code == "licence_not_accepted"
    assert "non-commercial research only" in error.message
    assert "EACPS_FACE_LICENSE_ACCEPTED" in error.hint
    quick = availability(settings(root, face_license_accepted=False))
    assert quick is not None
    assert quick.code == error.code


@pytest.mark.parametrize(
    ("missing", "changes", "named", "setting"),
    [
        (PACK, {}, "synthetic", "EACPS_INSIGHTFACE_PACK"),
        (Path("models/swapper.onnx"), {}, "swapper.onnx", "EACPS_INSWAPPER"),
        (
            Path("models/restorer.onnx"),
            {"face_restorer": "restorer.onnx"},
            "restorer.onnx",
            "EACPS_FACE_RESTORER",
        ),
    ],
    ids=["pack", "swapper", "restorer"],
)
def test_a_missing_file_is_named_with_its_place_and_setting(
    root: Path, missing: Path, changes: dict[str, Any], named: str, setting: str
) -> None:
    shutil.move(root / missing, root / "elsewhere")
    error = refusal(root, **changes)
    assert error.code == "model_missing"
    assert named in error.message
    assert str(root) in error.message
    assert setting in error.hint
    quick = availability(settings(root, **changes))
    assert quick is not None
    assert str(quick) == str(error)


def test_an_empty_pack_is_a_missing_model(root: Path) -> None:
    for file in (root / PACK).iterdir():
        file.unlink()
    assert refusal(root).code == "model_missing"


def test_nothing_is_downloaded_for_a_missing_pack(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_network(*_: Any, **__: Any) -> None:
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket.socket, "connect", no_network)
    error = refusal(tmp_path, insightface_pack="buffalo_l", inswapper="inswapper_128.onnx")
    assert error.code == "model_missing"
    assert list(tmp_path.rglob("*")) == []


@pytest.mark.parametrize(
    "damaged",
    [
        PACK / "detector.onnx",
        PACK / "recogniser.onnx",
        "models/swapper.onnx",
        "models/restorer.onnx",
    ],
    ids=["detector", "recogniser", "swapper", "restorer"],
)
@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[: len(content) // 2],
        lambda content: b"",
        lambda content: b"<html>404</html>" * 40,
    ],
    ids=["cut short", "empty", "a web page"],
)
def test_a_damaged_file_is_named(
    root: Path, damaged: Path, damage: Callable[[bytes], bytes]
) -> None:
    file = root / damaged
    file.write_bytes(damage(file.read_bytes()))
    error = refusal(root, face_restorer="restorer.onnx")
    assert error.code == "model_corrupt"
    assert file.name in error.message


def test_a_swapper_among_detector_and_recogniser_is_to_be_moved(root: Path) -> None:
    shutil.copy(root / "models/swapper.onnx", root / PACK / "inswapper_128.onnx")
    error = refusal(root)
    assert error.code == "model_incompatible"
    assert "inswapper_128.onnx" in error.message
    assert "EACPS_INSWAPPER" in error.hint


def test_a_restorer_is_not_taken_for_the_recogniser(root: Path) -> None:
    # It sorts before the recogniser, and the first file of a kind wins.
    shutil.copy(root / "models/restorer.onnx", root / PACK / "GFPGANv1.4.onnx")
    error = refusal(root)
    assert error.code == "model_incompatible"
    assert "GFPGANv1.4.onnx" in error.message
    assert "EACPS_FACE_RESTORER" in error.hint


@pytest.mark.parametrize("kind", ["detector", "recogniser"])
def test_a_pack_without_a_part_says_which(root: Path, kind: str) -> None:
    (root / PACK / f"{kind}.onnx").unlink()
    error = refusal(root)
    assert error.code == "model_incompatible"
    assert kind in error.message


def test_a_detector_without_points_does_not_fit(root: Path) -> None:
    synthetic.save(synthetic.detector(points=False), root / PACK / "detector.onnx")
    error = refusal(root)
    assert error.code == "model_incompatible"
    assert "detector.onnx" in error.message


def test_a_recogniser_of_another_length_does_not_fit(root: Path) -> None:
    synthetic.save(synthetic.recogniser(numbers=128), root / PACK / "recogniser.onnx")
    error = refusal(root)
    assert error.code == "model_incompatible"
    assert "128" in error.message


@pytest.mark.parametrize("emap", [(512, 256), (512,)], ids=["half", "one row"])
def test_a_swapper_whose_last_table_is_another_does_not_fit(
    root: Path, emap: tuple[int, ...]
) -> None:
    synthetic.save(synthetic.swapper(emap=emap), root / "models/swapper.onnx")
    error = refusal(root)
    assert error.code == "model_incompatible"
    assert "swapper.onnx" in error.message


@pytest.mark.parametrize("other", ["restorer.onnx", "synthetic/recogniser.onnx"])
def test_another_model_is_not_taken_for_the_swapper(root: Path, other: str) -> None:
    assert refusal(root, inswapper=other).code == "model_incompatible"


def test_another_model_is_not_taken_for_the_restorer(root: Path) -> None:
    assert refusal(root, face_restorer="swapper.onnx").code == "model_incompatible"
    synthetic.save(synthetic.restorer(side=256), root / "models/restorer.onnx")
    assert refusal(root, face_restorer="restorer.onnx").code == "model_incompatible"


def test_files_may_be_named_by_their_path(root: Path) -> None:
    moved = shutil.move(root / "models/swapper.onnx", root / "mine.onnx")
    engine = InsightFaceEngine.load(Context(settings(root, inswapper=str(moved))))
    assert "mine.onnx" in engine.models


def test_other_models_of_a_pack_do_no_harm(root: Path) -> None:
    for name, side in (("1k3d68.onnx", 192), ("genderage.onnx", 96)):
        synthetic.save(synthetic.restorer(side=side), root / PACK / name)
    engine = InsightFaceEngine.load(Context(settings(root)))
    assert len(engine.detect(picture(300, 300, Drawn(ALICE, 150, 150, 150)))) == 1


def test_a_look_at_the_files_imports_no_library(root: Path) -> None:
    assert availability(settings(root)) is None
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from eacps.faces.insightface.files import availability\n"
        "from eacps.settings import Settings\n"
        "availability(Settings(insightface_root=Path(sys.argv[1]), face_license_accepted=True))\n"
        "heavy = {'insightface', 'onnxruntime', 'onnx', 'cv2'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    printed = subprocess.run(
        [sys.executable, "-c", script, str(root)],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert printed.strip() == "[]"


def test_boosted_crops_are_joined_as_they_were_split() -> None:
    from eacps.faces.insightface.pixel_boost import join_tiles, split_tiles

    for side in (128, 256, 512, 1024):
        crop = np.random.default_rng(side).integers(0, 256, (side, side, 3), dtype=np.uint8)
        assert (join_tiles(split_tiles(crop)) == crop).all()


def test_a_swapper_that_changes_nothing_loses_nothing_at_any_boost(root: Path) -> None:
    from insightface.model_zoo.inswapper import INSwapper
    from onnxruntime import InferenceSession, SessionOptions

    from eacps.faces.insightface.pixel_boost import BoostedSwapper

    path = synthetic.save(synthetic.swapper(paints=False), root / "same.onnx")
    one_thread = SessionOptions()
    one_thread.intra_op_num_threads = 1
    swapper = BoostedSwapper(INSwapper(str(path), InferenceSession(str(path), one_thread)))
    embedding = np.full(512, 512**-0.5, dtype=np.float32)
    for side in (128, 384, 512):
        crop = np.random.default_rng(side).integers(0, 256, (side, side, 3), dtype=np.uint8)
        assert (swapper.swapped(crop, embedding) == crop).all()
