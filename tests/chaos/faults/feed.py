"""Feeds tasks continually, as Label Studio announces them: once, without waiting for the answer."""

from __future__ import annotations

import base64
import io
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import requests
from PIL import Image

from tests.chaos.faults.label_studio import LABEL_CONFIG, PROJECT
from tests.chaos.faults.system import PASSWORD, USER, System
from tests.hostile.images import hostile_images

Kind = Literal["ordinary", "upload", "twin", "bad image", "bad task", "poison", "hang"]
KINDS: Final[Mapping[Kind, int]] = {
    "ordinary": 40, "upload": 40, "twin": 6, "bad image": 6, "bad task": 4, "poison": 2, "hang": 2,
}  # fmt: skip
FAILING: Final = ("bad image", "bad task")
ANNOUNCE_SECONDS = 1.0
"""Label Studio waits no longer for the answer to a webhook."""
BAD_TASKS: tuple[dict[str, Any], ...] = (
    {"image": "file:///etc/passwd", "prompt": "add a hat"},
    {"image": "http://169.254.169.254/latest/meta-data/", "prompt": "add a hat"},
    {"image": "data:,no image", "prompt": "add a hat"},
    {"image": ["x"], "prompt": {"a": 1}},
    {"prompt": "no image at all"},
)
Outcome = Literal["result", "failure"]


@dataclass(frozen=True)
class Fed:
    """A task that was announced."""

    number: int
    kind: Kind
    answered: bool
    """Whether the webhook was answered 200."""

    @property
    def expected(self) -> Outcome:
        """Its one true outcome."""
        return "failure" if self.kind in FAILING else "result"


class Feeder:
    """Keeps some tasks in the system."""

    def __init__(self, system: System, chance: random.Random, *, waiting: int = 10) -> None:
        self._system = system
        self._chance = chance
        self._waiting = waiting
        self._bad = [content for name, content in hostile_images() if _is_never_read(name)]
        self.fed: list[Fed] = []

    def feed(self) -> None:
        """Announce another task if few are waiting."""
        # A task that shows the wrong outcome for now holds up no other.
        if sum(self.outcome(fed) is None for fed in self.fed) < self._waiting:
            (kind,) = self._chance.choices(list(KINDS), list(KINDS.values()))
            self.announce(kind)

    def announce(self, kind: Kind) -> Fed:
        """Import one task and announce it."""
        number = len(self.fed) + 1
        task = self._system.label_studio.import_task(self._data(number, kind))
        project = {"id": PROJECT, "label_config": LABEL_CONFIG}
        body = {"action": "TASKS_CREATED", "tasks": [task], "project": project}
        fed = Fed(int(task["id"]), kind, self._posted("/webhook", body))
        self.fed.append(fed)
        if self._chance.random() < 0.1:
            self.open(task)
        return fed

    def open(self, task: Mapping[str, Any]) -> None:
        """As an annotator opens a task."""
        body = {"tasks": [task], "project": f"{PROJECT}.1", "label_config": LABEL_CONFIG}
        self._posted("/predict", {**body, "params": {}})

    def unfinished(self) -> list[Fed]:
        """The tasks without their true outcome."""
        return [fed for fed in self.fed if self.outcome(fed) != fed.expected]

    def outcome(self, fed: Fed) -> Outcome | None:
        """What the task shows."""
        data = self._system.label_studio.tasks[fed.number]["data"]
        if self._system.label_studio.predictions_of(fed.number):
            return "result"
        return "failure" if "report_md" in data else None

    def _posted(self, path: str, body: Mapping[str, Any]) -> bool:
        url = f"{self._system.url}{path}"
        try:
            answer = requests.post(url, json=body, auth=(USER, PASSWORD), timeout=ANNOUNCE_SECONDS)
        except requests.RequestException:
            return False
        return answer.status_code == 200

    def _data(self, number: int, kind: Kind) -> dict[str, Any]:
        if kind == "bad task":
            return {"text": f"{number}", **self._chance.choice(BAD_TASKS)}
        if kind == "bad image":
            image = _data_uri(self._chance.choice(self._bad))
            return {"image": image, "prompt": f"add hat {number}"}
        if kind == "upload":
            path = f"/data/upload/{PROJECT}/{number:08x}-source.png"
            self._system.label_studio.served[path] = _picture(number)
            return {"image": path, "prompt": f"add hat {number}"}
        if kind == "twin":
            return {"image": _data_uri(_picture(number % 3)), "prompt": f"add hat {number % 3}"}
        words = kind if kind in ("poison", "hang") else "add hat"
        return {"image": _data_uri(_picture(number)), "prompt": f"{words} {number}"}


def _is_never_read(name: str) -> bool:
    return name.startswith(("empty", "text", "png of", "jpeg of many scans", "postscript"))


def _picture(number: int) -> bytes:
    buffer = io.BytesIO()
    colour = (number % 256, number // 256 % 256, 80)
    Image.new("RGB", (32, 24), colour).save(buffer, "PNG")
    return buffer.getvalue()


def _data_uri(content: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"
