"""`eacps run`: the same durable search without Label Studio, from files into a folder."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from backend.artifacts import ArtifactStore, open_store
from backend.domain import Failure, SearchResult, to_json
from backend.errors import EacpsError, FetchError, TaskError
from backend.jobs.client import JobClient
from backend.jobs.contract import Job, JobStatus
from backend.labelstudio.fetch import Fetcher
from backend.labelstudio.hooks import LabelStudioHooks
from backend.labelstudio.origins import origin_of
from backend.settings import Settings

ENDED = ("done", "failed", "cancelled")
DATA_FOLDER = ".eacps"
_SAFE = re.compile(r"[^A-Za-z0-9._-]+")


class FileFetcher(Fetcher):
    """Also reads files of this machine: here the tasks come from its own user."""

    def fetch(self, reference: Any, *, field: str = "image", task: int | None = None) -> bytes:
        """The bytes behind a `file://` address, or whatever the settings allow."""
        if not (isinstance(reference, str) and reference.startswith("file://")):
            return super().fetch(reference, field=field, task=task)
        path = Path(reference.removeprefix("file://"))
        try:
            if path.stat().st_size > self._settings.max_image_bytes:
                raise FetchError(
                    f"{path} is larger than {self._settings.max_image_bytes:,} bytes.",
                    hint="Raise EACPS_MAX_IMAGE_BYTES.",
                    code="image_too_large",
                )
            return path.read_bytes()
        except OSError as error:
            raise FetchError(f"{path} cannot be read: {error.strerror}.") from None


class FileHooks(LabelStudioHooks):
    """Takes images from files and writes results into a folder."""

    def __init__(
        self, settings: Settings, folder: Path, store: ArtifactStore | None = None
    ) -> None:
        super().__init__(settings, store)
        self._folder = folder
        self._fetcher = FileFetcher(settings, self._client)

    def prepare(self, origin: Mapping[str, Any]) -> Any:
        """The EditTask of one line of the input."""
        return super().prepare(origin["origin"])

    def deliver(self, origin: Mapping[str, Any], result: SearchResult) -> None:
        """`NAME/best.png`, `NAME/c1.png` …, and `NAME.json` last: it marks the task as done."""
        name = str(origin["name"])
        fresh = self._folder / f".{name}.part"
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True)
        for candidate in result.usable:
            if candidate.image:
                (fresh / f"{candidate.id}.png").write_bytes(self._store.get(candidate.image))
        shutil.copyfile(fresh / f"{result.best.id}.png", fresh / "best.png")
        final = self._folder / name
        shutil.rmtree(final, ignore_errors=True)
        fresh.rename(final)
        content = {"task": name, "best": result.best.id, **to_json(result)}
        _write_json(self._folder / f"{name}.json", content)

    def deliver_failure(self, origin: Mapping[str, Any], failure: Failure) -> None:
        """`NAME.json` with the error."""
        name = str(origin["name"])
        _write_json(self._folder / f"{name}.json", {"task": name, "error": to_json(failure)})


def _write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".part")
    partial.write_text(json.dumps(content, indent=2, ensure_ascii=False))
    partial.replace(path)


def read_tasks(
    settings: Settings,
    image: str | None,
    prompt: str | None,
    mask: str | None,
    from_file: Path | None,
    task_ids: str,
) -> list[tuple[str, dict[str, Any]]]:
    """Names and tasks from the command line; says exactly what is missing."""
    if (image is None) == (from_file is None):
        raise TaskError(
            "Nothing to do, or two things at once.", hint="Give either --image or --from-file."
        )
    if from_file is not None:
        wanted = _numbers(task_ids)
        tasks = [_named(task, number) for number, task in enumerate(_read(from_file), start=1)]
        chosen = [named for named in tasks if not wanted or named[1]["id"] in wanted]
        _require_all(wanted, {task["id"] for _, task in chosen}, from_file)
        base = from_file.resolve().parent
        return [(name, _with_paths(task, settings, base)) for name, task in chosen]
    if not prompt:
        raise TaskError("--image needs an instruction.", hint='Add --prompt "what to change".')
    data = {settings.image_field: image, settings.instruction_field: prompt}
    if mask:
        data[settings.mask_field] = mask
    stem = _SAFE.sub("-", Path(str(image).split("?", 1)[0]).stem)[:60] or "task"
    return [(stem, _with_paths({"id": 1, "data": data}, settings, Path.cwd()))]


def _read(path: Path) -> list[Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise TaskError(f"{path} cannot be read: {error}.") from None
    try:
        content = json.loads(text)
        return content if isinstance(content, list) else [content]
    except json.JSONDecodeError:
        return list(_json_lines(text, path))


def _json_lines(text: str, path: Path) -> Iterator[Any]:
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            try:
                yield json.loads(line)
            except json.JSONDecodeError as error:
                raise TaskError(
                    f"{path}, line {number} is not JSON: {error.msg}.",
                    hint="Use a Label Studio JSON export, or one JSON object per line.",
                ) from None


def _named(task: Any, number: int) -> tuple[str, dict[str, Any]]:
    if not isinstance(task, dict):
        raise TaskError(f"Entry {number} is not a JSON object.")
    # A line of JSON Lines is the data itself; a task of an export holds it in `data`.
    whole = task if isinstance(task.get("data"), dict) else {"data": task, "id": task.get("id")}
    identity = whole.get("id") if isinstance(whole.get("id"), int) else number
    return f"task-{identity}", {**whole, "id": identity}


def _numbers(text: str) -> set[int]:
    numbers: set[int] = set()
    for part in filter(None, (word.strip() for word in text.split(","))):
        first, dash, last = part.partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise TaskError(f"--task-ids: {part!r} is no number.", hint="Write 1,2 or 7-9.")
        numbers.update(range(int(first), int(last or first) + 1))
    return numbers


def _require_all(wanted: set[int], found: set[int], path: Path) -> None:
    if missing := sorted(wanted - found):
        raise TaskError(f"{path.name} has no task {', '.join(map(str, missing[:5]))}.")


def _with_paths(task: dict[str, Any], settings: Settings, base: Path) -> dict[str, Any]:
    data = dict(task["data"])
    for field in (settings.image_field, settings.mask_field, settings.reference_field):
        value = data.get(field)
        if isinstance(value, str) and ":" not in value[:8] and not value.startswith("/data/"):
            data[field] = f"file://{(base / value).resolve()}"
    return {**task, "data": data}


def run_offline(
    settings: Settings, tasks: Sequence[tuple[str, dict[str, Any]]], folder: Path, console: Console
) -> int:
    """Search every task, showing progress; returns how many failed. Safe to repeat."""
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    local = settings.model_copy(update={"data_dir": folder / DATA_FOLDER})
    jobs = [_job(local, name, task) for name, task in tasks]
    client = JobClient(local)
    hooks = FileHooks(local, folder, open_store(local))
    try:
        waiting = _submit(client, jobs, hooks, folder)
        kept = len(jobs) - len(waiting)
        if kept:
            console.print(f"{kept} of {len(jobs)} tasks were finished before: kept.")
        if waiting:
            with _workers(local, folder, console) as process:
                _watch(client, waiting, process, folder, console)
        return _report(client, jobs, folder, console)
    finally:
        client.close()


def _job(settings: Settings, name: str, task: dict[str, Any]) -> Job:
    origin = replace(origin_of(task, settings), label_studio="", task=None)
    content = {"origin": to_json(origin), "name": name, "task_id": task["id"]}
    return Job(f"{origin.job_id}-{name}", content)


def _submit(client: JobClient, jobs: Sequence[Job], hooks: FileHooks, folder: Path) -> list[Job]:
    """The jobs that are not finished; failed ones are tried again."""
    waiting = []
    for job in jobs:
        status = client.status(job.id)
        if status is None:
            client.submit(job)
        elif status.state in ("failed", "cancelled"):
            client.retry(job.id)
        elif status.state == "done":
            result = client.result(job.id, 0)
            if not (folder / f"{job.origin['name']}.json").exists() and isinstance(
                result, SearchResult
            ):
                hooks.deliver(job.origin, result)
            continue
        waiting.append(job)
    return waiting


@contextmanager
def _workers(
    settings: Settings, folder: Path, console: Console
) -> Iterator[subprocess.Popen[bytes]]:
    environment = {
        **os.environ,
        "EACPS_DATA_DIR": str(settings.data_dir),
        "EACPS_DEVICES": ",".join(settings.devices),
    }
    command = [sys.executable, "-m", "backend", "offline-workers", str(folder)]
    log = settings.data_dir / "run.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as file:
        process = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=file, stderr=file
        )
    try:
        yield process
    except KeyboardInterrupt:
        console.print("Stopped. Run the same command again to go on; nothing finished is lost.")
        raise
    finally:
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        process.wait(60)


def _watch(
    client: JobClient,
    jobs: Sequence[Job],
    process: subprocess.Popen[bytes],
    folder: Path,
    console: Console,
) -> None:
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:.0f}/{task.total:.0f} candidates"),
        TimeElapsedColumn(),
    )
    ids = [job.id for job in jobs]
    with Progress(*columns, console=console) as progress:
        row = progress.add_task("loading", total=None, completed=0)
        while True:
            statuses = list(client.statuses(ids).values())
            ended = [status for status in statuses if status.state in ENDED]
            progress.update(
                row,
                description=f"{len(ended)}/{len(jobs)} tasks",
                completed=sum(status.finished for status in statuses),
                total=_expected(statuses, len(jobs)),
            )
            if len(ended) == len(jobs):
                return
            if process.poll() is not None:
                log = folder / DATA_FOLDER / "run.log"
                raise EacpsError(f"The workers ended; see {log}.")
            time.sleep(0.3)


def _expected(statuses: Sequence[JobStatus], count: int) -> int | None:
    known = [status.expected for status in statuses if status.expected]
    return max(known) * count if known else None


def _report(client: JobClient, jobs: Sequence[Job], folder: Path, console: Console) -> int:
    failed = 0
    for job in jobs:
        status = client.status(job.id)
        name = job.origin["name"]
        if status is not None and status.state == "done":
            potential = "" if status.best is None else f" (potential {status.best:.3f})"
            console.print(f"[green]✓[/] {folder / str(name)}/best.png{potential}", highlight=False)
            continue
        failed += 1
        reason = status.failure.message if status and status.failure else "not finished"
        console.print(f"[red]✗[/] {name}: {reason}", highlight=False)
    return failed
