"""Fetches untrusted images for tasks, only from allowed hosts."""

from __future__ import annotations

import base64
import binascii
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qs, quote, unquote, unquote_to_bytes, urlsplit

from eacps.errors import FetchError
from eacps.labelstudio.client import LabelStudioClient, is_server_error
from eacps.labelstudio.errors import LabelStudioDownError
from eacps.labelstudio.tasks import network
from eacps.labelstudio.tasks.network import Address, Reply
from eacps.settings import Settings

MAX_REDIRECTS = 3
CONFIRMED_SECONDS = 10.0
"""A task's images are fetched one after the other, and its data looked up once."""
_SERVES_FILES = re.compile(r"/(data|storage-data)/|/(api/)?tasks/\d+/(resolve|presign)/")
_OF_PROJECT = re.compile(r"(?:/data/|.*[?&]filepath=/?)upload/(\d+)/")
_OF_TASK = re.compile(r"/(?:api/)?tasks/(\d+)/(?:resolve|presign)/")
_DECODINGS = 3
_CLOUD = ("s3", "gs", "azure-blob", "az")
_HEADERS = {"Accept": "*/*", "Accept-Encoding": "identity", "User-Agent": "eacps"}


@dataclass(frozen=True)
class Confirmed:
    """What Label Studio says about a task."""

    project: int | None
    values: frozenset[str]


def confirmed(row: Mapping[str, Any], more: Iterable[str] = ()) -> Confirmed:
    """What a task's row says: its project, and the addresses in its data."""
    project = row.get("project")
    values = frozenset(_texts(row.get("data"))) | {address.strip() for address in more}
    return Confirmed(project if isinstance(project, int) else None, values)


