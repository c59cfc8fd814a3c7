"""Content-addressed files in any fsspec store, and the signed URLs that serve them."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import secrets
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import fsspec
from fsspec import AbstractFileSystem
from fsspec.implementations.local import LocalFileSystem

from eacps.errors import EacpsError, SettingsError
from eacps.files import write_atomically
from eacps.options import short
from eacps.settings import Settings

NAME = re.compile(r"[0-9a-f]{40}\.(png|jpg|json|safetensors)")
MEDIA_TYPES = {
    "png": "image/png",
    "jpg": "image/jpeg",
    "json": "application/json",
    "safetensors": "application/octet-stream",
}
OWNER: Final = re.compile(r"[0-9a-z-]{1,100}")
SHOWN: Final = "shown"
"""The folder with one note per owner."""
PARTIAL: Final = re.compile(rf"(\.[0-9a-f]{{16}}|{NAME.pattern}\.[0-9a-f]{{12}})\.part")
PARTIAL_SECONDS: Final = 86_400.0
"""How long a half-written file may still belong to a writer that is at work."""
_S3: Final = ("s3", "s3a")
_WHOLE: Final = {*_S3, "gs", "gcs", "abfs", "abfss", "az", "memory"}
"""Stores in which a file appears when all of it has arrived, and that have no folders."""
_NETWORK: Final = ("aiobotocore", "aiohttp", "botocore", "gcsfs", "requests", "urllib3")


class MissingArtifactError(EacpsError):
    """The artifact was never stored, or retention removed it."""

    code = "artifact_missing"


class DamagedArtifactError(MissingArtifactError):
    """The artifact's content is not what its name promises; it was removed."""

    code = "artifact_damaged"


class StoreAwayError(EacpsError):
    """The store cannot be read or written now: a full disk, a lost mount, no network."""

    code = "store_away"


@dataclass(frozen=True)
class FileState:
    """What is known about a stored file, and its size in bytes."""

    verdict: Literal["intact", "missing", "damaged"]
    size: int


