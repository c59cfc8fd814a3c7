"""The folder of `--out`: what a command wrote there it may replace, and nothing else.

What was written is on record with its hash in `.eacps/written`, so a file that somebody added or
changed is told apart from ours. Results of 0.1 and 0.2, which have no record, are recognised by
their content.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from PIL import Image

from eacps.errors import EacpsError
from eacps.files import file_hash, parsed_json, sync, write_atomically

DATA_FOLDER: Final = ".eacps"
TREES: Final = "tt-scale-flux"
"""The folder of tt-scale-flux's files in the output folder."""

OWN_JUDGE: Final = "eacps"
"""The verifier's name in the config.json that is written for tt-scale-flux."""

STEM: Final = re.compile(r"prompt@(?P<words>.+)_hash@(?P<hash>[0-9a-f]+)_i@(?P<round>\d+)_s@\d+")
_PART: Final = re.compile(r"\.(eacps-)?[0-9a-f]{16}\.part")
_UNFINISHED: Final = re.compile(r"\.eacps-[0-9a-f]{16}\.unfinished")
HASH_DIGITS: Final = 40
"""As many as in the names of artifacts, which earlier results name."""

Hashes = Mapping[str, frozenset[str]]
"""By the name of a file in a place, the hashes that it may have; a place that is a file is "."."""


class InTheWayError(EacpsError):
    """Something lies where a result is written, and this program did not write it."""

    code = "in_the_way"


class UnwritableError(EacpsError):
    """A result cannot be written, for example because the disk is full."""

    code = "cannot_write"


