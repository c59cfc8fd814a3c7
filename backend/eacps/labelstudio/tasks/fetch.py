"""Fetches untrusted images for tasks, only from allowed hosts."""

from __future__ import annotations

import base64
import binascii
import re
import time
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote, unquote_to_bytes, urlsplit

from eacps.errors import FetchError
from eacps.labelstudio.client import LabelStudioClient, is_server_error
from eacps.labelstudio.errors import LabelStudioDownError
from eacps.labelstudio.tasks import network
from eacps.labelstudio.tasks.network import Address, Reply
from eacps.settings import Settings

MAX_REDIRECTS = 3
_SERVES_FILES = re.compile(r"/(data|storage-data)/|/(api/)?tasks/\d+/(resolve|presign)/")
_CLOUD = ("s3", "gs", "azure-blob", "az")
_HEADERS = {"Accept": "*/*", "Accept-Encoding": "identity", "User-Agent": "eacps"}


class Fetcher:
    """Fetches images; sends Label Studio's token only to Label Studio."""

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
            return self._get(self._storage_proxy(reference, scheme, task))
        if reference.startswith("/") and not reference.startswith("//"):
            return self._label_studio_path(reference)
        if scheme not in ("http", "https"):
            raise FetchError(
                f"The task's field `{field}` is not a supported URL.",
                hint="Use http(s)://, a Label Studio upload, or a data: URI.",
                code="bad_address",
            )
        return self._get(reference)

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

    def _label_studio_path(self, path: str) -> bytes:
        local = self._settings.local_files_root
        if local and urlsplit(path).path.rstrip("/").endswith("/data/local-files"):
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
        if prefix and path.startswith(f"{prefix}/"):
            path = path.removeprefix(prefix)
        return self._get(base + path)

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

    def _get(self, url: str) -> bytes:
        deadline = time.monotonic() + self._settings.fetch_timeout_seconds
        for _ in range(MAX_REDIRECTS + 1):
            address = network.parse_address(url)
            reply = self._request(address, deadline)
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

    def _request(self, address: Address, deadline: float) -> Reply:
        ip = self._vetted(address)
        headers = dict(_HEADERS)
        if self._is_own(address) and self._client and self._serves_files(address):
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

    def _serves_files(self, address: Address) -> bool:
        # A task may contain any path of Label Studio, but must not use its API with our token.
        prefix = urlsplit(self._settings.label_studio_url).path
        path = unquote(urlsplit(address.target).path).removeprefix(prefix)
        return ".." not in path and _SERVES_FILES.match(path) is not None

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
        hint = "Check the URL in the task's image field."
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


def _too_large(limit: int) -> FetchError:
    return FetchError(
        f"The image file has more than {limit:,} bytes.",
        hint="Use a smaller file or raise EACPS_MAX_IMAGE_BYTES.",
        code="image_too_large",
    )
