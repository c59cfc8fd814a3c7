"""Artifacts: content-addressed, whole or absent, behind unguessable URLs."""

from __future__ import annotations

import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from eacps.artifacts import (
    ArtifactStore,
    DamagedArtifactError,
    MissingArtifactError,
    StoreAwayError,
    UrlSigner,
    open_signer,
    open_store,
)
from eacps.errors import SettingsError
from eacps.settings import Settings, load_settings


@pytest.fixture(params=["local", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ArtifactStore:
    url = f"file://{tmp_path}/store" if request.param == "local" else "memory://artifacts"
    return ArtifactStore(url)


def test_equal_content_has_one_name_and_comes_back(store: ArtifactStore) -> None:
    name = store.put(b"picture", "png")
    assert store.put(b"picture", "png") == name
    assert store.get(name) == b"picture"
    assert store.exists(name)


@pytest.mark.parametrize("name", ["../../etc/passwd", "a.png", "0" * 40 + ".exe", "", "0" * 40])
def test_names_that_are_no_artifact_are_refused(store: ArtifactStore, name: str) -> None:
    with pytest.raises(MissingArtifactError):
        store.get(name)


def test_a_missing_artifact_says_which_setting_keeps_longer(store: ArtifactStore) -> None:
    with pytest.raises(MissingArtifactError, match="EACPS_RETENTION_DAYS"):
        store.get("0" * 40 + ".png")


def test_many_writers_of_the_same_content_leave_one_whole_file(tmp_path: Path) -> None:
    store = ArtifactStore(f"file://{tmp_path}/store")
    with ThreadPoolExecutor(8) as pool:
        names = set(pool.map(lambda _: store.put(b"x" * 100_000, "png"), range(32)))
    assert len(names) == 1
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == list(names)


@pytest.mark.parametrize("damage", [b"", b"garbled"])
def test_a_damaged_file_is_never_given_out_and_heals_when_stored_again(
    tmp_path: Path, damage: bytes
) -> None:
    store = ArtifactStore(f"file://{tmp_path}/store")
    name = store.put(b"picture", "png")
    [path] = tmp_path.rglob("*.png")
    path.write_bytes(damage)
    with pytest.raises(DamagedArtifactError, match="Run the task again"):
        store.get(name)
    assert not store.exists(name)
    store.put(b"picture", "png")
    assert store.get(name) == b"picture"


def test_a_file_that_was_cut_short_is_written_again(tmp_path: Path) -> None:
    store = ArtifactStore(f"file://{tmp_path}/store")
    name = store.put(b"picture", "png")
    [path] = tmp_path.rglob("*.png")
    path.write_bytes(b"")
    assert store.put(b"picture", "png") == name
    assert store.get(name) == b"picture"


def test_a_store_that_is_away_is_told_from_a_missing_file(tmp_path: Path) -> None:
    store = ArtifactStore(f"file://{tmp_path}/store")
    name = store.put(b"picture", "png")
    (tmp_path / "store").rename(tmp_path / "unmounted")
    (tmp_path / "store").write_text("not a folder")
    with pytest.raises(StoreAwayError, match="EACPS_ARTIFACTS_URL") as caught:
        store.get(name)
    assert str(tmp_path) not in str(caught.value)
    with pytest.raises(StoreAwayError):
        store.put(b"other", "png")


def test_retention_removes_no_file_of_somebody_else(tmp_path: Path) -> None:
    store = ArtifactStore(f"file://{tmp_path}")
    store.put(b"picture", "png")
    own = [tmp_path / "holiday.png", tmp_path / "ab" / "song.part", tmp_path / f"{'0' * 40}.txt"]
    for path in own:
        path.parent.mkdir(exist_ok=True)
        path.write_text("mine")
    assert store.prune(0, time.time() + 1e9) == 1
    assert all(path.read_text() == "mine" for path in own)


def test_half_written_files_of_dead_writers_go_after_a_day(tmp_path: Path) -> None:
    store = ArtifactStore(f"file://{tmp_path}/store")
    name = store.put(b"picture", "png")
    left = next(tmp_path.rglob("*.png")).with_name(".0123456789abcdef.part")
    left.write_bytes(b"half")
    assert store.prune(31 * 86_400.0, time.time() + 3600) == 0
    assert store.prune(31 * 86_400.0, time.time() + 2 * 86_400) == 1
    assert store.exists(name)


def test_retention_removes_the_old_and_keeps_the_used(tmp_path: Path) -> None:
    store = ArtifactStore(f"file://{tmp_path}/store")
    old, used = store.put(b"old", "png"), store.put(b"used", "png")
    for path in tmp_path.rglob("*.png"):
        os.utime(path, (time.time() - 1000, time.time() - 1000))
    store.put(b"used", "png")
    assert store.prune(older_than_seconds=500) == 1
    assert not store.exists(old)
    assert store.exists(used)


def test_a_signature_opens_only_its_own_file() -> None:
    signer = UrlSigner(b"secret", "http://backend:9090/")
    name = "0" * 40 + ".png"
    url = signer.url(name)
    assert url.startswith("http://backend:9090/artifacts/")
    signature = url.split("/")[-2]
    assert signer.valid(signature, name)
    assert not signer.valid(signature, "1" * 40 + ".png")
    assert not UrlSigner(b"other", "http://x").valid(signature, name)


def test_the_generated_secret_is_private_and_shared_by_all_processes(tmp_path: Path) -> None:
    settings = load_settings(data_dir=tmp_path / "data")
    with ThreadPoolExecutor(8) as pool:
        urls = set(pool.map(lambda _: open_signer(settings).url("0" * 40 + ".png"), range(16)))
    assert len(urls) == 1
    assert (tmp_path / "data" / "url-secret").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("s3://bucket/folder", r"pip install 'eacps\[s3\]'"),
        ("nowhere://bucket", "Protocol not known: nowhere"),
    ],
)
def test_a_store_that_cannot_be_opened_names_the_setting_and_the_remedy(
    url: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, "s3", raising=False)
    with pytest.raises(SettingsError, match=f"EACPS_ARTIFACTS_URL.*{words}"):
        open_store(Settings(_env_file=None, artifacts_url=url))


def test_the_default_folder_is_for_this_user_only(tmp_path: Path) -> None:
    settings = Settings(_env_file=None, data_dir=tmp_path / "data")
    name = open_store(settings).put(b"a picture", "png")
    folder = tmp_path / "data" / "artifacts"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert open_store(settings).get(name) == b"a picture"


def test_a_folder_that_is_there_or_named_keeps_its_mode(tmp_path: Path) -> None:
    (tmp_path / "data" / "artifacts").mkdir(parents=True)
    (tmp_path / "data" / "artifacts").chmod(0o750)
    open_store(Settings(_env_file=None, data_dir=tmp_path / "data")).put(b"a picture", "png")
    assert (tmp_path / "data" / "artifacts").stat().st_mode & 0o777 == 0o750
    named = f"file://{tmp_path}/shared"
    open_store(Settings(_env_file=None, artifacts_url=named)).put(b"a picture", "png")
    assert (tmp_path / "shared").stat().st_mode & 0o077
