"""The status page in a browser: it refreshes itself, its buttons work with and without scripts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from playwright.sync_api import Browser, BrowserContext, Page, Response, expect

from eacps.domain import Failure, to_json
from eacps.jobs import names
from eacps.jobs.client import JobClient
from eacps.jobs.codec import encode
from eacps.jobs.contract import Job
from eacps.jobs.database import Tables, open_engine, prepare
from eacps.settings import Settings
from tests.browser.conftest import PATIENCE_MS, Complaints
from tests.patience import wait_until
from tests.web_server import Server, serving

USER, PASSWORD = "ls", "s3cret"
ATTACK = "<script>alert(1)</script><img src=x onerror=alert(2)>"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("status")


@pytest.fixture(scope="module")
def web(folder: Path) -> Iterator[Server]:
    """The web server, with a password and without workers."""
    password = {"EACPS_BASIC_AUTH_USER": USER, "EACPS_BASIC_AUTH_PASS": PASSWORD}
    with serving(folder, LABEL_STUDIO_URL="http://label-studio.invalid", **password) as server:
        yield server


@pytest.fixture
def jobs(folder: Path) -> Iterator[JobClient]:
    """An empty queue."""
    settings = Settings(_env_file=None, data_dir=folder / "data")
    client = JobClient(settings)
    for status in client.list(1000):
        client.cancel(status.id)
    client.prune(0)
    yield client
    client.close()


def fail(folder: Path, job: str, code: str, message: str) -> None:
    """What an orchestrator stores when a job fails."""
    engine = open_engine(prepare(Settings(_env_file=None, data_dir=folder / "data")))
    table = Tables(engine).status
    ended = encode({"failure": to_json(Failure(code, message))})
    with engine.begin() as connection:
        connection.execute(
            sa.update(table)
            .where(table.c.workflow_uuid == names.job_workflow(job))
            .values(status="SUCCESS", output=ended)
        )
    engine.dispose()


@pytest.fixture
def context(chromium: Browser) -> Iterator[BrowserContext]:
    context = chromium.new_context(http_credentials={"username": USER, "password": PASSWORD})
    context.set_default_timeout(PATIENCE_MS)
    yield context
    context.close()


@pytest.fixture
def page(context: BrowserContext, complaints: Complaints) -> Iterator[Page]:
    page = context.new_page()
    complaints.watch(page)
    yield page
    assert not complaints.dialogs
    page.close()


def submit(jobs: JobClient, *ids: str, **origin: Any) -> None:
    every = {"task": 7, "project": 3, "route": "edit", **origin}
    jobs.submit_many([Job(job, every) for job in ids])


def test_the_page_refreshes_itself_and_replaces_only_what_changed(
    web: Server, jobs: JobClient, page: Page, complaints: Complaints
) -> None:
    submit(jobs, "first")
    page.goto(f"{web.url}/status?state=queued")
    expect(page.locator("#jobs tbody tr")).to_have_count(1)
    page.locator("#cancel-first").focus()
    page.evaluate(
        """() => {
            for (const id of ["workers", "jobs"]) document.getElementById(id).untouched = true;
            window.untouched = true;
        }"""
    )
    submit(jobs, "second", task=8)
    expect(page.locator("#jobs tbody tr")).to_have_count(2)
    kept = page.evaluate(
        """() => [window.untouched, document.getElementById("workers").untouched,
                  document.getElementById("jobs").untouched, document.activeElement.id]"""
    )
    assert kept == [True, True, None, "cancel-first"]
    expect(page.locator(".count", has_text="queued").locator("b")).to_have_text("2")
    assert not complaints.errors


def test_an_open_page_costs_little_and_a_hidden_one_nothing(
    web: Server, jobs: JobClient, page: Page
) -> None:
    submit(jobs, "first")
    answers: list[int] = []

    def note(response: Response) -> None:
        if response.url.endswith("/status"):
            answers.append(response.status)

    page.on("response", note)
    page.clock.install()
    page.goto(f"{web.url}/status")
    page.clock.run_for(3500)
    wait_until(lambda: page.evaluate("1") and 304 in answers)
    assert answers == [200, 304]
    set_hidden = """hidden => {
        Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
        document.dispatchEvent(new Event("visibilitychange"));
    }"""
    page.evaluate(set_hidden, True)
    page.clock.run_for(60_000)
    seen = len(answers)
    page.evaluate(set_hidden, False)
    wait_until(lambda: page.evaluate("1") and len(answers) > seen)
    # Were the hidden page asking, there would be 20 more.
    assert len(answers) <= 4
    assert set(answers[1:]) == {304}


def test_buttons_work_with_a_script(
    web: Server, jobs: JobClient, folder: Path, page: Page, complaints: Complaints
) -> None:
    submit(jobs, "broken", "queued")
    fail(folder, "broken", "label_studio_stumbled", ATTACK)
    page.goto(f"{web.url}/status?project=3")
    page.evaluate("window.untouched = true")
    row = page.locator("tr", has=page.locator("#retry-broken"))
    expect(row).to_contain_text(ATTACK)
    page.click("#retry-broken")
    expect(page.locator("#flash")).to_have_text("The job was queued again.")
    expect(page.locator("#cancel-broken")).to_be_visible()
    status = jobs.status("broken")
    assert status
    assert status.state == "queued"
    page.click("#cancel-queued")
    expect(page.locator("#flash")).to_have_text("The job was cancelled.")
    expect(page.locator("#retry-queued")).to_be_visible()
    assert page.evaluate("window.untouched")
    assert not complaints.errors


def test_buttons_and_filters_work_without_a_script(
    web: Server, jobs: JobClient, folder: Path, chromium: Browser
) -> None:
    submit(jobs, "broken", task=11)
    submit(jobs, "other", task=12, project=4)
    fail(folder, "broken", "no_instruction", "There is no instruction.")
    context = chromium.new_context(
        http_credentials={"username": USER, "password": PASSWORD}, java_script_enabled=False
    )
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    page.goto(f"{web.url}/status")
    page.select_option("select[name=project]", "3")
    page.click("text=Show")
    expect(page.locator("#jobs tbody tr")).to_have_count(1)
    page.click("#retry-anyway-broken")
    expect(page.locator("#flash")).to_have_text("The job was queued again.")
    assert "project=3" in page.url
    page.click("#cancel-broken")
    expect(page.locator("#flash")).to_have_text("The job was cancelled.")
    page.get_by_role("link", name="Overview").click()
    expect(page.locator("#running")).to_contain_text("Nothing is running.")
    context.close()


def test_another_site_can_neither_press_a_button_nor_read_the_page(
    web: Server, jobs: JobClient, page: Page
) -> None:
    submit(jobs, "first")
    page.goto(f"{web.url}/status?state=queued")
    fields = page.locator("form:has(#cancel-first)").evaluate(
        "form => Object.fromEntries(new FormData(form))"
    )
    hidden = "".join(f'<input name="{k}" value="{v}">' for k, v in fields.items())
    # The same machine by another name is another site.
    other = f"http://localhost:{web.port}"
    page.route(
        f"{other}/elsewhere",
        lambda route: route.fulfill(
            content_type="text/html",
            body=f'<form method="post" action="{web.url}/status/jobs">{hidden}'
            '<button name="action" value="cancel">Win a bear</button></form>',
        ),
    )
    page.goto(f"{other}/elsewhere")
    assert page.evaluate(
        "address => fetch(address, {credentials: 'include'}).then(() => 'read', () => 'refused')",
        f"{web.url}/status.json",
    ) == ("refused")
    with page.expect_response(f"{web.url}/status/jobs") as refused:
        page.click("button")
    assert refused.value.status == 403
    status = jobs.status("first")
    assert status
    assert status.state == "queued"


def test_the_page_says_when_the_server_is_gone(tmp_path: Path, chromium: Browser) -> None:
    with serving(tmp_path) as server:
        page = chromium.new_page()
        page.goto(f"{server.url}/status")
        expect(page.locator("#running")).to_be_visible()
    expect(page.locator("#flash")).to_contain_text("This page is not up to date")
    page.close()
