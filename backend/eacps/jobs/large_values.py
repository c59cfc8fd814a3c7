"""Large values of a job's origin, such as data: URIs, are files of the store: not in the job's row.

In the row, a text that names the file is in their place.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from eacps.artifacts import ArtifactStore, MissingArtifactError, name_of
from eacps.jobs.contract import Job, LargeValue

LARGEST: Final = 4096
"""The characters of the longest value that stays in a job's row."""
Path = tuple[str | int, ...]
_Keep = Callable[[Path, bytes], str]
_SUFFIX: Final = "json"


def without_large_values(job: Job, put: Callable[[bytes, str], str]) -> Job:
    """The job with its large values in the store whose `put` this is."""
    taken: list[LargeValue] = []

    def keep(path: Path, content: bytes) -> str:
        name = put(content, _SUFFIX)
        taken.append(LargeValue(path, name))
        return name

    origin = _mapped(job.origin, (), keep)
    return replace(job, origin=origin, large=(*job.large, *taken)) if taken else job


def with_large_values(job: Job, store: ArtifactStore, *, all_of_them: bool = True) -> Job:
    """The job as it was submitted. If one of its values is lost, this raises
    MissingArtifactError, or leaves that value out unless `all_of_them` are wanted."""
    origin: Any = job.origin
    for value in job.large:
        try:
            content = json.loads(store.get(value.file))
        except MissingArtifactError:
            if all_of_them:
                raise
            continue
        origin = _with(origin, value.path, content)
    return replace(job, origin=origin, large=()) if job.large else job


def abbreviated(value: Any) -> Any:
    """The same JSON value as `without_large_values` writes it, to compare it with such a one."""
    return _mapped(value, (), lambda _, content: name_of(content, _SUFFIX))


def _mapped(value: Any, path: Path, keep: _Keep) -> Any:
    if isinstance(value, str):
        large = len(value) > LARGEST
    elif isinstance(value, Mapping):
        return {name: _mapped(inner, (*path, name), keep) for name, inner in value.items()}
    elif isinstance(value, list | tuple):
        if not _is_plain(value):
            return [_mapped(inner, (*path, index), keep) for index, inner in enumerate(value)]
        # A list of numbers, such as a brush mask, is one value. Each number has 2 characters
        # or more, with its comma.
        large = 2 * len(value) > LARGEST or len(json.dumps(value)) > LARGEST
    else:
        return value
    if not large:
        return value
    content = json.dumps(value, ensure_ascii=False).encode()
    return f"(stored as {keep(path, content)})"


def _is_plain(values: Sequence[Any]) -> bool:
    """Whether these are numbers or points, which are not worth a file of their own."""
    return all(
        isinstance(value, int | float | bool | None)
        or (isinstance(value, list | tuple) and _is_plain(value))
        for value in values
    )


def _with(origin: Any, path: Path, value: Any) -> Any:
    """A copy of JSON in which another value is at this path."""
    if not path:
        return value
    first, rest = path[0], path[1:]
    if isinstance(origin, Mapping):
        return {**origin, first: _with(origin[first], rest, value)}
    return [_with(each, rest, value) if at == first else each for at, each in enumerate(origin)]
