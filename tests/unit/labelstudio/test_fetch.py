import base64
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from eacps.errors import FetchError
from eacps.labelstudio.client import LabelStudioClient
from eacps.labelstudio.errors import LabelStudioDownError, LabelStudioRequestFailedError
from eacps.labelstudio.tasks.fetch import Fetcher
from eacps.labelstudio.tasks.network import is_public, parse_address
from eacps.settings import Settings
from tests.patience import PATIENCE

PROJECT = 3
Answer = Callable[[BaseHTTPRequestHandler], None]


class Site(ThreadingHTTPServer):
    """A local web server whose pages are functions; remembers the requests."""

    def __init__(self) -> None:
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site.seen.append((self.path, dict(self.headers)))
                site.pages[self.path.split("?")[0]](self)

            def do_PATCH(self) -> None:
                number = int(self.path.strip("/").split("/")[-1])
                site.looked_up.append(number)
                row = {"id": number, "project": PROJECT, "data": site.tasks[number]}
                body(json.dumps(row).encode())(self)

            def log_message(self, *_: Any) -> None:
                return

        self.tasks: dict[int, dict[str, Any]] = {}
        self.looked_up: list[int] = []
        self.seen: list[tuple[str, dict[str, str]]] = []
        self.pages: dict[str, Answer] = {}
        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    def handle_error(self, *_: Any) -> None:
        return

    @property
    def netloc(self) -> str:
        return f"127.0.0.1:{self.server_port}"


def body(content: bytes, status: int = 200) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content)

    return answer


def redirect(to: str) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(302)
        handler.send_header("Location", to)
        handler.end_headers()

    return answer


@pytest.fixture
def site() -> Iterator[Site]:
    server = Site()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def other() -> Iterator[Site]:
    server = Site()
    yield server
    server.shutdown()
    server.server_close()


def make(resolve: Any = None, **changes: Any) -> Fetcher:
    settings = Settings(_env_file=None, **changes)
    client = None
    if settings.label_studio_url:
        client = LabelStudioClient(settings.label_studio_url, "a" * 40)
    return Fetcher(settings, client, **({"resolve": resolve} if resolve else {}))


def refusal(fetcher: Fetcher, reference: Any, **more: Any) -> FetchError:
    with pytest.raises(FetchError) as caught:
        fetcher.fetch(reference, **more)
    assert caught.value.hint
    return caught.value


def test_a_listed_host_is_fetched_even_when_private(site: Site) -> None:
    site.pages["/a b.png"] = site.pages["/a%20b.png"] = body(b"image")
    fetcher = make(allowed_hosts=(site.netloc,))
    assert fetcher.fetch(f"http://{site.netloc}/a b.png") == b"image"
    assert "Authorization" not in site.seen[0][1]


def test_an_unlisted_host_is_never_connected_to(site: Site) -> None:
    error = refusal(make(), f"http://{site.netloc}/x")
    assert error.code == "host_refused"
    assert "EACPS_ALLOWED_HOSTS" in error.hint
    assert not site.seen


def test_a_wildcard_does_not_open_private_addresses(site: Site) -> None:
    fetcher = make(lambda host, port: ["127.0.0.1"], allowed_hosts=("*.example.com",))
    assert refusal(fetcher, f"http://cdn.example.com:{site.server_port}/x").code == "host_refused"
    assert refusal(fetcher, "http://example.com.evil.test/x").code == "host_refused"
    assert not site.seen


def test_one_private_address_among_public_ones_is_refused() -> None:
    fetcher = make(
        lambda host, port: ["93.184.216.34", "10.0.0.1"], allowed_hosts=("*.example.com",)
    )
    assert refusal(fetcher, "http://cdn.example.com/x").code == "host_refused"