class Fetcher:
    """Fetches images; sends Label Studio's token only to Label Studio, and reads Label Studio's
    files only for a task that has them."""

    requires_confirmation: ClassVar[bool] = True
    """Whether Label Studio must confirm that a task contains the file that it names."""

    def __init__(
        self,
        settings: Settings,
        client: LabelStudioClient | None = None,
        *,
        resolve: network.Resolve = network.resolve,
    ) -> None:
        self._settings = settings
        self._client = client
        self._resolve = resolve
        own = settings.label_studio_url
        self._own = network.parse_address(own) if own else None
        self._known: dict[int, tuple[float, Confirmed]] = {}

    def fetch(self, reference: Any, *, field: str = "image", task: int | None = None) -> bytes:
        """The content of a URL, a Label Studio path or a data: URI; raises FetchError."""
        if not isinstance(reference, str) or not reference.strip():
            raise FetchError(
                f"The task's field `{field}` contains no image URL.",
                hint=f"Put a URL into `{field}`.",
                code="no_image",
            )
        reference = reference.strip()
        scheme = reference.split(":", 1)[0].lower() if ":" in reference else ""
        if scheme == "data":
            return self._data_uri(reference)
        if scheme in _CLOUD:
            return self._get(self._storage_proxy(reference, scheme, task), reference, task)
        if reference.startswith("/") and not reference.startswith("//"):
            return self._label_studio_path(reference, task)
        if scheme not in ("http", "https"):
            raise FetchError(
                f"The task's field `{field}` is not a supported URL.",
                hint="Use http(s)://, a Label Studio upload, or a data: URI.",
                code="bad_address",
            )
        return self._get(reference, reference, task)

    def _data_uri(self, uri: str) -> bytes:
        limit = self._settings.max_image_bytes
        if len(uri) > 2 * limit:
            raise _too_large(limit)
        header, comma, body = uri.partition(",")
        try:
            content = unquote_to_bytes(body) if comma else b""
            if header.lower().endswith(";base64"):
                content = base64.b64decode(b"".join(content.split()), validate=True)
        except (ValueError, binascii.Error):
            raise FetchError(
                "The data: URI is broken.", hint="Encode the image as base64 again."
            ) from None
        if len(content) > limit:
            raise _too_large(limit)
        return content

    def _label_studio_path(self, path: str, task: int | None) -> bytes:
        local = self._settings.local_files_root
        if local and urlsplit(path).path.rstrip("/").endswith("/data/local-files"):
            self._require_confirmed("/data/local-files", path, task)
            return self._local_file(Path(local), path)
        if self._own is None:
            raise FetchError(
                "The image is a path in Label Studio, but no Label Studio is configured.",
                hint="Set LABEL_STUDIO_URL, or use the image's full URL.",
                code="no_address",
            )
        base = self._settings.label_studio_url
        prefix = urlsplit(base).path
        # Under a sub-path, Label Studio's own paths start with that sub-path.
        inner = path.removeprefix(prefix) if prefix and path.startswith(f"{prefix}/") else path
        return self._get(base + inner, path, task)

    def _require_confirmed(self, served: str, reference: str, task: int | None) -> None:
        """Raise FetchError unless Label Studio's task contains this reference.

        Whoever reaches our web server can send tasks, but must not read Label Studio's files.
        """
        if self._client is None or not self.requires_confirmation:
            return
        if task is None:
            raise _not_confirmed("The task is not in Label Studio, whose files it names.")
        known = self._confirmed(task)
        if reference not in known.values:
            raise _not_confirmed(f"Task {task} in Label Studio does not contain this image.")
        project, other = _OF_PROJECT.match(served), _OF_TASK.match(served)
        if project and known.project is not None and int(project[1]) != known.project:
            raise _not_confirmed(f"The image was uploaded to project {project[1]}, not the task's.")
        if other and int(other[1]) != task:
            raise _not_confirmed(f"The image belongs to task {other[1]}.")

    def _confirmed(self, task: int) -> Confirmed:
        now = time.monotonic()
        known = self._known.get(task)
        if known and now < known[0] + CONFIRMED_SECONDS:
            return known[1]
        assert self._client is not None
        found = confirmed(self._client.task(task))
        self._known = {
            number: entry
            for number, entry in self._known.items()
            if now < entry[0] + CONFIRMED_SECONDS
        } | {task: (now, found)}
        return found

    def _local_file(self, root: Path, path: str) -> bytes:
        named = parse_qs(urlsplit(path).query).get("d", [""])[0]
        refused = FetchError(
            f"The local file {named[:200]!r} does not exist.",
            hint="Check the task's path and EACPS_LOCAL_FILES_ROOT.",
        )
        try:
            root = root.resolve(strict=True)
            file = (root / unquote(named).lstrip("/")).resolve(strict=True)
            if not file.is_relative_to(root) or not file.is_file():
                raise refused
            with file.open("rb") as opened:
                content = opened.read(self._settings.max_image_bytes + 1)
        except (OSError, ValueError):
            raise refused from None
        if len(content) > self._settings.max_image_bytes:
            raise _too_large(self._settings.max_image_bytes)
        return content

    def _storage_proxy(self, reference: str, scheme: str, task: int | None) -> str:
        if self._own is None or task is None:
            raise FetchError(
                f"Images at {scheme}:// can only be read via Label Studio's cloud storage.",
                hint="Connect the bucket to the project in Label Studio, or use http(s) URLs.",
                code="bad_address",
            )
        encoded = base64.b64encode(reference.encode()).decode()
        return f"{self._settings.label_studio_url}/tasks/{task}/resolve/?fileuri={quote(encoded)}"

    def _get(self, url: str, reference: str, task: int | None) -> bytes:
        deadline = time.monotonic() + self._settings.fetch_timeout_seconds
        first = network.parse_address(url)
        served = self._served(first) if self._is_own(first) else ""
        if served:
            self._require_confirmed(served, reference, task)
        for _ in range(MAX_REDIRECTS + 1):
            address = network.parse_address(url)
            reply = self._request(address, deadline, with_token=bool(served))
            if not reply.location:
                return self._content(address, reply)
            url = network.joined(url, reply.location)
            if "/user/login" in url:
                raise FetchError(
                    "Label Studio requires a login for the image.",
                    hint="Set LABEL_STUDIO_API_KEY to a token that may see the project.",
                    code="label_studio_token",
                )
        raise FetchError("The image's URL redirects too often.", hint="Use its final URL.")

    def _request(self, address: Address, deadline: float, *, with_token: bool) -> Reply:
        """One request; another host's redirect to Label Studio's files gets no token."""
        ip = self._vetted(address)
        headers = dict(_HEADERS)
        if with_token and self._is_own(address) and self._client and self._served(address):
            headers |= self._client.authorization()
        limit = self._settings.max_image_bytes
        try:
            return network.get(address, ip, headers, max_bytes=limit, deadline=deadline)
        except network.NoAnswerError as error:
            if self._is_own(address):
                raise LabelStudioDownError(error.message, hint=error.hint) from None
            raise

    def _vetted(self, address: Address) -> str:
        trusted = self._is_own(address) or self._is_allowed(address, exactly=True)
        if not trusted and not self._is_allowed(address):
            raise FetchError(
                f"Images may not be fetched from {address.host}.",
                hint=f"Add {address.host} to EACPS_ALLOWED_HOSTS if you trust it.",
                code="host_refused",
            )
        ips = self._resolve(address.host, address.port)
        if not trusted and not all(network.is_public(ip) for ip in ips):
            raise FetchError(
                f"The host {address.host} has a private IP address.",
                hint=f"If this is intended, add exactly {address.host} to EACPS_ALLOWED_HOSTS.",
                code="host_refused",
            )
        if not ips:
            raise FetchError(f"The host {address.host} has no address.")
        return ips[0]

    def _is_own(self, address: Address) -> bool:
        return self._own is not None and address.origin == self._own.origin

    def _served(self, address: Address) -> str:
        """The path and query of a file that Label Studio serves; empty for its other paths.

        A task may contain any path of Label Studio, but must not use its API with our token, also
        not if a proxy decodes the path once more.
        """
        prefix = urlsplit(self._settings.label_studio_url).path
        parts = urlsplit(address.target)
        path = parts.path
        for _ in range(_DECODINGS):
            path, before = unquote(path), path
            if path == before:
                break
        else:
            return ""
        path = path.removeprefix(prefix)
        if ".." in re.split(r"[/\\]", path) or not _SERVES_FILES.match(path):
            return ""
        return f"{path}?{unquote(parts.query)}"

    def _is_allowed(self, address: Address, *, exactly: bool = False) -> bool:
        return _is_listed(address, self._settings.allowed_hosts, exactly=exactly)

    def _content(self, address: Address, reply: Reply) -> bytes:
        if reply.status == 200:
            return reply.content
        if self._is_own(address) and is_server_error(reply.status):
            message = f"Label Studio answered {reply.status} for the image."
            if self._client is None:
                raise LabelStudioDownError(message)
            hint = "The file may have been deleted: upload it again."
            raise self._client.server_error(reply.status, message, hint)
        hint = "Check the URL in the task."
        if self._is_own(address) and reply.status in (401, 403):
            hint = "Set LABEL_STUDIO_API_KEY to a token that may see the project."
        raise FetchError(f"{address.host} answered {reply.status} instead of the image.", hint=hint)


