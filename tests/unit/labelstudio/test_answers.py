"""What the answers of Label Studio, and of proxies in front of it, mean."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from eacps.labelstudio.client import LabelStudioClient, open_client
from eacps.labelstudio.errors import LabelStudioDownError, LabelStudioError
from eacps.settings import Settings
from tests.recorded_label_studio import TOKEN, RecordedLabelStudio, Reply, refusal

PAGE = b"<html>We are back soon.</html>"
OTHER_TOKEN = "f" * 40


@pytest.fixture
def site() -> Iterator[RecordedLabelStudio]:
    with RecordedLabelStudio() as running:
        running.add_task(7, {"prompt": "add a hat"})
        yield running


@pytest.fixture
def client(site: RecordedLabelStudio) -> LabelStudioClient:
    return LabelStudioClient(site.url, TOKEN)


def answer(site: RecordedLabelStudio, reply: Reply, only: str = "/api/tasks/") -> None:
    site.fault = lambda _method, path: reply if path.startswith(only) else None


def error_of(client: LabelStudioClient, task: int = 7) -> LabelStudioError:
    with pytest.raises(LabelStudioError) as caught:
        client.task(task)
    return caught.value


MAY_PASS: dict[str, Reply] = {
    "401": refusal(401, "Invalid token."),
    "403": refusal(403, "You do not have permission."),
    "403 of a proxy": (403, PAGE),
    "404 of a proxy": (404, b"default backend - 404"),
    "404 of a proxy as JSON": (404, {"detail": "Not found."}),
    "405 of a proxy": (405, PAGE),
    "408": (408, PAGE),
    "429": (429, {"detail": "Too many requests."}),
    "500": refusal(500, "database is locked"),
    "502": (502, PAGE),
    "504": (504, PAGE),
    "a page with 200": (200, PAGE),
    "half an answer": (200, b'{"id": 7, "da'),
    "something else's JSON": (200, {"status": "ok"}),
    "a list instead of a task": (200, [1]),
    "a redirect": (302, PAGE, {"Location": "/user/login/"}),
    "a redirect that looks like a task": (302, {"data": {}}, {"Location": "http://127.0.0.1:9/"}),
}


@pytest.mark.parametrize("reply", MAY_PASS.values(), ids=MAY_PASS.keys())
def test_what_may_pass_is_tried_again_and_is_no_outage_while_others_are_answered(
    site: RecordedLabelStudio, client: LabelStudioClient, reply: Reply
) -> None:
    answer(site, reply)
    error = error_of(client)
    assert isinstance(error, LabelStudioDownError)
    assert error.only_here is (reply[0] != 429)
    answer(site, reply, only="/")
    error = error_of(client)
    assert isinstance(error, LabelStudioDownError)
    assert not error.only_here, "all requests fail, so all wait"
    site.fault = lambda *_: None
    assert client.task(7)["data"] == {"prompt": "add a hat"}


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        ((413, PAGE), "label_studio_too_large"),
        (refusal(404, "Not found."), "label_studio_missing"),
        (refusal(400, "Validation error"), "label_studio_refused"),
        ((400, {"detail": "No."}), "label_studio_refused"),
        (refusal(403, "resolves to a reserved network address"), "label_studio_ssrf"),
    ],
)
def test_what_label_studio_itself_refuses_is_final(
    site: RecordedLabelStudio, client: LabelStudioClient, reply: Reply, code: str
) -> None:
    answer(site, reply)
    error = error_of(client)
    assert error.code == code
    assert not isinstance(error, LabelStudioDownError)


def test_a_server_that_is_gone_is_waited_for(client: LabelStudioClient) -> None:
    with RecordedLabelStudio() as gone:
        pass
    error = error_of(LabelStudioClient(gone.url, TOKEN))
    assert isinstance(error, LabelStudioDownError)
    assert not error.only_here


def test_a_request_that_is_cut_off_is_told_from_a_server_that_is_gone(
    site: RecordedLabelStudio, client: LabelStudioClient
) -> None:
    def cut(_: str, path: str) -> None:
        if path.startswith("/api/tasks/"):
            raise ConnectionResetError

    site.fault = cut
    error = error_of(client)
    assert isinstance(error, LabelStudioDownError)
    assert error.only_here


def test_a_deleted_task_is_believed_only_when_label_studio_says_so_twice(
    site: RecordedLabelStudio, client: LabelStudioClient
) -> None:
    assert client.find_task(99) is None
    once = [refusal(404, "Not found.")]
    site.fault = lambda _, path: once.pop() if once and "tasks" in path else None
    assert client.find_task(7) is not None
    answer(site, refusal(404, "Not found."), only="/")
    with pytest.raises(LabelStudioDownError):
        # Nothing is there any more: not even we ourselves.
        client.find_task(7)


def in_half_a_minute() -> str:
    return format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("given", "least", "most"),
    [
        ("30", 30, 30),
        (in_half_a_minute, 20, 30),
        ("86400000", 600, 600),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 600, 600),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0, 0),
        ("soon", 0, 0),
        ("-5", 0, 0),
        ("", 0, 0),
    ],
)
def test_label_studio_is_left_alone_for_as_long_as_it_asks_within_reason(
    site: RecordedLabelStudio,
    client: LabelStudioClient,
    status: int,
    given: Any,
    least: float,
    most: float,
) -> None:
    told = given() if callable(given) else given
    answer(site, (status, PAGE, {"Retry-After": told}), only="/")
    error = error_of(client)
    assert isinstance(error, LabelStudioDownError)
    assert least <= error.retry_after <= most


def test_our_token_never_follows_a_redirect(
    site: RecordedLabelStudio, client: LabelStudioClient
) -> None:
    with RecordedLabelStudio() as other:
        answer(site, (307, None, {"Location": f"{other.url}/api/tasks/7/"}), only="/")
        error = error_of(client)
        assert other.tokens == []
    assert error.code == "label_studio_wrong_address"
    assert "It redirects to http://127.0.0.1" in error.hint


def test_a_new_token_in_the_env_file_heals_without_a_restart(
    site: RecordedLabelStudio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("LABEL_STUDIO_URL", "LABEL_STUDIO_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    settings = Settings(
        _env_file=None, label_studio_url=site.url, label_studio_api_key=SecretStr(TOKEN)
    )
    client = open_client(settings)
    client.task(7)
    site.token = OTHER_TOKEN
    error = error_of(client)
    assert isinstance(error, LabelStudioDownError)
    assert error.code == "label_studio_token"
    write_env(tmp_path, "http://elsewhere.example", OTHER_TOKEN)
    error_of(client)
    assert f"Token {OTHER_TOKEN}" not in site.tokens, "it belongs to another Label Studio"
    write_env(tmp_path, site.url, OTHER_TOKEN)
    client.task(7)


def write_env(folder: Path, url: str, token: str) -> None:
    (folder / ".env").write_text(f"LABEL_STUDIO_URL={url}\nLABEL_STUDIO_API_KEY={token}\n")
