from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from eacps.demo.faces import FaceTask, NoFacesError, face_tasks, picture_in
from eacps.demo.show import Demo, DemoError, require_own_folder
from eacps.errors import FaceError
from eacps.faces.protocol import FaceEngine
from eacps.faces.registry import open_engine
from eacps.faces.selection import cover, face_of_character
from eacps.settings import load_settings


@pytest.fixture(scope="module")
def engine(face_models: None) -> FaceEngine:
    return open_engine(load_settings(face_engine="basic", threads=1), "cpu").engine


def test_one_scene_shows_one_face_and_the_masks_of_the_other_mean_one_each(
    engine: FaceEngine,
) -> None:
    one, two = face_tasks()
    assert len(engine.detect(np.array(one.scene))) == 1
    faces = engine.detect(np.array(two.scene))
    assert len(faces) == 6
    for mask in two.masks:
        covers = [cover(face, np.asarray(mask) >= 128) for face in faces]
        assert sorted(share > 0.25 for share in covers) == [False] * 5 + [True]


def test_every_character_can_be_swapped_in(engine: FaceEngine) -> None:
    for task in face_tasks():
        for picture in task.characters:
            pixels = np.array(picture)
            face, notes = face_of_character(engine, pixels, "the character")
            assert not notes
            assert engine.character(pixels, face, "the character").face.yaw is not None


def test_pictures_are_uploaded_once_and_named_in_the_tasks_data() -> None:
    files: list[str] = []

    def upload(name: str, image: Image.Image) -> str:
        files.append(name)
        return f"/data/{name}"

    one, two = (task.data(upload) for task in face_tasks())
    assert len(files) == len(set(files)) == 2 + 5
    assert one["route"] == two["route"] == "Face swap"
    assert "mask" not in one
    assert [len(two[name]) for name in ("reference", "mask")] == [2, 2]


def test_a_package_that_is_missing_or_has_no_such_picture_is_named() -> None:
    with pytest.raises(NoFacesError, match="no_such_package"):
        picture_in("no_such_package", "a.png")
    with pytest.raises(NoFacesError, match=r"nothing\.png"):
        picture_in("demo", "nothing.png")


@pytest.mark.parametrize("error", [NoFacesError("no pictures"), FaceError("pip is offline")])
def test_without_faces_the_demo_says_so_in_one_line_and_shows_its_bears(error: Exception) -> None:
    shown = io.StringIO()

    def swaps() -> list[FaceTask]:
        raise error

    demo = Demo(Path("label-studio"), Path(), 2, Console(file=shown, width=200), swaps=swaps)
    assert list(demo.wanted()) == ["bear-01.png", "bear-02.png"]
    assert shown.getvalue() == f"The demo continues without face swaps: {error}\n"


def test_a_folder_of_somebody_is_not_used_for_the_demo(tmp_path: Path) -> None:
    require_own_folder(tmp_path / "new")
    require_own_folder(tmp_path)
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(DemoError, match="contains files of others; choose another --folder"):
        require_own_folder(tmp_path)
    (tmp_path / "label-studio").mkdir()
    require_own_folder(tmp_path)
