"""`eacps faceswap`: swaps faces in local files or in the tasks of an export."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from eacps.domain import digest
from eacps.editors.devices import checked
from eacps.errors import EacpsError, SettingsError, TaskError
from eacps.files import parsed_json, write_atomically
from eacps.labelstudio.tasks.origins import Origin
from eacps.labelstudio.tasks.routing import DEFAULT_REASON
from eacps.offline.naming import settled
from eacps.offline.output import (
    DATA_FOLDER,
    InTheWayError,
    OutputFolder,
    UnwritableError,
    is_marked_swap,
    printable,
    require_replaceable,
)
from eacps.offline.progress import progress_bar
from eacps.offline.run import folder_lock, input_digest, offline_origin
from eacps.offline.swapper import FaceSwapper
from eacps.offline.tasks import LOCAL, OfflineTask
from eacps.settings import Settings

REPORT = "faceswap.jsonl"
COMMAND = "eacps faceswap"
SUFFIX = ".png"
Tell = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True)
class SwapRequest:
    """The files of one swap. With several characters, there may be one mask per face in the same
    order."""

    scene: Path
    characters: Sequence[Path]
    masks: Sequence[Path]
    out: Path


@dataclass(frozen=True)
class _Asked:
    """A task of an export, and its origin."""

    task: OfflineTask
    origin: Origin

    @property
    def image(self) -> str:
        """The name of its output image."""
        return f"{self.task.name}{SUFFIX}"


def swap_file(settings: Settings, request: SwapRequest) -> dict[str, Any]:
    """Swap the faces of one image and write the result; returns facts about it."""
    _require_sensible(request)
    # Name fields after options, because error messages mention them.
    settings = settings.model_copy(
        update={
            "label_studio_url": "",
            "image_field": "scene",
            "reference_field": "character",
            "mask_field": "mask",
        }
    )
    data: dict[str, Any] = {
        "scene": _address(request.scene),
        "character": [_address(path) for path in request.characters],
        "mask": [_address(path) for path in request.masks],
    }
    origin = Origin(data, "face_swap", COMMAND, settings.model_version)
    swapped = FaceSwapper(settings, checked(settings.devices)[0]).swap(origin)
    _write(request.out, swapped.png)
    return {"out": str(request.out), **swapped.facts}


def swap_tasks(
    settings: Settings, tasks: Sequence[OfflineTask], folder: Path, progress: Console, tell: Tell
) -> int:
    """Swap the faces of all face-swap tasks; returns how many failed. Safe to repeat."""
    wanted = [one for task in tasks if (one := _asked(settings, task)) is not None]
    if not wanted:
        raise TaskError(
            f"None of {len(tasks)} tasks is labelled as a face swap.",
            hint='Label them, for example with a field `"route": "face swap"`.',
        )
    if len(wanted) < len(tasks):
        left = len(tasks) - len(wanted)
        progress.print(f"Skipped {left} of {len(tasks)} tasks that are not face swaps.")
    folder = folder.resolve()
    _require_other_files(folder, wanted)
    _require_own_report(folder / REPORT)
    swapper = FaceSwapper(settings, checked(settings.devices)[0])
    with folder_lock(folder, COMMAND):
        return _Run(folder, swapper, progress, tell).all(_settled(folder, wanted))


class _Run:
    """A run that writes to a folder, keeping its finished tasks."""

    def __init__(self, folder: Path, swapper: FaceSwapper, progress: Console, tell: Tell) -> None:
        self._folder = folder
        self._swapper = swapper
        self._progress = progress
        self._tell = tell
        self._output = OutputFolder(folder, folder / DATA_FOLDER)
        self._output.sweep()
        self._report = folder / REPORT
        self._known = {record["name"]: record for record in _records(self._report)}

    def all(self, wanted: Sequence[_Asked]) -> int:
        """Swap unfinished tasks; returns how many failed."""
        known = self._known
        keys = {one.task.name: self._key(one) for one in wanted}
        waiting = [one for one in wanted if not self._is_done(known.get(one.task.name), keys)]
        if kept := len(wanted) - len(waiting):
            self._progress.print(f"Kept {kept} of {len(wanted)} tasks that are already finished.")
        names = {one.task.name for one in waiting}
        # Rewrite the report first: one line per task, without failures and broken lines.
        left = [json.dumps(known[name], ensure_ascii=False) for name in known if name not in names]
        _write(self._report, "".join(f"{line}\n" for line in left).encode())
        failed = 0
        try:
            for one in self._shown(waiting) if waiting else ():
                record = self._swapped(one, keys[one.task.name])
                _append(self._report, record)
                self._tell(record)
                failed += "error" in record
        except KeyboardInterrupt:
            self._progress.print("Stopped. Run the same command again to resume.")
            raise
        return failed

    def _key(self, one: _Asked) -> str:
        return digest([input_digest(one.origin), self._swapper.words])

    def _is_done(self, record: Mapping[str, Any] | None, keys: Mapping[str, str]) -> bool:
        return (
            record is not None
            and "error" not in record
            and record.get("key") == keys[record["name"]]
            and not (self._folder / str(record.get("image"))).is_symlink()
            and (self._folder / str(record.get("image"))).is_file()
        )

    def _swapped(self, one: _Asked, key: str) -> dict[str, Any]:
        record = {"name": one.task.name, "id": one.task.content["id"], "key": key}
        try:
            # What is in the way is said before the swap is made.
            self._output.require_free(one.image)
            swapped = self._swapper.swap(one.origin)
            self._output.write_file(one.image, swapped.png)
        except UnwritableError:
            raise
        except EacpsError as error:
            self._remove_earlier(one, error)
            return {**record, "error": {"code": error.code, "message": str(error)}}
        return {**record, "image": one.image, **swapped.facts}

    def _remove_earlier(self, one: _Asked, error: EacpsError) -> None:
        """Remove a task's earlier image, which could be mistaken for the result of this attempt."""
        if one.task.name in self._known and not isinstance(error, InTheWayError):
            self._output.remove(one.image)

    def _shown(self, waiting: Sequence[_Asked]) -> Iterator[_Asked]:
        # Otherwise rich redirects output for a file or pipe to the progress bar's console.
        on_screen = sys.stdout.isatty()
        with progress_bar(self._progress, redirect_stdout=on_screen) as progress:
            row = progress.add_task(f"0/{len(waiting)} tasks", total=len(waiting))
            for number, one in enumerate(waiting, start=1):
                yield one
                progress.update(row, completed=number, description=f"{number}/{len(waiting)} tasks")


