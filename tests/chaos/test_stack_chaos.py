"""The whole product with a real Label Studio and editor: killed, hammered, and lied to."""

from __future__ import annotations

import gzip
import json
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests
from PIL import Image

from eacps.artifacts import open_store
from eacps.jobs import names
from eacps.jobs.client import JobClient
from eacps.jobs.database import Records, Row, database_url, open_engine
from eacps.settings import Settings
from tests.label_studio_server import LabelStudioServer, free_port
from tests.patience import PATIENCE
from tests.stack import Backend, bear_tasks, kill, wait_until

CANDIDATES = 8
FIXTURES = Path(__file__).parents[1] / "fixtures" / "label_studio_requests"
FOREIGN_TOKEN = "cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd"


class Journal:
    """The jobs database, and the stored images, as somebody who looks inside sees them."""

    def __init__(self, backend: Backend) -> None:
        settings = Settings(_env_file=None, data_dir=Path(backend.environment["EACPS_DATA_DIR"]))
        self._records = Records(open_engine(database_url(settings)))
        self._client = JobClient(settings)
        self._store = Path(open_store(settings).url.removeprefix("file://"))

    def close(self) -> None:
        self._records.engine.dispose()
        self._client.close()

    def batches(self) -> list[Row]:
        """The batches that ended well."""
        rows = self._records.newest(names.BATCH, 10_000)
        return [row for row in rows if row.status == "SUCCESS"]

    def renders(self) -> dict[str, int]:
        """When each image of a finished batch was written last: storing it again shows here."""
        images = [c["image"] for row in self.batches() for c in row.output["candidates"]]
        paths = [self._store / name[:2] / name for name in images]
        return {path.name: path.stat().st_mtime_ns for path in paths}

    def computed(self, job: str) -> int:
        """How many candidates the batches of a job hold."""
        status = self._client.status(job)
        assert status is not None
        assert status.key is not None
        with self._records.engine.connect() as connection:
            batches = self._records.batches(status.key, connection)
        return sum(len(row.output["candidates"]) for row in batches)

    def jobs(self, task: int) -> list[str]:
        """The jobs of a task."""
        found = self._client.list(1000)
        return [status.id for status in found if status.origin.get("task") == task]


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with Site() as running:
        yield running


@pytest.fixture(scope="module")
def backend(server: LabelStudioServer, site: Site) -> Iterator[Backend]:
    """Slow searches in many small batches, so that a kill hits one in the middle."""
    running = Backend(
        server,
        EACPS_STEPS="16",
        EACPS_BATCH_SIZE="1",
        EACPS_PREDICT_WAIT_SECONDS="0",
        EACPS_LOG_LEVEL="DEBUG",
        EACPS_ALLOWED_HOSTS=f"127.0.0.1:{site.port}",
        EACPS_FETCH_TIMEOUT_SECONDS="3",
        EACPS_MAX_IMAGE_BYTES="2000000",
        WEB_CONCURRENCY="3",
    )
    with running:
        yield running


@pytest.fixture
def journal(backend: Backend) -> Iterator[Journal]:
    opened = Journal(backend)
    yield opened
    opened.close()


def kill_worker(backend: Backend) -> None:
    backend.process("worker").kill()


def kill_orchestrator(backend: Backend) -> None:
    backend.process("orchestrator").kill()


def kill_web(backend: Backend) -> None:
    master = backend.process("web")
    workers = master.children()
    assert len(workers) == 3
    kill([master, *workers])


def kill_everything(backend: Backend) -> None:
    backend.kill_all()
    backend.start()


def kill_supervisor(backend: Backend) -> None:
    others = backend.kill_supervisor()
    _, orphans = psutil.wait_procs(others, timeout=PATIENCE)
    assert not orphans, [orphan.cmdline() for orphan in orphans]
    backend.start()


STRIKES = (kill_worker, kill_orchestrator, kill_web, kill_everything, kill_supervisor)


@pytest.mark.parametrize("strike", STRIKES)
def test_kill_9_in_the_middle_costs_no_task_and_no_finished_candidate(
    strike: Callable[[Backend], None],
    server: LabelStudioServer,
    backend: Backend,
    project: int,
    journal: Journal,
) -> None:
    before = len(journal.batches())
    # Bears of their own: a task like an earlier one would only get the earlier result.
    seed = 100 + STRIKES.index(strike)
    tasks = server.import_tasks(project, bear_tasks(server, project, 2, seed))
    wait_until(lambda: len(journal.batches()) >= before + 3, backend.log)
    finished = journal.renders()
    assert len(finished) < before + 2 * CANDIDATES, "all was over before the kill"
    strike(backend)
    wait_for_predictions(server, backend, tasks)
    assert [len(server.predictions(task)) for task in tasks] == [1, 1]
    rendered = journal.renders()
    assert {name: rendered[name] for name in finished} == finished
    assert [journal.computed(job) for task in tasks for job in journal.jobs(task)] == [8, 8]


