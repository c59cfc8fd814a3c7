"""Artifacts in a bucket, on a real server of the S3 protocol."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
import requests

from eacps.artifacts import (
    ArtifactStore,
    DamagedArtifactError,
    MissingArtifactError,
    StoreAwayError,
)
from tests.s3_server import BUCKET, S3Server, s3_server

DAY = 86_400.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def store(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> ArtifactStore:
    for name, value in server.variables.items():
        monkeypatch.setenv(name, value)
    return ArtifactStore(server.url)


def key(name: str) -> str:
    return f"eacps/{name[:2]}/{name}"


def replace(server: S3Server, name: str, content: bytes) -> None:
    server.client.put_object(Bucket=BUCKET, Key=key(name), Body=content)


def test_what_is_stored_comes_back_and_nothing_else_is_left(
    server: S3Server, store: ArtifactStore
) -> None:
    name = store.put(b"picture", "png")
    assert store.put(b"picture", "png") == name
    assert store.get(name) == b"picture"
    assert store.exists(name)
    assert store.intact(name)
    assert [each for each in server.names() if name[:8] in each] == [key(name)]
    with pytest.raises(MissingArtifactError):
        store.get(f"{'0' * 40}.png")


@pytest.mark.parametrize("damage", [b"", b"garbled"])
def test_damage_is_noticed_and_healed(
    server: S3Server, store: ArtifactStore, damage: bytes
) -> None:
    name = store.put(b"to be damaged", "png")
    replace(server, name, damage)
    with pytest.raises(DamagedArtifactError):
        store.get(name)
    assert not store.exists(name)
    store.put(b"to be damaged", "png")
    assert store.intact(name)


def test_what_others_delete_is_gone_at_once(server: S3Server, store: ArtifactStore) -> None:
    name = store.put(b"deleted by another", "png")
    assert store.prune(DAY) == 0, "this lists all files"
    server.client.delete_object(Bucket=BUCKET, Key=key(name))
    assert not store.exists(name)
    assert not store.intact(name)
    store.put(b"deleted by another", "png")
    assert store.intact(name)


def test_retention_removes_the_old_except_what_is_kept(
    server: S3Server, store: ArtifactStore
) -> None:
    names = {store.put(f"old {number}".encode(), "png") for number in range(5)}
    kept = names.pop()
    server.client.put_object(Bucket=BUCKET, Key="eacps/holiday.png", Body=b"of somebody else")
    assert store.prune(DAY, time.time() + DAY / 2) == 0
    assert store.prune(DAY, time.time() + 2 * DAY, keep={kept}) >= len(names)
    assert store.intact(kept)
    assert not any(map(store.exists, names))
    assert "eacps/holiday.png" in server.names()


def test_using_an_old_file_again_keeps_it(
    server: S3Server, store: ArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = store.put(b"used again", "png")
    first = server.client.head_object(Bucket=BUCKET, Key=key(name))["LastModified"]
    later = time.time() + 2 * DAY
    monkeypatch.setattr(time, "time", lambda: later)
    # S3 counts in whole seconds.
    for _ in range(1000):
        store.put(b"used again", "png")
        if server.client.head_object(Bucket=BUCKET, Key=key(name))["LastModified"] > first:
            return
    pytest.fail("the file was never written again")


def test_the_store_serves_a_file_for_a_while(server: S3Server, store: ArtifactStore) -> None:
    name = store.put(b"a picture for a browser", "jpg")
    url = store.signed_url(name, 60) or ""
    assert url.startswith(server.endpoint)
    assert "X-Amz-Algorithm=AWS4-HMAC-SHA256" in url
    assert "X-Amz-Expires=60" in url
    answer = requests.get(url, timeout=60)
    assert answer.content == b"a picture for a browser"
    assert answer.headers["Content-Type"] == "image/jpeg"


def test_what_owners_show_is_noted(store: ArtifactStore) -> None:
    first, second, third = (store.put(f"shown {number}".encode(), "png") for number in range(3))
    store.keep_for("a-task-1", [first, second])
    store.keep_for("a-task-2", [third])
    assert store.shown() == {first, second, third}
    store.keep_for("a-task-1", [second])
    store.forget("a-task-2")
    store.forget("a-task-2")
    assert store.owners() == ["a-task-1"]
    assert store.shown() == {second}
    store.prune(DAY, time.time() + 2 * DAY, keep=store.shown())
    assert store.exists(second)
    assert not store.exists(first)


def test_a_folder_signs_nothing(tmp_path_factory: pytest.TempPathFactory) -> None:
    store = ArtifactStore(f"file://{tmp_path_factory.mktemp('store')}")
    assert store.signed_url(store.put(b"x", "png"), 60) is None
    memory = ArtifactStore("memory://signed")
    assert memory.signed_url(memory.put(b"x", "png"), 60) is None


def test_a_server_that_is_away_and_a_bucket_that_is_missing_are_no_missing_file(
    server: S3Server, store: ArtifactStore
) -> None:
    name = store.put(b"kept in memory", "png")
    server.kill()
    with pytest.raises(StoreAwayError) as caught:
        store.get(name)
    assert server.endpoint not in str(caught.value)
    with pytest.raises(StoreAwayError):
        store.put(b"other", "png")
    server.start(with_bucket=False)
    with pytest.raises(StoreAwayError):
        store.put(b"other", "png")
    server.client.create_bucket(Bucket=BUCKET)
    assert not store.intact(name), "moto keeps files in memory"
    assert store.put(b"kept in memory", "png") == name
    assert store.intact(name)
