"""Weight folders: are they the files that were published, and which ones are they?"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from eacps.errors import EditorError
from eacps.files import file_hash, parsed_json

MANIFEST = "manifest.json"
FORMAT = "eacps-weights-1"
SMALL_CONFIG_BYTES = 64 * 1024
RESTORE = (
    "If they are the demo's, restore them (`git checkout backend/eacps/demo/pack`, or install the "
    "package again); or name other weights with EACPS_EDITOR (and EACPS_CLIP)."
)


def verify_manifest(folder: Path) -> None:
    """Raise EditorError if a file below `folder` is not the one that its manifest lists.

    The manifest lies in the folder or in its parent; without one there is nothing to check.
    """
    for name, path, entry in _listed(folder):
        if not path.is_file():
            raise EditorError(
                f"The weights in {folder} are incomplete: {name} is missing.",
                hint=RESTORE,
                code="weights_changed",
            )
        actual = file_hash(path)
        if actual != entry["sha256"]:
            raise EditorError(
                f"The weights in {folder} are not the published ones: {name} has sha256 "
                f"{actual[:12]}..., expected {entry['sha256'][:12]}...",
                hint=RESTORE,
                code="weights_changed",
            )


def weights_digest(location: str | Path) -> str:
    """A short name for weights that says which they are, wherever they lie; fast, reads no weights.

    A folder is named by its manifest, or else by its files' names, sizes and small configs.
    Anything that is no path is taken for a hub id and names itself.
    """
    path = existing_path(location) if str(location) else None
    if path is None:
        return str(location)
    try:
        listed = [(name, entry["sha256"]) for name, _, entry in _listed(path)]
    except EditorError:  # A broken manifest is reported when the weights are loaded.
        listed = []
    content = json.dumps(sorted(listed) or sorted(_traits(path)))
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def existing_path(location: str | Path) -> Path | None:
    """The path that a setting names, if there is something; what can be no path is none."""
    try:
        path = Path(location).expanduser()
        return path if path.exists() else None
    except (OSError, RuntimeError, ValueError):
        # `~` of nobody, or longer than names may be, or with a zero byte in it.
        return None


def _listed(folder: Path) -> Iterator[tuple[str, Path, Mapping[str, Any]]]:
    """Name (relative to `folder`), path and manifest entry of every listed file below it."""
    folder = folder.resolve()
    for root in (folder, folder.parent):
        files = _manifest_files(root / MANIFEST)
        if files is None:
            continue
        for relative, entry in sorted(files.items()):
            path = root / relative
            if path.is_relative_to(folder) and ".." not in path.parts:
                yield str(path.relative_to(folder).as_posix()), path, entry
        return


def _manifest_files(path: Path) -> Mapping[str, Mapping[str, Any]] | None:
    """The manifest's entries; None where there is no manifest, or somebody else's."""
    if not path.is_file():
        return None
    try:
        content = parsed_json(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise EditorError(f"{path} is not JSON: {error}", hint=RESTORE) from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        return None
    files = content.get("files")
    if not isinstance(files, dict) or not all(_is_entry(entry) for entry in files.values()):
        raise EditorError(f"{path} lists no files with their sha256.", hint=RESTORE)
    return files


def _is_entry(entry: Any) -> bool:
    return isinstance(entry, dict) and isinstance(entry.get("sha256"), str)


def _traits(path: Path) -> Iterator[tuple[str, int, str]]:
    """Name and size of every file, and the content of small JSON configs."""
    if path.is_file():
        yield path.name, path.stat().st_size, ""
        return
    for file in path.rglob("*"):
        relative = file.relative_to(path)
        if not file.is_file() or any(part.startswith(".") for part in relative.parts):
            continue
        size = file.stat().st_size
        small = file.suffix == ".json" and size < SMALL_CONFIG_BYTES
        yield relative.as_posix(), size, file_hash(file) if small else ""