def wait_for_predictions(server: LabelStudioServer, backend: Backend, tasks: list[int]) -> None:
    wait_until(lambda: all(server.predictions(task) for task in tasks), backend.log)


def test_health_answers_without_torch_in_the_web_process(
    backend: Backend, record_property: Callable[[str, object], None]
) -> None:
    backend.kill_all()
    started = time.monotonic()
    backend.start(wait_for_workers=False)
    wait_until(lambda: requests.get(f"{backend.url}/health", timeout=1).ok, backend.log)
    record_property("seconds_until_healthy", round(time.monotonic() - started, 2))
    print(f"healthy after {time.monotonic() - started:.2f} s")
    backend.status()
    master = backend.process("web")
    for process in (master, *master.children()):
        assert "libtorch" not in Path(f"/proc/{process.pid}/maps").read_text()
    wait_until(lambda: len(backend.status()["workers"]) >= 2, backend.log)


def test_fifty_requests_for_one_task_at_once_compute_it_once(
    server: LabelStudioServer, backend: Backend, project: int, journal: Journal
) -> None:
    for hook in server.call("GET", f"/api/webhooks/?project={project}"):
        server.call("DELETE", f"/api/webhooks/{hook['id']}/")
    (number,) = server.import_tasks(project, bear_tasks(server, project, 1, seed=300))
    task = server.task(number)
    config = server.call("GET", f"/api/projects/{project}/")["label_config"]
    webhook = {
        "action": "TASKS_CREATED",
        "tasks": [task],
        "project": {"id": project, "label_config": config},
    }
    predict = {"tasks": [task], "project": f"{project}.1", "label_config": config, "params": {}}
    together = threading.Barrier(25)

    def send(turn: int) -> requests.Response:
        if turn < 25:
            together.wait(PATIENCE)
        path, body = ("webhook", webhook) if turn % 2 else ("predict", predict)
        return requests.post(f"{backend.url}/{path}", json=body, timeout=PATIENCE)

    with ThreadPoolExecutor(25) as pool:
        answers = list(pool.map(send, range(50)))
    assert {answer.status_code for answer in answers} == {200}
    wait_for_predictions(server, backend, [number])
    (job,) = journal.jobs(number)
    assert journal.computed(job) == CANDIDATES
    done = journal.renders()
    # Replayed webhooks and late predicts change nothing, either.
    assert all(send(turn).ok for turn in (25, 26, 27, 28))
    assert journal.jobs(number) == [job]
    assert len(server.predictions(number)) == 1
    assert journal.renders() == done


def test_requests_as_both_generations_of_label_studio_ml_clients_send_them(
    backend: Backend,
) -> None:
    version = backend.status()["model_version"]

    def post(path: str, body: Any) -> Any:
        answer = requests.post(f"{backend.url}{path}", json=body, timeout=PATIENCE)
        assert answer.status_code == 200, answer.text
        return answer.json()

    recorded = {path.stem: json.loads(path.read_text()) for path in FIXTURES.iterdir()}
    setup = recorded["setup"]
    for body in (setup, {**setup, "extra_params": {"x": 1}}, {"project": "1.1", "schema": ""}):
        assert post("/setup", {**body, "access_token": FOREIGN_TOKEN})["model_version"] == version
    for name in ("predict_open_task", "predict_retrieve"):
        request = unknown_tasks(recorded[name])
        context = {"result": [], "draft_id": 0, "annotation_id": None, "user_id": 1}
        for params in (
            {"login": "", "password": "", "context": None},
            {"login": "ls", "password": "x", "context": context},
            None,
        ):
            answer = post("/predict", {**request, "params": params})
            assert answer == {
                "results": [{} for _ in request["tasks"]],
                "model_version": version,
            }
    created = unknown_tasks(recorded["webhook_tasks_created"])
    assert post("/webhook", created)["status"] == "queued"
    assert post("/webhook", created) == {"status": "queued", "jobs": 0}
    annotated = recorded["webhook_annotation_created"]
    for event in ("ANNOTATION_CREATED", "ANNOTATION_UPDATED"):
        assert post("/webhook", {**annotated, "action": event}) == {"status": "queued", "jobs": 0}
    for event in (
        *("ANNOTATIONS_DELETED", "TASKS_DELETED"),
        *("PROJECT_CREATED", "PROJECT_UPDATED", "PROJECT_DELETED", "START_TRAINING", "NEW_EVENT"),
    ):
        assert post("/webhook", {**annotated, "action": event})["status"] == "ignored"


