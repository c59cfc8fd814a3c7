"""Files that are there whole or not at all."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from eacps.files import file_hash, parsed_json, require_writable, write_atomically


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_written_and_written_over_and_nothing_lies_beside_it(tmp_path: Path) -> None:
    for content in (b"first", b"second, and longer", b""):
        write_atomically(tmp_path / "file", content)
        assert (tmp_path / "file").read_bytes() == content
    assert names(tmp_path) == ["file"]


def test_many_writers_of_one_file_leave_what_one_of_them_wrote(tmp_path: Path) -> None:
    contents = [bytes([number]) * 200_000 for number in range(16)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda content: write_atomically(tmp_path / "file", content), contents))
    assert (tmp_path / "file").read_bytes() in contents
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize("broken", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_file_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    def interrupted(*_arguments: object) -> None:
        raise KeyboardInterrupt

    write_atomically(tmp_path / "file", b"before")
    owner: object = os if broken == "fsync" else Path
    monkeypatch.setattr(owner, broken, interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "file", b"after")
    assert (tmp_path / "file").read_bytes() == b"before"
    assert names(tmp_path) == ["file"]


def test_file_and_folder_are_on_the_disk_before_the_write_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[bool] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        synced.append((tmp_path / "file").exists())
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    write_atomically(tmp_path / "file", b"content")
    assert synced == [False, True]


def test_a_folder_that_cannot_be_synced_does_not_lose_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(_folder: Path, _flags: int) -> int:
        raise PermissionError

    monkeypatch.setattr("eacps.files.os.open", refused)
    write_atomically(tmp_path / "file", b"content")
    assert (tmp_path / "file").read_bytes() == b"content"


def test_others_may_read_what_the_umask_lets_them(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        write_atomically(tmp_path / "file", b"content")
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o644


def test_a_name_may_be_as_long_as_names_can_be(tmp_path: Path) -> None:
    longest = tmp_path / ("n" * 255)
    write_atomically(longest, b"content")
    assert longest.read_bytes() == b"content"


def test_a_folder_that_is_missing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_atomically(tmp_path / "missing" / "file", b"content")


def test_a_file_is_known_by_its_sha256(tmp_path: Path) -> None:
    write_atomically(tmp_path / "file", b"content")
    assert file_hash(tmp_path / "file") == hashlib.sha256(b"content").hexdigest()


@pytest.mark.parametrize("text", ["{oops", "[" * 100_000, '{"a":' * 100_000, "9" * 10_000])
def test_every_mistake_in_json_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        parsed_json(text)


def test_a_folder_is_writable_if_a_file_can_be_made_in_it(tmp_path: Path) -> None:
    require_writable(tmp_path / "new" / "folder")
    assert names(tmp_path / "new" / "folder") == []
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"\w"):
        require_writable(tmp_path / "file" / "below")
