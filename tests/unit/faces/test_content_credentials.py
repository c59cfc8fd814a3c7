"""Signed images (C2PA): who signed, what made the image, and that nothing else changes."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import c2pa
import numpy as np
import pytest
from PIL import Image

from eacps.errors import SettingsError
from eacps.faces.content_credentials import SOURCE_TYPE, check_signing, signed, wanted
from eacps.images import encode_png
from eacps.settings import Settings, load_settings

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey as Key
    from cryptography.x509 import Certificate, Name


def named(name: str) -> Name:
    from cryptography.x509 import Name, NameAttribute
    from cryptography.x509.oid import NameOID

    organisation = NameAttribute(NameOID.ORGANIZATION_NAME, "Throw-away")
    return Name([organisation, NameAttribute(NameOID.COMMON_NAME, name)])


def certificate(name: str, key: Key, issuer: tuple[Certificate, Key] | None = None) -> Certificate:
    """A certificate for a day: a root without an issuer (certificate and key), else a signer."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.x509.oid import ExtendedKeyUsageOID

    above, signing_key = issuer or (None, key)
    root = issuer is None
    usage = dict.fromkeys(
        ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
         "encipher_only", "decipher_only"), False,
    )  # fmt: skip
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(named(name))
        .issuer_name(above.subject if above else named(name))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=root, path_length=None), critical=True)
        .add_extension(
            x509.KeyUsage(digital_signature=not root, key_cert_sign=root, crl_sign=root, **usage),
            critical=True,
        )
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signing_key.public_key()),
            critical=False,
        )
    )
    if not root:
        emails = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION])
        builder = builder.add_extension(emails, critical=True)
    return builder.sign(signing_key, hashes.SHA256())


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A throw-away chain and key, and another key that does not belong to them."""
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
    )

    folder = tmp_path_factory.mktemp("certificates")
    root_key, key, other = (ec.generate_private_key(ec.SECP256R1()) for _ in range(3))
    root = certificate("Root", root_key)
    signer = certificate("Signer", key, (root, root_key))
    chain = b"".join(one.public_bytes(Encoding.PEM) for one in (signer, root))
    (folder / "chain.pem").write_bytes(chain)
    for name, one in (("key.pem", key), ("other.pem", other)):
        content = one.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        (folder / name).write_bytes(content)
    (folder / "text.pem").write_text("no key")
    return folder


def settings(files: Path, chain: str = "chain.pem", key: str = "key.pem") -> Settings:
    return load_settings(c2pa_certificate=str(files / chain), c2pa_key=str(files / key))


@pytest.fixture
def png() -> bytes:
    noise = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    return encode_png(Image.fromarray(noise), '{"synthetic": "synthetic face"}', xmp="<x/>")


def test_a_signed_image_says_what_made_it_and_its_signature_holds(files: Path, png: bytes) -> None:
    content = signed(png, settings(files), made_by="eacps basic")
    reader = c2pa.Reader("image/png", io.BytesIO(content))
    told = json.loads(reader.json())
    manifest = told["manifests"][told["active_manifest"]]
    [actions] = [one for one in manifest["assertions"] if one["label"].startswith("c2pa.actions")]
    [action] = actions["data"]["actions"]
    assert action["digitalSourceType"] == SOURCE_TYPE
    assert action["softwareAgent"]["name"] == "eacps basic"
    assert manifest["signature_info"]["common_name"] == "Signer"
    # The temporary root is not trusted; everything else must be valid.
    problems = {one["code"] for one in told.get("validation_status", [])}
    assert problems <= {"signingCredential.untrusted"}


def test_pixels_and_metadata_are_kept(files: Path, png: bytes) -> None:
    content = signed(png, settings(files), made_by="eacps")
    before, after = (Image.open(io.BytesIO(one)) for one in (png, content))
    assert (np.array(before) == np.array(after)).all()
    assert after.info["eacps"] == before.info["eacps"]
    assert after.info["XML:com.adobe.xmp"] == "<x/>"


def test_a_change_after_signing_is_found(files: Path, png: bytes) -> None:
    content = signed(png, settings(files), made_by="eacps")
    told = json.loads(
        c2pa.Reader("image/png", io.BytesIO(content.replace(b"synthetic face", b"authentic face")))
        .json()
    )  # fmt: skip
    codes = {one["code"] for one in told["validation_status"]}
    assert "assertion.dataHash.mismatch" in codes


@pytest.mark.parametrize(
    ("chain", "key", "words"),
    [
        ("chain.pem", "text.pem", "could not be signed"),
        ("text.pem", "key.pem", "could not be signed"),
        ("chain.pem", "other.pem", "could not be signed"),
        ("gone.pem", "key.pem", "Change EACPS_C2PA_CERTIFICATE"),
        ("chain.pem", "gone.pem", "Change EACPS_C2PA_KEY"),
    ],
)
def test_what_cannot_sign_is_named_and_no_key_is_told(
    files: Path, chain: str, key: str, words: str
) -> None:
    with pytest.raises(SettingsError, match=words) as refused:
        check_signing(settings(files, chain, key))
    assert "PRIVATE" not in str(refused.value)


def test_a_chain_and_its_key_pass_the_trial(files: Path) -> None:
    check_signing(settings(files))


def test_half_of_the_settings_is_refused_and_none_means_unsigned(files: Path) -> None:
    assert not wanted(load_settings())
    with pytest.raises(SettingsError, match="both"):
        wanted(load_settings(c2pa_key=str(files / "key.pem")))
