"""`eacps doctor`: look at everything, change nothing, say what to do."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from backend.artifacts import open_store
from backend.editors.devices import nvidia_gpus, resolve
from backend.errors import EacpsError
from backend.settings import Settings
from backend.weights import verify_manifest

State = Literal["ok", "warn", "fail"]
LOW_DISK_GIB = 5


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's report."""

    state: State
    subject: str
    message: str


def examine(settings: Settings) -> Iterator[Finding]:
    """All findings, in the order in which one would mend them."""
    checks: tuple[tuple[str, Callable[[Settings], Iterator[Finding]]], ...] = (
        ("Python", _python),
        ("Devices", _devices),
        ("Weights", _weights),
        ("Search", _search),
        ("Database", _database),
        ("Artifacts", _artifacts),
        ("Disk", _disk),
        ("Workers", _workers),
        ("Label Studio", _label_studio),
        ("Licences", _licences),
    )
    for subject, check in checks:
        try:
            yield from check(settings)
        except EacpsError as error:
            yield Finding("fail", subject, str(error))
        except Exception as error:
            yield Finding("fail", subject, f"{type(error).__name__}: {error}")


def _python(_settings: Settings) -> Iterator[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    yield Finding("ok", "Python", version)
    missing = [
        name
        for name in ("torch", "diffusers", "open_clip", "dbos", "label_studio_ml", "gunicorn")
        if importlib.util.find_spec(name) is None
    ]
    if missing:
        yield Finding(
            "fail", "Packages", f"missing: {', '.join(missing)}. Run `make install`, or install "
            "requirements.txt and then requirements-no-deps.txt with --no-deps."
        )  # fmt: skip


def _devices(settings: Settings) -> Iterator[Finding]:
    gpus = nvidia_gpus()
    devices = resolve(settings.devices)
    wanted = [device for device in devices if device.startswith("cuda:")]
    beyond = [device for device in wanted if int(device.removeprefix("cuda:") or 0) >= len(gpus)]
    if beyond:
        yield Finding(
            "fail", "Devices", f"EACPS_DEVICES names {', '.join(beyond)}, but the driver shows "
            f"{len(gpus)} GPUs. Change EACPS_DEVICES, or install the NVIDIA driver."
        )  # fmt: skip
    elif not wanted and gpus:
        yield Finding("warn", "Devices", f"{len(gpus)} GPUs are here but not used (EACPS_DEVICES).")
    elif wanted:
        yield Finding("ok", "Devices", f"{', '.join(devices)}: {gpus[0]}")
    else:
        yield Finding(
            "warn", "Devices", f"{', '.join(devices)}: fine for the demo's editor; a production "
            "editor needs a GPU."
        )  # fmt: skip


def _weights(settings: Settings) -> Iterator[Finding]:
    for variable, name in (("EACPS_EDITOR", settings.editor), ("EACPS_CLIP", settings.clip)):
        path = Path(name)
        if path.is_dir():
            verify_manifest(path)
            yield Finding("ok", variable, f"{path.name} ({_size(path)})")
        elif path.is_absolute() or name.startswith("."):
            yield Finding("fail", variable, f"There is no folder {name}. Change {variable}.")
        else:
            yield Finding("warn", variable, f"{name} is a hub id: workers download it on start.")


def _size(path: Path) -> str:
    total = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    return f"{total / 1e6:,.0f} MB"


def _search(settings: Settings) -> Iterator[Finding]:
    from backend.search import budget

    count = budget(settings.plan)
    yield Finding("ok", "Search", f"{settings.strategy}: {count} candidates a task, "
                  f"model version {settings.model_version}")  # fmt: skip


def _database(settings: Settings) -> Iterator[Finding]:
    from backend.jobs.client import JobClient

    client = JobClient(settings)
    counts = client.counts()
    client.close()
    kind = "SQLite" if settings.resolved_database_url.startswith("sqlite") else "Postgres"
    summary = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    yield Finding("ok", "Database", f"{kind}: {summary or 'no jobs yet'}")


def _artifacts(settings: Settings) -> Iterator[Finding]:
    store = open_store(settings)
    name = store.put(b'{"written by": "eacps doctor"}', "json")
    store.get(name)
    yield Finding("ok", "Artifacts", f"{settings.resolved_artifacts_url} can be written and read")


def _disk(settings: Settings) -> Iterator[Finding]:
    folder = settings.data_dir if settings.data_dir.exists() else Path()
    free = shutil.disk_usage(folder).free / 2**30
    if free < LOW_DISK_GIB:
        yield Finding("warn", "Disk", f"only {free:.1f} GiB free; lower EACPS_RETENTION_DAYS.")
    else:
        yield Finding("ok", "Disk", f"{free:.0f} GiB free")


def _workers(settings: Settings) -> Iterator[Finding]:
    from backend.jobs.client import JobClient

    client = JobClient(settings)
    alive = client.workers()
    client.close()
    if alive:
        yield Finding("ok", "Workers", f"{len(alive)} processes are alive")
    else:
        yield Finding("warn", "Workers", "none is running: start `eacps serve` or `eacps worker`.")


def _label_studio(settings: Settings) -> Iterator[Finding]:
    if not settings.label_studio_url:
        yield Finding(
            "warn", "Label Studio", "not configured: predictions only go to plain HTTP clients. "
            "Set LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY."
        )  # fmt: skip
        return
    from backend.labelstudio.connect import diagnose

    for state, message in diagnose(settings):
        yield Finding(state, "Label Studio", message)


def _licences(settings: Settings) -> Iterator[Finding]:
    shipped = "demo/pack" in Path(settings.editor).as_posix()
    yield Finding(
        "ok", "Licences", "the demo's weights are Apache-2.0; no face models are part of this build"
        if shipped else f"mind the licence of {Path(settings.editor).name}; none is checked here"
    )  # fmt: skip
