"""`eacps doctor`: look at everything, and say what to do."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from eacps.artifacts import open_store
from eacps.demo_defaults import demo_defaults_in_use
from eacps.domain import ROUTES
from eacps.editors.devices import checked, gpu_megabytes, visible_gpus
from eacps.editors.registry import EDITORS
from eacps.errors import EacpsError, SettingsError
from eacps.faces import content_credentials
from eacps.faces.download import MODELS, checked_model
from eacps.faces.readiness import readiness, without_effect
from eacps.faces.registry import FACE_ENGINES
from eacps.files import parsed_json
from eacps.jobs.contract import mixed_versions, waiting_words
from eacps.judge_advice import RECOMMENDS, advice, without_judge
from eacps.judge_names import FORMS, judge_name, judges_named
from eacps.log import masked
from eacps.plugins import label
from eacps.plugins_in_use import check, plugins_in_use
from eacps.settings import DEMO_PACK, Settings
from eacps.verifiers.language.naming import LanguageVerifier
from eacps.verifiers.registry import VERIFIERS, verifiers_of
from eacps.verifiers.scorer import uses_answers
from eacps.weights import verify_manifest

State = Literal["ok", "warn", "fail"]
LOW_DISK_GIB = 5
_LOCAL = "file://"
FEW_CONNECTIONS = 20
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's report."""

    state: State
    subject: str
    message: str


Check = Callable[[Settings], Iterator[Finding]]


def examine(settings: Settings) -> Iterator[Finding]:
    """All findings, in the order in which to fix them."""
    failed = set()
    for subject, examine_part in _CHECKS.items():
        if subject in ("Access", "Workers") and "Database" in failed:
            continue
        for finding in _findings(subject, examine_part, settings):
            if finding.state == "fail":
                failed.add(subject)
            yield finding


def examine_deeply(settings: Settings, progress: Callable[[int, int], None]) -> Iterator[Finding]:
    """Findings about all that is stored. It is only read; `progress` gets the numbers of files
    that were read and that there are."""
    from eacps.jobs.inspection import inspect_database, inspect_store
    from eacps.jobs.launch import open_records

    file = Path(settings.resolved_database_url.removeprefix("sqlite:///"))
    if settings.resolved_database_url.startswith("sqlite") and not file.exists():
        return

    def database(settings: Settings) -> Iterator[Finding]:
        for state, message in inspect_database(open_records(settings, 2)):
            yield Finding(state, "Database", message)

    def store(settings: Settings) -> Iterator[Finding]:
        remarks = inspect_store(open_records(settings, 2), open_store(settings), progress)
        for state, message in remarks:
            yield Finding(state, "Store", message)

    for subject, examine_part in (("Database", database), ("Store", store)):
        yield from _findings(subject, examine_part, settings)


def refuse_to_start(settings: Settings, *, with_workers: bool = True) -> None:
    """Raise SettingsError for what would make every process end at once, again and again."""
    # What changes results is hashed by every process; it is the first thing that can be wrong.
    settings.fingerprint  # noqa: B018
    everywhere = ("Plug-ins", "Search", "Ranking")
    workers = ("Packages", "Devices", "Weights", "Judges")
    subjects = (*workers, *everywhere) if with_workers else everywhere
    for subject in subjects:
        for finding in _findings(subject, _CHECKS[subject], settings):
            if finding.state == "fail":
                raise SettingsError(f"{finding.subject}: {finding.message}")


def _findings(subject: str, examine_part: Check, settings: Settings) -> Iterator[Finding]:
    try:
        yield from examine_part(settings)
    except EacpsError as error:
        yield Finding("fail", subject, str(error))
    except Exception as error:
        message = " ".join(masked(f"{type(error).__name__}: {error}").split())
        yield Finding("fail", subject, message)


def _packages(settings: Settings) -> Iterator[Finding]:
    missing = [
        name
        for name in ("torch", "diffusers", "open_clip", "dbos", "gunicorn", "label_studio_sdk")
        if importlib.util.find_spec(name) is None
    ]
    if settings.database_url.startswith("postgres") and not importlib.util.find_spec("psycopg"):
        missing.append("psycopg (`pip install 'eacps[postgres]'`)")
    if missing:
        yield Finding(
            "fail", "Packages", f"missing: {', '.join(missing)}. Run `make install` in a checkout, "
            "or `pip install eacps`."
        )  # fmt: skip
        return
    version = ".".join(map(str, sys.version_info[:3]))
    yield Finding("ok", "Packages", f"Python {version}, everything needed is installed")
    if importlib.util.find_spec("label_studio_ml") is None:
        yield Finding(
            "ok", "Packages", "label-studio-ml is not installed, and not needed: the same requests "
            "are answered without it. To use its class: pip install 'eacps[label-studio-ml]' and "
            "then pip install --no-deps label-studio-ml==1.0.9"
        )  # fmt: skip