class ArtifactStore:
    """Files named after the hash of their content, so that writing one twice is harmless."""

    def __init__(self, url: str) -> None:
        # Other processes write, too, so a remembered listing would be wrong.
        options: dict[str, Any] = {"use_listings_cache": False}
        if url.partition("://")[0] in _S3:
            options["config_kwargs"] = {
                # The older version, which botocore prefers for URLs, works for old buckets only.
                "signature_version": "s3v4",
                "connect_timeout": 5,
                "read_timeout": 30,
                # s3fs tries five times, too.
                "retries": {"total_max_attempts": 2},
            }
        self._files, self._root = fsspec.core.url_to_fs(url, **options)
        protocol = self._files.protocol
        self._protocols = {protocol} if isinstance(protocol, str) else set(protocol)
        self.url = url

    def put(self, content: bytes, suffix: str) -> str:
        """Store bytes under the name that their hash gives; returns the name."""
        name = name_of(content, suffix)
        path = self._path(name)
        with self._reachable(writing=True):
            if self._size(path) == len(content):
                # A fresh use keeps a shared file out of retention's reach.
                self._touch(path, content)
            else:
                self._write(path, content)
        return name

    def get(self, name: str) -> bytes:
        """The bytes of an artifact, checked against its name; what is damaged is removed, so that
        storing it again heals it."""
        path = self._path(name)
        try:
            with self._reachable():
                content = bytes(self._files.cat_file(path))
                if _hash(content) == name.partition(".")[0]:
                    return content
                self._files.rm_file(path)
        except FileNotFoundError:
            raise MissingArtifactError(
                f"The stored file {name} no longer exists.",
                hint="Run the task again, or raise EACPS_RETENTION_DAYS.",
            ) from None
        raise DamagedArtifactError(
            f"The stored file {name} was damaged and is removed.", hint="Run the task again."
        )

    def intact(self, name: str) -> bool:
        """Whether the artifact is there and is what its name promises; this reads all of it."""
        try:
            self.get(name)
        except MissingArtifactError:
            return False
        return True

    def check(self, name: str) -> FileState:
        """Whether the artifact is there and intact. Unlike `get`, this removes nothing."""
        try:
            with self._reachable():
                content = bytes(self._files.cat_file(self._path(name)))
        except (FileNotFoundError, MissingArtifactError):
            return FileState("missing", 0)
        intact = _hash(content) == name.partition(".")[0]
        return FileState("intact" if intact else "damaged", len(content))

    def sizes(self) -> Iterator[tuple[str, int]]:
        """The names and sizes in bytes of all artifacts."""
        with self._reachable():
            files = self._files.find(self._root, detail=True).items()
        for path, info in files:
            name = path.rpartition("/")[2]
            if NAME.fullmatch(name):
                yield name, int(info.get("size") or 0)

    def exists(self, name: str) -> bool:
        """Whether the artifact is there."""
        with self._reachable():
            return bool(self._files.exists(self._path(name)))

    def check_usable(self) -> None:
        """Write a small file, over itself if need be; raises StoreAwayError if that fails."""
        content = b'{"written by": "a check of the store"}'
        try:
            with self._reachable():
                self._write(self._path(f"{_hash(content)}.json"), content)
        except FileNotFoundError:
            raise StoreAwayError(
                "The artifact store cannot be used: its folder is missing.",
                hint="Check EACPS_ARTIFACTS_URL, or EACPS_DATA_DIR.",
            ) from None

    def prune(
        self,
        older_than_seconds: float,
        now: float | None = None,
        *,
        keep: Set[str] = frozenset(),
    ) -> int:
        """Delete artifacts not written or used for so long, except some; returns how many."""
        moment = time.time() if now is None else now
        old = []
        with self._reachable():
            for path, info in self._files.find(self._root, detail=True).items():
                name = path.rpartition("/")[2]
                half = PARTIAL.fullmatch(name)
                if name in keep or not (half or NAME.fullmatch(name)):
                    # Needed, or not ours: the folder may hold pictures of other people.
                    continue
                limit = min(PARTIAL_SECONDS, older_than_seconds) if half else older_than_seconds
                if self._modified(info) < moment - limit:
                    old.append(path)
            self._remove(old)
        return len(old)

    def keep_for(self, owner: str, names: Iterable[str]) -> None:
        """Note which artifacts an owner shows, instead of those that it showed before. `shown`
        returns them, so that retention can keep them."""
        content = json.dumps(sorted(set(names))).encode()
        with self._reachable(writing=True):
            self._write(self._note_path(owner), content)

    def forget(self, owner: str) -> None:
        """The owner shows nothing any more."""
        with self._reachable(), suppress(FileNotFoundError):
            self._files.rm_file(self._note_path(owner))

    def owners(self) -> list[str]:
        """All owners that show something."""
        with self._reachable():
            found = (path.rpartition("/")[2] for path in self._files.find(f"{self._root}/{SHOWN}"))
            return [name.removesuffix(".json") for name in found if OWNER.fullmatch(name[:-5])]

    def shown(self) -> set[str]:
        """The names of all artifacts that somebody shows."""
        return {name for names in self.shown_by_owner().values() for name in names}

    def shown_by_owner(self) -> dict[str, list[str]]:
        """The names of the artifacts that each owner shows."""
        found: dict[str, list[str]] = {}
        paths = list(map(self._note_path, self.owners()))
        for start in range(0, len(paths), 200):
            with self._reachable():
                # In one call, because stores with a network read many at the same time.
                notes = self._files.cat(paths[start : start + 200], on_error="return")
                for path, content in notes.items():
                    if isinstance(content, FileNotFoundError):
                        continue  # Forgotten a moment ago.
                    if isinstance(content, Exception):
                        # Nothing may be deleted because a note could not be read.
                        raise content
                    owner = path.rpartition("/")[2].removesuffix(".json")
                    found[owner] = [match[0] for match in NAME.finditer(content.decode())]
        return found

    @property
    def signs_urls(self) -> bool:
        """Whether the store may serve files itself, at URLs that it gives out."""
        return type(self._files).sign is not AbstractFileSystem.sign

    def signed_url(self, name: str, seconds: int) -> str | None:
        """A URL at which the store itself serves the artifact for so long; None if it cannot."""
        try:
            with self._reachable():
                return str(self._files.sign(self._path(name), expiration=seconds))
        except NotImplementedError:
            return None

    def _write(self, path: str, content: bytes) -> None:
        """Readers never see half a file: write a partial one, then move it into place."""
        if self._protocols & _WHOLE:
            media_type = MEDIA_TYPES[path.rpartition(".")[2]]
            told = {"ContentType": media_type} if self._protocols & set(_S3) else {}
            self._files.pipe_file(path, content, **told)
            return
        self._files.makedirs(self._parent(path), exist_ok=True)
        if isinstance(self._files, LocalFileSystem):
            write_atomically(Path(path), content)
            return
        partial = f"{path}.{secrets.token_hex(6)}.part"
        try:
            self._files.pipe_file(partial, content)
            self._files.mv(partial, path)
        except BaseException:
            with suppress(Exception):
                self._files.rm_file(partial)
            raise

    def _remove(self, paths: Sequence[str]) -> None:
        if self._protocols & set(_S3):
            # Many in one request.
            self._files.rm(list(paths)) if paths else None
            return
        for path in paths:
            # Another process may prune the same store.
            with suppress(FileNotFoundError):
                self._files.rm_file(path)

    def _size(self, path: str) -> int | None:
        try:
            return int(self._files.size(path))
        except (FileNotFoundError, TypeError):
            return None

    @contextmanager
    def _reachable(self, *, writing: bool = False) -> Iterator[None]:
        """Tells a store that is away from a file that is missing."""
        try:
            yield
        except Exception as error:
            if isinstance(error, FileNotFoundError) and not writing:
                raise
            of_network = type(error).__module__.partition(".")[0] in _NETWORK
            if not isinstance(error, OSError) and not of_network:
                raise
            reason = getattr(error, "strerror", None) or type(error).__name__
            raise StoreAwayError(
                f"The artifact store cannot be used: {reason}.",
                hint="Check EACPS_ARTIFACTS_URL and the free space there.",
            ) from error

    def _note_path(self, owner: str) -> str:
        if not OWNER.fullmatch(owner):
            raise ValueError(f"{owner!r} is not a valid name of an owner")
        return f"{self._root}/{SHOWN}/{owner}.json"

    def _path(self, name: str) -> str:
        if not NAME.fullmatch(name):
            raise MissingArtifactError(f"{name!r} is not a valid name of a stored file.")
        return f"{self._root}/{name[:2]}/{name}"

    @staticmethod
    def _parent(path: str) -> str:
        return path.rsplit("/", 1)[0]

    def _touch(self, path: str, content: bytes) -> None:
        """Let retention count from now. Object stores have no other way than to write again, which
        is done once a day."""
        try:
            self._files.touch(path, truncate=False)
        except (NotImplementedError, ValueError):
            if time.time() - self._modified(self._files.info(path)) > PARTIAL_SECONDS:
                self._write(path, content)
        except OSError:
            # The folder belongs to somebody else; the file is there all the same.
            return

    @staticmethod
    def _modified(info: Mapping[str, Any]) -> float:
        """When a file was written; now, if the store does not know."""
        stamp = info.get("mtime") or info.get("LastModified") or time.time()
        return float(stamp.timestamp() if hasattr(stamp, "timestamp") else stamp)


