"""Atomic writes of files, file hashes, and JSON that others wrote."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from contextlib import suppress
from pathlib import Path
from typing import Any


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file atomically: no concurrent writer, Ctrl-C or power cut leaves a partial file."""
    # Not derived from the file's name, which may have the maximum length already.
    partial = path.with_name(f".{secrets.token_hex(8)}.part")
    try:
        with partial.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    # Some network file systems do not support this; the file is in place anyway.
    with suppress(OSError):
        sync(path.parent)


def file_hash(path: Path) -> str:
    """The sha256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def parsed_json(text: str) -> Any:
    """Parse JSON that anybody may have written; every mistake in it is a ValueError."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def require_writable(folder: Path) -> None:
    """Create the folder if it is missing; raises OSError if no file can be written in it."""
    folder.mkdir(parents=True, exist_ok=True)
    trial = folder / f".{secrets.token_hex(8)}.part"
    try:
        trial.touch(exist_ok=False)
    finally:
        with suppress(OSError):
            trial.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Wait until a file or a folder's entries are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