def print_facts(console: Console, facts: Mapping[str, Any]) -> None:
    """Print facts about a swap."""
    verdict = "taken" if facts["same_person"] else "not taken"
    lines = {
        "engine": f"{facts['engine']}: {', '.join(facts['models'])}",
        "runs on": ", ".join(facts["providers"]),
        "face": f"{facts['face']} ({facts['look']})",
        "identity": f"{facts['identity_before']:.2f} before, {facts['identity']:.2f} after; "
        f"{verdict} for the same person (from {facts['same_person_from']:.2f})",
        "written": f"{facts['out']}, {facts['seconds']} s; its metadata says “synthetic face”",
    }
    for name, text in (*lines.items(), *(("warning", text) for text in facts["warnings"])):
        colour = "yellow" if name == "warning" else "bold"
        console.print(f"[{colour}]{name:9}[/] {escape(text)}", highlight=False, soft_wrap=True)


def print_record(console: Console, record: Mapping[str, Any]) -> None:
    """Print a line about one of many tasks."""
    if "error" in record:
        mark, text = "[red]✗[/]", f"{record['name']}: {record['error']['message']}"
    else:
        mark = "[green]✓[/]" if record["same_person"] else "[yellow]✓[/]"
        change = f"{record['identity_before']:.2f} → {record['identity']:.2f}"
        text = f"{record['image']}  identity {change}  {record['face']}"
    console.print(f"{mark} {escape(printable(text))}", highlight=False, soft_wrap=True)