def _plugins(settings: Settings) -> Iterator[Finding]:
    check(settings)
    for each in plugins_in_use(settings):
        name = label(each.source.name)
        yield Finding("ok", "Plug-ins", f"{each.kind} {name}: {each.source.origin}")


def _judges(settings: Settings) -> Iterator[Finding]:
    """Who is sent the pictures; asks no server."""
    for each in verifiers_of(settings):
        if isinstance(each.plugin, LanguageVerifier):
            address = each.plugin.address(settings)
            rubric = each.plugin.rubric
            where = f"is asked at {address}" if address else "runs on this machine"
            receives = (
                f"; it receives source, edits, mask and instruction of tasks on route "
                f"{' and '.join(settings.judge_routes)}"
                if address
                else ""
            )
            words = f"{each.title} {where} by rubric {rubric.name} {rubric.version}{receives}"
            yield Finding("ok", "Judges", words)
    for words in without_judge(settings):
        sentence = words.removesuffix(RECOMMENDS)
        yield Finding("warn", "Judges", f"{sentence}. {advice(gpu_megabytes())}")
    if (named := judges_named(settings)) and not uses_answers(settings):
        words = f"{named[0].label} is named, but EACPS_WEIGHTS uses none of its metrics"
        yield Finding("warn", "Judges", words)


def _defaults(settings: Settings) -> Iterator[Finding]:
    for words in demo_defaults_in_use(settings):
        yield Finding("warn", "Defaults", words)


def _devices(settings: Settings) -> Iterator[Finding]:
    devices = checked(settings.devices)
    names = ", ".join(devices)
    gpus = visible_gpus()
    if any(device.startswith("cuda:") for device in devices):
        yield Finding("ok", "Devices", names)
    elif gpus:
        yield Finding(
            "warn", "Devices", f"{names}; {len(gpus)} GPUs are here but not used. "
            "Set EACPS_DEVICES to auto."
        )  # fmt: skip
    elif "mps" in devices:
        yield Finding("ok", "Devices", names)
    else:
        yield Finding(
            "warn", "Devices", f"{names}: fine for the demo's editor; a large editor needs a GPU"
        )


def _weights(settings: Settings) -> Iterator[Finding]:
    if not EDITORS.knows(settings.editor):
        yield from _folder("EACPS_EDITOR", settings.editor, "model_index.json")
    yield from _clip(settings.clip)
    for name in settings.verifiers:
        judge = judge_name(name)
        if judge and not judge.remote:
            yield from _folder("EACPS_VERIFIER", judge.model, "config.json", from_hub=False)
        elif not judge and not VERIFIERS.knows(name):
            yield from _verifier_folder(name)


def _verifier_folder(name: str) -> Iterator[Finding]:
    if Path(name).expanduser().is_dir():
        yield from _folder("EACPS_VERIFIER", name, "config.json", from_hub=False)
    else:
        words = f"{name!r} is neither a folder nor a judge. Write a folder, {FORMS}."
        yield Finding("fail", "EACPS_VERIFIER", words)


def _clip(name: str) -> Iterator[Finding]:
    model, _, pretrained = name.rpartition("/")
    configs = _open_clip_configs()
    known = (configs / f"{model}.json").is_file() if configs else True
    if Path(name).expanduser().is_dir() or (model and pretrained and known):
        yield from _folder("EACPS_CLIP", name, "open_clip_config.json")
    else:
        yield Finding(
            "fail", "EACPS_CLIP", f"{name!r} is neither a folder nor a model and its weights that "
            "open_clip knows, such as ViT-B-32/laion2b_s34b_b79k. Change EACPS_CLIP."
        )  # fmt: skip


def _open_clip_configs() -> Path | None:
    """The folder of open_clip's architectures, found without importing it, which takes seconds."""
    found = importlib.util.find_spec("open_clip")
    folders = found.submodule_search_locations if found else None
    return Path(next(iter(folders))) / "model_configs" if folders else None


def _is_offline() -> bool:
    from huggingface_hub.constants import HF_HUB_OFFLINE

    return bool(HF_HUB_OFFLINE)


def _is_cached(name: str, needed: str) -> bool:
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(name, needed), str)


