"""Prepares the searches that people ask for on the review panel."""

from __future__ import annotations

from dataclasses import replace

from eacps import fingerprints
from eacps.artifacts import ArtifactStore, MissingArtifactError, name_of
from eacps.domain import EditTask, SearchResult
from eacps.errors import FaceError, TaskError
from eacps.labelstudio.tasks.fetch import Fetcher
from eacps.labelstudio.tasks.origins import Origin, settings_of
from eacps.labelstudio.tasks.reading import Keep, TaskReader
from eacps.labelstudio.tasks.steering import KeptFile, Steer, drawn_mask
from eacps.settings import Settings


def steered_task(
    asked: Origin,
    steer: Steer,
    settings: Settings,
    reader: TaskReader,
    fetcher: Fetcher,
    store: ArtifactStore,
    keep: Keep,
) -> EditTask:
    """The task to search for a person's request; raises TaskError."""
    own = settings_of(asked, settings)
    read = reader.read(_to_read(asked, steer, own))
    task = replace(read.edit_task(settings, keep), route_reason=steer.reason)
    continued = steer.continued
    if steer.shapes:
        mask = keep(drawn_mask(steer.shapes, read.images.source.size))
        task = replace(task, mask=mask, regions=())
    elif continued is not None and continued.route == "edit" and not steer.draws:
        kept = _kept(continued.mask, asked, fetcher, store) if continued.mask else None
        task = replace(task, mask=kept, regions=task.regions if kept == task.mask else ())
    if steer.draws and task.mask is None:
        raise TaskError("Nothing is drawn.", hint="Draw over the part to edit.", code="empty_mask")
    if steer.reference is not None:
        task = replace(task, references=_reference(task, steer.reference))
    return steer.planned(task, fingerprints.rendered(own, task.route))


def with_warning(result: SearchResult, steer: Steer) -> SearchResult:
    """The result, with a note on every candidate if the editor has changed since its parent."""
    warning = steer.changed_since(result.task.rendered)
    if not warning:
        return result
    noted = (replace(each, notes=(*each.notes, warning)) for each in result.candidates)
    return replace(result, candidates=tuple(noted), notes=(*result.notes, warning))


def _to_read(asked: Origin, steer: Steer, settings: Settings) -> Origin:
    """The task as it is read for this request: with its instruction, route and regions."""
    continued = steer.continued
    instruction = steer.instruction or (continued.instruction if continued else "")
    data = dict(asked.data)
    # What is drawn in Label Studio now was not drawn for the search that is continued.
    drawn_here = steer.draws and not steer.shapes
    keeps = continued is None or continued.route != "edit" or drawn_here
    if steer.shapes or not keeps:
        data.pop(settings.mask_field, None)
    regions = asked.regions if keeps and not steer.shapes else ()
    # What was typed into the task since is not what is continued.
    typed = instruction or asked.instruction
    return replace(
        asked,
        data=data,
        regions=regions,
        route=steer.route_of(asked.route),
        route_reason=steer.reason,
        instruction=typed,
    )


def _kept(mask: KeptFile, asked: Origin, fetcher: Fetcher, store: ArtifactStore) -> str:
    """The mask of an earlier search: from the store, or from Label Studio's copy of it."""
    try:
        store.get(mask.file)
    except MissingArtifactError:
        content = fetcher.fetch(mask.url, field="mask", task=asked.task) if mask.url else b""
        if name_of(content, mask.file.rpartition(".")[2]) != mask.file:
            raise TaskError(
                "The mask of the earlier search is no longer stored.",
                hint="Draw the part to edit again.",
                code="bad_mask",
            ) from None
        store.put(content, mask.file.rpartition(".")[2])
    return mask.file


def _reference(task: EditTask, number: int) -> tuple[str, ...]:
    if not 0 <= number < len(task.references):
        raise FaceError(
            f"The task has {len(task.references)} pictures of characters, and no number "
            f"{number + 1}.",
            hint="Choose another one.",
            code="no_character",
        )
    return (task.references[number],)