class OutputFolder:
    """Writes the results of tasks into a folder, and replaces only what it wrote itself.

    A result's place is a path in the folder, such as `bear`, `bear.json` or `tt-scale-flux/bear`.
    """

    def __init__(self, root: Path, private: Path) -> None:
        self._root = root
        self._records = private / "written"
        self._lock = private / "writing.lock"

    def require_free(self, *places: str) -> None:
        """Raise InTheWayError if something in these places was not written by this program."""
        with self._alone():
            for place in places:
                self._require_free(place)

    def write_file(self, place: str, content: bytes) -> None:
        """Write a file, replacing an earlier one of ours."""
        with self._writing(place), self._temporary() as fresh:
            fresh.write_bytes(content)
            sync(fresh)
            self._put(place, fresh)

    @contextmanager
    def writing_file(self, place: str) -> Iterator[Path]:
        """Yield the path of a file to write, which takes its place when it is whole.

        Others may write to the folder meanwhile: the file may take long.
        """
        self.require_free(place)
        fresh = self._root / f".eacps-{secrets.token_hex(8)}.unfinished"
        try:
            with fresh.open("xb") as held:
                # As long as it is held, no other writer takes it for left behind.
                fcntl.flock(held.fileno(), fcntl.LOCK_EX)
                yield fresh
                with self._writing(place):
                    sync(fresh)
                    self._put(place, fresh)
        except OSError as error:
            raise _unwritable(self._root / place, error) from error
        finally:
            fresh.unlink(missing_ok=True)

    @contextmanager
    def filling(self, place: str) -> Iterator[Path]:
        """Yield an empty folder to fill, which then replaces an earlier one of ours as a whole."""
        with self._writing(place), self._temporary() as fresh:
            fresh.mkdir()
            yield fresh
            for path in fresh.iterdir():
                sync(path)
            self._put(place, fresh)

    def remove(self, place: str) -> None:
        """Remove an earlier result of ours, if there is one."""
        with self._writing(place):
            if os.path.lexists(self._root / place):
                self._take_away(place)
            self._record(place).unlink(missing_ok=True)

    def sweep(self) -> None:
        """Remove what interrupted writers left behind."""
        with self._alone():
            for path in self._root.iterdir():
                if _PART.fullmatch(path.name) or _is_abandoned(path):
                    _delete(path)

    def holds(self, place: str) -> bool:
        """Whether the file in a place is one of ours, as it was written."""
        path = self._root / place
        return os.path.lexists(path) and not self._obstacle(place)

    def _put(self, place: str, fresh: Path) -> None:
        """Move what was written to its place; the record is right at every moment."""
        path = self._root / place
        new = _hashes(fresh)
        replaces = os.path.lexists(path)
        self._note(place, _united(self._known(place), new) if replaces else new)
        path.parent.mkdir(exist_ok=True)
        if replaces and fresh.is_dir():
            self._take_away(place)
        fresh.rename(path)
        with suppress(OSError):
            sync(path.parent)
        self._note(place, new)

    def _take_away(self, place: str) -> None:
        """Delete what lies in a place. It is moved first and then looked at again, because
        somebody may have added a file in the meantime."""
        path = self._root / place
        aside = self._root / f".eacps-{secrets.token_hex(8)}.old"
        known = self._known(place)
        path.rename(aside)
        problem = _difference(aside, known)
        if problem:
            aside.rename(path)
            raise _in_the_way(path, problem)
        _delete(aside)

    def _require_free(self, place: str) -> None:
        try:
            problem = self._obstacle(place)
        except OSError as error:
            problem = f"it cannot be read ({error.strerror})"
        if problem:
            raise _in_the_way(self._root / place, problem)

    def _obstacle(self, place: str) -> str:
        """What is in the way in a place, in words; empty if it is free or ours."""
        path = self._root / place
        above = path.parent
        # The output folder itself may be a link.
        if above != self._root and os.path.lexists(above) and not _is_folder(above):
            return f"{above} is not a folder"
        if not os.path.lexists(path):
            return ""
        known = self._known(place)
        return _difference(path, known) if known else "eacps did not write it"

    def _known(self, place: str) -> Hashes:
        """What this program wrote to a place; empty if it wrote nothing there."""
        try:
            content = parsed_json(self._record(place).read_text(encoding="utf-8"))
            return {str(name): frozenset(hashes) for name, hashes in content["files"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return recognised(self._root, place)

    def _note(self, place: str, files: Hashes) -> None:
        self._records.mkdir(parents=True, exist_ok=True)
        content = {"place": place, "files": {name: sorted(files[name]) for name in sorted(files)}}
        write_atomically(self._record(place), json.dumps(content).encode())

    def _record(self, place: str) -> Path:
        return self._records / f"{place.replace('/', '~~')}.record"

    @contextmanager
    def _writing(self, place: str) -> Iterator[None]:
        with self._alone(place):
            self._require_free(place)
            yield

    @contextmanager
    def _alone(self, place: str = "") -> Iterator[None]:
        """Exclude other writers, and turn errors of the operating system into sentences."""
        # After kill -9 the processes of the earlier run may still write for a moment.
        try:
            self._root.mkdir(parents=True, exist_ok=True)
            self._lock.parent.mkdir(parents=True, exist_ok=True)
            with self._lock.open("a") as lock:
                fcntl.flock(lock.fileno(), fcntl.LOCK_EX)
                yield
        except OSError as error:
            raise _unwritable(self._root / place, error) from error

    @contextmanager
    def _temporary(self) -> Iterator[Path]:
        # In the folder itself, because a rename to another file system is not possible.
        path = self._root / f".eacps-{secrets.token_hex(8)}.part"
        try:
            yield path
        finally:
            _delete(path)


def recognised(root: Path, place: str) -> Hashes:
    """What 0.1 or 0.2 wrote to a place, which they did not record; empty if it is not theirs."""
    path = root / place
    if path.is_symlink():
        return {}
    if path.is_dir():
        tree = path.parent.name == TREES and path.parent.parent == root
        return _tree_files(path) if tree else _result_files(own_report(root, place))
    if path.suffix == ".json":
        return _hashes(path) if own_report(root, path.stem) else {}
    return _hashes(path) if is_marked_swap(path) else {}


def own_report(root: Path, name: str) -> Mapping[str, Any] | None:
    """The content of NAME.json if it is a task's report of this program."""
    path = root / f"{name}.json"
    if path.is_symlink():
        return None
    content = json_object(path)
    ours = content.get("name") == name and str(content.get("job")).endswith(f"-{name}")
    return content if ours and ("best" in content or "error" in content) else None


def json_object(path: Path) -> Mapping[str, Any]:
    """The JSON object in a file; empty if there is none."""
    try:
        content = parsed_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def require_replaceable(path: Path, is_ours: Callable[[Path], bool]) -> None:
    """Raise InTheWayError if there is a file that eacps did not write, where an option wants one to
    be written."""
    # A name that is too long is reported when the file is written.
    with suppress(OSError):
        if not path.is_symlink() and (not path.is_file() or is_ours(path)):
            return
        raise InTheWayError(
            f"{path} is in the way: eacps did not write it.",
            hint="Move or rename it, or choose another --out.",
        )


def is_marked_swap(path: Path) -> bool:
    """Whether a file is an image that this program marked as a face swap."""
    try:
        with Image.open(path, formats=["PNG"]) as image:
            told = parsed_json(str(image.info.get("eacps", "")))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return False
    return isinstance(told, dict) and "synthetic" in told


def _result_files(report: Mapping[str, Any] | None) -> Hashes:
    """The images of a report; artifacts are named after the hash of their content."""
    found: dict[str, frozenset[str]] = {}
    try:
        for candidate in (report or {}).get("candidates", ()):
            if candidate["image"]:
                digits = frozenset([candidate["image"].partition(".")[0]])
                found[f"{candidate['trial']['id']}.png"] = digits
        if report and f"{report.get('best')}.png" in found:
            found["best.png"] = found[f"{report['best']}.png"]
    except (KeyError, TypeError, AttributeError):
        return {}
    return found


def _tree_files(folder: Path) -> Hashes:
    """The files of tt-scale-flux's format in a folder; empty if its config.json is not ours."""
    judge = json_object(folder / "config.json").get("verifier_args")
    if not isinstance(judge, dict) or judge.get("name") != OWN_JUDGE:
        return {}
    found = _hashes(folder)
    return {name: found[name] for name in found if name == "config.json" or _is_of_tree(name)}


def _is_of_tree(name: str) -> bool:
    stem, _, suffix = name.rpartition(".")
    return suffix in ("png", "json") and STEM.fullmatch(stem) is not None


def _difference(path: Path, known: Hashes) -> str:
    """How what lies at a path differs from what was written there, in words; empty if it does
    not."""
    if path.is_symlink():
        return "it is a link"
    if not path.is_dir():
        return "" if _is_as(path, known.get(".")) else "it was changed since it was written"
    if "." in known:
        return "it is a folder"
    for entry in sorted(path.iterdir()):
        if entry.name not in known:
            return f"it contains {printable(entry.name)}, which eacps did not write"
        if not _is_as(entry, known[entry.name]):
            return f"{printable(entry.name)} in it was changed since it was written"
    return ""


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _is_as(path: Path, hashes: Iterable[str] | None) -> bool:
    return not path.is_symlink() and path.is_file() and _hash(path) in (hashes or ())


def _hashes(path: Path) -> Hashes:
    """The hash of a file, or of every file in a folder."""
    if path.is_dir():
        return {one.name: frozenset([_hash(one)]) for one in path.iterdir() if one.is_file()}
    return {".": frozenset([_hash(path)])}


def _hash(path: Path) -> str:
    return file_hash(path)[:HASH_DIGITS]


def _united(old: Hashes, new: Hashes) -> Hashes:
    none: frozenset[str] = frozenset()
    return {name: old.get(name, none) | new.get(name, none) for name in {*old, *new}}


def _unwritable(path: Path, error: OSError) -> UnwritableError:
    return UnwritableError(
        f"{path} cannot be written: {error.strerror or error}.",
        hint="Make room or correct --out, and run the same command again.",
    )


def _is_abandoned(path: Path) -> bool:
    """Whether a file was begun by a writer that is gone."""
    if not _UNFINISHED.fullmatch(path.name):
        return False
    with suppress(OSError), path.open("ab") as file:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False


def _in_the_way(path: Path, problem: str) -> InTheWayError:
    return InTheWayError(
        f"{path} is in the way: {problem}.",
        hint="Move or rename it, or choose another --out or id.",
    )


def _delete(path: Path) -> None:
    if _is_folder(path):
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def printable(text: str) -> str:
    """A text without characters that a terminal would obey."""
    return "".join(
        one if one.isprintable() else one.encode("unicode_escape").decode() for one in text
    )
