"""The orchestrator's hooks: turn an origin into an EditTask, and deliver its result."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

from PIL.Image import Image

from eacps import images
from eacps.artifacts import (
    ArtifactStore,
    MissingArtifactError,
    UrlSigner,
    names_in,
    open_signer,
    open_store,
)
from eacps.domain import EditTask, Failure, SearchResult
from eacps.errors import TaskError
from eacps.jobs.client import JobClient
from eacps.jobs.contract import Job, KnownOrigins
from eacps.jobs.large_values import abbreviated
from eacps.jobs.locks import NamedLocks
from eacps.labelstudio import cards
from eacps.labelstudio.client import LabelStudioClient, open_client
from eacps.labelstudio.errors import LabelStudioDownError, LabelStudioError
from eacps.labelstudio.label_config import hides_unnamed_cards
from eacps.labelstudio.model_versions import show_version
from eacps.labelstudio.overlooked import Overlooked
from eacps.labelstudio.panel.grants import Grants
from eacps.labelstudio.predictions import Predictions
from eacps.labelstudio.shown import shown_by
from eacps.labelstudio.steered_tasks import steered_task, with_warning
from eacps.labelstudio.tasks.extra_params import ExtraParams, Memory
from eacps.labelstudio.tasks.fetch import Fetcher
from eacps.labelstudio.tasks.origins import (
    Origin,
    broken_field,
    fields_of,
    has_result,
    origin_of,
    read_origin,
    relevant_data,
)
from eacps.labelstudio.tasks.reading import TaskReader
from eacps.labelstudio.uploads import Uploads
from eacps.runner import image_limits
from eacps.settings import Settings

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Target:
    """A task to deliver to, in its current state."""

    client: LabelStudioClient
    asked: Origin
    task: int
    current: dict[str, Any]


class LabelStudioHooks:
    """Prepares tasks and delivers results. All methods are idempotent."""

    def __init__(
        self,
        settings: Settings,
        store: ArtifactStore | None = None,
        memory: Memory | None = None,
    ) -> None:
        self._settings = settings
        self._memory = memory or JobClient(settings)
        self._store = store or open_store(settings)
        self._client = open_client(settings) if settings.label_studio_url else None
        self._overlooked = (
            Overlooked(settings, self._client, self._memory) if self._client else None
        )
        self._locks = NamedLocks(settings)
        self._fetcher = Fetcher(settings, self._client)
        self._reader = TaskReader(settings, self._fetcher)
        self._grants = Grants(settings, self._client)

    def prepare(self, origin: Mapping[str, Any]) -> EditTask:
        """Fetch and check a task's images; raises TaskError."""
        asked = self._completed(read_origin(origin))
        with self._locks.held(_place(asked)):
            self._grants.give_quietly(asked)
        if field := broken_field(asked):
            raise TaskError(
                f"The text of the task's field `{field}` contains half a character.",
                hint=f"Correct `{field}`: a symbol outside the basic characters was cut in two.",
                code="bad_text",
            )
        if asked.steer is None:
            return self._reader.read(asked).edit_task(self._settings, self._keep)
        return steered_task(
            asked,
            asked.steer,
            self._settings,
            self._reader,
            self._fetcher,
            self._store,
            self._keep,
        )

    def _keep(self, image: Image) -> str:
        return self._store.put(images.encode_png(image), "png")

    def deliver(self, origin: Mapping[str, Any], result: SearchResult) -> None:
        """Store a result in its task: images, then data, then one prediction."""
        asked = read_origin(origin)
        # Another search of the same task may end at the same time, and both add to its data.
        with self._locks.held(_place(asked)), self._target(asked) as target:
            if target is not None:
                self._deliver(target, result)

    def _deliver(self, target: _Target, result: SearchResult) -> None:
        asked = self._completed(target.asked, target.current)
        # The settings may have changed since the job was submitted.
        version = result.task.model_version or asked.model_version
        stored = target.current
        if not cards.has_result_of_02(stored["data"], result):
            # What a person asks for does not replace the task's own request.
            job_id = replace(asked, model_version=version, steer=None).job_id
            # The search may have been another task's, with another reason for the same route.
            reason = asked.steer.reason if asked.steer else asked.route_reason
            own = replace(result, task=replace(result.task, route_reason=reason))
            stored = self._write(target, own, job_id, version, asked)
        project = target.client.project(int(stored["project"]))
        prediction = cards.prediction(
            stored["data"], version, names_all=hides_unnamed_cards(project.get("label_config"))
        )
        if prediction is not None:
            predictions = Predictions(target.client, target.task, stored.get("annotations"))
            predictions.set(prediction, stored.get("predictions"))
            show_version(target.client, project, version, self._settings)

    def _write(
        self, target: _Target, result: SearchResult, job_id: str, version: str, asked: Origin
    ) -> dict[str, Any]:
        """Add a result's pictures and cards to the task; returns the task as stored."""
        if asked.steer is not None:
            result = with_warning(result, asked.steer)
        pictures = self._pictures(result)
        urls = self._hosted(target, result, pictures)
        new = cards.enrichment(
            result,
            urls.__getitem__,
            job_id=job_id,
            model_version=version,
            references=[urls[name] for name in pictures],
            data=target.current["data"],
            instruction=asked.instruction,
            steer=asked.steer,
        )
        data = cards.merged(target.current["data"], new)
        stored = target.client.update_data(target.task, self._grants.added(target.current, data))
        # Earlier searches' cards show theirs, too.
        told = (data["candidates"], data[cards.META])
        self._note_shown(target, set(urls).union(*map(names_in, told)))
        return stored

    def deliver_failure(self, origin: Mapping[str, Any], failure: Failure) -> None:
        """Store a failure's message in its task; a failed task gets no prediction."""
        if origin.get("steer"):
            # The panel says why; the task keeps what it has.
            return
        asked = read_origin(origin)
        new = cards.failure_enrichment(
            failure,
            job_id=asked.job_id,
            model_version=asked.model_version,
            route_line=cards.route_line(asked.route, asked.route_reason),
        )
        with self._locks.held(_place(asked)), self._target(asked) as target:
            if target is None:
                return
            if has_result(target.current, asked):
                log.warning("task %s keeps its existing result", target.task)
                return
            data = cards.merged(target.current["data"], new)
            target.client.update_data(target.task, self._grants.added(target.current, data))

    def say_waiting(self, origin: Mapping[str, Any], note: str) -> None:
        """Say in the task that its search comes later. Results that it has are kept."""
        asked = read_origin(origin)
        with self._target(asked) as target:
            if target is not None and not has_result(target.current, asked):
                new = cards.waiting_enrichment(note, target.current["data"])
                target.client.update_data(target.task, {**target.current["data"], **new})

    def overlooked(self, known: KnownOrigins) -> Iterable[Sequence[Job]]:
        """Jobs for the tasks of connected projects that were never announced."""
        return self._overlooked.jobs(known) if self._overlooked else ()

    @contextmanager
    def _target(self, asked: Origin) -> Iterator[_Target | None]:
        """The task to deliver to, or None; ignores a task that is deleted in the meantime."""
        if not asked.label_studio or asked.task is None:
            yield None
            return
        if self._client is None or self._client.url != asked.label_studio:
            log.warning("task %s belongs to another Label Studio; not delivered", asked.task)
            yield None
            return
        current = self._current(self._client, asked, asked.task)
        try:
            yield _Target(self._client, asked, asked.task, current) if current else None
        except LabelStudioDownError:
            raise
        except LabelStudioError:
            if self._current(self._client, asked, asked.task) is not None:
                raise

    def _current(
        self, client: LabelStudioClient, asked: Origin, task: int
    ) -> dict[str, Any] | None:
        """The current task, or None if the result is no longer wanted."""
        current = client.find_task(task)
        if current is None:
            log.info("task %s was deleted in the meantime; nothing to deliver", task)
            return None
        if self._is_changed(current, asked):
            log.info("task %s was changed in the meantime; its old result is dropped", task)
            return None
        return current

    def _is_changed(self, current: Mapping[str, Any], asked: Origin) -> bool:
        fields = fields_of(asked, self._settings)
        # A large value that is no longer stored is known by its hash.
        now, then = abbreviated(relevant_data(current, fields)), abbreviated(asked.data)
        if asked.steer is not None:
            # It brings its own instruction and mask.
            name = fields.image_field
            return bool(now.get(name) != then.get(name))
        return bool(now != then)

    def _completed(self, asked: Origin, current: Mapping[str, Any] | None = None) -> Origin:
        """Add the regions that were not part of the webhook to the origin."""
        if not asked.look_up or self._client is None or asked.task is None:
            return asked
        task = current or self._client.task(asked.task)
        project = self._client.project(int(task["project"]))
        found = origin_of(
            task,
            self._settings,
            label_config=project.get("label_config"),
            project=project,
            extra_params=ExtraParams(self._settings, self._memory).of(int(project["id"])),
        )
        return replace(found, steer=asked.steer)

    def _pictures(self, result: SearchResult) -> list[str]:
        """Thumbnails of the task's references, to show next to its candidates."""
        limits = image_limits(self._settings)
        with suppress(MissingArtifactError):
            return [
                self._store.put(images.thumbnail(images.decode(content, limits)), "jpg")
                for content in map(self._store.get, result.task.references)
            ]
        return []

    def _note_shown(self, target: _Target, names: Iterable[str]) -> None:
        """Keep retention away from what the task shows from now on."""
        owner = shown_by(target.client.url, target.task)
        if self._settings.image_hosting == "backend":
            self._store.keep_for(owner, names)
        else:
            # Label Studio has its own copies. An earlier result may have been served from here.
            self._store.forget(owner)

    def _hosted(
        self, target: _Target, result: SearchResult, pictures: Sequence[str]
    ) -> dict[str, str]:
        shown = [name for c in result.candidates for name in (c.image, c.thumbnail)]
        names = [name for name in (*shown, *pictures, result.task.mask) if name is not None]
        if self._settings.image_hosting == "backend":
            signer: UrlSigner = open_signer(self._settings)
            return {name: signer.url(name) for name in names}
        folder = self._settings.data_dir / "uploads"
        uploads = Uploads(target.client, int(target.current["project"]), self._store, folder)
        return uploads.urls(names)


def _place(asked: Origin) -> str:
    return shown_by(asked.label_studio, asked.task or 0)
