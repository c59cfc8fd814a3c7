"""`eacps panel`: shows, closes and renews the panels of tasks."""

from __future__ import annotations

from typing import Annotated

import typer

from eacps.cli.loading import load_quietly
from eacps.cli.printing import out, print_finding
from eacps.errors import SettingsError, TaskError

panel_app = typer.Typer(
    help="Show, close and renew the panels of tasks (docs/panel.md).", no_args_is_help=True
)
TaskNumber = Annotated[int | None, typer.Option("--task", help="The number of a task.")]
ProjectNumber = Annotated[int | None, typer.Option("--project", help="The number of a project.")]


@panel_app.command()
def revoke(
    task: TaskNumber = None,
    project: ProjectNumber = None,
    all_of_them: Annotated[bool, typer.Option("--all", help="All panels.")] = False,
) -> None:
    """Close panels: what tasks hold now opens them no more.

    Panels of tasks whose search begins later, and those that are renewed, are open.

    Examples:

        eacps panel revoke --task 12

        eacps panel revoke --all
    """
    from eacps.jobs.client import JobClient
    from eacps.labelstudio.panel.capability import scope

    if sum((task is not None, project is not None, all_of_them)) != 1:
        raise SettingsError(
            "It is not clear which panels to close.", hint="Give --task, --project or --all."
        )
    settings = load_quietly()
    JobClient(settings).revoke(scope(settings.label_studio_url, project=project, task=task))
    what = "all panels" if all_of_them else f"task {task}" if task else f"project {project}"
    print_finding("changed", f"Closed: {what}. `eacps panel renew PROJECT` opens them again.")


@panel_app.command()
def renew(
    project: Annotated[int, typer.Argument(metavar="PROJECT", help="The project's number.")],
) -> None:
    """Write a new capability into every task of a project, which opens its panel.

    For panels that were revoked, after a change of secrets or of LABEL_STUDIO_URL, and for tasks
    that were finished by an earlier version. Tasks whose field `panel` holds something else are
    left alone.

    Example:

        eacps panel renew 7
    """
    from eacps.jobs.client import JobClient
    from eacps.labelstudio.client import open_client
    from eacps.labelstudio.panel.grants import Grants

    settings = load_quietly()
    if settings.panel == "off":
        raise SettingsError("EACPS_PANEL is off.", hint="Set it to on or view first.")
    client = open_client(settings)
    client.project(project)
    renewed = Grants(settings, client).renew(project, JobClient(settings).revoked)
    count = sum(1 for _ in renewed)
    print_finding("changed", f"{count} tasks of project {project} have a new panel.")


@panel_app.command()
def show(
    task: Annotated[int, typer.Option("--task", help="The number of a task.")],
) -> None:
    """Print the address of a task's panel, and whether it is open. Who has it may use the panel.

    Example:

        eacps panel show --task 12
    """
    from eacps.jobs.client import JobClient
    from eacps.labelstudio.cards.contract import PANEL
    from eacps.labelstudio.client import open_client
    from eacps.labelstudio.panel.addresses import panel_address
    from eacps.labelstudio.panel.capability import (
        PanelRefusedError,
        open_keys,
        require_not_revoked,
        scopes_of,
    )

    settings = load_quietly()
    row = open_client(settings).find_task(task)
    if row is None:
        raise TaskError(f"Label Studio has no task {task}.")
    held = row["data"].get(PANEL)
    capability = open_keys(settings).read(held)
    if capability is None:
        print_finding("warn", "The task has no panel. `eacps panel renew PROJECT` gives it one.")
        raise SystemExit(1)
    out.print(f"{panel_address(settings)}/{held}/", highlight=False, markup=False, soft_wrap=True)
    scopes = scopes_of(settings.label_studio_url, project=capability.project, task=capability.task)
    try:
        require_not_revoked(capability, JobClient(settings).revoked(scopes))
    except PanelRefusedError as error:
        print_finding("warn", error.message)
        raise SystemExit(1) from None
