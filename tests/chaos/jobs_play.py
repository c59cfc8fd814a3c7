"""The processes of the jobs chaos tests: real jobs code, with a light device and hooks that log.

Run as `python jobs_play.py ROLE ...` with EACPS_DATA_DIR set; logs go to `*.jsonl` in there.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from eacps import log
from eacps.artifacts import ArtifactStore, open_store
from eacps.domain import Candidate, EditTask, Failure, SearchPlan, SearchResult, Trial
from eacps.errors import TaskError
from eacps.jobs.contract import Job, KnownOrigins
from eacps.labelstudio.errors import LabelStudioDownError, LabelStudioRequestFailedError
from eacps.settings import Settings, load_settings

NOTES = "PLAY_NOTES"
"""The folder of the logs, which no attack on the data reaches."""
CHECKS = "PLAY_CHECK_SECONDS"
"""How often the database is checked although nothing was notified."""
PARAMS = {"k": 4, "m": 2, "k_local": 2}


def note(name: str, **content: Any) -> None:
    """One line, written at once, so that even kill -9 leaves the truth behind."""
    line = json.dumps({"time": time.time(), "pid": os.getpid(), **content}) + "\n"
    path = Path(os.environ[NOTES]) / f"{name}.jsonl"
    descriptor = os.open(path, os.O_APPEND | os.O_CREAT | os.O_RDWR)
    os.write(descriptor, line.encode())
    os.close(descriptor)


class LoggingDevice:
    """Stands for an editor with scorers: sleeps, stores, logs, and dies where it is told to."""

    def __init__(self, settings: Settings, store: ArtifactStore) -> None:
        self._settings = settings
        self._store = store

    def run_batch(
        self,
        task: EditTask,
        trials: Sequence[Trial],
        tick: Callable[[], None],
        let_go: Callable[[], None],
    ) -> list[Candidate]:
        wish = json.loads(task.instruction)
        note("renders", event="start", text=wish["text"],
             trials=[trial.id for trial in trials])  # fmt: skip
        for _ in range(round(wish["seconds"] / 0.05)):
            time.sleep(0.05)
            tick()
        while self._is_held(wish, trials):
            time.sleep(0.05)
            tick()
        for trial in trials:
            if trial.id in wish["poison"]:
                os._exit(139)
            if trial.id in wish["hang_once"]:
                flag = self._settings.data_dir / f"hung-{trial.id}"
                while not flag.exists():
                    flag.touch()
                    time.sleep(3600)
        contents = {t: f"{task.key} {t.id}".encode() * wish["size"] for t in trials}
        lost = f"{'0' * 40}.png"
        images = {
            trial: lost if trial.id in wish["lost"] else self._store.put(contents[trial], "png")
            for trial in trials
        }
        broken = (self._settings.data_dir / "broken").exists()
        note("renders", event="end", text=wish["text"],
             trials=[trial.id for trial in trials])  # fmt: skip
        if wish["judged"]:
            let_go()
            while not (Path(os.environ[NOTES]) / f"go-{wish['text']}").exists():
                time.sleep(0.05)
        return [self._candidate(trial, image, broken) for trial, image in images.items()]

    def _is_held(self, wish: Mapping[str, Any], trials: Sequence[Trial]) -> bool:
        """Whether the test has not yet let these trials go on."""
        held = {trial.id for trial in trials} & set(wish["hold"])
        return bool(held) and not (Path(os.environ[NOTES]) / f"go-{wish['text']}").exists()

    @staticmethod
    def _candidate(trial: Trial, image: str, broken: bool) -> Candidate:
        if broken:
            return Candidate(trial, failure=Failure("editor_failed", "The editor is broken."))
        value = int(hashlib.sha256(repr(trial.noise).encode()).hexdigest()[:6], 16) / 0xFFFFFF
        return Candidate(trial, image, potential=value, nfe=12, seconds=0.1)


class LoggingHooks:
    """Stands for Label Studio: makes tasks from wishes, logs deliveries, is down when asked."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def prepare(self, origin: Mapping[str, Any]) -> EditTask:
        self._maybe_down("prepare", origin)
        note("prepared", job=origin["job"], filler=len(origin.get("filler", "")))
        if origin.get("bad"):
            raise TaskError("The task is bad.", hint="Mend it.")
        wish = {
            name: origin[name]
            for name in (
                *("text", "seconds", "poison", "hang_once", "hold", "size", "lost"),
                "judged",
            )
        }
        plan = SearchPlan("eacps", PARAMS, seed=1, batch_size=2)
        return EditTask(image="0" * 40 + ".png", instruction=json.dumps(wish), plan=plan)

    def deliver(self, origin: Mapping[str, Any], result: SearchResult) -> None:
        self._maybe_down("deliver", origin)
        note("deliveries", job=origin["job"], best=result.best.id,
             candidates=len(result.candidates), usable=len(result.usable),
             images=[candidate.image for candidate in result.usable])  # fmt: skip

    def deliver_failure(self, origin: Mapping[str, Any], failure: Failure) -> None:
        note("deliveries", job=origin["job"], failure=failure.code)

    def say_waiting(self, origin: Mapping[str, Any], note: str) -> None:
        """Nobody waits here."""

    def overlooked(self, known: KnownOrigins) -> Iterable[Sequence[Job]]:
        return ()

    def _maybe_down(self, what: str, origin: Mapping[str, Any]) -> None:
        if origin.get("stumbles") == what:
            raise LabelStudioRequestFailedError("Label Studio answered 500.")
        if origin.get("down") != what:
            return
        path = self._settings.data_dir / f"down-{what}-{origin['job']}"
        count = int(path.read_text()) if path.exists() else 0
        path.write_text(str(count + 1))
        if count < 3:
            raise LabelStudioDownError("Label Studio is down.")


