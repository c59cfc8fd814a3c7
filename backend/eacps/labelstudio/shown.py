"""Which tasks show images that this backend serves."""

from __future__ import annotations

import re
from typing import Final

from eacps.artifacts import ArtifactStore
from eacps.domain import digest
from eacps.labelstudio.client import LabelStudioClient

_OWNER: Final = re.compile(r"([0-9a-f]+)-task-(\d+)")


def shown_by(label_studio: str, task: int) -> str:
    """A task as the owner of the images that it shows (ArtifactStore.keep_for), and as the subject
    of its jobs."""
    return f"{digest(label_studio)}-task-{task}"


def forget_deleted_tasks(client: LabelStudioClient, store: ArtifactStore) -> int:
    """Let retention delete the images of tasks that are no longer in Label Studio; returns the
    number of these tasks. Those of another Label Studio are not asked for."""
    forgotten = 0
    for owner in store.owners():
        found = _OWNER.fullmatch(owner)
        if found is None or shown_by(client.url, int(found[2])) != owner:
            continue
        if client.find_task(int(found[2])) is None:
            store.forget(owner)
            forgotten += 1
    return forgotten