def unknown_tasks(request: dict[str, Any]) -> dict[str, Any]:
    """The recorded request about tasks that this Label Studio does not have."""
    tasks = [{**task, "id": task["id"] + 10**6} for task in request["tasks"]]
    return {**request, "tasks": tasks}


def test_hostile_tasks_fail_alone_and_say_why(
    server: LabelStudioServer, backend: Backend, project: int, site: Site
) -> None:
    refused = {
        f"{site.url}/gzip": "could not be read as an image",
        f"{site.url}/loop": "redirects too often",
        f"{site.url}/inside": "EACPS_ALLOWED_HOSTS",
        f"{site.url}/nowhere": "not a URL",
        f"{site.url}/cut-off": "could not be fetched",
        f"{site.url}/drip": "took too long",
        f"{site.url}/endless": "EACPS_MAX_IMAGE_BYTES",
        f"{site.url}/page": "could not be read as an image",
        f"{site.url}/bomb": "EACPS_MAX_IMAGE_PIXELS",
        f"{site.url}/pixel": "EACPS_MIN_IMAGE_SIDE",
        f"{site.url}/animated": "still image",
        f"{site.url}/half": "could not be read as an image",
        "http://169.254.169.254/latest/meta-data/": "EACPS_ALLOWED_HOSTS",
        f"http://127.0.0.1:{free_port()}/": "EACPS_ALLOWED_HOSTS",
        "http://[::1]:1/x.png": "EACPS_ALLOWED_HOSTS",
        "file:///etc/passwd": "is not a supported URL",
        "/data/upload/1/../../../../etc/passwd": "",
        f"/data/upload/{project}/deleted.png": "upload it again",
        "/data/local-files/?d=../../../etc/passwd": "",
    }
    bad = server.import_tasks(project, [{"image": url, "prompt": "add a hat"} for url in refused])
    fine = ["cmyk", "alpha", "sixteen-bit", "rotated", "camera"]
    good = server.import_tasks(
        project, [{"image": f"{site.url}/{name}", "prompt": "add a hat"} for name in fine]
    )
    wait_for_predictions(server, backend, good)
    rotated = server.task(good[fine.index("rotated")])["data"]["gallery"][0]
    assert Image.open(BytesIO(server.response("GET", rotated).content)).size == (48, 64)
    for task, (url, words) in zip(bad, refused.items(), strict=True):
        wait_until(partial(_report, server, task), backend.log)
        assert words in _report(server, task), url
        assert not server.predictions(task), url
    assert site.secrets_seen == []


def _report(server: LabelStudioServer, task: int) -> str:
    report: str = server.data(task).get("report_md", "")
    return report


def test_no_secret_is_in_logs_artifacts_predictions_or_pages(
    server: LabelStudioServer, backend: Backend, project: int
) -> None:
    data = Path(backend.environment["EACPS_DATA_DIR"])
    (number,) = server.import_tasks(project, bear_tasks(server, project, 1, seed=400))
    wait_for_predictions(server, backend, [number])
    backend.command("jobs", "list")
    shown = [
        backend.log(),
        json.dumps(server.task(number)),
        json.dumps(server.predictions(number)),
        *(
            requests.get(backend.url + path, timeout=PATIENCE).text
            for path in ("/status", "/health")
        ),
        json.dumps(backend.status()),
        backend.command("settings").stdout,
        backend.command("doctor", check=False).stdout,
    ]
    url_secret = open_secret(data)
    secrets = [server.token, FOREIGN_TOKEN, url_secret]
    for secret in secrets:
        assert not [text for text in shown if secret in text]
    stored = [path for path in data.rglob("*") if path.is_file() and path.name != "url-secret"]
    assert any(path.suffix == ".png" for path in stored)
    for path in stored:
        content = path.read_bytes()
        assert not any(secret.encode() in content for secret in secrets), path


