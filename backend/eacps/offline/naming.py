"""Where the files of tasks are: a place of its own for every id, the same one in every run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from eacps.offline.output import DATA_FOLDER, own_report
from eacps.offline.tasks import OfflineTask, hashed_name
from eacps.settings import Settings


def settled(
    folder: Path, tasks: Sequence[OfflineTask], has_result: Callable[[OfflineTask], bool]
) -> list[OfflineTask]:
    """The tasks, each with the name that it has in this folder.

    A task keeps its former name if `has_result` says that its result is there under that name.
    """
    if _is_case_blind(folder):
        tasks = [_told_apart(task) for task in tasks]
    taken = {task.name for task in tasks}
    return [
        replace(task, name=task.former)
        if task.former and task.former not in taken and has_result(task)
        else task
        for task in tasks
    ]


def _told_apart(task: OfflineTask) -> OfflineTask:
    """The task with a name that differs from those of other ids in more than its capitals."""
    identity = task.content["id"]
    if not isinstance(identity, str) or task.name in (task.name.lower(), hashed_name(identity)):
        return task
    return replace(task, name=hashed_name(identity), former=task.name)


def _is_case_blind(folder: Path) -> bool:
    try:
        return (folder / DATA_FOLDER.upper()).samefile(folder / DATA_FOLDER)
    except OSError:
        return False


def has_report(settings: Settings, folder: Path, task: OfflineTask) -> bool:
    """Whether `eacps run` wrote this task's result under the name that the task had formerly."""
    report = own_report(folder, task.former)
    data = report.get("data") if report else None
    image = settings.image_field
    return (
        report is not None
        and report.get("id") == task.content["id"]
        and isinstance(data, dict)
        and data.get(image) == task.content["data"].get(image)
    )
