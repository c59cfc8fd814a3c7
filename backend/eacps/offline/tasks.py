"""Reads tasks for offline commands: a single image, JSON Lines or a Label Studio export."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from eacps.errors import TaskError
from eacps.files import parsed_json
from eacps.settings import Settings

LOCAL = "file://"
MAX_NAME = 60
HASH_DIGITS = 12
SHOWN = 8
_NOT_FOR_IDS = re.compile(
    # Names of other results, of our own files, and of devices on file systems of Windows.
    r"task-\d+|tt-scale-flux|.*\.(json|jsonl|png)|(con|prn|aux|nul|com\d|lpt\d)(\..*)?",
    re.IGNORECASE,
)
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")
_IN_LABEL_STUDIO = re.compile(r"(/.*)?/data/(upload/|local-files)")


@dataclass(frozen=True)
class OfflineTask:
    """A task and the name of its output files; `former` is the name that 0.1 and 0.2 gave them if
    that was another one."""

    name: str
    content: dict[str, Any]
    former: str = ""


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
    stem = Path(image.split("?", 1)[0]).stem
    readable = _file_name(stem)
    # Unlike an id, a file's name may be shortened: the next image of this name replaces the result.
    name = readable if readable and not _NOT_FOR_IDS.fullmatch(readable) else hashed_name(stem)
    return OfflineTask(name, content, (readable or "task") if name != readable else "")


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
    return [replace(task, content=_with_paths(task.content, settings, base)) for task in chosen]


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
        content = parsed_json(text)
    except ValueError:
        return list(_json_lines(text, path))
    return content if isinstance(content, list) else [content]


def _json_lines(text: str, path: Path) -> Iterator[Any]:
    # Not splitlines(), which also splits at characters that are allowed in JSON strings.
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                yield parsed_json(line)
            except ValueError as error:
                reason = error.msg if isinstance(error, json.JSONDecodeError) else error
                raise TaskError(
                    f"{path}, line {number} is not JSON: {reason}.",
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
    _require_storable({name: entry[name] for name in entry if name != "id"}, number)
    if isinstance(identity, str) and identity:
        name, readable = _name_of_id(identity), _file_name(identity)
        content = {**whole, "id": _whole(identity)}
        return OfflineTask(name, content, readable if readable != name else "")
    if not isinstance(identity, int) or isinstance(identity, bool):
        identity = number
    name = f"task-{identity}"
    name = name if len(name) <= MAX_NAME else hashed_name(name)
    return OfflineTask(name, {**whole, "id": identity})


def hashed_name(identity: str) -> str:
    """A name that no other id has: what is readable of the id, and its hash after a `~`, which
    is in no other name."""
    content = identity.encode("utf-8", "surrogatepass")
    digits = hashlib.sha256(content).hexdigest()[:HASH_DIGITS]
    return f"{_file_name(identity) or 'task'}~{digits}"


def _name_of_id(identity: str) -> str:
    usable = _file_name(identity) == identity and not _NOT_FOR_IDS.fullmatch(identity)
    return identity if usable else hashed_name(identity)


def _file_name(text: str) -> str:
    return _UNSAFE.sub("-", text).strip(".-")[:MAX_NAME]


def _require_storable(entry: Any, number: int) -> None:
    try:
        text = json.dumps(entry, ensure_ascii=False)
        if _whole(text) == text:
            return
        problem = "contains half a character (a lone surrogate)"
    except RecursionError:
        problem = "is nested too deeply"
    raise TaskError(f"Entry {number} {problem}.", hint="It cannot be stored; correct it.")


def _whole(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


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
        good = good and len(part) <= MAX_NAME
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
        # What contains a NUL is no path; reading it fails with a sentence.
        return f"{LOCAL}{base / value if chr(0) in value else (base / value).resolve()}"
    return value


def _is_path(value: str) -> bool:
    return not _ADDRESS.match(value) and not _IN_LABEL_STUDIO.match(value)
