"""Reads tasks for offline commands: a single image, JSON Lines or a Label Studio export."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eacps.errors import TaskError
from eacps.settings import Settings

LOCAL = "file://"
MAX_NAME = 60
SHOWN = 8
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")
_IN_LABEL_STUDIO = re.compile(r"(/.*)?/data/(upload/|local-files)")


@dataclass(frozen=True)
class OfflineTask:
    """A task and the name of its output files."""

    name: str
    content: dict[str, Any]


def one_task(settings: Settings, image: str, prompt: str, mask: str | None) -> OfflineTask:
    """The task of `--image` and `--prompt`."""
    data = {settings.image_field: image, settings.instruction_field: prompt}
    if mask:
        data[settings.mask_field] = mask
    content = _with_paths({"id": 1, "data": data}, settings, Path.cwd())
    for option, field in (("--image", settings.image_field), ("--mask", settings.mask_field)):
        address = content["data"].get(field, "")
        if address.startswith(LOCAL) and not Path(address.removeprefix(LOCAL)).is_file():
            path = address.removeprefix(LOCAL)
            raise TaskError(f"There is no file {path}.", hint=f"Correct {option}.")
    return OfflineTask(_file_name(Path(image.split("?", 1)[0]).stem) or "task", content)


def tasks_of_file(
    settings: Settings, path: Path, task_ids: str, *, option: str = "--from-file"
) -> list[OfflineTask]:
    """Read the tasks of an export or of JSON Lines, optionally only `task_ids`; `option` is the
    option with the file's path, for errors."""
    entries = enumerate(_entries(path, option), start=1)
    tasks = [_named(entry, number) for number, entry in entries]
    if not tasks:
        raise TaskError(f"{path} contains no tasks.", hint="Export the project as JSON again.")
    repeated = [name for name, count in Counter(task.name for task in tasks).items() if count > 1]
    if repeated:
        raise TaskError(
            f"{path} contains two tasks named {repeated[0]}.", hint="Give each its own `id`."
        )
    chosen = _chosen(tasks, task_ids, path)
    base = path.resolve().parent
    return [OfflineTask(task.name, _with_paths(task.content, settings, base)) for task in chosen]


def _entries(path: Path, option: str) -> list[Any]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise TaskError(
            f"{path} cannot be read: {error.strerror}.", hint=f"Correct {option}."
        ) from None
    except UnicodeDecodeError:
        raise TaskError(f"{path} is not UTF-8 text.", hint=f"Correct {option}.") from None
    try:
        content = json.loads(text)
    except json.JSONDecodeError:
        return list(_json_lines(text, path))
    return content if isinstance(content, list) else [content]


def _json_lines(text: str, path: Path) -> Iterator[Any]:
    # Not splitlines(), which also splits at characters that are allowed in JSON strings.
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                yield json.loads(line)
            except json.JSONDecodeError as error:
                raise TaskError(
                    f"{path}, line {number} is not JSON: {error.msg}.",
                    hint="Use a Label Studio JSON export, or one JSON object per line.",
                ) from None


def _named(entry: Any, number: int) -> OfflineTask:
    if not isinstance(entry, dict):
        raise TaskError(
            f"Entry {number} is not a task: {json.dumps(entry)[:40]}.",
            hint='Write objects such as {"image": "bear.png", "prompt": "add a hat"}.',
        )
    # JSON Lines contain the data itself; exported tasks have it in `data`.
    whole = entry if isinstance(entry.get("data"), dict) else {"data": entry, "id": entry.get("id")}
    identity = whole.get("id")
    if isinstance(identity, str) and (name := _file_name(identity)):
        return OfflineTask(name, whole)
    if not isinstance(identity, int) or isinstance(identity, bool):
        identity = number
    return OfflineTask(f"task-{identity}", {**whole, "id": identity})


def _file_name(text: str) -> str:
    return _UNSAFE.sub("-", text).strip(".-")[:MAX_NAME]


def _chosen(tasks: Sequence[OfflineTask], task_ids: str, path: Path) -> list[OfflineTask]:
    if not task_ids.strip():
        return list(tasks)
    known = {task.content["id"]: task for task in tasks}
    chosen: dict[str, OfflineTask] = {}
    for first, last in ranges_in(task_ids):
        found = [known[n] for n in known if isinstance(n, int) and first <= n <= last]
        if not found:
            wanted = f"task {first}" if first == last else f"tasks {first} to {last}"
            some = ", ".join(str(number) for number in list(known)[:SHOWN])
            more = " …" if len(known) > SHOWN else ""
            raise TaskError(f"{path} has no {wanted}.", hint=f"It has: {some}{more}.")
        chosen |= {task.name: task for task in found}
    return list(chosen.values())


def ranges_in(text: str) -> Iterator[tuple[int, int]]:
    """The first and last number of each part of `1,2,7-9`."""
    for part in filter(None, (word.strip() for word in text.split(","))):
        first, dash, last = part.partition("-")
        good = first.isdecimal() and (last.isdecimal() if dash else True)
        if not good or int(last or first) < int(first):
            raise TaskError(f"--task-ids: {part!r} is not a number.", hint="Write 1,2 or 7-9.")
        yield int(first), int(last or first)


def _with_paths(task: dict[str, Any], settings: Settings, base: Path) -> dict[str, Any]:
    data = dict(task["data"])
    for field in (settings.image_field, settings.mask_field, settings.reference_field):
        value = data.get(field)
        if isinstance(value, list):
            data[field] = [_with_path(item, base) for item in value]
        elif value is not None:
            data[field] = _with_path(value, base)
    return {**task, "data": data}


def _with_path(value: Any, base: Path) -> Any:
    if isinstance(value, str) and value.strip() and _is_path(value):
        return f"{LOCAL}{(base / value).resolve()}"
    return value


def _is_path(value: str) -> bool:
    return not _ADDRESS.match(value) and not _IN_LABEL_STUDIO.match(value)
