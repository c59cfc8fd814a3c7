"""From an import to a prediction, in a real Label Studio, with the real editor."""

from __future__ import annotations

import io
import math
from functools import partial
from typing import Any

import pytest
import requests
from PIL import Image

from tests.label_studio_server import LabelStudioServer
from tests.patience import PATIENCE
from tests.stack import Backend, bear_tasks, wait_until


def wait_for_predictions(
    server: LabelStudioServer, backend: Backend, tasks: list[int]
) -> list[dict[str, Any]]:
    wait_until(lambda: all(server.predictions(task) for task in tasks), backend.log)
    return [server.predictions(task)[0] for task in tasks]


def retrieve(server: LabelStudioServer, project: int, tasks: list[int]) -> Any:
    """The Data Manager's action."""
    return server.call(
        "POST",
        f"/api/dm/actions?id=retrieve_tasks_predictions&project={project}",
        json={"selectedItems": {"all": False, "included": tasks}},
    )


def ranker(prediction: dict[str, Any]) -> dict[str, list[str]]:
    value: dict[str, list[str]] = next(
        item["value"]["ranker"] for item in prediction["result"] if item["type"] == "ranker"
    )
    return value


def report_of(server: LabelStudioServer, task: int) -> str:
    report: str = server.data(task).get("report_md", "")
    return report


def test_an_import_without_any_click_ends_in_one_ranked_prediction_per_task(
    server: LabelStudioServer, backend: Backend, project: int
) -> None:
    ids = server.import_tasks(project, bear_tasks(server, project, 2))
    predictions = wait_for_predictions(server, backend, ids)
    version = backend.status()["model_version"]
    for task, prediction in zip(ids, predictions, strict=True):
        assert prediction["model_version"] == version
        assert 0 <= prediction["score"] <= 1
        data = server.data(task)
        listed = {name for bucket in ranker(prediction).values() for name in bucket}
        assert {card["id"] for card in data["candidates"]} == listed
        assert len(data["gallery"]) == 8
        for url in data["gallery"]:
            answer = server.response("GET", url)
            image = Image.open(io.BytesIO(answer.content))
            assert image.size == (256, 256)
        assert "eacps" in data["report_md"]
        assert len(server.predictions(task)) == 1


def test_the_status_page_names_projects_by_their_titles(
    server: LabelStudioServer, backend: Backend, project: int
) -> None:
    server.call("PATCH", f"/api/projects/{project}/", json={"title": "Bears & hats"})
    ids = server.import_tasks(project, bear_tasks(server, project, 1))
    wait_for_predictions(server, backend, ids)
    named = {"id": project, "title": "Bears & hats"}
    wait_until(lambda: named in backend.status()["projects"], backend.log)
    page = requests.get(f"{backend.url}/status", timeout=PATIENCE).text
    assert "Bears &amp; hats" in page


def test_panels_are_shown_revoked_and_renewed_by_commands(
    server: LabelStudioServer, backend: Backend, project: int
) -> None:
    [task] = server.import_tasks(project, bear_tasks(server, project, 1))
    wait_for_predictions(server, backend, [task])

    def opened(address: str) -> int:
        return requests.get(address, timeout=PATIENCE).status_code

    address = backend.command("panel", "show", "--task", str(task)).stdout.strip()
    assert address.startswith("http")
    assert opened(address) == 200
    for scope in (("--task", str(task)), ("--project", str(project))):
        backend.command("panel", "revoke", *scope)
        assert opened(address) in (401, 403)
        assert backend.command("panel", "show", "--task", str(task), check=False).returncode == 1
        assert "1 tasks" in backend.command("panel", "renew", str(project)).stdout
        renewed = backend.command("panel", "show", "--task", str(task)).stdout.strip()
        assert renewed != address
        assert opened(renewed) == 200
        assert opened(address) in (401, 403)
        address = renewed
    unclear = backend.command("panel", "revoke", check=False)
    assert unclear.returncode != 0
    assert "Give --task, --project or --all." in unclear.stderr + unclear.stdout


def test_the_best_card_is_ranked_first_and_shows_its_scores(
    server: LabelStudioServer, backend: Backend, project: int
) -> None:
    (task,) = server.import_tasks(project, bear_tasks(server, project, 1, seed=6))
    (prediction,) = wait_for_predictions(server, backend, [task])
    data = server.data(task)
    ranked = ranker(prediction)["ranked"]
    job = next(j for j in jobs(backend) if j["origin"].get("task") == task)
    potentials = {
        c["trial"]["id"]: c["potential"] for c in job_result(backend, job["id"])["candidates"]
    }
    assert ranked == sorted(ranked, key=lambda name: -potentials[name.partition("-")[0]])
    card = next(card for card in data["candidates"] if card["id"] == ranked[0])
    for word in ("pf", "cons", "lpips", "NFE"):
        assert word in card["html"]


def jobs(backend: Backend) -> list[dict[str, Any]]:
    from eacps.domain import to_json
    from eacps.jobs.client import JobClient

    client = JobClient(settings_of(backend))
    try:
        return [to_json(status) for status in client.list(200, None)]
    finally:
        client.close()


def job_result(backend: Backend, job: str) -> dict[str, Any]:
    from eacps.domain import SearchResult, to_json
    from eacps.jobs.client import JobClient

    client = JobClient(settings_of(backend))
    try:
        result = client.result(job, 5)
        assert isinstance(result, SearchResult), result
        content: dict[str, Any] = to_json(result)
        return content
    finally:
        client.close()


def settings_of(backend: Backend) -> Any:
    from pathlib import Path

    from eacps.settings import Settings

    return Settings(_env_file=None, data_dir=Path(backend.environment["EACPS_DATA_DIR"]))


