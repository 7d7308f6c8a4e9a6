"""Whether a bundle may be trusted: digests always, a signature where it came from outside.

Rules.
1. `check` runs at every load: every file that the manifest names is there with its digest, and no
   other file but manifest and signature is. So the digest of manifest.json stands for the whole.
   Every network keeps the rules of `graph`, whoever signed it.
2. A factory bundle is trusted by the digest that lies inside the wheel (factory/digests.json).
3. Any other needs manifest.sig: the 64 bytes of an Ed25519 signature (RFC 8032) over the bytes of
   manifest.json, by a key in the trust folder (`state/trust/*.pub`, PEM or 32 raw bytes).
   Taking a key out of the folder withdraws what it signed: the next load refuses.
4. A missing signature can be waved through for development, by an explicit flag that is audited. A
   wrong one never can.
5. A key called `*.development.pub` signs what is not released. What it signed is admitted only by
   an explicit, audited flag, and stays admitted (`admitted`) as long as the key lies there.
6. A file in the trust folder that is no key is an error that names it, never skipped.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_public_key,
)
from pydantic import RootModel, ValidationError

from appliance.bundle import archive, graph
from appliance.bundle.manifest import (
    MANIFEST,
    SIGNATURE,
    Golden,
    Manifest,
    Name,
    Version,
    digest,
    read,
)
from appliance.errors import BundleRefused
from appliance.report import BundleRef, Digest, Record

RAW_KEY_BYTES = 32
DEVELOPMENT = ".development.pub"


@dataclass(frozen=True, slots=True)
class Bundle:
    """A loaded bundle: what the line needs of it. Networks' bytes belong to the backend."""

    ref: BundleRef
    manifest: Manifest


@dataclass(frozen=True, slots=True)
class Loaded:
    """A bundle whose bytes were checked against its manifest. Only `check` makes one."""

    ref: BundleRef
    manifest: Manifest
    networks: Mapping[str, bytes] = field(repr=False)
    """Role -> bytes of the ONNX file."""
    goldens: tuple[tuple[Golden, bytes], ...] = field(repr=False)
    """Golden cases with the bytes of their .npz."""
    manifest_json: bytes = field(repr=False)
    signature: bytes | None = field(repr=False)
    shapes: bytes | None = field(default=None, repr=False)
    """The .npz of `Manifest.shapes`."""

    @property
    def bundle(self) -> Bundle:
        """What the line needs of it."""
        return Bundle(self.ref, self.manifest)

    @property
    def digest(self) -> str:
        """Of the bundle: SHA-256 of manifest.json."""
        return self.ref.digest


@dataclass(frozen=True, slots=True)
class Key:
    """A trusted public key. `name` is its file, `fingerprint` the SHA-256 of its 32 raw bytes."""

    name: str
    fingerprint: str
    public: Ed25519PublicKey = field(repr=False)

    @property
    def development(self) -> bool:
        """Whether it signs development bundles (rule 5)."""
        return self.name.endswith(DEVELOPMENT)


class FactoryBundle(Record):
    """One line of factory/digests.json."""

    version: Version
    digest: Digest


class FactoryDigests(RootModel[dict[Name, FactoryBundle]]):
    """factory/digests.json: bundle name -> version and digest."""


