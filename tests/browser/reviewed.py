"""A task on the review screen, to which results are delivered without a worker."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from PIL import Image

from eacps.artifacts import open_store
from eacps.domain import PRUNED, Candidate, Failure, Metric, Noise, SearchResult, Trial, to_json
from eacps.images import encode_png, thumbnail
from eacps.labelstudio.hooks import LabelStudioHooks
from eacps.labelstudio.label_config import label_config
from eacps.labelstudio.tasks.origins import origin_of
from eacps.settings import Settings
from tests.label_studio_server import LabelStudioServer

METRICS = tuple(
    Metric(name, 0.5, 0.5, weight, 0.5 * weight)
    for name, weight in (("pf", 1), ("cons", 10), ("identity_before", 0), ("lpips", -3))
)


@dataclass
class Reviewed:
    """A task in a project with the review screen, to which results are delivered."""

    server: LabelStudioServer
    settings: Settings
    project: int
    task: int = 0
    size: tuple[int, int] = (256, 192)

    def add(self, size: tuple[int, int] = (256, 192), prompt: str = "add a scarf") -> int:
        """Import a task with a picture of this size, which the next search is of."""
        self.size = size
        content = encode_png(Image.new("RGB", size, "navy"))
        image = self.server.upload(self.project, "a.png", content)
        [self.task] = self.server.import_tasks(
            self.project, [{"data": {"image": image, "prompt": prompt}}]
        )
        return self.task

    def fail(self, message: str = "Shorten it.") -> None:
        """Deliver a failure."""
        LabelStudioHooks(self.settings).deliver_failure(self._origin(), Failure("bad", message))

    def _origin(self) -> dict[str, Any]:
        task = self.server.task(self.task)
        origin: dict[str, Any] = to_json(
            origin_of(task, self.settings, label_config=label_config())
        )
        return origin

    def search(self, seed: int = 1) -> list[str]:
        """Deliver two finished candidates and a preview; returns their cards, best first."""
        hooks, origin = LabelStudioHooks(self.settings), self._origin()
        task = hooks.prepare(origin)
        ended = tuple(self._candidate(seed, number) for number in range(3))
        task = replace(task, plan=replace(task.plan, seed=seed))
        hooks.deliver(origin, SearchResult(task, ended, nfe=24, seconds=2.0, editor="tiny"))
        data = self.server.data(self.task)
        return [card["id"] for card in data["candidates"]][:3]

    def _candidate(self, seed: int, number: int) -> Candidate:
        store = open_store(self.settings)
        image = Image.new("RGB", self.size, (80 * number, 60 * seed % 256, 90))
        pruned = Failure(PRUNED, "Stopped at step 4 of 12: others looked better.")
        return Candidate(
            Trial(f"c{number + 1}", Noise(seed + number)),
            image=store.put(encode_png(image), "png"),
            thumbnail=store.put(thumbnail(image), "jpg"),
            potential=0.9 - number / 10,
            metrics=METRICS,
            nfe=12,
            failure=pruned if number == 2 else None,
        )
