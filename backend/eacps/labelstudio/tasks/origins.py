"""The origin of a job: everything the orchestrator needs to know about a task, as JSON."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Annotated, Any, Final

from pydantic import Field, ValidationError

from eacps import log, tracing
from eacps.domain import Route, digest, from_json, to_json
from eacps.errors import TaskError
from eacps.jobs.contract import Job
from eacps.labelstudio.shown import shown_by
from eacps.labelstudio.tasks.choices import (
    ChoiceError,
    Choices,
    applied,
    choices_of,
    over,
    problem_with,
    version_of,
)
from eacps.labelstudio.tasks.costs import NOTHING, cost_of
from eacps.labelstudio.tasks.masks import mask_regions
from eacps.labelstudio.tasks.regions import mapping, sequence, text, typed_text
from eacps.labelstudio.tasks.routing import (
    Clue,
    choose_route,
    clues_of,
    default_strategy,
    labelled_strategy,
)
from eacps.labelstudio.tasks.steering import Steer
from eacps.settings import Settings

META = "eacps"
"""The field of a task's data with metadata about its result."""
INSTRUCTION: Final = "instruction"
"""The TextArea into which an instruction for the next search is typed."""
_HALF = re.compile("[\ud800-\udfff]")
_MARK = re.compile(r"\ufffd\[D[89A-F][0-9A-F]{2}\]")


_Absent = Field(exclude_if=lambda value: not value)
"""Stored only if there is something in it, so that the ids of other jobs stay what they were."""
OptionalObject = Annotated[Mapping[str, Any], _Absent]
OptionalTexts = Annotated[Mapping[str, str], _Absent]
OptionalText = Annotated[str, _Absent]


@dataclass(frozen=True)
class Origin:
    """A requested task. `label_studio` is empty for a plain HTTP client.

    `columns` are fields that are not those of the server's settings, by setting. `instruction` is
    what was typed into the task, or the default for tasks without one. `refused` says what the
    project or the task may not choose. `steer` is what a person asked for on the review panel.
    """

    data: Mapping[str, Any]
    route: Route
    route_reason: str
    model_version: str
    label_studio: str = ""
    project: int | None = None
    task: int | None = None
    created: int | None = None
    regions: tuple[Mapping[str, Any], ...] = field(default_factory=tuple)
    look_up: bool = False
    columns: OptionalTexts = field(default_factory=dict)
    project_choices: OptionalObject = field(default_factory=dict)
    task_choices: OptionalObject = field(default_factory=dict)
    instruction: OptionalText = ""
    refused: OptionalText = ""
    steer: Annotated[Steer | None, Field(exclude_if=lambda steer: steer is None)] = None

    @property
    def job_id(self) -> str:
        """A hash of the request, without the reason for its route. Of what the project chooses, the
        model version tells."""
        content = to_json(self)
        del content["route_reason"]
        content.pop("project_choices", None)
        return digest(content)

    def asked_as(self, job: str, model_version: str) -> bool:
        """Whether that job was the same request, possibly with another model version."""
        return replace(self, model_version=model_version).job_id == job

    @property
    def delivered(self) -> bool:
        """Whether the result is delivered to a task of Label Studio."""
        return bool(self.label_studio) and self.task is not None


def origin_of(
    task: Mapping[str, Any],
    settings: Settings,
    *,
    label_config: Any = None,
    project: Any = None,
    context: Any = None,
    extra_params: Any = None,
) -> Origin:
    """The origin of a task in a request; `extra_params` are those of the project's ML backend."""
    data = mapping(task.get("data"))
    chosen = choices_of(data, label_config, extra_params, settings)
    seen = settings.changed(chosen.columns) if chosen.columns else settings
    clues = clues_of(task, context, seen)
    route = choose_route(task, label_config, context, seen, chosen.project_route, clues)
    of_project, of_task = _with_labels(chosen, clues, label_config, seen)
    origin = Origin(
        data=relevant_data(task, seen),
        route=route.route,
        route_reason=_marked(route.reason),
        model_version=version_of(settings, of_project),
        regions=tuple(map(_marked, mask_regions(task, label_config, context, seen))),
        columns=_marked(chosen.columns),
        project_choices=_marked(of_project),
        task_choices=_marked(of_task),
        instruction=_marked(_instruction(task, context, seen, chosen.default_instruction)),
        refused=_marked(chosen.refused or problem_with(settings, over(of_project, of_task))),
    )
    number = _number(task.get("id"))
    if not settings.label_studio_url or number is None:
        return origin
    return replace(
        origin,
        label_studio=settings.label_studio_url,
        project=project_number(task, project),
        task=number,
        created=_seconds(task.get("created_at")),
        look_up=_has_unseen_regions(task),
    )


def project_version(label_config: Any, extra_params: Any, settings: Settings) -> str:
    """The model version of a project's results."""
    return origin_of(
        {}, settings, label_config=label_config, extra_params=extra_params
    ).model_version


