"""Locates and checks InsightFace's files. Downloads nothing; only `inspect_pack` opens models."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from eacps.errors import FaceError
from eacps.faces.onnx_sessions import corrupt, incompatible
from eacps.faces.packages import missing_packages_error
from eacps.settings import Settings

PACKAGES: Final = ("insightface", "onnxruntime", "cv2")
_DETECTOR_OUTPUTS: Final = 5
_IMAGE_RANK: Final = 4


@dataclass(frozen=True)
class ModelFiles:
    """The paths of the models: a folder with detector and recogniser, and single files."""

    pack: Path
    swapper: Path
    restorer: Path | None


def model_files(settings: Settings) -> ModelFiles:
    """The paths of the models from the settings, whether they exist or not."""
    models = settings.insightface_root.expanduser() / "models"
    restorer = settings.face_restorer
    return ModelFiles(
        pack=models / Path(settings.insightface_pack).expanduser(),
        swapper=_below_or_as_named(models, settings.inswapper),
        restorer=_below_or_as_named(models, restorer) if restorer else None,
    )


def _below_or_as_named(models: Path, name: str) -> Path:
    named = Path(name).expanduser()
    below = models / named
    return named if named.is_file() and not below.is_file() else below


def availability(settings: Settings) -> FaceError | None:
    """Why engine `insightface` cannot be used, judging by its files, or None; does not import its
    packages."""
    if not settings.face_license_accepted:
        return _licence_not_accepted()
    return missing_packages_error("insightface", PACKAGES) or _missing_file(model_files(settings))


def _missing_file(files: ModelFiles) -> FaceError | None:
    if not files.pack.is_dir():
        return _missing(f"The folder {files.pack}", "EACPS_INSIGHTFACE_PACK", "folder")
    if not any(files.pack.glob("*.onnx")):
        return _missing(f"Any .onnx file in {files.pack}", "EACPS_INSIGHTFACE_PACK", "folder")
    if not files.swapper.is_file():
        return _missing(f"The swapper {files.swapper}", "EACPS_INSWAPPER", "file")
    if files.restorer is not None and not files.restorer.is_file():
        return _missing(f"The restorer {files.restorer}", "EACPS_FACE_RESTORER", "file")
    return None


def _missing(what: str, setting: str, kind: str) -> FaceError:
    return FaceError(
        f"{what} does not exist.",
        hint=f"Put your own copy there, or name another {kind} with {setting} (below `models` in "
        "EACPS_INSIGHTFACE_ROOT); nothing is downloaded.",
        code="model_missing",
    )


def _licence_not_accepted() -> FaceError:
    return FaceError(
        "Engine insightface is off: its models are for non-commercial research only, and their "
        "licence has not been accepted.",
        hint="Read the models' licence; if you may use them, set EACPS_FACE_LICENSE_ACCEPTED=true. "
        "Engine basic needs no such licence.",
        code="licence_not_accepted",
    )


def inspect_pack(pack: Path) -> None:
    """Raise FaceError if the folder contains files that FaceAnalysis would misinterpret, or if it
    lacks a detector or a recogniser."""
    kinds = {path: _kind(path) for path in sorted(pack.glob("*.onnx"))}
    for path, kind in kinds.items():
        if kind == "swapper":
            raise incompatible(
                path,
                "a swapper must not be in the folder of detector and recogniser",
                "Move it one folder up and name it with EACPS_INSWAPPER.",
            )
        if kind == "restorer":
            raise incompatible(
                path,
                "a model that returns images would be mistaken for the recogniser",
                "Move it elsewhere and name it with EACPS_FACE_RESTORER.",
            )
    for kind in ("detector", "recogniser"):
        if kind not in kinds.values():
            raise incompatible(
                pack,
                f"none of its files is a {kind}",
                "Unpack a whole pack there, such as buffalo_l (EACPS_INSIGHTFACE_PACK).",
            )


def _kind(path: Path) -> str:
    """The kind of model that FaceAnalysis would infer from a file's shapes."""
    graph = _graph(path)
    # Old files list their weights as inputs.
    weights = {one.name for one in graph.initializer}
    inputs = [one for one in graph.input if one.name not in weights]
    outputs = graph.output
    if not inputs or not outputs:
        raise corrupt(path, ValueError("a graph without inputs or outputs"))
    if len(outputs) >= _DETECTOR_OUTPUTS:
        return "detector"
    height, width = (*_shape(inputs[0]), 0, 0, 0, 0)[2:4]
    if height != width or height in (96, 192):
        return "other"
    if len(inputs) > 1:
        return "swapper"
    if len(_shape(outputs[0])) == _IMAGE_RANK and height:
        return "restorer"
    return "recogniser" if height else "other"


def _graph(path: Path) -> Any:
    import onnx

    try:
        return onnx.load_model(str(path), load_external_data=False).graph
    except Exception as error:
        raise corrupt(path, error) from None


def _shape(value: Any) -> tuple[int, ...]:
    return tuple(int(one.dim_value) for one in value.type.tensor_type.shape.dim)
