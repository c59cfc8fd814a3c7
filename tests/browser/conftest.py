"""A Chromium that is logged in to the tests' Label Studio."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Dialog, Page, expect, sync_playwright
from pydantic import SecretStr

from eacps.labelstudio.label_config import label_config
from eacps.settings import Settings
from tests.browser.reviewed import Reviewed
from tests.label_studio_server import EMAIL, PASSWORD, LabelStudioServer
from tests.patience import PATIENCE

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PATIENCE_MS = 1000 * PATIENCE
expect.set_options(timeout=PATIENCE_MS)


@dataclass
class Complaints:
    """What a page did that no page should do."""

    errors: list[str] = field(default_factory=list)
    dialogs: list[str] = field(default_factory=list)

    def watch(self, page: Page) -> None:
        """Collect from now on."""
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("dialog", self._refuse)
        page.on("console", lambda message: self._console(message.type, message.text))

    def _refuse(self, dialog: Dialog) -> None:
        self.dialogs.append(dialog.message)
        dialog.dismiss()

    def _console(self, kind: str, text: str) -> None:
        # Label Studio's own missing icons are its own business, and so is a policy that it only
        # tries out.
        known = text.startswith("Failed to load resource") or "report-only" in text
        if kind == "error" and not known:
            self.errors.append(text)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    names = ("chromium", "chromium-browser", "google-chrome")
    program = next(filter(None, map(shutil.which, names)), None)
    if program is None:
        pytest.skip("no Chromium on this machine: `make system-packages`")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, headless=True, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def login(chromium: Browser, server: LabelStudioServer) -> BrowserContext:
    """A fresh profile, logged in through the form."""
    return logged_in(chromium, server)


def logged_in(chromium: Browser, server: LabelStudioServer) -> BrowserContext:
    """A fresh profile that is logged in to this Label Studio."""
    context = chromium.new_context(viewport={"width": 1400, "height": 2600})
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    page.goto(f"{server.url}/user/login/")
    page.fill("input[name=email]", EMAIL)
    page.fill("input[name=password]", PASSWORD)
    page.click("button[type=submit]")
    page.wait_for_url(lambda url: "/login" not in url)
    page.close()
    return context


@pytest.fixture
def complaints() -> Complaints:
    return Complaints()


@pytest.fixture
def page(login: BrowserContext, complaints: Complaints) -> Iterator[Page]:
    page = login.new_page()
    complaints.watch(page)
    yield page
    page.close()


@pytest.fixture
def open_task(page: Page, server: LabelStudioServer) -> Callable[[int, int], Page]:
    """Open a task's review screen."""

    def opened(project: int, task: int) -> Page:
        page.goto(f"{server.url}/projects/{project}/data?task={task}")
        # The screen is drawn twice: without, then with the annotation that the bar is about.
        page.wait_for_selector("button[name=submit]")
        page.wait_for_selector(".review .report")
        page.wait_for_load_state("networkidle")
        return page

    return opened


@pytest.fixture
def reviewed(server: LabelStudioServer, tmp_path: Path) -> Reviewed:
    """A project with the review screen and one task."""
    settings = Settings(
        _env_file=None,
        data_dir=tmp_path,
        label_studio_url=server.url,
        label_studio_api_key=SecretStr(server.token),
    )
    made = Reviewed(server, settings, server.create_project(label_config()))
    made.add()
    return made