def _with_labels(
    chosen: Choices, clues: Sequence[Clue], label_config: Any, settings: Settings
) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """The choices of the project and of the task, with strategies that labels ask for."""
    project, own = chosen.project, chosen.task
    if "strategy" not in project and (named := default_strategy(label_config, settings)):
        project = over({"strategy": named}, project) if named != settings.strategy else project
    if "strategy" not in own and (named := labelled_strategy(clues, settings)):
        below = project.get("strategy", settings.strategy)
        own = over({"strategy": named}, own) if named != below else own
    return project, own


def _instruction(task: Mapping[str, Any], context: Any, settings: Settings, default: str) -> str:
    """What is asked for instead of the task's own instruction."""
    if typed := typed_text(task, context, INSTRUCTION):
        return typed
    own = mapping(task.get("data")).get(settings.instruction_field)
    return default if own is None or (isinstance(own, str) and not own.strip()) else ""


def settings_of(asked: Origin, settings: Settings) -> Settings:
    """The server's settings with what the project and the task choose; raises TaskError. This may
    run plug-ins."""
    if asked.refused:
        raise ChoiceError(asked.refused)
    both = over(asked.project_choices, asked.task_choices)
    return fields_of(asked, applied(settings, both))


def fields_of(asked: Origin, settings: Settings) -> Settings:
    """The settings with the fields that the origin was read from."""
    return settings.changed(asked.columns) if asked.columns else settings


def read_origin(content: Mapping[str, Any]) -> Origin:
    """Parse the origin stored in a job."""
    try:
        return from_json(Origin, content)
    except ValidationError:
        raise TaskError(
            "The job's description cannot be read.", hint="Submit the task again."
        ) from None


def new_job(
    origin: Origin, priority: int, identity: str = "", *, settings: Settings | None = None
) -> Job:
    """A job for an origin. Logs and spans of all processes name the request that asked for it.

    With settings, what it costs is counted for its project.
    """
    request = log.current_ids().get("request") or log.new_request()
    subject = shown_by(origin.label_studio, origin.task) if origin.task is not None else ""
    chosen = over(origin.project_choices, origin.task_choices)
    cost = NOTHING
    if settings is not None and not origin.refused:
        cost = cost_of(chosen, origin.route, settings, origin.steer)
    with log.ids(request=request, project=origin.project, task=origin.task):
        return Job(
            identity or origin.job_id,
            to_json(origin),
            priority,
            trace=tracing.carried(),
            subject=subject,
            project="" if origin.project is None else str(origin.project),
            candidates=cost.candidates,
            cost=cost.renders,
        )


def has_result(task: Mapping[str, Any], asked: Origin) -> bool:
    """Whether a task's data contains a result of the same request, of any model version."""
    meta = mapping(mapping(task.get("data")).get(META))
    request = request_in(meta)
    return bool(sequence(meta.get("ranked"))) and asked.asked_as(
        text(request.get("job")), text(request.get("model_version"))
    )


def request_in(meta: Mapping[str, Any]) -> Mapping[str, Any]:
    """The job and the model version of the task's own request, which what people ask for on the
    review panel does not replace."""
    return mapping(meta.get("asked")) or meta


def relevant_data(task: Mapping[str, Any], settings: Settings) -> dict[str, Any]:
    """The fields of a task's data that affect its result."""
    data = mapping(task.get("data"))
    names = (
        settings.image_field,
        settings.instruction_field,
        settings.mask_field,
        settings.reference_field,
        settings.face_mapping_field,
        *settings.route_fields,
    )
    return {name: _marked(data[name]) for name in names if data.get(name) not in (None, "")}


def broken_field(asked: Origin) -> str:
    """The name of a field with half a character in its text, or an empty string."""
    return next((name for name, value in asked.data.items() if _MARK.search(repr(value))), "")


def _marked(value: Any) -> Any:
    """The same value, with halves of characters (lone surrogates) as marks: JSON can hold them,
    but they can neither be hashed nor stored."""
    if isinstance(value, str):
        # Most texts are, and that is known without looking through them.
        if value.isascii():
            return value
        return _HALF.sub(lambda half: f"\ufffd[{ord(half[0]):04X}]", value)
    if isinstance(value, Mapping):
        return {_marked(name): _marked(content) for name, content in value.items()}
    return [_marked(content) for content in value] if isinstance(value, list) else value


def project_number(task: Mapping[str, Any], project: Any) -> int | None:
    """The project's number, from the task or from the request (e.g. `3.1700000000`)."""
    own = _number(task.get("project"))
    if own is not None:
        return own
    if isinstance(project, dict):
        return _number(project.get("id"))
    return _number(text(project).split(".", 1)[0] if isinstance(project, str) else project)


def _has_unseen_regions(task: Mapping[str, Any]) -> bool:
    # A webhook contains the number of annotations, but not the annotations.
    counts = (task.get("total_annotations"), task.get("total_predictions"))
    has_some = any(isinstance(count, int) and count > 0 for count in counts)
    return has_some and "annotations" not in task


def _number(value: Any) -> int | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    return int(value) if isinstance(value, str) and value.isdecimal() and len(value) < 19 else None


def _seconds(value: Any) -> int | None:
    try:
        return int(datetime.fromisoformat(text(value)).timestamp())
    except (ValueError, OverflowError, OSError):
        return None
