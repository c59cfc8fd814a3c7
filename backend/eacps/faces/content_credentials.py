"""Content Credentials (C2PA): a signed statement in an image file about its origin."""

from __future__ import annotations

import importlib.util
import io
import json
from pathlib import Path
from typing import Any, Final

from PIL import Image

from eacps import __version__
from eacps.errors import SettingsError
from eacps.images import encode_png
from eacps.settings import Settings

SOURCE_TYPE: Final = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeSynthetic"
"""The IPTC's term for a composite image with at least one synthetic part."""
ALGORITHM: Final = "es256"
PACKAGE: Final = "c2pa-python==0.38.1"
_WITHOUT_THUMBNAIL: Final = {"builder": {"thumbnail": {"enabled": False}}}


def wanted(settings: Settings) -> bool:
    """Whether images should be signed; raises SettingsError if the setup is incomplete."""
    if not settings.c2pa_certificate and not settings.c2pa_key:
        return False
    if not settings.c2pa_certificate or not settings.c2pa_key:
        raise SettingsError(
            "Images can only be signed with both a certificate and its key.",
            hint="Set EACPS_C2PA_CERTIFICATE and EACPS_C2PA_KEY, or neither.",
        )
    if importlib.util.find_spec("c2pa") is None:
        raise SettingsError(
            "EACPS_C2PA_CERTIFICATE is set, but the package that signs images is not installed.",
            hint=f"Run `pip install {PACKAGE}`, or empty that setting and EACPS_C2PA_KEY.",
        )
    return True


def check_signing(settings: Settings) -> None:
    """Sign a tiny image; raises SettingsError if that fails."""
    if wanted(settings):
        tiny = encode_png(Image.new("RGB", (8, 8)))
        signed(tiny, settings, made_by="eacps doctor")


def signed(png: bytes, settings: Settings, *, made_by: str) -> bytes:
    """Add a signed manifest to a PNG, offline, without changing its pixels or metadata."""
    import c2pa

    # No timestamp authority, so that no data about an image leaves this machine.
    info = c2pa.C2paSignerInfo(
        alg=ALGORITHM,
        sign_cert=_read(settings.c2pa_certificate, "EACPS_C2PA_CERTIFICATE"),
        private_key=_read(settings.c2pa_key, "EACPS_C2PA_KEY"),
        ta_url=None,
    )
    finished = io.BytesIO()
    try:
        with (
            c2pa.Signer.from_info(info) as signer,
            c2pa.Context.from_dict(_WITHOUT_THUMBNAIL) as context,
            c2pa.Builder(json.dumps(_manifest(made_by)), context) as builder,
        ):
            builder.sign(signer, "image/png", io.BytesIO(png), finished)
    except c2pa.C2paError as error:
        raise SettingsError(
            f"The image could not be signed: {' '.join(str(error).split())[:200]}.",
            hint="EACPS_C2PA_CERTIFICATE must be a PEM chain for ES256, the signer first, with the "
            "extended key usage that C2PA requires; EACPS_C2PA_KEY must be its key (PEM, PKCS#8).",
        ) from None
    return finished.getvalue()


def _manifest(made_by: str) -> dict[str, Any]:
    action = {
        "action": "c2pa.created",
        "digitalSourceType": SOURCE_TYPE,
        "softwareAgent": {"name": made_by},
    }
    return {
        "claim_generator_info": [{"name": "eacps", "version": __version__}],
        "assertions": [{"label": "c2pa.actions.v2", "data": {"actions": [action]}}],
    }


def _read(path: str, variable: str) -> bytes:
    try:
        return Path(path).expanduser().read_bytes()
    except OSError as error:
        raise SettingsError(
            f"{path} cannot be read: {error.strerror}.", hint=f"Change {variable}."
        ) from None
