"""Engine basic on the development faces, which come with packages that the backend needs."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from eacps.domain import Swap
from eacps.errors import FaceError
from eacps.faces.basic import BasicEngine
from eacps.faces.basic.landmarks import LIDS, OVAL, outline, ratio
from eacps.faces.download import MESH, MODELS, RECOGNISER
from eacps.faces.paste import paste
from eacps.faces.protocol import Character, Face, FaceEngine, Patch, Pixels
from eacps.faces.selection import cosine
from tests.faces_gallery import Portrayed, development, face_models


@pytest.fixture(scope="module")
def engine() -> BasicEngine:
    return BasicEngine.open(face_models())


@pytest.fixture(scope="module")
def faces(engine: BasicEngine) -> dict[str, Portrayed]:
    return {one.name: one for one in development(engine)}


@pytest.fixture(scope="module")
def astronaut(faces: dict[str, Portrayed]) -> Portrayed:
    return faces["astronaut"]


@pytest.fixture(scope="module")
def man(engine: BasicEngine, faces: dict[str, Portrayed]) -> Character:
    """Near-frontal, eyes and mouth open, dark brows."""
    return character(engine, faces["t1-3"])


@pytest.fixture(scope="module")
def usual(engine: BasicEngine, astronaut: Portrayed, man: Character) -> Patch:
    """The man's face for the astronaut's."""
    return engine.patch(astronaut.picture, astronaut.face, man, Swap())


def character(engine: BasicEngine, one: Portrayed) -> Character:
    return engine.character(one.picture, one.face, one.name)


def pasted(scene: Pixels, patch: Patch) -> Pixels:
    result = scene.copy()
    paste(result, patch)
    return result


def one_face(engine: BasicEngine, picture: Pixels) -> Face:
    (face,) = engine.detect(picture)
    return engine.described(picture, face)


def inside(face: Face, *indices: int) -> tuple[slice, slice]:
    """The rectangle around points of a mesh."""
    assert face.mesh is not None
    points = face.mesh[list(indices), :2].round().astype(int)
    (left, top), (right, bottom) = points.min(0), points.max(0)
    return slice(top, bottom + 1), slice(left, right + 1)


def test_it_is_a_face_engine_that_says_where_it_runs(engine: BasicEngine) -> None:
    checked: FaceEngine = engine
    assert checked.name == "basic"
    assert set(checked.models) == {model.name for model in MODELS}
    assert checked.providers == ("OpenCV (CPU)", "CPUExecutionProvider")


def test_choices_that_would_look_alike_are_not_offered(engine: BasicEngine) -> None:
    assert engine.offers(Swap(blend=0.5, shape=0.2))
    assert not engine.offers(Swap(boost=512))
    assert not engine.offers(Swap(restore=True))


def test_all_six_faces_are_found_the_largest_first(
    engine: BasicEngine, faces: dict[str, Portrayed]
) -> None:
    found = engine.detect(faces["t1-1"].picture)
    assert len(found) == 6
    areas = [face.area for face in found]
    assert areas == sorted(areas, reverse=True)


@pytest.mark.parametrize("quarters", [0, 1, 2, 3])
def test_a_face_is_known_whichever_way_up_it_is(
    engine: BasicEngine, astronaut: Portrayed, quarters: int
) -> None:
    turned = np.ascontiguousarray(np.rot90(astronaut.picture, quarters))
    face = one_face(engine, turned)
    assert cosine(face, astronaut.face) > 0.9


def test_a_face_that_fills_the_frame_is_found(engine: BasicEngine, astronaut: Portrayed) -> None:
    left, top, right, bottom = astronaut.face.box.round().astype(int)
    close = np.ascontiguousarray(astronaut.picture[top:bottom, left:right])
    assert cosine(one_face(engine, close), astronaut.face) > 0.7


def test_a_small_and_a_huge_face_in_one_image_are_both_found(
    engine: BasicEngine, astronaut: Portrayed
) -> None:
    scene = np.zeros((2200, 2700, 3), dtype=np.uint8)
    scene[:2048, :2048] = cv2.resize(astronaut.picture, (2048, 2048))
    scene[100:612, 2100:2612] = astronaut.picture
    sides = [face.side for face in engine.detect(scene)]
    assert len(sides) == 2
    assert sides[0] > 3 * sides[1]


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (8, 8), (700, 40)])
def test_images_without_a_face_have_none(engine: BasicEngine, size: tuple[int, int]) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (*size, 3), dtype=np.uint8)
    assert list(engine.detect(noise)) == []


def test_a_swap_brings_the_character_and_leaves_everything_else(
    engine: BasicEngine, astronaut: Portrayed, man: Character, usual: Patch
) -> None:
    patch = usual
    result = pasted(astronaut.picture, patch)
    after = engine.described(result, astronaut.face)
    assert cosine(astronaut.face, man.face) < 0.2
    assert cosine(after, man.face) > engine.same_person
    untouched = np.ones(result.shape[:2], dtype=bool)
    height, width = patch.alpha.shape
    untouched[patch.y : patch.y + height, patch.x : patch.x + width] = patch.alpha == 0
    assert (result[untouched] == astronaut.picture[untouched]).all()
    assert untouched.mean() > 0.9


def test_the_edge_of_a_patch_is_transparent(usual: Patch) -> None:
    alpha = usual.alpha
    assert alpha.dtype == np.float32
    assert alpha.min() == 0
    assert 0.99 < alpha.max() <= 1
    border = np.concatenate([alpha[0], alpha[-1], alpha[:, 0], alpha[:, -1]])
    assert (border == 0).all()


def test_no_brow_of_the_old_face_is_left_beside_the_new_one(
    astronaut: Portrayed, usual: Patch
) -> None:
    patch = usual
    assert astronaut.face.mesh is not None
    brows = astronaut.face.mesh[[107, 66, 105, 63, 336, 296, 334, 293], :2].round().astype(int)
    assert min(patch.alpha[y - patch.y, x - patch.x] for x, y in brows) > 0.75


def test_a_patch_is_the_same_wherever_in_a_scene_its_face_is(
    engine: BasicEngine, astronaut: Portrayed, man: Character, usual: Patch
) -> None:
    large = np.zeros((2048, 4096, 3), dtype=np.uint8)
    large[500:1012, 3000:3512] = astronaut.picture
    here = usual
    there = engine.patch(large, astronaut.face.moved(3000, 500), man, Swap())
    assert (there.x - here.x, there.y - here.y) == (3000, 500)
    assert there.pixels.shape == here.pixels.shape
    assert np.abs(there.pixels.astype(int) - here.pixels).mean() < 1


def test_a_close_up_keeps_the_character_sharp(
    engine: BasicEngine, faces: dict[str, Portrayed], astronaut: Portrayed
) -> None:
    # The same sharp character in a scene eight times as large: its own pixels are the limit.
    source = cv2.resize(astronaut.picture, None, fx=4, fy=4, interpolation=cv2.INTER_CUBIC)
    noise = np.random.default_rng(0).integers(-40, 40, source.shape[:2])[..., None]
    picture = (source.astype(int) + noise).clip(0, 255).astype(np.uint8)
    sharp = engine.character(picture, one_face(engine, picture), "sharp")
    margin = np.array([-60, -60, 60, 60])
    left, top, right, bottom = (faces["t1-3"].face.box + margin).astype(int)
    scene = np.asarray(
        cv2.resize(faces["t1-3"].picture[top:bottom, left:right], None, fx=5, fy=5), dtype=np.uint8
    )
    patch = engine.patch(scene, one_face(engine, scene), sharp, Swap())
    solid = patch.alpha > 0.99
    grain = cv2.Laplacian(cv2.cvtColor(patch.pixels, cv2.COLOR_RGB2GRAY), cv2.CV_32F)
    assert grain[solid].std() > 20
    assert patch.alpha.shape == patch.pixels.shape[:2]


def test_the_gaze_and_the_teeth_stay_the_targets(
    engine: BasicEngine, faces: dict[str, Portrayed], astronaut: Portrayed
) -> None:
    # t1-6 has her eyes nearly closed; the astronaut looks into the camera.
    closed = character(engine, faces["t1-6"])
    result = pasted(
        astronaut.picture, engine.patch(astronaut.picture, astronaut.face, closed, Swap())
    )
    after = engine.described(result, astronaut.face)
    assert after.mesh is not None
    assert min(ratio(after.mesh, *lids) for lids in LIDS) > 0.22


def test_a_mask_in_front_of_the_face_stays(
    engine: BasicEngine, astronaut: Portrayed, man: Character
) -> None:
    scene = astronaut.picture.copy()
    assert astronaut.face.mesh is not None
    edge = astronaut.face.mesh[list(OVAL), :2]
    below = edge[edge[:, 1] > astronaut.face.mesh[6, 1]]
    cv2.fillConvexPoly(scene, cv2.convexHull(below.astype(np.int32)), (120, 160, 205))
    patch = engine.patch(scene, astronaut.face, man, Swap())
    result = pasted(scene, patch)
    mouth = inside(astronaut.face, 61, 291, 0, 17)
    assert np.abs(result[mouth].astype(int) - scene[mouth]).max() < 12
    brows = inside(astronaut.face, 70, 105, 107)
    assert np.abs(result[brows].astype(int) - scene[brows]).mean() > 12


def test_sunglasses_stay(engine: BasicEngine, astronaut: Portrayed, man: Character) -> None:
    scene = astronaut.picture.copy()
    assert astronaut.face.mesh is not None
    points = astronaut.face.mesh[:, :2].round().astype(np.int32)
    for lens in ([70, 105, 107, 133, 153, 145, 163, 116], [300, 334, 336, 362, 380, 374, 390, 345]):
        cv2.fillConvexPoly(scene, cv2.convexHull(points[lens]), (15, 15, 18))
    for start, end in ((33, 234), (263, 454), (133, 362)):
        cv2.line(scene, points[start].tolist(), points[end].tolist(), (15, 15, 18), 4)
    result = pasted(scene, engine.patch(scene, astronaut.face, man, Swap()))
    for eye in ((33, 133, 145), (263, 362, 374)):
        assert result[inside(astronaut.face, *eye)].mean() < 40


def test_clean_faces_are_swapped_nearly_whole(
    engine: BasicEngine, faces: dict[str, Portrayed], man: Character
) -> None:
    for name in ("t1-4", "t1-6", "astronaut", "tom-hanks"):
        target = faces[name]
        patch = engine.patch(target.picture, target.face, man, Swap())
        assert target.face.mesh is not None
        area = cv2.contourArea(
            outline(target.face.mesh.astype(np.float64), 0.45).astype(np.float32)
        )
        assert patch.alpha.sum() > 0.6 * area, name


def test_a_grey_photograph_stays_grey(
    engine: BasicEngine, astronaut: Portrayed, man: Character
) -> None:
    shades = np.asarray(cv2.cvtColor(astronaut.picture, cv2.COLOR_RGB2GRAY), dtype=np.uint8)
    grey = np.repeat(shades[..., None], 3, axis=2)
    face = one_face(engine, grey)
    result = pasted(grey, engine.patch(grey, face, man, Swap()))
    assert np.ptp(result.astype(int), axis=2).max() <= 4
    assert cosine(engine.described(result, face), man.face) > engine.same_person


def test_the_shape_of_the_face_follows_the_recipe(
    engine: BasicEngine, astronaut: Portrayed, man: Character
) -> None:
    alike = []
    for shape in (0.0, 1.0):
        patch = engine.patch(astronaut.picture, astronaut.face, man, Swap(shape=shape))
        after = engine.described(pasted(astronaut.picture, patch), astronaut.face)
        alike.append(cosine(after, man.face))
    assert alike[1] > alike[0]


def test_a_character_in_profile_is_refused_with_its_name(
    engine: BasicEngine, faces: dict[str, Portrayed]
) -> None:
    with pytest.raises(FaceError, match="Joey") as error:
        engine.character(faces["t1-5"].picture, faces["t1-5"].face, "Joey")
    assert error.value.code == "profile_face"
    assert "front" in error.value.hint


def test_a_target_that_looks_the_other_way_gets_the_mirrored_character(
    engine: BasicEngine, faces: dict[str, Portrayed]
) -> None:
    turned = faces["t1-4"]
    mirrored = np.ascontiguousarray(turned.picture[:, ::-1])
    face = min(
        engine.detect(mirrored),
        key=lambda one: abs(mirrored.shape[1] - one.centre[0] - turned.face.centre[0]),
    )
    face = engine.described(mirrored, face)
    chosen = character(engine, turned)
    result = pasted(mirrored, engine.patch(mirrored, face, chosen, Swap()))
    # Its own mirror image: nearly nothing may change.
    assert cosine(engine.described(result, face), turned.face) > 0.8


@pytest.mark.parametrize(
    "box", [(-500, -500, -400, -400), (0, 0, 0, 0), (1e6, 1e6, 1e6 + 5, 1e6 + 5)]
)
def test_a_face_that_is_none_ends_in_a_face_error(
    engine: BasicEngine, astronaut: Portrayed, man: Character, box: tuple[float, ...]
) -> None:
    nowhere = replace(
        astronaut.face,
        box=np.array(box, dtype=np.float32),
        points=np.tile(np.array(box[:2], dtype=np.float32), (5, 1)),
    )
    described = engine.described(astronaut.picture, nowhere)
    with pytest.raises(FaceError):
        engine.patch(astronaut.picture, described, man, Swap())


@pytest.mark.parametrize("side", [64, 100])
def test_a_tiny_face_is_swapped_where_it_is(
    engine: BasicEngine, astronaut: Portrayed, man: Character, side: int
) -> None:
    small = np.asarray(cv2.resize(astronaut.picture, (side, side)), dtype=np.uint8)
    face = one_face(engine, small)
    result = pasted(small, engine.patch(small, face, man, Swap()))
    changed = (result != small).any(axis=2)
    left, top, right, bottom = face.box.round().astype(int)
    inside = np.zeros_like(changed)
    inside[max(0, top - 4) : bottom + 5, max(0, left - 4) : right + 5] = True
    assert changed[inside].mean() > 0.2
    assert not changed[~inside].any()


def test_weights_that_are_missing_or_changed_are_named(tmp_path: Path) -> None:
    with pytest.raises(FaceError) as error:
        BasicEngine.open(tmp_path)
    assert error.value.code == "model_missing"
    assert "eacps face-models" in error.value.hint
    for model in MODELS:
        shutil.copy(face_models() / model.name, tmp_path)
    for model in (MESH, RECOGNISER):
        whole = (tmp_path / model.name).read_bytes()
        (tmp_path / model.name).write_bytes(whole[:-1] + b"\0\0")
        with pytest.raises(FaceError) as error:
            BasicEngine.open(tmp_path)
        assert error.value.code == "model_corrupt"
        assert model.name in error.value.message
        (tmp_path / model.name).write_bytes(whole)
