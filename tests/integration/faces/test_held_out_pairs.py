"""Engine basic on real faces that were not used for choosing its constants.

The judge is dlib's network, of which the engine knows nothing. The whole table is made by
`python -m benchmarks.faces_held_out`; these pairs were fixed before the first run of it.
"""

from __future__ import annotations

import numpy as np
import pytest

from eacps.domain import Swap
from eacps.faces.basic import BasicEngine
from eacps.faces.paste import paste
from eacps.faces.selection import cosine
from tests.faces_gallery import Judge, Portrayed, face_models, held_out

PAIRS = [
    ("biden", "obama"),
    ("obama", "biden"),
    ("0-f1-su-ph", "0-f15-hao-ph"),
    ("0-f15-hao-ph", "0-f1-su-ph"),
    ("single_face", "multi_face-1"),
    ("multi_face-2", "single_face"),
    ("multi_face-3", "0-f1-su-ph"),
    ("multi_face-4", "obama2"),
    ("multi_face-5", "Image_with_alpha"),
    ("obama3", "multi_face-3"),
]


@pytest.fixture(scope="module")
def engine() -> BasicEngine:
    return BasicEngine.open(face_models())


@pytest.fixture(scope="module")
def people(engine: BasicEngine) -> dict[str, Portrayed]:
    return {one.name: one for one in held_out(engine)}


@pytest.fixture(scope="module")
def judge() -> Judge:
    return Judge()


def test_the_judge_knows_one_person_from_another(
    people: dict[str, Portrayed], judge: Judge
) -> None:
    obama, again, biden = (
        judge.embedding(people[name].picture, people[name].face)
        for name in ("obama", "obama2", "biden")
    )
    assert np.linalg.norm(obama - again) < 0.6 < np.linalg.norm(obama - biden)


@pytest.mark.parametrize(("source", "target"), PAIRS, ids=str)
def test_a_swap_looks_like_the_character_to_both_judges(
    engine: BasicEngine, people: dict[str, Portrayed], judge: Judge, source: str, target: str
) -> None:
    who, where = people[source], people[target]
    character = engine.character(who.picture, who.face, who.name)
    patch = engine.patch(where.picture, where.face, character, Swap())
    scene = where.picture.copy()
    paste(scene, patch)
    after = engine.described(scene, where.face)
    assert cosine(after, who.face) > cosine(where.face, who.face)
    assert cosine(after, who.face) > engine.same_person
    wanted = judge.embedding(who.picture, who.face)
    before = np.linalg.norm(judge.embedding(where.picture, where.face) - wanted)
    assert np.linalg.norm(judge.embedding(scene, where.face) - wanted) < before
    height, width = patch.alpha.shape
    outside = np.ones(scene.shape[:2], dtype=bool)
    outside[patch.y : patch.y + height, patch.x : patch.x + width] = patch.alpha == 0
    assert (scene[outside] == where.picture[outside]).all()
