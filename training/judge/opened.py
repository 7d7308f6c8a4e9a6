"""A bundle with its networks loaded, to be judged before or after it is packed."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from appliance.backend.choose import choose
from appliance.backend.open import open_backend
from appliance.backend.protocol import Backend
from appliance.bundle import trust
from appliance.bundle.manifest import Network, read
from appliance.bundle.trust import Bundle
from appliance.report import BundleRef


@dataclass(frozen=True)
class Opened:
    """A bundle with its networks loaded."""

    bundle: Bundle
    backend: Backend


def open_bundle(path: Path, threads: int = 0) -> Opened:
    """A `.scanside` file, or a source folder as if it were packed."""
    if path.is_dir():
        described = json.loads((path / "source.json").read_text())
        shapes = [described["shapes"]] if "shapes" in described else []
        for part in [*described["networks"].values(), *described["goldens"], *shapes]:
            part["digest"] = hashlib.sha256((path / part["file"]).read_bytes()).hexdigest()
        text = json.dumps(described).encode()
        manifest = read(text)
        ref = BundleRef(
            name=manifest.name, version=manifest.version, digest=hashlib.sha256(text).hexdigest()
        )
        networks: dict[str, bytes] = {
            role: (path / network.file).read_bytes() for role, network in manifest.networks.items()
        }
    else:
        loaded = trust.check(path.read_bytes())
        manifest, ref, networks = loaded.manifest, loaded.ref, dict(loaded.networks)
    entries: dict[str, Network] = dict(manifest.networks.items())
    backend = open_backend(choose("auto"), entries, networks, threads)
    return Opened(Bundle(ref, manifest), backend)
