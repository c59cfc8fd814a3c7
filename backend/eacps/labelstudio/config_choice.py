"""Which label config a project gets when it is connected, and whether Label Studio will take it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from eacps.labelstudio import label_config, merging
from eacps.labelstudio.client import MISSING, LabelStudioClient
from eacps.labelstudio.errors import LabelStudioError
from eacps.labelstudio.tasks.regions import sequence
from eacps.settings import Settings

_KEPT = "Its tags, labels and annotations stay as they are."


@dataclass(frozen=True)
class ConfigChoice:
    """The label config that a project gets, and what is said of it before and afterwards."""

    new: str | None = None
    """None leaves the label config as it is."""
    plan: str = ""
    done: str = ""
    warning: str = ""


def choose_config(
    existing: str, settings: Settings, backend_url: str, *, instead: bool = False
) -> ConfigChoice:
    """The label config for a project that has this one; raises LabelStudioError.

    `instead`: install the review label config in place of the project's own.
    """
    review = label_config.label_config(settings, backend_url, existing)
    if label_config.same_config(existing, review):
        return ConfigChoice()
    if merging.is_empty(existing):
        return ConfigChoice(
            review, "Install the review label config.", "The review label config was installed."
        )
    if instead:
        return ConfigChoice(
            review,
            "Replace the label config by the review label config.",
            "The label config was replaced by the review label config.",
        )
    return _of_earlier_connection(existing, review) or ConfigChoice(
        merging.merged(existing, review),
        f"Add the review screen below the project's own label config. {_KEPT}",
        "The review screen was added below the project's own label config.",
    )


def _of_earlier_connection(existing: str, review: str) -> ConfigChoice | None:
    """The choice for a label config that has a review screen already."""
    if label_config.is_unchanged(existing):
        return ConfigChoice(
            review,
            "Bring the review label config up to date. All annotations stay.",
            "The review label config was brought up to date.",
        )
    both = merging.parts(existing)
    if both is None and merging.is_review(existing):
        return ConfigChoice(
            warning="The review label config was changed by hand and is kept. --replace-config "
            "installs the current one, and keeps a copy."
        )
    if both is None:
        return None
    new = merging.merged(both[0], review)
    if label_config.same_config(existing, new):
        return ConfigChoice()
    return ConfigChoice(
        new,
        f"Bring the review screen in the label config up to date. {_KEPT}",
        "The review screen in the label config was brought up to date.",
    )


def require_accepted(
    client: LabelStudioClient,
    project: int,
    annotated: Mapping[str, Any],
    config: str,
    *,
    instead: bool = False,
) -> None:
    """Raise LabelStudioError if a project's annotations need tags that a label config lacks, or if
    Label Studio would refuse it. `annotated` is `created_annotations` of the project's summary."""
    missing = merging.annotated_names_missing(annotated, config)
    problem = f"annotations were made with the tag `{missing[0]}`." if missing else ""
    problem = problem or refusal(client, project, config)
    if problem:
        hint = "Connect a new project (--create), and import the tasks there."
        if instead:
            hint = (
                "Leave out --replace-config: the review screen is then added to the label config."
            )
        raise LabelStudioError(
            f"Label Studio would refuse this label config, so nothing was changed: {problem}",
            hint=hint,
        )


def refusal(client: LabelStudioClient, project: int, config: str) -> str:
    """Why Label Studio would refuse a label config for a project, in its words; empty if it would
    not."""
    try:
        body = {"label_config": config}
        client.call("POST", f"/api/projects/{project}/validate/", json=body)
    except LabelStudioError as error:
        if type(error) is not LabelStudioError:
            raise
        # A version without this check says so when the label config is stored.
        return "" if error.code == MISSING else _in_words(error.message)
    return ""


def _in_words(message: str) -> str:
    """The words of Label Studio's answer, which may be JSON and may be cut off."""
    said = message.partition("/validate/: ")[2] or message
    try:
        errors = json.loads(said[said.index("{") :])
    except ValueError:
        return said
    words = [str(one) for each in errors.values() for one in sequence(each)]
    return " ".join(" ".join(words).split()) or said