def _folder(variable: str, name: str, needed: str, *, from_hub: bool = True) -> Iterator[Finding]:
    path = Path(name).expanduser()
    if path.is_dir():
        if not (path / needed).is_file():
            yield Finding("fail", variable, f"{path} has no {needed}. Change {variable}.")
            return
        try:
            parsed_json((path / needed).read_text("utf-8"))
        except (OSError, ValueError) as error:
            yield Finding("fail", variable, f"{path / needed} cannot be read: {error}.")
            return
        verify_manifest(path)
        size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        yield Finding("ok", variable, f"{path} ({size / 1e6:,.0f} MB)")
    elif path.is_absolute() or name.startswith(".") or not name or not from_hub:
        yield Finding("fail", variable, f"There is no folder {name!r}. Change {variable}.")
    elif variable == "EACPS_EDITOR" and not _HUB_ID.fullmatch(name):
        yield Finding(
            "fail", variable, f"{name!r} is neither a folder nor a hub id such as "
            f"Qwen/Qwen-Image-Edit-2509. Change {variable}."
        )  # fmt: skip
    elif variable == "EACPS_EDITOR" and _is_offline() and not _is_cached(name, needed):
        yield Finding(
            "fail", variable, f"{name} is no folder here, nor among the models that were "
            f"downloaded, and HF_HUB_OFFLINE forbids downloads. Change {variable}, or unset it."
        )  # fmt: skip
    else:
        yield Finding(
            "warn", variable, f"{name} is no folder here, so it is taken for a hub id; workers "
            "download it when they start"
        )  # fmt: skip


def _search(settings: Settings) -> Iterator[Finding]:
    from eacps.search import budget, cost

    count, renders = budget(settings.plan), cost(settings.plan)
    yield Finding("ok", "Search", f"{label(settings.strategy)}: at most {count} candidates and "
                  f"{renders:g} full renders a task, "
                  f"model version {settings.model_version}")  # fmt: skip


def _ranking(settings: Settings) -> Iterator[Finding]:
    from eacps.runner import potential_of
    from eacps.scoring import without_effect

    weighed = potential_of(settings, "edit").weights
    for route in ROUTES:
        potential_of(settings, route)
    terms = ", ".join(f"{weight:g} {name}" for name, weight in weighed.items())
    yield Finding("ok", "Ranking", f"potential {settings.potential}: {terms}")
    for words in without_effect(settings):
        yield Finding("warn", "Ranking", words)


def _faces(settings: Settings) -> Iterator[Finding]:
    found = readiness(settings)
    if not found.engine:
        # Edits need no faces; but an engine that is named is wanted.
        state: State = "warn" if settings.face_engine == "auto" else "fail"
        reasons = " ".join(map(str, reversed(list(found.problems.values()))))
        yield Finding(state, "Faces", f"none can be swapped. {reasons}")
    elif found.engine == "insightface":
        yield Finding(
            "ok", "Faces", f"insightface ({settings.insightface_pack}, {settings.inswapper}), "
            "whose models are for non-commercial research only"
        )  # fmt: skip
    elif found.engine == "basic":
        for model in MODELS:
            checked_model(settings.face_models.expanduser(), model)
        reason = found.problems.get("insightface")
        other = f". Not insightface: {reason}" if reason else ""
        yield Finding("ok", "Faces", f"basic, with free models, for frontal faces{other}")
    else:
        source = FACE_ENGINES.source(found.engine)
        yield Finding("ok", "Faces", f"{label(found.engine)} ({source.origin})")
    for words in without_effect(settings):
        yield Finding("warn", "Faces", words)
    if content_credentials.wanted(settings):
        content_credentials.check_signing(settings)
        yield Finding("ok", "Faces", "swapped images are signed (C2PA)")


def _database(settings: Settings) -> Iterator[Finding]:
    from eacps.jobs.client import JobClient

    url = settings.resolved_database_url
    file = Path(url.removeprefix("sqlite:///"))
    if url.startswith("sqlite") and not file.exists():
        yield _to_be_made("Database", file, "EACPS_DATA_DIR")
        return
    client = JobClient(settings)
    counts = client.counts()
    free = client.free_connections()
    client.close()
    kind = "SQLite" if url.startswith("sqlite") else "Postgres"
    summary = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    yield Finding("ok", "Database", f"{kind}: {summary or 'no jobs yet'}")
    if free is not None and free < FEW_CONNECTIONS:
        yield Finding(
            "warn",
            "Database",
            f"PostgreSQL has only {free} connections left. A worker needs 3, an orchestrator and a "
            "web process up to 20 each: raise its max_connections.",
        )


def _artifacts(settings: Settings) -> Iterator[Finding]:
    url = settings.resolved_artifacts_url
    if url.startswith(_LOCAL):
        yield _to_be_made("Artifacts", Path(url.removeprefix(_LOCAL)), "EACPS_DATA_DIR")
        return
    try:
        store = open_store(settings)
        store.get(store.put(b'{"written by": "eacps doctor"}', "json"))
    except Exception as error:
        problem = " ".join(masked(str(error)).split())[:300]
        raise SettingsError(
            f"The store cannot be used: {problem.removesuffix('.')}.",
            hint="Check EACPS_ARTIFACTS_URL, its credentials, and that fsspec's package for it "
            "is installed.",
        ) from None
    yield Finding("ok", "Artifacts", "the store of EACPS_ARTIFACTS_URL can be written and read")