def open_secret(data: Path) -> str:
    """The secret that signs image URLs, made by the first use."""
    from eacps.artifacts import open_signer

    open_signer(Settings(_env_file=None, data_dir=data))
    assert (data / "url-secret").stat().st_mode & 0o77 == 0
    return (data / "url-secret").read_text().strip()


class Site:
    """A web server that answers everything but what one expects of an image host."""

    def __init__(self) -> None:
        self.secrets_seen: list[str] = []
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if "Authorization" in self.headers:
                    site.secrets_seen.append(self.headers["Authorization"])
                name = self.path.strip("/").replace("-", "_")
                try:
                    getattr(site, f"answer_{name}")(self)
                except (BrokenPipeError, ConnectionResetError):
                    return

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Site:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer_gzip(self, to: BaseHTTPRequestHandler) -> None:
        bomb = gzip.compress(bytes(100_000_000))
        send(to, bomb, {"Content-Encoding": "gzip"})

    def answer_loop(self, to: BaseHTTPRequestHandler) -> None:
        send(to, b"", {"Location": "/loop"}, 302)

    def answer_inside(self, to: BaseHTTPRequestHandler) -> None:
        send(to, b"", {"Location": "http://169.254.169.254/latest/meta-data/"}, 302)

    def answer_nowhere(self, to: BaseHTTPRequestHandler) -> None:
        send(to, b"", {"Location": "http://["}, 302)

    def answer_cut_off(self, to: BaseHTTPRequestHandler) -> None:
        to.send_response(200)
        to.send_header("Content-Length", "100000")
        to.end_headers()
        to.wfile.write(b"\x89PNG")

    def answer_drip(self, to: BaseHTTPRequestHandler) -> None:
        to.send_response(200)
        to.end_headers()
        while True:
            to.wfile.write(b"x")
            time.sleep(0.1)

    def answer_endless(self, to: BaseHTTPRequestHandler) -> None:
        to.send_response(200)
        to.end_headers()
        while True:
            to.wfile.write(bytes(100_000))

    def answer_page(self, to: BaseHTTPRequestHandler) -> None:
        send(to, b"<html><img src=x onerror=alert(1)></html>", {"Content-Type": "image/png"})

    def answer_bomb(self, to: BaseHTTPRequestHandler) -> None:
        send(to, png_that_promises(60_000))

    def answer_pixel(self, to: BaseHTTPRequestHandler) -> None:
        send(to, file_of(Image.new("RGB", (1, 1))))

    def answer_animated(self, to: BaseHTTPRequestHandler) -> None:
        frames = [picture().convert("P"), Image.new("P", (64, 48))]
        send(to, file_of(frames[0], "GIF", save_all=True, append_images=frames[1:]))

    def answer_half(self, to: BaseHTTPRequestHandler) -> None:
        content = file_of(Image.effect_noise((64, 64), 50))
        send(to, content[: len(content) // 2])

    def answer_cmyk(self, to: BaseHTTPRequestHandler) -> None:
        # Whatever the server calls it, the bytes decide.
        send(to, file_of(picture().convert("CMYK"), "JPEG"), {"Content-Type": "text/html"})

    def answer_alpha(self, to: BaseHTTPRequestHandler) -> None:
        send(to, file_of(picture().convert("RGBA")))

    def answer_sixteen_bit(self, to: BaseHTTPRequestHandler) -> None:
        deep = picture().convert("I").point(lambda value: value * 257).convert("I;16")
        send(to, file_of(deep))

    def answer_rotated(self, to: BaseHTTPRequestHandler) -> None:
        exif = Image.Exif()
        exif[0x0112] = 6
        send(to, file_of(picture(), "JPEG", exif=exif))

    def answer_camera(self, to: BaseHTTPRequestHandler) -> None:
        preview = [picture().resize((16, 12))]
        send(to, file_of(picture(), "MPO", save_all=True, append_images=preview))


def send(
    to: BaseHTTPRequestHandler,
    body: bytes,
    headers: Mapping[str, str] | None = None,
    status: int = 200,
) -> None:
    to.send_response(status)
    for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
        to.send_header(name, value)
    to.end_headers()
    to.wfile.write(body)


def picture() -> Image.Image:
    return Image.linear_gradient("L").resize((64, 48)).convert("RGB")


def file_of(image: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    buffer = BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def png_that_promises(side: int) -> bytes:
    """A PNG whose header promises more pixels than any memory holds."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    rows = zlib.compress(bytes(1000))
    parts = [chunk(b"IHDR", header), chunk(b"IDAT", rows), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)
