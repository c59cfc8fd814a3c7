"""`eacps serve` and `eacps worker`: the processes that serve Label Studio."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Annotated

import typer

from eacps.cli.loading import load_for_process
from eacps.cli.printing import out, print_notes
from eacps.settings import Settings, load_settings

if TYPE_CHECKING:
    from eacps.runner import Device, PictureIndex

log = logging.getLogger(__name__)


def serve(
    web_only: Annotated[
        bool,
        typer.Option("--web-only", help="Run only the web server; run `eacps worker` elsewhere."),
    ] = False,
) -> None:
    """Run the web server, the orchestrator and a worker per device; restart them when they die.

    Examples:

        eacps serve

        EACPS_PORT=9091 EACPS_DEVICES=cuda:0,cuda:1 eacps serve
    """
    from eacps.doctor import refuse_to_start
    from eacps.jobs.processes import work_processes
    from eacps.jobs.supervisor import run_supervisor
    from eacps.labelstudio.web.password import (
        access_warnings,
        end_exception,
        generate_password,
        require_password,
    )
    from eacps.labelstudio.web.process import require_free_port, web_server

    settings = load_for_process("serve")
    refuse_to_start(settings, with_workers=not web_only)
    if generate_password(settings):
        settings = load_settings()
    require_password(settings)
    require_free_port(settings)
    for words in access_warnings(settings):
        log.warning(words)
    end_exception(settings)
    print_notes(settings)
    processes = [web_server(settings), *([] if web_only else work_processes(settings))]
    out.print(
        f"Backend on {settings.resolved_public_url} · status: {settings.resolved_public_url}/status"
        f" · model version {settings.model_version} · Ctrl-C stops",
        highlight=False,
        soft_wrap=True,
    )
    run_supervisor(settings, processes)


def worker(
    orchestrator: Annotated[
        bool, typer.Option("--orchestrator", help="Run only the orchestrator.")
    ] = False,
    slot: Annotated[
        int | None, typer.Option(min=0, help="Run only the worker with this number.")
    ] = None,
    device: Annotated[str, typer.Option(help="The device of --slot: cpu, cuda:0 …")] = "cpu",
) -> None:
    """Run the orchestrator and a worker per device (EACPS_DEVICES), without the web server.

    Examples:

        EACPS_DATABASE_URL=postgresql://eacps@db/eacps eacps worker

        CUDA_VISIBLE_DEVICES=3 eacps worker --slot 3 --device cuda:0
    """
    if orchestrator:
        _run_orchestrator(load_for_process("orchestrator"))
    elif slot is not None:
        _run_worker(load_for_process(f"worker {slot}"), slot, device)
    else:
        _run_all(load_for_process("worker"))


def _run_orchestrator(settings: Settings) -> None:
    from eacps.jobs.orchestrator import run_orchestrator
    from eacps.labelstudio.hooks import LabelStudioHooks
    from eacps.offline.database import readable_database

    with readable_database(settings):
        run_orchestrator(settings, LabelStudioHooks(settings))


def _run_worker(settings: Settings, slot: int, name: str) -> None:
    from eacps.artifacts import open_store
    from eacps.editors.devices import checked
    from eacps.jobs.outages import PatientStore
    from eacps.jobs.worker import run_worker
    from eacps.offline.database import readable_database
    from eacps.runner import open_device

    (device,) = checked([name])

    def load(pictures: PictureIndex) -> Device:
        return open_device(settings, PatientStore(open_store(settings)), device, pictures)

    with readable_database(settings):
        run_worker(settings, slot, device, load)


def _run_all(settings: Settings) -> None:
    from eacps.doctor import refuse_to_start
    from eacps.jobs.processes import work_processes
    from eacps.jobs.supervisor import run_supervisor

    refuse_to_start(settings)
    run_supervisor(settings, work_processes(settings))