def check(data: bytes, appliance: str | None = None) -> Loaded:
    """Bytes of a .scanside file -> a bundle that is whole and that this appliance version knows.

    Says nothing of who made it: see `signer`. BundleRefused: `bundle_archive`, `bundle_manifest`,
    `bundle_unknown`, `bundle_requires`, `bundle_file` (missing or not named), `bundle_digest`,
    `bundle_network`.
    """
    entries = archive.read(data)
    manifest_json = entries.pop(MANIFEST, None)
    if manifest_json is None:
        raise BundleRefused(f"the bundle holds no {MANIFEST}", code="bundle_file")
    signature = entries.pop(SIGNATURE, None)
    manifest = read(manifest_json, appliance)
    for name, expected in manifest.files():
        if name not in entries:
            raise BundleRefused(f"the bundle holds no {name}", code="bundle_file")
        if hashlib.sha256(entries[name]).hexdigest() != expected:
            raise BundleRefused(f"{name} is not what the manifest names", code="bundle_digest")
    if strange := sorted(set(entries) - {name for name, _ in manifest.files()}):
        raise BundleRefused(f"the manifest does not name {strange[0]}", code="bundle_file")
    for network in manifest.networks.values():
        graph.check(network.file, entries[network.file])
    ref = BundleRef(name=manifest.name, version=manifest.version, digest=digest(manifest_json))
    return Loaded(
        ref=ref,
        manifest=manifest,
        networks={role: entries[network.file] for role, network in manifest.networks.items()},
        goldens=tuple((golden, entries[golden.file]) for golden in manifest.goldens),
        manifest_json=manifest_json,
        signature=signature,
        shapes=None if manifest.shapes is None else entries[manifest.shapes.file],
    )


def signer(loaded: Loaded, keys: Iterable[Key], admitted: Collection[str] = ()) -> Key:
    """The trusted key that signed it. BundleRefused: `bundle_unsigned`, `bundle_signature`, or
    `bundle_development` for a development key whose fingerprint is not `admitted`."""
    if loaded.signature is None:
        raise BundleRefused(
            f"{_what(loaded)} is not signed",
            remedy="Add a signed bundle; for development sign it with a key of your own: "
            "python -m compile keygen --kind development.",
            code="bundle_unsigned",
        )
    for key in keys:
        try:
            key.public.verify(loaded.signature, loaded.manifest_json)
        except InvalidSignature:
            continue
        if key.development and key.fingerprint not in admitted:
            raise BundleRefused(
                f"{_what(loaded)} is signed by the development key {key.name}",
                remedy="Add a bundle signed for release; only for development: "
                "`bundle add --allow-development`.",
                code="bundle_development",
            )
        return key
    raise BundleRefused(
        f"{_what(loaded)} is not signed by a key that this appliance trusts",
        remedy="Fetch the bundle again, or put its maker's public key into the trust folder.",
        code="bundle_signature",
    )


def public_key(name: str, data: bytes) -> Key:
    """Bytes of a .pub file, PEM or raw, -> Key. BundleRefused `trust_key` where it is neither."""
    try:
        if len(data) == RAW_KEY_BYTES:
            public = Ed25519PublicKey.from_public_bytes(data)
        else:
            loaded = load_pem_public_key(data)
            if not isinstance(loaded, Ed25519PublicKey):
                raise ValueError("another kind of key")
            public = loaded
    except Exception as e:  # the library documents no closed list for bad input
        raise BundleRefused(
            f"{name} is no Ed25519 public key (PEM or 32 raw bytes)",
            remedy=f"Remove {name} from the trust folder or put the right key there.",
            code="trust_key",
        ) from e
    raw = public.public_bytes(Encoding.Raw, PublicFormat.Raw)
    return Key(name=name, fingerprint=hashlib.sha256(raw).hexdigest(), public=public)


def keys(folder: Path) -> tuple[Key, ...]:
    """The trusted keys of `folder`, by file name; none where it is not there."""
    try:
        return tuple(public_key(p.name, p.read_bytes()) for p in sorted(folder.glob("*.pub")))
    except OSError as e:
        raise BundleRefused(
            f"{e.filename or folder}: {e.strerror}",
            remedy="Make the trust folder and its keys readable for the appliance.",
            code="trust_key",
        ) from e


def factory_digests(data: bytes) -> Mapping[str, FactoryBundle]:
    """Bytes of factory/digests.json -> name to version and digest."""
    try:
        return FactoryDigests.model_validate_json(data).root
    except ValidationError as e:
        raise BundleRefused(
            "factory/digests.json is damaged",
            remedy="Install the appliance again.",
            code="factory_digests",
        ) from e


def _what(loaded: Loaded) -> str:
    return f"{loaded.manifest.name} {loaded.manifest.version}"
