"""Whether this web process can accept work, and whether anybody is there to do it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import requests

from eacps.artifacts import ArtifactStore, open_store
from eacps.errors import EacpsError
from eacps.labelstudio.web.answered import Answered, NoAnswerError
from eacps.log import masked

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eacps.jobs.contract import WorkerStatus
    from eacps.labelstudio.web.ml_model import Services

_REQUEST_SECONDS: Final = 2.5
_WAIT_SECONDS: Final = 3.0


@dataclass(frozen=True)
class Check:
    """The state of one thing that the backend depends on, in a sentence."""

    ok: bool
    message: str


class NotReadyError(Exception):
    """Something is missing; the message says what, and which setting to look at."""


class Readiness:
    """Checks everything at once, in the background, and at most every few seconds."""

    REQUIRED: Final = ("jobs_database", "artifact_store")
    """Without these no work can be accepted. The others are told, but do no harm to the answer:
    jobs wait until they are back."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._store: ArtifactStore | None = None
        self._workers = Answered(lambda: tuple(self._services.jobs.workers()))
        checks: Mapping[str, Callable[[], str]] = {
            "jobs_database": self._check_database,
            "artifact_store": self._check_store,
            "label_studio": self._check_label_studio,
            "orchestrator": self._check_orchestrator,
            "worker": self._check_worker,
        }
        self._checks = {
            name: Answered(check, wait_seconds=_WAIT_SECONDS) for name, check in checks.items()
        }

    def checks(self) -> dict[str, Check]:
        """The state of everything, after a few seconds at the latest."""
        for asked in self._checks.values():
            asked.begin()
        return {name: _told(name, asked) for name, asked in self._checks.items()}

    def _check_database(self) -> str:
        self._services.jobs.check()
        return "Jobs can be stored."

    def _check_store(self) -> str:
        self._store = self._store or open_store(self._services.settings)
        self._store.check_usable()
        return "Images can be stored."

    def _check_label_studio(self) -> str:
        url = self._services.settings.label_studio_url
        if not url:
            return "LABEL_STUDIO_URL is not set, so clients get their results from /predict."
        try:
            answer = requests.get(
                f"{url}/api/version", timeout=_REQUEST_SECONDS, allow_redirects=False
            )
        except requests.RequestException as error:
            raise NotReadyError(
                f"Label Studio cannot be reached ({type(error).__name__}). Check LABEL_STUDIO_URL."
            ) from None
        if answer.status_code != requests.codes.ok:
            raise NotReadyError(
                f"Label Studio's API answers {answer.status_code}. Check LABEL_STUDIO_URL."
            )
        return "Its API answers. `eacps doctor` also checks LABEL_STUDIO_API_KEY."

    def _check_orchestrator(self) -> str:
        count = len(_with_role(self._workers.answer(), "orchestrator"))
        if not count:
            raise NotReadyError(
                "None is running, so jobs wait. Start `eacps serve` or `eacps worker` with this "
                "EACPS_DATABASE_URL."
            )
        return f"Running: {count}."

    def _check_worker(self) -> str:
        every = _with_role(self._workers.answer(), "worker")
        equipment = self._services.settings.equipment
        ready = [worker for worker in every if worker.equipment == equipment]
        if ready:
            return f"Running: {len(every)}; with the current settings: {len(ready)}."
        if every:
            raise NotReadyError(
                f"Running: {len(every)}, but none has loaded the models of the current settings "
                "(EACPS_EDITOR and others), so new jobs wait. Restart them."
            )
        raise NotReadyError(
            "None is running, so jobs wait. Start `eacps serve` or `eacps worker` with these "
            "EACPS_DEVICES and EACPS_DATABASE_URL."
        )


def _with_role(workers: Sequence[WorkerStatus], role: str) -> Sequence[WorkerStatus]:
    return [worker for worker in workers if worker.role == role]


_SETTINGS: Final = {
    "artifact_store": "EACPS_ARTIFACTS_URL, or EACPS_DATA_DIR",
    "label_studio": "LABEL_STUDIO_URL",
}


def _told(name: str, asked: Answered[str]) -> Check:
    setting = _SETTINGS.get(name, "EACPS_DATABASE_URL, or EACPS_DATA_DIR")
    try:
        return Check(True, asked.answer())
    except NoAnswerError:
        return Check(False, f"No answer in {_WAIT_SECONDS:.0f} s. Check {setting}.")
    except (NotReadyError, EacpsError) as error:
        if getattr(error, "code", "") == "database_failed":
            # The driver's words name hosts.
            return Check(False, f"It cannot be opened; `eacps doctor` says why. Check {setting}.")
        return Check(False, masked(str(error)))
    except Exception as error:
        return Check(False, f"{_words(error)}. Check {setting}.")


def _words(error: Exception) -> str:
    """What is wrong, without hosts or SQL."""
    from eacps.jobs.outages import outage

    words = outage(error) or f"it failed ({type(error).__name__})"
    return words[0].upper() + words[1:]