def job(name: str, *, text: str = "", priority: int = 10, **wishes: Any) -> Job:
    """A job for the hooks above. If `judged`, its batches wait for servers until it is released."""
    origin = {"job": name, "text": text or name, "seconds": 0.2, "size": 1, "judged": False}
    lists: dict[str, Any] = {"poison": [], "hang_once": [], "hold": [], "lost": []}
    return Job(name, {**origin, **lists, **wishes}, priority)


def main(role: str, *arguments: str) -> None:
    """One process of the play."""
    settings = load_settings()
    log.configure("INFO", "text", role)
    if CHECKS in os.environ:
        from eacps.jobs import wakeups

        wakeups.CHECK_SECONDS = float(os.environ[CHECKS])
    if role == "orchestrator":
        from eacps.jobs.orchestrator import run_orchestrator

        run_orchestrator(settings, LoggingHooks(settings))
    elif role == "worker":
        from eacps.jobs.outages import PatientStore
        from eacps.jobs.worker import run_worker

        store = PatientStore(open_store(settings))

        run_worker(settings, int(arguments[0]), "fake", lambda _: LoggingDevice(settings, store))
    elif role == "supervisor":
        from eacps.jobs.supervisor import Process, run_supervisor

        python = [sys.executable, __file__]
        processes = [Process("orchestrator", [*python, "orchestrator"])]
        processes += [
            Process(f"worker {slot}", [*python, "worker", str(slot)])
            for slot in range(int(arguments[0]))
        ]
        run_supervisor(settings, processes)
    elif role == "submit":
        from concurrent.futures import ThreadPoolExecutor

        from eacps.jobs.client import JobClient

        client = JobClient(settings)
        wanted = job(arguments[0])
        with ThreadPoolExecutor(int(arguments[1])) as pool:
            new = list(pool.map(client.submit, [wanted] * int(arguments[1])))
        sys.stdout.write(str(sum(new)))
        sys.stdout.flush()
        if "wait" in arguments:
            client.result(wanted.id, 600)


if __name__ == "__main__":
    main(*sys.argv[1:])
