"""Bad bundles, keys and shelves, made from the tiny bundle: fixtures for a conftest to import."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from numpy.typing import NDArray

from appliance.bundle import archive, golden, trust
from appliance.bundle.shelf import Audit, Shelf
from appliance.store.journal import Journal

Forge = Callable[..., bytes]


@pytest.fixture
def key() -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(b"k" * 32)


@pytest.fixture
def forge(tiny_bytes: bytes) -> Forge:
    """(change of the manifest, entries to put, key) -> bundle whose digests fit again."""

    def build(
        change: Callable[[dict[str, Any]], object] = lambda _: None,
        put: Mapping[str, bytes] | None = None,
        key: Ed25519PrivateKey | None = None,
        refit: bool = True,
    ) -> bytes:
        entries = archive.read(tiny_bytes) | dict(put or {})
        manifest = json.loads(entries["manifest.json"])
        if refit:
            for part in [*manifest["networks"].values(), *manifest["goldens"]]:
                part["digest"] = hashlib.sha256(entries[part["file"]]).hexdigest()
        change(manifest)
        entries["manifest.json"] = json.dumps(manifest).encode()
        if key is not None:
            entries["manifest.sig"] = key.sign(entries["manifest.json"])
        return archive.write(entries)

    return build


@pytest.fixture
def signed(forge: Forge, key: Ed25519PrivateKey, tmp_path: Path) -> Callable[[str], Path]:
    """Version -> path of a signed bundle."""

    def build(version: str) -> Path:
        path = tmp_path / f"signed-{version}.scanside"
        path.write_bytes(forge(lambda m: m.update(version=version), key=key))
        return path

    return build


@pytest.fixture
def state(tmp_path: Path, key: Ed25519PrivateKey) -> Path:
    """A state folder that trusts `key`."""
    folder = tmp_path / "state"
    (folder / "trust").mkdir(parents=True)
    raw = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    (folder / "trust" / "fleet.pub").write_bytes(raw)
    return folder


@pytest.fixture
def factory(tmp_path: Path, tiny_bytes: bytes) -> Path:
    """A factory folder that holds the tiny bundle."""
    folder = tmp_path / "factory"
    (folder / "bundles").mkdir(parents=True)
    (folder / "bundles" / "tiny-nodule.scanside").write_bytes(tiny_bytes)
    line = {"version": "1.0.0", "digest": trust.check(tiny_bytes).digest}
    (folder / "digests.json").write_text(json.dumps({"tiny-nodule": line}))
    return folder


class Networks:
    """A runner that counts how often it opens, and can be made wrong."""

    def __init__(self) -> None:
        self.opened = 0
        self.error = 0.0

    def infer(self, loaded: trust.Loaded) -> golden.Infer:
        """On onnxruntime, as wrong as asked for."""
        infer = onnxruntime_infer(loaded)

        def wrong(role: str, image: NDArray[np.float32]) -> golden.Arrays:
            return {n: v + np.float32(self.error) for n, v in infer(role, image).items()}

        return wrong

    def runner(self, name: str = "onnxruntime test fp32") -> golden.Runner:
        def run(_: Path, loaded: trust.Loaded) -> golden.Gate:
            self.opened += 1
            return golden.gate(loaded, self.infer(loaded))

        return golden.Runner(key=name, run=run)


def onnxruntime_infer(loaded: trust.Loaded) -> golden.Infer:
    import onnxruntime  # noqa: PLC0415

    def infer(role: str, image: NDArray[np.float32]) -> golden.Arrays:
        session = onnxruntime.InferenceSession(
            loaded.networks[role], providers=["CPUExecutionProvider"]
        )
        values = session.run(None, {"image": image})
        return dict(zip((o.name for o in session.get_outputs()), values, strict=True))

    return infer


def audited(state: Path) -> Audit:
    """Writes into the audit of this state folder, as the command line does."""

    def add(action: str, detail: Mapping[str, str]) -> None:
        with Journal.open(state) as journal:
            journal.audit.add("tests", action, **detail)

    return add


@pytest.fixture
def networks() -> Networks:
    return Networks()


@pytest.fixture
def make_shelf(state: Path, factory: Path, networks: Networks) -> Callable[..., Shelf]:
    """A shelf on `state` and `factory` with a counting onnxruntime; keywords override."""

    def build(**overrides: Any) -> Shelf:
        where: Path = overrides.pop("state", state)
        given: dict[str, Any] = {
            "runner": networks.runner(),
            "audit": audited(where),
            "factory": factory,
            "appliance_version": "0.1.0",
        }
        return Shelf(where, **{**given, **overrides})

    return build