def test_the_name_is_resolved_once_and_the_checked_address_is_used(site: Site) -> None:
    site.pages["/x"] = body(b"image")
    asked: list[str] = []

    def rebinding(host: str, port: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"] if len(asked) == 1 else ["10.255.255.1"]

    fetcher = make(rebinding, allowed_hosts=("images.example.com",))
    assert fetcher.fetch(f"http://images.example.com:{site.server_port}/x") == b"image"
    assert asked == ["images.example.com"]
    assert site.seen[0][1]["Host"] == f"images.example.com:{site.server_port}"


def test_redirects_are_checked_like_the_first_address(site: Site, other: Site) -> None:
    site.pages["/out"] = redirect(f"http://{other.netloc}/secret")
    site.pages["/metadata"] = redirect("http://169.254.169.254/latest/meta-data/")
    site.pages["/file"] = redirect("file:///etc/passwd")
    site.pages["/loop"] = redirect("/loop")
    site.pages["/fine"] = redirect("/x")
    site.pages["/x"] = body(b"image")
    fetcher = make(allowed_hosts=(site.netloc,))
    for path, words in {
        "/out": f"may not be fetched from {other.netloc.partition(':')[0]}",
        "/metadata": "may not be fetched from 169.254.169.254",
        "/file": "is not a valid URL",
        "/loop": "redirects too often",
    }.items():
        assert words in refusal(fetcher, f"http://{site.netloc}{path}").message
    assert not other.seen
    assert fetcher.fetch(f"http://{site.netloc}/fine") == b"image"


def test_label_studios_token_goes_to_label_studio_only(site: Site, other: Site) -> None:
    site.pages["/data/upload/3/a.png"] = redirect(f"http://{other.netloc}/a.png")
    other.pages["/a.png"] = body(b"image")
    fetcher = make(label_studio_url=f"http://{site.netloc}", allowed_hosts=(other.netloc,))
    site.tasks[7] = {"image": "/data/upload/3/a.png"}
    assert fetcher.fetch("/data/upload/3/a.png", task=7) == b"image"
    assert site.seen[0][1]["Authorization"] == f"Token {'a' * 40}"
    assert "Authorization" not in other.seen[0][1]


@pytest.mark.parametrize(
    "path",
    [
        "/api/projects/",
        "/api/users/",
        "/data/../api/users/",
        "/data/%2e%2e/api/users/",
        "/data/%252e%252e/api/users/",
        "/data/%25252525252e%252e/api/users/",
        "/data/..%5capi/users/",
    ],
)
def test_a_task_cannot_have_label_studios_api_read_with_our_token(site: Site, path: str) -> None:
    for known in ("/api/projects/", "/api/users/", path):
        site.pages[known] = body(b"image")
    fetcher = make(label_studio_url=f"http://{site.netloc}")
    site.tasks[7] = {"image": path}
    fetcher.fetch(path, task=7)
    ((asked, headers),) = site.seen
    assert asked == path
    assert "Authorization" not in headers


def test_a_protocol_relative_address_is_not_taken_for_a_path(site: Site, other: Site) -> None:
    fetcher = make(label_studio_url=f"http://{site.netloc}")
    refusal(fetcher, f"//{other.netloc}/x")
    assert not other.seen


def test_cloud_storage_goes_through_label_studio(site: Site) -> None:
    site.pages["/tasks/7/resolve/"] = body(b"image")
    fetcher = make(label_studio_url=f"http://{site.netloc}")
    site.tasks[7] = {"image": "s3://bucket/key.png"}
    assert fetcher.fetch("s3://bucket/key.png", task=7) == b"image"
    encoded = base64.b64encode(b"s3://bucket/key.png").decode()
    assert f"fileuri={encoded}" in site.seen[0][0].replace("%3D", "=")
    assert "cloud storage" in refusal(make(), "gs://bucket/key.png", task=7).message


def test_label_studio_being_down_is_no_fault_of_the_task(site: Site) -> None:
    site.pages["/data/upload/a.png"] = body(b"", 502)
    site.tasks[7] = {"image": "/data/upload/a.png"}
    fetcher = make(label_studio_url=f"http://{site.netloc}")
    with pytest.raises(LabelStudioDownError):
        fetcher.fetch("/data/upload/a.png", task=7)
    site.shutdown()
    site.server_close()
    with pytest.raises(LabelStudioDownError):
        fetcher.fetch("/data/upload/a.png", task=7)


def test_label_studio_failing_at_one_image_is_told_from_being_down(site: Site) -> None:
    # Label Studio answers 500, not 404, for an upload that was deleted.
    site.pages["/data/upload/deleted.png"] = body(b"", 500)
    site.tasks[7] = {"image": "/data/upload/deleted.png"}
    site.pages["/api/current-user/whoami"] = body(b'{"email": "a@example.com"}')
    fetcher = make(label_studio_url=f"http://{site.netloc}")
    with pytest.raises(LabelStudioRequestFailedError, match="upload it again"):
        fetcher.fetch("/data/upload/deleted.png", task=7)
    site.pages["/api/current-user/whoami"] = body(b"", 500)
    with pytest.raises(LabelStudioDownError) as caught:
        fetcher.fetch("/data/upload/deleted.png", task=7)
    assert not isinstance(caught.value, LabelStudioRequestFailedError)


def test_a_redirect_to_nonsense_is_refused(site: Site) -> None:
    site.pages["/x"] = redirect("http://[")
    error = refusal(make(allowed_hosts=(site.netloc,)), f"http://{site.netloc}/x")
    assert "not a URL" in error.message


def test_a_login_page_is_explained(site: Site) -> None:
    site.pages["/data/upload/a.png"] = redirect("/user/login/?next=/data")
    site.tasks[7] = {"image": "/data/upload/a.png"}
    error = refusal(make(label_studio_url=f"http://{site.netloc}"), "/data/upload/a.png", task=7)
    assert "LABEL_STUDIO_API_KEY" in error.hint


def test_size_and_time_are_limited_while_the_bytes_come(site: Site) -> None:
    given_up = threading.Event()

    def endless(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        while True:
            handler.wfile.write(b"x" * 10_000)

    def dripping(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        while not given_up.wait(0.05):
            handler.wfile.write(b"x")
            handler.wfile.flush()

    def cut_short(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        handler.wfile.write(b"x")

    site.pages |= {"/endless": endless, "/dripping": dripping, "/short": cut_short}
    limits: dict[str, Any] = {"allowed_hosts": (site.netloc,), "max_image_bytes": 50_000}
    patient = make(**limits, fetch_timeout_seconds=PATIENCE)
    hasty = make(**limits, fetch_timeout_seconds=0.6)
    assert refusal(patient, f"http://{site.netloc}/endless").code == "image_too_large"
    assert refusal(patient, f"http://{site.netloc}/short").code == "fetch_failed"
    try:
        assert refusal(hasty, f"http://{site.netloc}/dripping").code == "fetch_timeout"
    finally:
        given_up.set()


def test_an_error_page_is_not_an_image(site: Site) -> None:
    site.pages["/x"] = body(b"gone", 404)
    assert "404" in refusal(make(allowed_hosts=(site.netloc,)), f"http://{site.netloc}/x").message


def test_data_uris_are_decoded_and_limited() -> None:
    fetcher = make(max_image_bytes=1024)
    assert fetcher.fetch("data:image/png;base64,aW1h Z2U=") == b"image"
    assert fetcher.fetch("data:image/svg+xml,%3Csvg%2F%3E") == b"<svg/>"
    assert refusal(fetcher, "data:;base64," + "A" * 1800).code == "image_too_large"
    assert refusal(fetcher, "data:;base64," + "A" * 100_000).code == "image_too_large"
    for broken in ("data:;base64,***", "data:;base64,A"):
        assert refusal(fetcher, broken).code == "fetch_failed"


def test_local_files_never_leave_their_folder(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "a.png").write_bytes(b"image")
    (tmp_path / "secret").write_bytes(b"secret")
    (root / "link").symlink_to(tmp_path / "secret")
    fetcher = make(local_files_root=str(root))
    assert fetcher.fetch("/data/local-files/?d=a.png") == b"image"
    for path in (
        "../secret",
        "%2e%2e/secret",
        "/../secret",
        "link",
        "",
        ".",
        "a.png%00",
        "x" * 999,
    ):
        refusal(fetcher, f"/data/local-files/?d={path}")


NOTHING: tuple[Any, ...] = (None, 3, [], {}, "", "  ")


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        *((nothing, "contains no image URL") for nothing in NOTHING),
        ("image.png", "is not a supported URL"),
        ("file:///etc/passwd", "is not a supported URL"),
        ("ftp://example.com/x", "is not a supported URL"),
        ("javascript:1", "is not a supported URL"),
        ("//127.0.0.1/x", "is not a supported URL"),
        ("http://", "not a valid URL"),
        ("http://[::1", "not a valid URL"),
        ("http://user:pass@example.com/", "not a valid URL"),
        ("http://exa mple.com/", "not a valid URL"),
        ("http://example.com\\@127.0.0.1/", "not a valid URL"),
        ("http://example.com:99999/", "not a valid URL"),
        ("http://2130706433/", "may not be fetched from 2130706433"),
        ("http://0x7f.1/", "may not be fetched from 0x7f.1"),
        ("http://localhost/", "may not be fetched from localhost"),
        ("http://[::ffff:127.0.0.1]/", "may not be fetched from ::ffff:127.0.0.1"),
    ],
)
def test_strange_addresses_are_refused_before_anything_is_connected_to(
    reference: Any, words: str
) -> None:
    assert words in refusal(make(), reference).message


@pytest.mark.parametrize(
    ("ip", "public"),
    [
        ("93.184.216.34", True),
        ("2606:4700::1111", True),
        ("127.0.0.1", False),
        ("10.1.2.3", False),
        ("100.64.0.1", False),
        ("169.254.169.254", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("::1", False),
        ("fe80::1%eth0", False),
        ("fc00::1", False),
        ("fec0::1", False),
        ("::127.0.0.1", False),
        ("::8.8.8.8", False),
        ("64:ff9b:1::7f00:1", False),
        ("64:ff9b:1::808:808", False),
        ("64:ff9b::808:808", True),
        ("::ffff:10.0.0.1", False),
        ("64:ff9b::7f00:1", False),
        ("2002:7f00:1::", False),
        ("2001:0:53aa:64c::1", False),
        ("nonsense", False),
    ],
)
def test_private_addresses_are_known_in_every_wrapping(ip: str, public: bool) -> None:
    assert is_public(ip) is public


def test_international_names_and_query_strings_survive() -> None:
    address = parse_address("https://Bücher.example./ä b?x=1&y=ü#f")
    assert address.host == "xn--bcher-kva.example"
    assert address.target == "/%C3%A4%20b?x=1&y=%C3%BC"
    assert address.port == 443


UPLOAD = "/data/upload/3/a.png"
LOCAL_FILE = "/data/local-files/?d=a.png"


@pytest.mark.parametrize(
    ("reference", "task"),
    [
        (UPLOAD, None),
        (UPLOAD, 8),
        (LOCAL_FILE, None),
        (LOCAL_FILE, 8),
        ("/storage-data/uploaded/?filepath=upload/3/a.png", 8),
        ("s3://bucket/key.png", 8),
    ],
)
def test_label_studios_files_are_not_read_for_a_task_that_it_does_not_confirm(
    site: Site, tmp_path: Path, reference: str, task: int | None
) -> None:
    (tmp_path / "a.png").write_bytes(b"secret")
    site.tasks |= {7: {"image": reference}, 8: {"image": "/data/upload/3/other.png"}}
    fetcher = make(label_studio_url=f"http://{site.netloc}", local_files_root=str(tmp_path))
    whole = reference if "://" in reference else f"http://{site.netloc}{reference}"
    for written in (reference, whole):
        assert refusal(fetcher, written, task=task).code in ("not_confirmed", "bad_address")
    assert not site.seen


@pytest.mark.parametrize(
    "reference",
    [
        "/data/upload/4/a.png",
        "/data/upload%2f4/a.png",
        "/storage-data/uploaded/?filepath=upload/4/a.png",
        "/tasks/9/resolve/?fileuri=czM6Ly9iL2s=",
    ],
)
def test_a_task_does_not_read_the_files_of_another_project(site: Site, reference: str) -> None:
    site.tasks[7] = {"image": reference}
    fetcher = make(label_studio_url=f"http://{site.netloc}")
    assert refusal(fetcher, reference, task=7).code == "not_confirmed"
    assert not site.seen


def test_a_confirmed_task_is_looked_up_once_for_all_its_images(site: Site) -> None:
    names = [f"/data/upload/3/{number}.png" for number in range(3)]
    site.pages |= dict.fromkeys(names, body(b"image"))
    site.tasks[7] = {"image": names[0], "reference": names[1:], "other": {"n": 1}}
    fetcher = make(label_studio_url=f"http://{site.netloc}")
    assert [fetcher.fetch(name, task=7) for name in names] == [b"image"] * 3
    assert site.looked_up == [7]


def test_another_hosts_redirect_does_not_open_label_studios_files(site: Site, other: Site) -> None:
    site.pages[UPLOAD] = body(b"", 401)
    site.tasks[7] = {"image": f"http://{other.netloc}/x"}
    other.pages["/x"] = redirect(f"http://{site.netloc}{UPLOAD}")
    fetcher = make(label_studio_url=f"http://{site.netloc}", allowed_hosts=(other.netloc,))
    refusal(fetcher, f"http://{other.netloc}/x", task=7)
    [(asked, headers)] = site.seen
    assert asked == UPLOAD
    assert "Authorization" not in headers


def test_a_fetcher_for_the_local_user_does_not_ask(site: Site) -> None:
    class Local(Fetcher):
        """As that of `eacps run`."""

        requires_confirmation = False

    site.pages[UPLOAD] = body(b"image")
    settings = Settings(_env_file=None, label_studio_url=f"http://{site.netloc}")
    local = Local(settings, LabelStudioClient(settings.label_studio_url, "a" * 40))
    assert local.fetch(UPLOAD) == b"image"
    assert not site.looked_up