def _to_be_made(subject: str, path: Path, variable: str) -> Finding:
    """Whether a path can be written, found out without writing it."""
    existing = _existing(path)
    above_a_file = existing != path.absolute() and not existing.is_dir()
    if above_a_file or not os.access(existing, os.W_OK):
        message = f"{existing} cannot be written by this user. Change {variable}."
        return Finding("fail", subject, message)
    state = str(path) if path.exists() else f"{path}, made at the first start"
    return Finding("ok", subject, state)


def _existing(path: Path) -> Path:
    path = path.absolute()
    return next(folder for folder in (path, *path.parents) if folder.exists())


def _disk(settings: Settings) -> Iterator[Finding]:
    free = shutil.disk_usage(_existing(settings.data_dir)).free / 2**30
    if free < LOW_DISK_GIB:
        yield Finding("warn", "Disk", f"only {free:.1f} GiB free; lower EACPS_RETENTION_DAYS")
    else:
        yield Finding("ok", "Disk", f"{free:.0f} GiB free")


def _access(settings: Settings) -> Iterator[Finding]:
    from eacps.labelstudio.web.password import Password, access_warnings, require_password

    require_password(settings)
    warnings = access_warnings(settings)
    for words in warnings:
        yield Finding("warn", "Access", words)
    if warnings:
        return
    if Password.of(settings):
        yield Finding("ok", "Access", "a password is needed")
    elif settings.basic_auth_file is not None:
        told = f"`eacps serve` writes a password to {settings.basic_auth_file}, unless 0.1 made "
        yield Finding("ok", "Access", f"{told}this installation")
    else:
        yield Finding("ok", "Access", "without a password, from this machine only")


def _workers(settings: Settings) -> Iterator[Finding]:
    from eacps.jobs.client import JobClient

    url = settings.resolved_database_url
    alive = 0
    if not url.startswith("sqlite") or Path(url.removeprefix("sqlite:///")).exists():
        client = JobClient(settings)
        workers = client.workers()
        alive = sum(worker.role == "worker" for worker in workers)
        for worker in workers:
            if worker.note:
                yield Finding("warn", "Workers", f"{worker.name} waits: {worker.note}")
            if worker.draining:
                yield Finding("warn", "Workers", f"{worker.name} is draining: it will exit")
        versions = mixed_versions(workers)
        if versions:
            yield Finding("warn", "Workers", versions)
        for waiting in client.waiting():
            yield Finding("warn", "Workers", waiting_words(waiting))
        earlier = client.of_earlier_versions()
        if earlier:
            yield Finding(
                "warn",
                "Upgrade",
                f"{earlier} unfinished jobs of an earlier version will be taken over when "
                "`eacps serve` or `eacps worker` starts. Stop the earlier version first, and back "
                "up the database if you may want to go back (CHANGELOG.md).",
            )
        client.close()
    if alive:
        yield Finding("ok", "Workers", f"{alive} at work")
    else:
        yield Finding("warn", "Workers", "none is running: start `eacps serve` or `eacps worker`")


def _label_studio(settings: Settings) -> Iterator[Finding]:
    if not settings.label_studio_url:
        yield Finding(
            "warn", "Label Studio", "not configured, so /predict answers plain HTTP clients only. "
            "Set LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY."
        )  # fmt: skip
        return
    from eacps.labelstudio.connections import diagnose

    for state, message in diagnose(settings):
        yield Finding(state, "Label Studio", message)


def _licences(settings: Settings) -> Iterator[Finding]:
    shipped = Path(settings.editor).is_relative_to(DEMO_PACK)
    yield Finding(
        "ok", "Licences", "the demo's weights are Apache-2.0; docs/faces.md has the face models'"
        if shipped else f"mind the licence of {Path(settings.editor).name}; none is checked here"
    )  # fmt: skip


_CHECKS: dict[str, Check] = {
    "Packages": _packages,
    "Devices": _devices,
    "Plug-ins": _plugins,
    "Weights": _weights,
    "Judges": _judges,
    "Defaults": _defaults,
    "Search": _search,
    "Ranking": _ranking,
    "Faces": _faces,
    "Database": _database,
    "Artifacts": _artifacts,
    "Disk": _disk,
    "Access": _access,
    "Workers": _workers,
    "Label Studio": _label_studio,
    "Licences": _licences,
}
