"""The bundle's description is a manifest that the appliance takes."""

from __future__ import annotations

import json

from appliance.bundle.manifest import Calibration, Manifest
from training import source

CALIBRATION = Calibration(propose=1.2, classify=0.7, bias=-0.1, threshold=0.4)
PROVENANCE = {
    "sources": [{"name": "CT", "licence": "CC BY 4.0", "digest": "ab"}],
    "seed": 3,
    "code_digest": "cd",
    "made": "2026-01-01T00:00:00+00:00",
    "figures": {"patches, val split: AUC": 0.9},
    "notes": [],
}


def test_with_digests_it_is_a_whole_manifest() -> None:
    golden = [
        {"network": role, "file": f"golden/{role}.npz", "atol": 0.01} for role in source.FILES
    ]
    described = source.described(CALIBRATION, PROVENANCE, golden, "0.1.0", 24)
    for part in [*described["networks"].values(), *described["goldens"]]:
        assert "digest" not in part
        part["digest"] = "0" * 64
    manifest = Manifest.model_validate_json(json.dumps(described))
    assert manifest.line.calibration == CALIBRATION
    assert manifest.line.propose.top_k == 24
    assert set(manifest.networks) == set(source.FILES)


def test_ports_are_named_as_the_heads_read_them() -> None:
    line = source.line(CALIBRATION)
    names = {r: [p.name for p in source.network(r, "0" * 64).outputs] for r in source.FILES}
    assert names == {
        "segment": [line.segment.output],
        "propose": [line.propose.heat, line.propose.log_diameter],
        "classify": [line.classify.output],
    }
