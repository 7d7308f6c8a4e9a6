"""The bundle's description is a manifest that the appliance takes."""

from __future__ import annotations

import json

import pytest

from appliance.bundle.heads import DENSITIES, Calibration
from appliance.bundle.manifest import Manifest
from appliance.preprocess import plan
from training.recipes.lung_nodule import bundle

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
        {"network": role, "file": f"golden/{role}.npz", "atol": 0.01} for role in bundle.FILES
    ]
    described = bundle.described(CALIBRATION, PROVENANCE, golden, "0.1.0", 24)
    for part in [*described["networks"].values(), *described["goldens"]]:
        assert "digest" not in part
        part["digest"] = "0" * 64
    manifest = Manifest.model_validate_json(json.dumps(described))
    assert manifest.line.calibration == CALIBRATION
    assert manifest.line.propose.top_k == 24
    assert set(manifest.networks) == set(bundle.FILES)


ADDED = {
    "cube": bundle.CUBE_HEAD,
    "mass": bundle.mass_head(1.1, -0.2, 0.3),
    "measure": bundle.MEASURE_HEAD,
}


@pytest.mark.parametrize("roles", [["cube"], ["mass"], ["measure"], ["cube", "mass", "measure"]])
def test_what_version_2_adds_is_described_with_its_network(roles: list[str]) -> None:
    names = [*bundle.FILES, *roles]
    golden = [{"network": role, "file": f"golden/{role}.npz", "atol": 0.01} for role in names]
    heads = {role: ADDED[role] for role in roles}
    described = bundle.described(CALIBRATION, PROVENANCE, golden, "1.0.0", 24, **heads)
    for part in [*described["networks"].values(), *described["goldens"]]:
        part["digest"] = "0" * 64
    manifest = Manifest.model_validate_json(json.dumps(described))
    assert manifest.line.version == 2
    assert set(manifest.networks) == set(names)
    assert {r: getattr(manifest.line, r) for r in roles} == heads
    assert ("masses" in manifest.intended_use) == ("mass" in roles)
    for role, outputs in manifest.line.reads().items():
        assert {p.name for p in manifest.networks[role].outputs} == outputs


def test_a_mass_network_that_draws_makes_version_3() -> None:
    mass, body = ADDED["mass"], bundle.BODY_HEAD
    described = bundle.described(
        CALIBRATION, PROVENANCE, [], "2.0.0", 24, mass=mass, body=body, masses_mm=10.0
    )
    for part in described["networks"].values():
        part["digest"] = "0" * 64
    manifest = Manifest.model_validate_json(json.dumps(described))
    assert manifest.line.version == 3
    assert manifest.requires_appliance == manifest.line.needs_appliance == "0.2.0"
    assert (manifest.line.body, manifest.line.one_lung_share) == (body, bundle.ONE_LUNG_SHARE)
    names = {p.name for p in manifest.networks["mass"].outputs}
    assert names == manifest.line.reads()["mass"] == {"heat", "log_diameter", "body"}
    earlier = bundle.described(CALIBRATION, PROVENANCE, [], "2.0.0", 24, mass=mass)
    assert "requires_appliance" not in earlier
    assert "body" not in earlier["line"]


def test_a_lung_network_that_draws_disease_makes_version_3_too() -> None:
    head = bundle.disease_head(0.031)
    described = bundle.described(CALIBRATION, PROVENANCE, [], "2.0.0", 24, disease=head)
    for part in described["networks"].values():
        part["digest"] = "0" * 64
    manifest = Manifest.model_validate_json(json.dumps(described))
    assert (manifest.line.version, manifest.line.disease) == (3, head)
    assert manifest.requires_appliance == "0.2.0"
    lungs, disease = manifest.networks["segment"].outputs
    assert manifest.line.reads()["segment"] == {lungs.name, disease.name}
    assert disease.shape == (1, 4, -1, -1, -1)
    plain = bundle.described(CALIBRATION, PROVENANCE, [], "2.0.0", 24)
    assert len(plain["networks"]["segment"]["outputs"]) == 1


def test_wide_slices_are_for_masses_alone() -> None:
    mass = ADDED["mass"]
    said = bundle.described(CALIBRATION, PROVENANCE, [], "1.0.0", 24, mass=mass, masses_mm=10.0)
    assert said["accepts"]["spacing_mm"]["masses"] == 10.0
    assert bundle.described(CALIBRATION, PROVENANCE, [], "1", 24)["line"]["version"] == 1


def test_inputs_of_the_added_networks_have_the_shape_that_their_ops_give() -> None:
    for role, size in (("cube", 32), ("measure", 48)):
        read = plan.steps(bundle.OPS[role])
        assert read.cube is not None
        assert (read.cube.size, read.cube.spacing_mm) == (size, 0.8)
        (port,) = bundle.network(role, "0" * 64).inputs
        assert port.shape == (-1, 1, size, size, size)
    body, density = bundle.network("measure", "0" * 64).outputs
    assert body.shape == (-1, 1, 48, 48, 48)
    assert density.shape == (-1, len(DENSITIES))


def test_masses_are_found_in_the_tensor_of_the_lungs() -> None:
    assert bundle.OPS["mass"] == bundle.OPS["segment"]


def test_ports_are_named_as_the_heads_read_them() -> None:
    line = bundle.line_model(CALIBRATION)
    names = {r: [p.name for p in bundle.network(r, "0" * 64).outputs] for r in bundle.FILES}
    assert names == {
        "segment": [line.segment.output],
        "propose": [line.propose.heat, line.propose.log_diameter],
        "classify": [line.classify.output],
    }
