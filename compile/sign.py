"""Signing keys and signatures of bundles (Ed25519, RFC 8032).

    python -m compile keygen KEY.pem --kind development|release|repository
    python -m compile sign BUNDLE --key KEY.pem [-o OUT]

Rules.
1. A private key is PKCS #8 PEM with mode 0600, never overwritten and never written into a git
   working tree; beside it lies KEY.release.pub or KEY.development.pub, which goes into a device's
   `state/trust/`. A device tells the two apart by that name: what a development key signed needs
   a flag to be added, which is audited. A key of an update repository (docs/keys.md) signs no
   bundle and is never without a passphrase.
2. A signature is 64 bytes over the bytes of manifest.json, kept in the bundle as manifest.sig. What
   is signed has been checked like on a device, so a broken bundle gets no signature.
3. Ed25519 is deterministic: signing twice gives the same bytes.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from appliance.bundle import archive, trust
from appliance.bundle.manifest import SIGNATURE
from appliance.errors import BundleRefused


def keygen(
    path: Path,
    kind: Literal["development", "release", "repository"],
    passphrase: bytes | None = None,
) -> Path:
    """Make a key pair: `path` and, returned, the public key beside it (rule 1)."""
    if (kind == "repository") != bool(passphrase):
        raise _refused(
            f"a key for {kind} {'has a' if kind == 'repository' else 'has no'} passphrase",
            remedy="Only what signs a repository is kept under a passphrase.",
        )
    public = path.with_suffix(f".{kind}.pub")
    absolute = path.resolve()
    if any((folder / ".git").exists() for folder in absolute.parents):
        raise _refused(
            f"{path} lies in a git working tree", remedy="Keep private keys outside any checkout."
        )
    key = Ed25519PrivateKey.generate()
    kept: KeySerializationEncryption = NoEncryption()
    if passphrase:
        kept = BestAvailableEncryption(passphrase)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, kept)
    _create(path, pem, 0o600)
    _create(
        public,
        key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        0o644,
    )
    return public


def sign(bundle: bytes, key: Ed25519PrivateKey) -> bytes:
    """The bundle with its manifest.sig, replacing one that is there."""
    loaded = trust.check(bundle)
    entries = archive.read(bundle)
    return archive.write({**entries, SIGNATURE: key.sign(loaded.manifest_json)})


def private_key(path: Path) -> Ed25519PrivateKey:
    """The private key of a PEM file."""
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except OSError as e:
        raise _refused(f"{path}: {e.strerror}") from e
    except (ValueError, TypeError) as e:
        raise _refused(f"{path} is no private key in PEM without a password") from e
    if not isinstance(key, Ed25519PrivateKey):
        raise _refused(f"{path} is another kind of key, not Ed25519")
    return key


def _create(path: Path, data: bytes, mode: int) -> None:
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    except OSError as e:
        raise _refused(f"{path}: {e.strerror}", remedy="Choose another path.") from e
    with os.fdopen(handle, "wb") as file:
        file.write(data)


def _refused(
    text: str, remedy: str = "Make a key with `python -m compile keygen`."
) -> BundleRefused:
    return BundleRefused(text, remedy=remedy, code="sign_key")
