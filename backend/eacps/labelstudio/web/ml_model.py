"""The model class for label-studio-ml, which is stateless because requests share it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

from flask import current_app, has_app_context

from eacps.labelstudio.web import compat, predictor
from eacps.settings import Settings, load_settings

if TYPE_CHECKING:
    from eacps.jobs.contract import JobQueue

log = logging.getLogger(__name__)

EXTENSION = "eacps"


def _open_jobs(settings: Settings) -> JobQueue:
    from eacps.jobs.client import JobClient

    return JobClient(settings)


@dataclass
class Services:
    """The settings and the queue, shared by all views; opened on first use, after a fork."""

    settings: Settings
    open_jobs: Callable[[Settings], JobQueue] = _open_jobs
    _opened: JobQueue | None = None
    _warming: bool = False
    _opening: threading.Lock = field(default_factory=threading.Lock)

    @property
    def jobs(self) -> JobQueue:
        """The job queue."""
        with self._opening:
            if self._opened is None:
                self._opened = self.open_jobs(self.settings)
            return self._opened

    @property
    def is_open(self) -> bool:
        """Whether the queue was opened."""
        return self._opened is not None

    def warm_up(self) -> None:
        """Open the queue in the background, because Label Studio's webhooks time out after 1 s."""
        with self._opening:
            if self._warming:
                return
            self._warming = True
        threading.Thread(target=self._open_quietly, daemon=True).start()

    def _open_quietly(self) -> None:
        try:
            self.jobs.counts()
        except Exception as error:
            log.warning("the queue cannot be reached yet: %s", error)


def services() -> Services:
    """The services of the running app, or outside of an app, those from the environment."""
    if has_app_context() and EXTENSION in current_app.extensions:
        found: Services = current_app.extensions[EXTENSION]
        return found
    return _from_environment()


@cache
def _from_environment() -> Services:
    return Services(load_settings())


class BackendModel(compat.model_base()):  # type: ignore[misc]
    """Answers predict from the task's data or from the queue, on label-studio-ml 1.0.9 and 2.x."""

    def __init__(self, project_id: Any = None, label_config: Any = None, **_extra: Any) -> None:
        # Do not call the base class: it parses the config and raises on unknown ones, and 2.x
        # writes it to a cache. Private names, because 2.x has read-only properties.
        self._project = project_id
        self._config = label_config
        self.setup()

    def setup(self) -> None:
        """Do nothing, because the workers load the models."""

    @property
    def model_version(self) -> str:
        """The version, which depends on all settings that change results."""
        return services().settings.model_version

    def predict(self, tasks: Any, context: Any = None, **_extra: Any) -> list[dict[str, Any]]:
        """Return a prediction, or `{}` for "not yet", per task in order. Never raises."""
        shared = services()
        return predictor.predict_tasks(
            tasks,
            self._config,
            self._project,
            context=context,
            settings=shared.settings,
            client=shared.jobs,
        )

    def fit(self, *_arguments: Any, **_extra: Any) -> dict[str, Any]:
        """Do nothing, because annotations do not change this model."""
        return {}