def test_retrieving_predictions_again_computes_nothing_again(
    server: LabelStudioServer, backend: Backend, project: int
) -> None:
    ids = server.import_tasks(project, bear_tasks(server, project, 2, seed=7))
    before = wait_for_predictions(server, backend, ids)
    images, count = backend.images(), len(jobs(backend))
    retrieve(server, project, ids)
    assert backend.images() == images
    assert len(jobs(backend)) == count
    assert [server.predictions(task) for task in ids] == [[one] for one in before]


def test_retrieve_predictions_works_where_no_webhook_came(
    server: LabelStudioServer, backend: Backend, project: int
) -> None:
    for hook in server.call("GET", f"/api/webhooks/?project={project}"):
        server.call("DELETE", f"/api/webhooks/{hook['id']}/")
    ids = server.import_tasks(project, bear_tasks(server, project, 1, seed=8))
    assert not server.predictions(ids[0])
    retrieve(server, project, ids)
    wait_for_predictions(server, backend, ids)


def test_a_task_that_fails_says_why_on_its_screen_and_the_others_go_on(
    server: LabelStudioServer, backend: Backend, project: int
) -> None:
    good = bear_tasks(server, project, 1, seed=9)[0]
    private = {"image": "http://127.0.0.1:1/secret.png", "prompt": "add a hat"}
    silent = {"image": good["image"], "prompt": "   "}
    swap = {**good, "task": "Face swap"}
    ids = server.import_tasks(project, [private, good, silent, swap])
    wait_for_predictions(server, backend, [ids[1]])
    expected = {
        ids[0]: "EACPS_ALLOWED_HOSTS",
        ids[2]: "prompt",
        ids[3]: "contains no picture of a character",
    }
    for task, words in expected.items():
        wait_until(partial(report_of, server, task), backend.log)
        assert words in report_of(server, task)
        assert not server.predictions(task)
    failures = str(backend.status()["failures"])
    assert "EACPS_ALLOWED_HOSTS" in failures


def test_two_projects_with_different_configs_do_not_mix(
    server: LabelStudioServer, backend: Backend, project: int
) -> None:
    from eacps.labelstudio.label_config import label_config

    other = server.create_project(label_config().replace("Accept best", "Take it"), "Other")
    backend.command("connect", "--project", str(other), check=False)
    first = server.import_tasks(project, bear_tasks(server, project, 1, seed=10))
    second = server.import_tasks(other, bear_tasks(server, other, 1, seed=10))
    one, two = wait_for_predictions(server, backend, first + second)
    assert (one["project"], two["project"]) == (project, other)
    assert ranker(one) == ranker(two)
    assert server.data(first[0])["gallery"] != server.data(second[0])["gallery"]


def test_label_studio_may_restart_in_the_middle(
    server: LabelStudioServer, backend: Backend, project: int
) -> None:
    ids = server.import_tasks(project, bear_tasks(server, project, 3, seed=11))
    server.kill()
    wait_until(lambda: "does not answer" in backend.log() or "could not be" in backend.log())
    server.start()
    wait_for_predictions(server, backend, ids)
    assert all(len(server.predictions(task)) == 1 for task in ids)


def test_with_a_mask_everything_outside_it_equals_the_source(
    server: LabelStudioServer, backend: Backend, project: int
) -> None:
    source = Image.open(
        io.BytesIO(
            server.response(
                "GET", (task := bear_tasks(server, project, 1, seed=12)[0])["image"]
            ).content
        )
    ).convert("RGB")
    mask = Image.new("L", source.size)
    mask.paste(255, (64, 16, 192, 128))
    buffer = io.BytesIO()
    mask.save(buffer, "PNG")
    task["mask"] = server.upload(project, "mask.png", buffer.getvalue())
    (number,) = server.import_tasks(project, [task])
    wait_for_predictions(server, backend, [number])
    best = server.data(number)["gallery"][0]
    edited = Image.open(io.BytesIO(server.response("GET", best).content)).convert("RGB")
    outside = [
        (x, y) for x in range(0, 256, 5) for y in range(0, 256, 5) if not mask.getpixel((x, y))
    ]
    assert all(edited.getpixel(point) == source.getpixel(point) for point in outside)


@pytest.mark.parametrize("workers", ["1", "3"])
def test_gunicorn_with_one_and_three_workers(workers: str) -> None:
    import base64

    from eacps.demo.tasks import demo_tasks

    bear = demo_tasks(1, seed=13)[0]
    buffer = io.BytesIO()
    bear.image.save(buffer, "PNG")
    uri = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
    task = {"id": 1, "data": {"image": uri, "prompt": bear.instruction}}
    with Backend(WEB_CONCURRENCY=workers) as backend:
        # Predict comes before any setup, and lands on any of the workers.
        answers = [backend.predict([task]).json()["results"][0] for _ in range(6)]
        assert all(ranker(answer) == ranker(answers[0]) for answer in answers)
        assert len(answers[0]["candidates"]) == 8
        assert math.isfinite(answers[0]["score"])
        picture = requests.get(answers[0]["candidates"][0]["image_url"], timeout=PATIENCE)
        assert "immutable" in picture.headers["Cache-Control"]
        assert Image.open(io.BytesIO(picture.content)).size == (256, 256)
        setups = [
            requests.post(
                f"{backend.url}/setup", json={"project": "2.0", "schema": ""}, timeout=PATIENCE
            )
            for _ in range(6)
        ]
        assert len({setup.json()["model_version"] for setup in setups}) == 1
        wait_until(lambda: backend.status()["counts"]["done"] == 1, backend.log)
        assert sum(backend.status()["counts"].values()) == 1
