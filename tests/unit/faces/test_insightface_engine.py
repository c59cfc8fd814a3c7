"""Engine insightface: the library's own classes on synthetic models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eacps.domain import Swap
from eacps.errors import FaceError
from eacps.faces.insightface.engine import InsightFaceEngine, yaw_of
from eacps.faces.paste import paste
from eacps.faces.protocol import Character, Face, Pixels
from eacps.plugins import Context
from eacps.settings import Settings
from tests import synthetic_face_models as synthetic
from tests.synthetic_face_models import ALICE, BOB, CAROL, Drawn, picture

Providers = tuple[tuple[str, dict[str, str]], ...]


def settings(root: Path, **changes: Any) -> Settings:
    values: dict[str, Any] = {
        "insightface_root": root,
        "insightface_pack": "synthetic",
        "inswapper": "swapper.onnx",
        "face_license_accepted": True,
        "threads": 1,
    }
    return Settings(**{**values, **changes})


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthetic.build(tmp_path_factory.mktemp("insightface"))


@pytest.fixture(scope="module")
def engine(root: Path) -> InsightFaceEngine:
    return InsightFaceEngine.load(Context(settings(root, face_restorer="restorer.onnx")))


@pytest.fixture(scope="module")
def alice(engine: InsightFaceEngine) -> Character:
    portrait = picture(400, 400, Drawn(ALICE, 200, 210, 180))
    (face,) = engine.detect(portrait)
    return engine.character(portrait, engine.described(portrait, face), "Alice")


@pytest.fixture(scope="module")
def couple() -> Pixels:
    """Bob, larger and leaning left, and Carol, leaning right."""
    return picture(1000, 700, Drawn(BOB, 250, 300, 200, 10), Drawn(CAROL, 700, 400, 150, -20))


def described(engine: InsightFaceEngine, image: Pixels) -> list[Face]:
    return [engine.described(image, face) for face in engine.detect(image)]


def likeness(one: Face, other: Face) -> float:
    assert one.embedding is not None
    assert other.embedding is not None
    return float(one.embedding @ other.embedding)


def swapped(
    engine: InsightFaceEngine, scene: Pixels, face: Face, character: Character, recipe: Swap
) -> Pixels:
    after = scene.copy()
    paste(after, engine.patch(scene, face, character, recipe))
    return after


def change(before: Pixels, after: Pixels) -> Any:
    return np.abs(after.astype(int) - before).max(axis=2)


def test_every_face_is_found_where_it_is_and_the_largest_comes_first(
    engine: InsightFaceEngine,
) -> None:
    drawn = [Drawn(CAROL, 700, 400, 150, -20), Drawn(BOB, 250, 300, 200, 10)]
    scene = picture(1000, 700)
    points = [synthetic.draw(scene, face) for face in drawn]
    found = engine.detect(scene)
    assert len(found) == 2
    for face, expected in zip(found, reversed(points), strict=True):
        assert np.abs(face.points - expected).max() < 2
        assert face.box[0] < face.points[:, 0].min()
        assert face.box[2] > face.points[:, 0].max()


@pytest.mark.parametrize(
    ("width", "height", "face"),
    [
        (224, 224, Drawn(BOB, 112, 112, 220)),
        (4096, 3000, Drawn(BOB, 3000, 1500, 300)),
        (1600, 200, Drawn(BOB, 1400, 100, 110)),
    ],
    ids=["fills the frame", "small in a large scene", "in a slender image"],
)
def test_a_face_is_found(engine: InsightFaceEngine, width: int, height: int, face: Drawn) -> None:
    scene = picture(width, height)
    points = synthetic.draw(scene, face)
    (found,) = engine.detect(scene)
    assert np.abs(found.points - points).max() < 0.03 * face.size
    assert found.box.min() >= 0
    assert (found.box[2:] <= (width, height)).all()


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 3000, 3), (3000, 1, 3), (64, 64, 3)])
def test_an_image_without_faces_has_none(engine: InsightFaceEngine, shape: tuple[int, ...]) -> None:
    assert list(engine.detect(np.full(shape, 90, dtype=np.uint8))) == []


def test_a_swapped_face_is_the_characters_and_the_other_face_stays_itself(
    engine: InsightFaceEngine, alice: Character, couple: Pixels
) -> None:
    bob, carol = described(engine, couple)
    assert likeness(bob, alice.face) < 0
    after = described(engine, swapped(engine, couple, bob, alice, Swap()))
    assert likeness(after[0], alice.face) > 0.98
    assert likeness(after[1], carol) > 0.9999


def test_nothing_but_the_patch_changes_and_the_patch_is_about_the_face(
    engine: InsightFaceEngine, alice: Character, couple: Pixels
) -> None:
    bob, _ = described(engine, couple)
    patch = engine.patch(couple, bob, alice, Swap())
    height, width = patch.alpha.shape
    assert patch.pixels.shape == (height, width, 3)
    assert max(height, width) < 1.5 * 200
    # A soft edge: on its rim the patch does nothing.
    rim = [patch.alpha[0], patch.alpha[-1], patch.alpha[:, 0], patch.alpha[:, -1]]
    assert max(side.max() for side in rim) == 0
    assert patch.alpha.max() == pytest.approx(1)


def test_the_targets_expression_stays(
    engine: InsightFaceEngine, alice: Character, couple: Pixels
) -> None:
    bob, _ = described(engine, couple)
    again, _ = described(engine, swapped(engine, couple, bob, alice, Swap()))
    assert np.abs(again.points - bob.points).max() < 1.5


def test_every_pixel_boost_gives_the_same_face(
    engine: InsightFaceEngine, alice: Character, couple: Pixels
) -> None:
    bob, _ = described(engine, couple)
    plain = swapped(engine, couple, bob, alice, Swap(boost=128))
    for boost in (256, 512, 896):
        boosted = swapped(engine, couple, bob, alice, Swap(boost=boost))
        # Only edges, which more pixels make sharper, may differ.
        assert np.mean(change(plain, boosted)[200:400, 180:320] > 16) < 0.05


def test_without_boost_the_swap_is_the_librarys_own(
    engine: InsightFaceEngine, root: Path, alice: Character
) -> None:
    from insightface.app.common import Face as LibraryFace
    from insightface.model_zoo import get_model

    scene = picture(300, 300, Drawn(BOB, 150, 150, 120))
    (bob,) = engine.detect(scene)
    swapper = get_model(str(root / "models" / "swapper.onnx"), providers=["CPUExecutionProvider"])
    theirs, _ = swapper.get(
        scene[..., ::-1].copy(),
        LibraryFace(kps=bob.points),
        LibraryFace(embedding=alice.face.embedding),
        paste_back=False,
    )
    from eacps.faces.insightface.crops import alignment, cut

    assert alice.face.embedding is not None
    matrix = alignment(bob.points, 128)
    ours = engine._swapper.swapped(cut(scene, matrix, 128), alice.face.embedding)
    assert np.abs(ours.astype(int) - theirs[..., ::-1])[2:-2, 2:-2].max() <= 1


def test_a_free_batch_and_a_batch_of_one_give_the_same_pixels(
    engine: InsightFaceEngine, tmp_path: Path, alice: Character, couple: Pixels
) -> None:
    at_once = InsightFaceEngine.load(Context(settings(synthetic.build(tmp_path, batched=True))))
    bob, _ = described(engine, couple)
    one, other = (each.patch(couple, bob, alice, Swap(boost=512)) for each in (engine, at_once))
    assert np.abs(one.pixels.astype(int) - other.pixels).max() <= 1


def test_a_restorer_acts_on_the_swapped_face_alone(
    engine: InsightFaceEngine, alice: Character, couple: Pixels
) -> None:
    bob, carol = described(engine, couple)
    plain = swapped(engine, couple, bob, alice, Swap())
    restored = swapped(engine, couple, bob, alice, Swap(restore=True))
    touched = np.argwhere(change(plain, restored) > 2)
    assert len(touched) > 5000
    reach = np.abs(touched[:, ::-1] - bob.points.mean(axis=0)).max()
    assert reach < 0.75 * 200
    after = described(engine, restored)
    assert likeness(after[0], alice.face) > 0.9
    assert likeness(after[1], carol) > 0.9999


def test_what_lies_in_front_of_the_face_stays(engine: InsightFaceEngine, alice: Character) -> None:
    scene = picture(600, 600, Drawn(BOB, 300, 300, 300))
    (bob,) = described(engine, scene)
    microphone = (slice(230, 460), slice(345, 380))
    scene[microphone] = (30, 32, 30)
    after = swapped(engine, scene, bob, alice, Swap())
    stayed = change(scene, after)[microphone][5:-60, 5:-5]
    assert stayed.max() < 12
    assert np.median(change(scene, after)[230:420, 240:330]) > 40


def test_a_large_face_has_a_narrow_soft_edge(engine: InsightFaceEngine, alice: Character) -> None:
    scene = picture(1500, 1500, Drawn(BOB, 750, 750, 900))
    (bob,) = described(engine, scene)
    patch = engine.patch(scene, bob, alice, Swap(boost=512))
    row = patch.alpha[len(patch.alpha) // 2]
    edge = np.count_nonzero((row > 0.02) & (row < 0.98)) / 2
    assert edge < 40
    assert np.count_nonzero(row >= 0.98) > 700


def test_a_face_at_the_edge_of_the_scene_is_swapped(
    engine: InsightFaceEngine, alice: Character
) -> None:
    scene = picture(400, 400, Drawn(BOB, 60, 200, 160))
    (bob,) = described(engine, scene)
    patch = engine.patch(scene, bob, alice, Swap())
    assert patch.x == 0
    assert (
        likeness(described(engine, swapped(engine, scene, bob, alice, Swap()))[0], alice.face) > 0.9
    )


def test_a_picture_without_colours_stays_without(
    engine: InsightFaceEngine, alice: Character
) -> None:
    scene = picture(400, 400, Drawn(BOB, 200, 200, 180))
    (bob,) = described(engine, scene)
    grey = np.repeat(scene.mean(axis=2, keepdims=True).astype(np.uint8), 3, axis=2)
    after = swapped(engine, grey, bob, alice, Swap())
    assert change(grey, after).max() > 10
    assert np.ptp(after.astype(int), axis=2).max() <= 2


def test_swapping_twice_gives_the_same_pixels(
    engine: InsightFaceEngine, alice: Character, couple: Pixels
) -> None:
    bob, _ = described(engine, couple)
    one, other = (engine.patch(couple, bob, alice, Swap()) for _ in range(2))
    assert (one.pixels == other.pixels).all()
    assert (one.alpha == other.alpha).all()


def test_recipes_that_are_choices_of_their_own_are_offered(
    engine: InsightFaceEngine, root: Path
) -> None:
    assert all(engine.offers(Swap(boost=boost)) for boost in (128, 256, 512, 1024))
    assert not any(engine.offers(Swap(boost=boost)) for boost in (0, 64, 200, 1152))
    assert engine.offers(Swap(blend=0.3))
    assert not engine.offers(Swap(shape=0.2))
    assert engine.offers(Swap(restore=True))
    without = InsightFaceEngine.load(Context(settings(root)))
    assert not without.offers(Swap(restore=True))


def test_the_engine_says_which_models_it_uses_and_where_they_run(
    engine: InsightFaceEngine,
) -> None:
    assert engine.name == "insightface"
    assert engine.models == ("detector.onnx", "recogniser.onnx", "swapper.onnx", "restorer.onnx")
    assert engine.providers == ("CPUExecutionProvider",)
    assert engine.notes == ()


def test_a_gpu_that_is_not_used_is_named_with_the_reason(root: Path) -> None:
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime has a CUDA provider")
    engine = InsightFaceEngine.load(Context(settings(root), "cuda:1"))
    assert engine.providers == ("CPUExecutionProvider",)
    (note,) = engine.notes
    assert "cuda:1" in note
    assert "CPU" in note
    with pytest.raises(FaceError, match="onnxruntime-gpu") as caught:
        InsightFaceEngine.load(Context(settings(root, face_provider="cuda"), "cuda:1"))
    assert caught.value.code == "provider_missing"
    assert (
        InsightFaceEngine.load(Context(settings(root, face_provider="cpu"), "cuda:1")).notes == ()
    )


def test_a_cuda_provider_that_did_not_start_is_noticed(root: Path) -> None:
    from eacps.faces.onnx_sessions import CPU, CUDA, Placement, checked, open_session

    on_cpu = Placement(((CPU, {}),))
    session = open_session(root / "models" / "swapper.onnx", settings(root), on_cpu)
    wanted: Providers = ((CUDA, {"device_id": "1"}), (CPU, {}))
    assert "cuda:1" in checked(Placement(wanted), [session])
    with pytest.raises(FaceError) as caught:
        checked(Placement(wanted, demanded=CUDA), [session])
    assert caught.value.code == "provider_missing"


def test_opening_prints_nothing(root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    InsightFaceEngine.load(Context(settings(root)))
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize("turned", [-40.0, -15.0, 0.0, 25.0])
def test_yaw_is_read_from_the_points(turned: float) -> None:
    angle = np.radians(turned)
    model = np.array([[-50, -40, 0], [50, -40, 0], [0, 0, 55], [-35, 40, 0], [35, 40, 0]])
    turn = np.array(
        [[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]]
    )
    points = (model @ turn.T)[:, :2].astype(np.float32)
    assert yaw_of(points) == pytest.approx(turned, abs=3)


def test_points_in_one_spot_are_refused(engine: InsightFaceEngine, alice: Character) -> None:
    scene = picture(100, 100)
    nothing = Face(
        box=np.array([40, 40, 60, 60], dtype=np.float32),
        points=np.full((5, 2), 50, dtype=np.float32),
        score=1.0,
    )
    with pytest.raises(FaceError):
        engine.patch(scene, nothing, alice, Swap())
    assert json.dumps(yaw_of(nothing.points)) == "90.0"