def name_of(content: bytes, suffix: str) -> str:
    """The name under which these bytes are stored."""
    return f"{_hash(content)}.{suffix}"


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:40]


class UrlSigner:
    """Signs artifact names, so that only holders of a URL can fetch the file."""

    def __init__(self, secret: bytes, base_url: str) -> None:
        self._secret = secret
        self._base_url = base_url.rstrip("/")

    def url(self, name: str) -> str:
        """The URL of an artifact on the web process."""
        return f"{self._base_url}/artifacts/{self.signature(name)}/{name}"

    def signature(self, name: str) -> str:
        """The signature in an artifact's URL."""
        return hmac.new(self._secret, name.encode(), hashlib.sha256).hexdigest()[:32]

    def valid(self, signature: str, name: str) -> bool:
        """Whether the signature is that of this name."""
        return hmac.compare_digest(signature.encode(), self.signature(name).encode())


def names_in(content: Any) -> set[str]:
    """The names of artifacts in JSON content, also in its URLs and HTML."""
    return {match[0] for match in NAME.finditer(json.dumps(content))}


def open_store(settings: Settings) -> ArtifactStore:
    """Open the artifact store of the settings."""
    url = settings.resolved_artifacts_url
    try:
        if not settings.artifacts_url:
            _make_private(settings.data_dir / "artifacts")
        return ArtifactStore(url)
    except (ImportError, ValueError) as error:
        scheme = url.partition("://")[0]
        remedy = "Run `pip install 'eacps[s3]'`" if scheme in ("s3", "s3a") else str(error)
        raise SettingsError(
            f"EACPS_ARTIFACTS_URL names a {short(scheme)} store, which cannot be opened.",
            hint=f"{remedy.rstrip('.')}, or use another store.",
        ) from None


def _make_private(folder: Path) -> None:
    """Make the default folder for this user only, because it contains people's pictures. One that
    exists is left as it is: somebody may have shared it."""
    if folder.exists():
        return
    # If it cannot be made, the store says so when it is used.
    with suppress(OSError):
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)


def open_signer(settings: Settings) -> UrlSigner:
    """The URL signer; creates and stores a secret if EACPS_URL_SECRET is empty."""
    return UrlSigner(url_secret(settings), settings.resolved_browser_url)


def url_secret(settings: Settings) -> bytes:
    """The secret that signs URLs; creates and stores one if EACPS_URL_SECRET is empty."""
    secret = settings.url_secret.get_secret_value().encode()
    return secret or _stored_secret(settings.data_dir)


def _stored_secret(data_dir: Path) -> bytes:
    data_dir.mkdir(parents=True, exist_ok=True)
    path = data_dir / "url-secret"
    if not path.exists():
        fresh = path.with_suffix(f".{secrets.token_hex(4)}")
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(32))
        try:
            # Linking fails if another process was first; its secret is used then.
            os.link(fresh, path)
        except FileExistsError:
            pass
        finally:
            fresh.unlink()
    return path.read_text().strip().encode()
