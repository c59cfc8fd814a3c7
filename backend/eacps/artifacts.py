"""Content-addressed files in any fsspec store, and the signed URLs that serve them."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import fsspec
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
PARTIAL: Final = re.compile(rf"(\.[0-9a-f]{{16}}|{NAME.pattern}\.[0-9a-f]{{12}})\.part")
PARTIAL_SECONDS: Final = 86_400.0
"""How long a half-written file may still belong to a writer that is at work."""
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


class ArtifactStore:
    """Files named after the hash of their content, so that writing one twice is harmless."""

    def __init__(self, url: str) -> None:
        self._files, self._root = fsspec.core.url_to_fs(url)
        self.url = url

    def put(self, content: bytes, suffix: str) -> str:
        """Store bytes under the name that their hash gives; returns the name."""
        name = f"{_hash(content)}.{suffix}"
        path = self._path(name)
        with self._reachable():
            if self._size(path) == len(content):
                # A fresh use keeps a shared file out of retention's reach.
                self._touch(path)
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

    def exists(self, name: str) -> bool:
        """Whether the artifact is there."""
        with self._reachable():
            return bool(self._files.exists(self._path(name)))

    def check(self) -> None:
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

    def prune(self, older_than_seconds: float, now: float | None = None) -> int:
        """Delete artifacts not written or used for so long; returns how many."""
        moment = time.time() if now is None else now
        removed = 0
        with self._reachable():
            for path, info in self._files.find(self._root, detail=True).items():
                name = path.rpartition("/")[2]
                half = PARTIAL.fullmatch(name)
                if not half and not NAME.fullmatch(name):
                    # Not ours: the folder may hold pictures of other people.
                    continue
                limit = min(PARTIAL_SECONDS, older_than_seconds) if half else older_than_seconds
                stamp = info.get("mtime") or info.get("LastModified")
                modified = stamp.timestamp() if hasattr(stamp, "timestamp") else stamp
                if modified is not None and float(modified) < moment - limit:
                    self._files.rm_file(path)
                    removed += 1
        return removed

    def _write(self, path: str, content: bytes) -> None:
        """Readers never see half a file: write a partial one, then move it into place."""
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

    def _size(self, path: str) -> int | None:
        try:
            return int(self._files.size(path))
        except (FileNotFoundError, TypeError):
            return None

    @contextmanager
    def _reachable(self) -> Iterator[None]:
        """Tells a store that is away from a file that is missing."""
        try:
            yield
        except FileNotFoundError:
            raise
        except Exception as error:
            of_network = type(error).__module__.partition(".")[0] in _NETWORK
            if not isinstance(error, OSError) and not of_network:
                raise
            reason = getattr(error, "strerror", None) or type(error).__name__
            raise StoreAwayError(
                f"The artifact store cannot be used: {reason}.",
                hint="Check EACPS_ARTIFACTS_URL and the free space there.",
            ) from error

    def _path(self, name: str) -> str:
        if not NAME.fullmatch(name):
            raise MissingArtifactError(f"{name!r} is not a valid name of a stored file.")
        return f"{self._root}/{name[:2]}/{name}"

    @staticmethod
    def _parent(path: str) -> str:
        return path.rsplit("/", 1)[0]

    def _touch(self, path: str) -> None:
        try:
            self._files.touch(path, truncate=False)
        except (NotImplementedError, OSError, ValueError):
            # Object stores do not support touch; there retention counts from the first write.
            return


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


def open_store(settings: Settings) -> ArtifactStore:
    """Open the artifact store of the settings."""
    url = settings.resolved_artifacts_url
    try:
        return ArtifactStore(url)
    except (ImportError, ValueError) as error:
        scheme = url.partition("://")[0]
        remedy = "Run `pip install 'eacps[s3]'`" if scheme in ("s3", "s3a") else str(error)
        raise SettingsError(
            f"EACPS_ARTIFACTS_URL names a {short(scheme)} store, which cannot be opened.",
            hint=f"{remedy.rstrip('.')}, or use another store.",
        ) from None


def open_signer(settings: Settings) -> UrlSigner:
    """The URL signer; creates and stores a secret if EACPS_URL_SECRET is empty."""
    secret = settings.url_secret.get_secret_value().encode()
    return UrlSigner(secret or _stored_secret(settings.data_dir), settings.resolved_public_url)


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
