"""`eacps run`, the processes that it starts, and `eacps collage`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from eacps import log
from eacps.cli.loading import load_for_process, load_quietly
from eacps.cli.printing import err, out, print_finding, print_notes
from eacps.errors import SettingsError
from eacps.offline.single import SingleTask

if TYPE_CHECKING:
    from eacps.offline.tasks import OfflineTask
    from eacps.settings import Settings

OutOption = Annotated[
    Path, typer.Option("--out", metavar="FOLDER", help="Folder for images and JSON.")
]
ImageOption = Annotated[
    str | None, typer.Option(metavar="FILE", help="A single image: a file or URL.")
]
PromptOption = Annotated[
    str | None, typer.Option(metavar="TEXT", help="The instruction for --image.")
]
MaskOption = Annotated[
    str | None, typer.Option(metavar="FILE", help="A mask for --image; white is edited.")
]
ReferenceOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="FILE",
        help="A reference for --image, such as a character's picture. Repeat it for several.",
    ),
]
RouteOption = Annotated[
    str,
    typer.Option(metavar="ROUTE", help="edit, face_swap, or a label of EACPS_ROUTE_LABELS."),
]
StrategyOption = Annotated[
    str,
    typer.Option(metavar="NAME", help="How to search: auto, best_of_n, eacps … (docs/search.md)."),
]
SeedOption = Annotated[
    int | None,
    typer.Option(metavar="N", min=0, help="Another number tries other noises."),
]
CandidatesOption = Annotated[
    int | None,
    typer.Option(metavar="N", min=1, max=4096, help="How many candidates to try for each task."),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="Any setting of `eacps settings`, such as steps=8. Repeat it for several.",
    ),
]
FromFileOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="A Label Studio export (JSON, CSV or TSV), or JSON Lines with `image` and `prompt`.",
    ),
]
TaskIdsOption = Annotated[
    str, typer.Option(metavar="IDS", help="Only these tasks of --from-file: 1,2,7-9.")
]
DevicesOption = Annotated[
    str, typer.Option(metavar="DEVICES", help="Instead of EACPS_DEVICES: cpu, cuda:0,cuda:1 …")
]
ConfigOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="A tt-scale-flux config (JSON). It overrides variables and .env.",
    ),
]
TtScaleFluxOption = Annotated[
    bool,
    typer.Option(
        "--tt-scale-flux-output",
        help="Also write tt-scale-flux's files to FOLDER/tt-scale-flux/NAME.",
    ),
]


def run(
    out_folder: OutOption,
    image: ImageOption = None,
    prompt: PromptOption = None,
    mask: MaskOption = None,
    reference: ReferenceOption = None,
    route: RouteOption = "",
    from_file: FromFileOption = None,
    task_ids: TaskIdsOption = "",
    strategy: StrategyOption = "",
    seed: SeedOption = None,
    candidates: CandidatesOption = None,
    set_: SetOption = None,
    devices: DevicesOption = "",
    config: ConfigOption = None,
    tt_scale_flux_output: TtScaleFluxOption = False,
) -> None:
    """Search without Label Studio, from files to a folder.

    Writes NAME/best.png, all candidates (NAME/c1.png …) and NAME.json with all scores per task.
    Run the same command again to resume after any interruption; failed tasks are retried. Exit
    code 1: some tasks failed; 2: it could not start.

    Options are stronger than --config, which is stronger than variables and .env. A result belongs
    to the options that it was made with: with others, the task is searched again.

    Examples:

        eacps run --image bear.png --prompt "add a red top hat" --out results

        eacps run --image bear.png --prompt "add a hat" --mask head.png --seed 7 --out more

        eacps run --image team.jpg --reference hero.png --route face_swap --out swaps

        eacps run --from-file tasks.jsonl --strategy best_of_n --candidates 16 --out results

        eacps run --from-file project.csv --task-ids 1,2 --devices cuda:0,cuda:1 --out results

        eacps run --from-file tasks.jsonl --set steps=8 --set max_side=768 --out quick
    """
    from eacps.doctor import refuse_to_start
    from eacps.offline.choices import Choices
    from eacps.offline.run import run_offline
    from eacps.offline.tt_scale_flux import RunConfig, read_config
    from eacps.offline.tt_scale_flux_output import tree_writer

    choices = Choices(strategy, seed, candidates, devices, set_ or ())
    asked = choices.added_to(read_config(config) if config else RunConfig())
    settings = asked.settings()
    log.configure("ERROR", settings.log_format, "run")
    prompt = prompt or (asked.prompt if image else None)
    single = SingleTask(image or "", prompt or "", mask or "", tuple(reference or ()))
    tasks = _tasks(settings, single, from_file, task_ids, route)
    refuse_to_start(settings)
    print_notes(settings)
    for note in asked.notes:
        err.print(f"{config}: {note}", highlight=False, markup=False, soft_wrap=True)
    tree = tree_writer(settings) if tt_scale_flux_output else None
    failed = run_offline(
        settings, tasks, out_folder, err, out, variables=asked.variables, on_ended=tree
    )
    raise SystemExit(1 if failed else 0)


def _tasks(
    settings: Settings, single: SingleTask, from_file: Path | None, task_ids: str, route: str
) -> Sequence[OfflineTask]:
    from eacps.offline.tasks import one_task, tasks_of_file, with_route

    if single.image and from_file is None:
        if not single.prompt and not route:
            raise SettingsError(
                "--image requires an instruction.", hint='Add --prompt "what to do".'
            )
        if task_ids:
            raise SettingsError("--task-ids requires --from-file.")
        tasks = [one_task(settings, single)]
    elif from_file is not None and not single.image:
        of_image = [
            option
            for option, value in (
                ("--prompt", single.prompt),
                ("--mask", single.mask),
                ("--reference", single.references),
            )
            if value
        ]
        if of_image:
            raise SettingsError(f"{' and '.join(of_image)} cannot be combined with --from-file.")
        tasks = tasks_of_file(settings, from_file, task_ids)
    else:
        raise SettingsError("Pass either --image and --prompt, or --from-file.")
    return [with_route(settings, task, route) for task in tasks] if route else tasks


def offline_workers(out_folder: Path, orchestrator: bool = False) -> None:
    """Run the processes of `eacps run`: an orchestrator that writes to a folder, and workers."""
    if orchestrator:
        _run_orchestrator(out_folder)
    else:
        _run_all(out_folder)


def _run_orchestrator(out_folder: Path) -> None:
    from eacps.jobs.orchestrator import run_orchestrator
    from eacps.offline.database import readable_database
    from eacps.offline.hooks import FileHooks

    settings = load_for_process("orchestrator")
    with readable_database(settings):
        run_orchestrator(settings, FileHooks(settings, out_folder))


def _run_all(out_folder: Path) -> None:
    from eacps.jobs.lifeline import die_with_supervisor
    from eacps.jobs.supervisor import run_supervisor
    from eacps.offline.processes import REFUSALS_BEFORE_GIVING_UP, offline_processes

    die_with_supervisor()
    settings = load_for_process("run")
    processes = offline_processes(settings, out_folder)
    run_supervisor(settings, processes, give_up_after=REFUSALS_BEFORE_GIVING_UP)


def collage(
    folder: Annotated[
        Path,
        typer.Argument(metavar="DIR", help="A folder written by `eacps run` or tt-scale-flux."),
    ],
    file: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="Instead of DIR/collage.png."),
    ] = None,
) -> None:
    """Make a picture of the best candidate per round with seed and score, one row per task.

    Examples:

        eacps collage results

        eacps collage results/tt-scale-flux/bear --out bear.jpg
    """
    from eacps.offline.collage import write_collage

    print_finding("ok", str(write_collage(folder, file, load_quietly())))
