"""Both face engines fulfil the contract of plug-ins, and violations are reported."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from eacps.faces.protocol import Face
from eacps.faces.registry import FACE_ENGINES, OpenedEngine
from eacps.settings import Settings
from eacps.testing import ContractError, check_face_engine
from eacps.testing import faces as module
from tests.faces_gallery import development, face_models
from tests.synthetic_face_models import ALICE, BOB, CAROL, Drawn, picture


def drawn_scenes() -> tuple[Image.Image, Image.Image]:
    """Two people, and a portrait of a third."""
    couple = picture(800, 560, Drawn(BOB, 200, 240, 160, 10), Drawn(CAROL, 560, 320, 120, -20))
    return Image.fromarray(couple), Image.fromarray(picture(400, 400, Drawn(ALICE, 200, 210, 180)))


def test_insightface_keeps_the_contract(synthetic_settings: Callable[..., Settings]) -> None:
    check_face_engine(
        "insightface", *drawn_scenes(), synthetic_settings(face_restorer="restorer.onnx")
    )


def test_basic_keeps_the_contract() -> None:
    from eacps.faces.basic import BasicEngine

    shown = {one.name: one for one in development(BasicEngine.open(face_models()))}
    check_face_engine(
        "basic",
        Image.fromarray(shown["astronaut"].picture).reduce(2),
        Image.fromarray(shown["t1-3"].picture),
        Settings(_env_file=None, face_models=face_models()),
    )


def test_no_engine_is_left_out() -> None:
    assert set(FACE_ENGINES.built_ins) == {"insightface", "basic"}


class Wrapped:
    """A real engine of which a test changes one method."""

    def __init__(self, engine: Any, **changes: Any) -> None:
        self._engine = engine
        self._changes = changes

    def __getattr__(self, name: str) -> Any:
        changed = self._changes.get(name)
        inner = getattr(self._engine, name)
        if not callable(changed):
            return inner if changed is None else changed
        return lambda *arguments: changed(inner(*arguments))


def turned(face: Face) -> Face:
    """With its right lower corner first."""
    return replace(face, box=face.box[[2, 3, 0, 1]])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": ""}, "has no name"),
        ({"models": ["a"]}, "`models` is not a tuple"),
        ({"same_person": 40.0}, "not between -1 and 1"),
        ({"offers": lambda _: None}, "does not return True or False"),
        ({"offers": lambda _: False}, "does not offer the default recipe"),
        ({"detect": lambda faces: faces[::-1]}, "largest face is not the first"),
        ({"detect": lambda _: []}, "finds no face in the scene"),
        ({"detect": lambda faces: [one.moved(5000, 0) for one in faces]}, "is outside"),
        ({"detect": lambda faces: [turned(one) for one in faces]}, "not left, top"),
        ({"described": lambda face: replace(face, embedding=None)}, "has no embedding"),
        ({"patch": lambda one: replace(one, x=one.x + 5000)}, "exceeds the scene"),
        ({"patch": lambda one: replace(one, alpha=one.alpha * 3)}, "not between 0 and 1"),
        ({"patch": lambda one: replace(one, alpha=one.alpha * 0)}, "replaces nothing"),
        ({"patch": lambda one: replace(one, alpha=one.alpha[1:])}, "differ in size"),
        ({"patch": lambda one: replace(one, pixels=one.pixels / 255)}, "8-bit"),
    ],
)
def test_an_engine_that_breaks_the_contract_is_reported(
    changes: dict[str, Any], words: str, engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrapped: Any = Wrapped(engine, **changes)
    monkeypatch.setattr(module, "open_engine", lambda *_: OpenedEngine(wrapped))
    with pytest.raises(ContractError, match=words):
        check_face_engine("mine", *drawn_scenes(), Settings(_env_file=None))


def test_an_engine_that_draws_on_the_scene_is_told(
    engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Drawing(Wrapped):
        def patch(self, scene: Any, *others: Any) -> Any:
            patch = self._engine.patch(scene, *others)
            scene[0, 0] = np.array([1, 2, 3])
            return patch

    wrapped: Any = Drawing(engine)
    monkeypatch.setattr(module, "open_engine", lambda *_: OpenedEngine(wrapped))
    with pytest.raises(ContractError, match="`patch` changes the scene"):
        check_face_engine("mine", *drawn_scenes(), Settings(_env_file=None))
