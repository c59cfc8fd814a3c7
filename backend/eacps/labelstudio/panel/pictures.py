"""The pictures of a panel: artifacts from the store, or Label Studio's copies of them, and the
task's own pictures from where the task says they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from eacps.artifacts import NAME, ArtifactStore, MissingArtifactError, name_of
from eacps.labelstudio.cards.naming import RECORD, cards_of
from eacps.labelstudio.panel.capability import PanelRefusedError
from eacps.labelstudio.panel.content import MASK, REFERENCE, SOURCE
from eacps.labelstudio.tasks.fetch import Confirmed, Fetcher, confirmed, require_allowed_reference
from eacps.labelstudio.tasks.regions import mapping, sequence, text
from eacps.settings import Settings

if TYPE_CHECKING:
    from eacps.labelstudio.client import LabelStudioClient

_TYPES: Final = (
    (b"\x89PNG\r\n\x1a\n", 0, "image/png"),
    (b"\xff\xd8\xff", 0, "image/jpeg"),
    (b"GIF8", 0, "image/gif"),
    (b"WEBP", 8, "image/webp"),
    (b"BM", 0, "image/bmp"),
    (b"ftypavif", 4, "image/avif"),
)


class _RowFetcher(Fetcher):
    """Fetches pictures of one task, whose row in Label Studio has just been read."""

    def __init__(
        self, settings: Settings, client: LabelStudioClient, row: Mapping[str, Any]
    ) -> None:
        super().__init__(settings, client)
        self._confirmation = confirmed(row, _addresses(row))

    def _confirmed(self, task: int) -> Confirmed:  # noqa: ARG002 - there is only one
        return self._confirmation


class Pictures:
    """Reads the pictures of tasks. `fields` gives the settings with the fields of a task."""

    def __init__(
        self,
        settings: Settings,
        store: ArtifactStore,
        client: LabelStudioClient,
        fields: Callable[[Mapping[str, Any]], Settings],
    ) -> None:
        self._settings = settings
        self._store = store
        self._client = client
        self._fields = fields

    def read(self, project: int, task: int, name: str) -> tuple[bytes, str]:
        """A picture's content and media type; raises PanelRefusedError or FetchError."""
        if not NAME.fullmatch(name):
            return self._own(self._row(project, task), name)
        try:
            content = self._store.get(name)
        except MissingArtifactError:
            content = self._copy(self._row(project, task), name)
        return content, media_type(content)

    def _row(self, project: int, task: int) -> Mapping[str, Any]:
        row = self._client.read_task(project, task)
        if row is None:
            raise gone()
        return row

    def _copy(self, row: Mapping[str, Any], name: str) -> bytes:
        """Label Studio's copy of an artifact that is no longer stored."""
        for address in _addresses(row):
            if name in address and address.startswith("/"):
                content = self._fetched(row, address)
                if name_of(content, name.partition(".")[2]) == name:
                    return content
        raise PanelRefusedError("This picture is no longer kept.", code="picture_gone")

    def _own(self, row: Mapping[str, Any], name: str) -> tuple[bytes, str]:
        settings, data = self._fields(row), mapping(row.get("data"))
        kind, _, index = name.partition("-")
        field = {
            SOURCE: settings.image_field,
            MASK: settings.mask_field,
            REFERENCE: settings.reference_field,
        }[kind]
        given = data.get(field)
        address = given[int(index)] if isinstance(given, list) and index else given
        if kind == REFERENCE:
            require_allowed_reference(address, settings)
        content = self._fetched(row, address, field)
        return content, media_type(content)

    def _fetched(self, row: Mapping[str, Any], address: Any, field: str = "image") -> bytes:
        fetcher = _RowFetcher(self._settings, self._client, row)
        return fetcher.fetch(address, field=field, task=int(row["id"]))


def gone() -> PanelRefusedError:
    """The error for a task that Label Studio no longer has."""
    return PanelRefusedError(
        "This task is no longer in Label Studio.", code="task_gone", status=404
    )


def media_type(content: bytes) -> str:
    """The type of a picture that browsers show, from its first bytes."""
    for sign, offset, kind in _TYPES:
        if content[offset : offset + len(sign)] == sign:
            return kind
    raise PanelRefusedError(
        "Browsers cannot show this type of picture.", code="picture_type", status=415
    )


def _addresses(row: Mapping[str, Any]) -> list[str]:
    """Where Label Studio has the pictures of a task's candidates."""
    data = mapping(row.get("data"))
    found = [text(mapping(card.get(RECORD)).get("image")) for card in cards_of(data)]
    found += [each for each in sequence(data.get("gallery")) if isinstance(each, str)]
    for card in cards_of(data):
        # `src='…'` of the thumbnail, which our own template wrote.
        _, _, rest = text(card.get("html")).partition("<img src='")
        found.append(rest.partition("'")[0])
    return [each for each in found if each]
