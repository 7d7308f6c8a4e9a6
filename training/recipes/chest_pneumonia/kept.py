"""What the next version of a bundle keeps of the one before, byte for byte.

    bundle -> its files in a source folder, and its manifest as source.json would have it

Rules. Networks and golden cases are written as they are in the bundle. What packing fills in
(digests, what was found in the phantom) is left out: it is filled in anew. Sources, seed, notes and
what was never tested stay, and a note says which version is kept.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from appliance.bundle import archive, trust
from appliance.bundle.lines import ClassifyImage
from appliance.bundle.manifest import MANIFEST, SIGNATURE, Figure, Manifest
from training.ship import learned
from training.ship.provenance import Source, provenance

NETWORK_AND_HEADS = "Network, heads and out-of-fold figures"


def kept(data: bytes, out: Path) -> tuple[Manifest, dict[str, Any]]:
    """Writes the files of a bundle to `out`; its manifest, and the same as source.json."""
    entries, manifest = archive.read(data), trust.check(data).manifest
    source: dict[str, Any] = json.loads(entries.pop(MANIFEST))
    entries.pop(SIGNATURE, None)
    source.pop("phantom", None)
    for part in (*source["networks"].values(), *source["goldens"]):
        del part["digest"]
    for name, content in entries.items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_bytes(content)
    return manifest, source


def kept_from(manifest: Manifest) -> dict[str, Any]:
    """What is known of each network that is kept."""
    return {
        role: {"kept_from": manifest.version, "sha256": network.digest}
        for role, network in manifest.networks.items()
    }


def heads_of(line: ClassifyImage) -> dict[str, float]:
    """Its heads.json."""
    return {"scale": line.scale, "bias": line.bias, "threshold": line.threshold}


def renewed_provenance(
    manifest: Manifest,
    figures: Mapping[str, Figure | float],
    note: str,
    what: str,
    sources: Sequence[Source] = (),
    never_tested: Sequence[str] = (),
) -> dict[str, Any]:
    """The provenance of the next version: with these figures, one note and what is added. `what` is
    kept of this version."""
    before = manifest.provenance
    notes = (*before.notes, f"{what}: those of {manifest.version}, {before.made[:10]}.", note)
    every = [*(one.model_dump(mode="json") for one in before.sources), *sources]
    made = provenance(learned.union(every), before.seed, figures, notes)
    return {**made, "never_tested": [*before.never_tested, *never_tested]}