def require_allowed_reference(reference: Any, settings: Settings) -> None:
    """Raise FetchError if EACPS_REFERENCE_HOSTS does not allow the host of a character's picture.

    Redirects are not checked; the listed host is responsible for them.
    """
    if not settings.reference_hosts:
        return
    text = reference.strip() if isinstance(reference, str) else ""
    if text.startswith("file:"):  # only `eacps run` opens these, for its own user
        return
    if text.startswith("/") and not text.startswith("//"):
        text = settings.label_studio_url + text
    host = text.split(":", 1)[0] + ":"
    if text.startswith(("http://", "https://")):
        address = network.parse_address(text)
        if _is_listed(address, settings.reference_hosts):
            return
        host = address.host
    raise FetchError(
        f"Pictures of characters may not come from {host[:80]!r}.",
        hint="Use a picture from a host in EACPS_REFERENCE_HOSTS, or add its host there if its "
        "owner has consented.",
        code="reference_refused",
    )


def _is_listed(address: Address, hosts: Sequence[str], *, exactly: bool = False) -> bool:
    names = (address.host, f"{_bracketed(address.host)}:{address.port}")
    for entry in hosts:
        pattern = entry.lower().rstrip(".")
        if pattern.strip("[]") in names or pattern in names:
            return True
        if not exactly and "*" in pattern and any(fnmatchcase(n, pattern) for n in names):
            return True
    return False


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _texts(value: Any) -> Iterator[str]:
    """All texts in the values of a task's data."""
    if isinstance(value, str):
        yield value.strip()
    elif isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _texts(each)


def _not_confirmed(message: str) -> FetchError:
    hint = "Import the task into Label Studio, or use a data: URI or another host's URL."
    return FetchError(message, hint=hint, code="not_confirmed")


def _too_large(limit: int) -> FetchError:
    return FetchError(
        f"The image file has more than {limit:,} bytes.",
        hint="Use a smaller file, or ask the administrator to raise EACPS_MAX_IMAGE_BYTES.",
        code="image_too_large",
    )
