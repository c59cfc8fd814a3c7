"""Images in a bucket: our own URL stays in the task, and leads to the store's for some minutes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
import requests
from flask.testing import FlaskClient

from eacps.artifacts import ArtifactStore, open_signer, open_store
from eacps.labelstudio.web.app import create_app
from eacps.settings import Settings
from tests.s3_server import S3Server, s3_server
from tests.unit.labelstudio.support import Queue

Redirect = Literal["auto", "always", "never"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with s3_server(tmp_path_factory.mktemp("s3")) as server, pytest.MonkeyPatch.context() as patch:
        for name, value in server.variables.items():
            patch.setenv(name, value)
        yield server


def settings_of(folder: Path, url: str, redirect: Redirect) -> Settings:
    return Settings(_env_file=None, data_dir=folder, artifacts_url=url, artifacts_redirect=redirect)


def web_of(settings: Settings) -> FlaskClient:
    return create_app(settings, open_jobs=lambda _: Queue()).test_client()


def path_of(settings: Settings, name: str) -> str:
    return f"/artifacts/{open_signer(settings).signature(name)}/{name}"


def test_an_image_is_fetched_from_the_store_itself(tmp_path: Path, server: S3Server) -> None:
    settings = settings_of(tmp_path, server.url, "always")
    name = open_store(settings).put(b"a picture", "png")
    answer = web_of(settings).get(path_of(settings, name))
    assert answer.status_code == 302
    assert answer.headers["Location"].startswith(server.endpoint)
    assert "X-Amz-Expires=300" in answer.headers["Location"]
    assert answer.headers["Cache-Control"] == "private, max-age=150"
    assert b"picture" not in answer.data
    fetched = requests.get(answer.headers["Location"], timeout=60)
    assert (fetched.content, fetched.headers["Content-Type"]) == (b"a picture", "image/png")


def test_without_our_signature_the_store_gives_nothing(tmp_path: Path, server: S3Server) -> None:
    settings = settings_of(tmp_path, server.url, "always")
    store = open_store(settings)
    name, other = store.put(b"a picture", "png"), store.put(b"another", "png")
    web = web_of(settings)
    for path in (
        f"/artifacts/{'0' * 32}/{name}",
        f"/artifacts/{open_signer(settings).signature(other)}/{name}",
        path_of(settings, f"{'0' * 40}.png"),
    ):
        answer = web.get(path)
        assert answer.status_code == 404
        assert "Location" not in answer.headers


@pytest.mark.parametrize("redirect", ["auto", "never"])
def test_a_plain_http_store_is_not_shown_to_browsers_unless_wanted(
    tmp_path: Path, server: S3Server, redirect: Redirect
) -> None:
    settings = settings_of(tmp_path, server.url, redirect)
    name = open_store(settings).put(b"a picture", "png")
    answer = web_of(settings).get(path_of(settings, name))
    assert (answer.status_code, answer.data) == (200, b"a picture")
    assert "immutable" in answer.headers["Cache-Control"]


def test_a_store_with_https_is_redirected_to_by_itself(
    tmp_path: Path, server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_of(tmp_path, server.url, "auto")
    name = open_store(settings).put(b"a picture", "png")
    signed = ArtifactStore.signed_url
    monkeypatch.setattr(
        ArtifactStore,
        "signed_url",
        lambda *given: (signed(*given) or "").replace("http://", "https://"),
    )
    answer = web_of(settings).get(path_of(settings, name))
    assert answer.status_code == 302
    assert answer.headers["Location"].startswith("https://")


def test_a_folder_serves_its_images_from_here(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, "", "always")
    name = open_store(settings).put(b"a picture", "png")
    answer = web_of(settings).get(path_of(settings, name))
    assert (answer.status_code, answer.data) == (200, b"a picture")
