"""Checks a face engine."""

from __future__ import annotations

import numpy as np
from PIL import Image

from eacps.domain import Swap
from eacps.faces.protocol import Character, Face, FaceEngine, Patch, Pixels
from eacps.faces.registry import open_engine
from eacps.settings import Settings, load_settings
from eacps.testing.contract import require

RECIPES = (Swap(), Swap(blend=0.5), Swap(shape=0.5), Swap(boost=512), Swap(restore=True))
ROUNDING = 1e-4


def check_face_engine(
    name: str, scene: Image.Image, character: Image.Image, settings: Settings | None = None
) -> None:
    """Swap the character's face into the scene. Both pictures need a frontal face.

    `name` is a value of EACPS_FACE_ENGINE.
    """
    settings = settings or load_settings()
    engine = open_engine(settings.model_copy(update={"face_engine": name}), "cpu").engine
    _says_what_it_is(engine)
    blank = np.full((128, 128, 3), 128, np.uint8)
    require(len(engine.detect(blank)) == 0, "it finds a face in a plain grey image")
    # Copies, which an engine can draw on just as on those of a real task.
    stage, portrait = (np.array(one.convert("RGB")) for one in (scene, character))
    target, found = _described(engine, stage, "scene"), _described(engine, portrait, "character")
    _swaps(engine, stage, target, engine.character(portrait, found, "the character"))


def _says_what_it_is(engine: FaceEngine) -> None:
    require(isinstance(engine.name, str) and bool(engine.name), "it has no name")
    for what in ("models", "providers", "notes"):
        words = getattr(engine, what)
        good = isinstance(words, tuple) and all(isinstance(each, str) for each in words)
        require(good, f"its `{what}` is not a tuple of strings")
    require(-1 < engine.same_person < 1, "`same_person` is not between -1 and 1")
    for recipe in RECIPES:
        require(isinstance(engine.offers(recipe), bool), "`offers` does not return True or False")
    require(engine.offers(Swap()), "it does not offer the default recipe, Swap()")


def _described(engine: FaceEngine, image: Pixels, what: str) -> Face:
    before = image.tobytes()
    faces = engine.detect(image)
    require(len(faces) > 0, f"it finds no face in the {what}")
    areas = [face.area for face in faces]
    require(areas == sorted(areas, reverse=True), "the largest face is not the first")
    height, width = image.shape[:2]
    for face in faces:
        good = face.box.shape == (4,) and bool((face.box[:2] < face.box[2:]).all())
        require(good, "the box of a face is not left, top, right, bottom")
        require(face.points.shape == (5, 2), "a face does not have five points")
        middle = (0 <= face.centre[0] < width, 0 <= face.centre[1] < height)
        require(all(middle), "the centre of a face is outside the image")
    face = engine.described(image, faces[0])
    require(image.tobytes() == before, f"it changes the {what}")
    again = engine.described(image, faces[0])
    if face.embedding is None or again.embedding is None:
        require(False, "a described face has no embedding")
    else:
        norms = float(np.linalg.norm(face.embedding) * np.linalg.norm(again.embedding))
        cosine = float(face.embedding @ again.embedding) / norms
        require(abs(cosine - 1) < 1e-3, "describing a face twice gives different embeddings")
    return face


def _swaps(engine: FaceEngine, scene: Pixels, target: Face, character: Character) -> None:
    before = scene.tobytes()
    for recipe in filter(engine.offers, RECIPES):
        patch = engine.patch(scene, target, character, recipe)
        _fits(patch, scene)
        again = engine.patch(scene, target, character, recipe)
        difference = np.abs(patch.pixels.astype(int) - again.pixels).max(initial=0)
        require(difference <= 1, f"a recipe gives different pictures: {recipe.words}")
    require(scene.tobytes() == before, "`patch` changes the scene")


def _fits(patch: Patch, scene: Pixels) -> None:
    height, width = patch.pixels.shape[:2]
    good = patch.pixels.dtype == np.uint8 and patch.pixels.shape == (height, width, 3)
    require(good, "a patch's pixels are not 8-bit of shape height x width x 3")
    require(patch.alpha.shape == (height, width), "a patch's alpha and pixels differ in size")
    sound = bool(np.isfinite(patch.alpha).all()) and bool(
        (patch.alpha.min() >= -ROUNDING) and (patch.alpha.max() <= 1 + ROUNDING)
    )
    require(sound, "a patch's alpha is not between 0 and 1")
    inside = patch.x >= 0 and patch.y >= 0
    inside &= patch.x + width <= scene.shape[1] and patch.y + height <= scene.shape[0]
    require(inside, "a patch exceeds the scene")
    require(float(patch.alpha.max()) > 0.5, "a patch replaces nothing: its alpha stays below 0.5")