def _asked(settings: Settings, task: OfflineTask) -> _Asked | None:
    """The task if it is labelled as a face swap, or if it is not labelled but has a picture of a
    character; otherwise None."""
    origin = offline_origin(settings, task)
    unlabelled = origin.route == "edit" and origin.route_reason == DEFAULT_REASON
    if unlabelled and settings.reference_field in origin.data:
        origin = replace(origin, route="face_swap", route_reason=COMMAND)
    return _Asked(task, origin) if origin.route == "face_swap" else None


def _settled(folder: Path, wanted: Sequence[_Asked]) -> list[_Asked]:
    """The tasks with the names that they have in this folder."""
    ids = {record["name"]: record.get("id") for record in _records(folder / REPORT)}

    def has_result(task: OfflineTask) -> bool:
        return task.former in ids and ids[task.former] == task.content["id"]

    tasks = settled(folder, [one.task for one in wanted], has_result)
    return [replace(one, task=task) for one, task in zip(wanted, tasks, strict=True)]


def _require_sensible(request: SwapRequest) -> None:
    options = [("--scene", request.scene)]
    options += [("--character", path) for path in request.characters]
    options += [("--mask", path) for path in request.masks]
    for option, path in options:
        if not _is_file(path):
            raise TaskError(f"There is no file {path}.", hint=f"Correct {option}.")
    if request.out.suffix.lower() != SUFFIX:
        raise TaskError(
            f"{request.out} is not a PNG file; only these can be marked as synthetic.",
            hint="Use an --out that ends in .png.",
        )
    for option, path in options:
        if request.out.resolve() == path.resolve():
            raise TaskError(
                f"{request.out} would overwrite the picture of {option}.", hint="Change --out."
            )
    require_replaceable(request.out, is_marked_swap)


def _require_other_files(folder: Path, wanted: Sequence[_Asked]) -> None:
    read = {address for one in wanted for address in _addresses(one.origin.data)}
    for one in wanted:
        if _address(folder / one.image) in read:
            raise TaskError(
                f"{folder / one.image} is the input of a task and would be overwritten.",
                hint="Choose another --out.",
            )


def _require_own_report(path: Path) -> None:
    """Raise InTheWayError if there are other lines in the report than records of swaps; the last
    one may be incomplete after a crash."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    except FileNotFoundError:
        return
    except OSError as error:
        raise _unwritable(path, error) from None
    written = [line for line in lines if line.strip()]
    whole = written if lines[-1] == "" else written[:-1]
    records = [record for line in written if (record := _record(line)) is not None]
    if path.is_symlink() or len(records) < len(whole) or (written and not records):
        raise InTheWayError(
            f"{path} is in the way: not all of its lines are results of `{COMMAND}`.",
            hint="Move or rename it, or choose another --out.",
        )


def _addresses(data: Mapping[str, Any]) -> Iterator[str]:
    for value in data.values():
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, str) and item.startswith(LOCAL):
                yield item


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # The name is too long.
        return False


def _address(path: Path) -> str:
    return f"{LOCAL}{path.resolve()}"


def _records(path: Path) -> Iterator[dict[str, Any]]:
    """The records of earlier runs; incomplete lines are ignored."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    except OSError:
        return
    yield from filter(None, map(_record, lines))


def _record(line: str) -> dict[str, Any] | None:
    try:
        record = parsed_json(line)
    except ValueError:
        return None
    ours = isinstance(record, dict) and isinstance(record.get("name"), str) and "key" in record
    return record if ours else None


def _append(path: Path, record: Mapping[str, Any]) -> None:
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record, ensure_ascii=False) + "\n")
    except OSError as error:
        raise _unwritable(path, error) from None


def _write(path: Path, content: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content)
    except OSError as error:
        raise _unwritable(path, error) from None


def _unwritable(path: Path, error: OSError) -> SettingsError:
    return SettingsError(
        f"{path} cannot be written: {error.strerror}.", hint="Choose another --out."
    )
