"""Reads tasks for offline commands: a single image, JSON Lines, a table or an export."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from eacps.domain import ROUTES
from eacps.errors import TaskError
from eacps.files import parsed_json
from eacps.labelstudio.tasks.routing import route_of_label
from eacps.offline.single import SingleTask
from eacps.settings import Settings

LOCAL = "file://"
DELIMITERS = {".csv": ",", ".tsv": "\t"}
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


def one_task(settings: Settings, single: SingleTask) -> OfflineTask:
    """The task of `--image` and the options that belong to it."""
    fields: dict[str, tuple[str, str | list[str]]] = {
        settings.image_field: ("--image", single.image),
        settings.instruction_field: ("--prompt", single.prompt),
        settings.mask_field: ("--mask", single.mask),
        settings.reference_field: ("--reference", list(single.references)),
    }
    data = {name: value for name, (_, value) in fields.items() if value}
    content = _with_paths({"id": 1, "data": data}, settings, Path.cwd())
    for name in (settings.image_field, settings.mask_field, settings.reference_field):
        value = content["data"].get(name, "")
        for address in value if isinstance(value, list) else [value]:
            path = address.removeprefix(LOCAL)
            if address.startswith(LOCAL) and not Path(path).is_file():
                option = fields[name][0]
                raise TaskError(f"There is no file {path}.", hint=f"Correct {option}.")
    stem = Path(single.image.split("?", 1)[0]).stem
    readable = _file_name(stem)
    # Unlike an id, a file's name may be shortened: the next image of this name replaces the result.
    name = readable if readable and not _NOT_FOR_IDS.fullmatch(readable) else hashed_name(stem)
    return OfflineTask(name, content, (readable or "task") if name != readable else "")


def with_route(settings: Settings, task: OfflineTask, label: str) -> OfflineTask:
    """The task with the route of `--route`, whatever else says."""
    if route_of_label(label, settings) is None:
        known = ", ".join([*ROUTES, *settings.route_labels])
        raise TaskError(f"--route {label!r} is no route.", hint=f"Use one of: {known}.")
    field = settings.route_fields[0] if settings.route_fields else "route"
    return replace(task, content={**task.content, "data": {**task.content["data"], field: label}})


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
    if path.suffix.lower() in DELIMITERS:
        return list(_rows(text, path))
    try:
        content = parsed_json(text)
    except ValueError:
        return list(_json_lines(text, path))
    return content if isinstance(content, list) else [content]


def _rows(text: str, path: Path) -> Iterator[dict[str, Any]]:
    """The tasks of a table, as Label Studio exports it: a row for each annotation, so that a task
    may have several rows; the first one counts."""
    # A limit of the whole process: never lowered.
    csv.field_size_limit(max(csv.field_size_limit(), len(text) + 1))
    reader = csv.DictReader(io.StringIO(text), delimiter=DELIMITERS[path.suffix.lower()])
    seen: set[str] = set()
    try:
        columns = list(reader.fieldnames or ())
        repeated = [name for name, count in Counter(columns).items() if count > 1]
        if repeated:
            raise TaskError(
                f"{path} has two columns named {repeated[0]!r}.", hint="Rename one of them."
            )
        for row in reader:
            if None in row:
                raise TaskError(
                    f"{path}, line {reader.line_num} has more values than there are columns.",
                    hint="Put texts with commas between double quotes.",
                )
            identity = row.get("id") or ""
            if identity and identity in seen:
                continue
            seen.add(identity)
            yield {name: _cell(name, value) for name, value in row.items() if value}
    except csv.Error as error:
        raise TaskError(
            f"{path}, line {reader.line_num} cannot be read: {error}.",
            hint="Export the project again, or use JSON.",
        ) from None


def _cell(name: str, value: str) -> Any:
    """Label Studio writes lists and objects as JSON, and ids as numbers."""
    if name == "id" and value.isascii() and value.isdigit() and str(int(value[:18])) == value:
        return int(value)
    if value.startswith(("[", "{")):
        try:
            return parsed_json(value)
        except ValueError:
            return value
    return value


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
                    hint="Use an export of Label Studio (.json, .csv, .tsv), or JSON Lines.",
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
