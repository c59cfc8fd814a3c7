"""What `eacps connect` found and made in a project, kept so that it can be undone."""

from __future__ import annotations

import fcntl
import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from eacps.domain import digest
from eacps.errors import SettingsError
from eacps.files import parsed_json, write_atomically
from eacps.labelstudio.tasks.regions import mapping, text

_FORMAT = 1


@dataclass(frozen=True)
class Record:
    """A project before it was connected, and what was added to it."""

    label_studio: str
    project: int
    backend: str
    label_config: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    tabs: Mapping[str, int] = field(default_factory=dict)


class Records:
    """The records of one Label Studio's projects, in the data folder."""

    def __init__(self, data_dir: Path, label_studio: str) -> None:
        self._folder = data_dir / "connections"
        self._label_studio = label_studio

    @contextmanager
    def alone(self, project: int | str) -> Iterator[None]:
        """Wait until no other command on this machine changes the project."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            lock = self._path(project, ".lock").open("a")
        except OSError as error:
            raise SettingsError(
                f"{self._folder} cannot be written: {error.strerror}.",
                hint="Set EACPS_DATA_DIR to a folder that this user may write to.",
            ) from None
        with lock:
            fcntl.flock(lock.fileno(), fcntl.LOCK_EX)
            yield

    def read(self, project: int) -> Record | None:
        """The record of a project, if there is one."""
        try:
            content = parsed_json(self._path(project, ".json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        if mapping(content).get("format") != _FORMAT:
            return None
        return Record(
            self._label_studio,
            project,
            text(content.get("backend")),
            text(content.get("label_config")),
            dict(mapping(content.get("settings"))),
            dict(mapping(content.get("tabs"))),
        )

    def write(self, record: Record) -> None:
        """Keep a record instead of an earlier one of the project."""
        content = {"format": _FORMAT, **asdict(record)}
        path = self._path(record.project, ".json")
        write_atomically(path, json.dumps(content, indent=1, ensure_ascii=False).encode())

    def forget(self, project: int) -> None:
        """Remove a project's record; copies of label configs stay."""
        self._path(project, ".json").unlink(missing_ok=True)

    def keep_copy(self, project: int, config: str) -> Path:
        """Keep a copy of a label config in a file of its own, and return the file."""
        stamp = time.strftime("%Y-%m-%d-%H%M%S")
        name = f".{stamp}-{digest(config)[:6]}.xml"
        path = self._path(project, name)
        write_atomically(path, config.encode())
        return path

    def _path(self, project: int | str, suffix: str) -> Path:
        of_server = digest(self._label_studio)[:8]
        named = project if isinstance(project, int) else digest(project)[:12]
        return self._folder / f"project-{named}-{of_server}{suffix}"
