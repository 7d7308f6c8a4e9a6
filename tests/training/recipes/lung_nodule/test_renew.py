"""A bundle whose networks of lungs and masses are new, and whose others are those of before."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("scipy", reason="scipy is not installed (pip install -e '.[train]')")
pytest.importorskip("torch", reason="torch is not installed (pip install -e '.[train]')")

from appliance.bundle import trust
from appliance.bundle.manifest import Manifest
from appliance.bundle.trust import Loaded
from training.errors import RunError
from training.judge.opened import open_bundle
from training.recipes.lung_nodule import bundle, renew

FACTORY = Path("appliance/factory/bundles/lung-nodule.scanside")
SOURCE = {"name": "CT", "licence": "CC BY 4.0", "digest": "ab"}
HEADS = {"scale": 3.5, "bias": 1.5, "threshold": 0.3, "least_mm": 25.0}
MASSES = {"found": {"all": "14/16 (0.64-0.97)"}}
DISEASE = {
    "diffuse_share": 0.07,
    "left_out": {"limited": {"few": {"limited": 0, "of": 7, "interval": [0.0, 0.354]}}},
}


def drawing(role: bundle.Role) -> bytes:
    """A network of the role that says nothing of anything, and draws: no training is needed."""
    import numpy as np  # noqa: PLC0415
    from onnx import TensorProto, helper, numpy_helper  # noqa: PLC0415

    entry = bundle.network(role, "0" * 64, drawn=True)
    volume = [1, 1, "z", "y", "x"]
    step = 4 if role == "mass" else 1
    nodes, weights, ports = [], [], []
    for port in entry.outputs:
        width = max(port.shape[1], 1)
        stride = step if port.name in ("heat", "log_diameter") else 1
        weights.append(
            numpy_helper.from_array(
                np.full((width, 1, stride, stride, stride), -0.01, np.float32), f"w-{port.name}"
            )
        )
        nodes.append(
            helper.make_node("Conv", ["image", f"w-{port.name}"], [port.name], strides=[stride] * 3)
        )
        shape = [1, width, *(f"{a}-{port.name}" for a in "zyx")]
        ports.append(helper.make_tensor_value_info(port.name, TensorProto.FLOAT, shape))
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, volume)
    graph = helper.make_graph(nodes, role, [image], ports, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return bytes(model.SerializeToString())


@pytest.fixture
def loaded() -> Loaded:
    return trust.check(FACTORY.read_bytes())


def runs(work: Path, **networks: bytes) -> renew.Knobs:
    """Finished runs of the two roles with these networks, and what their judges wrote."""
    for role, data in networks.items():
        folder = work / f"{role}-run"
        folder.mkdir()
        (folder / "int8.onnx").write_bytes(data)
        run = {"name": f"{role}-run", "hosts": "R01-001,A0001"}
        (folder / "quantize.json").write_text(json.dumps({"run": run}))
    for name, content in (("heads", HEADS), ("masses", MASSES), ("disease", DISEASE)):
        (work / f"{name}.json").write_text(json.dumps(content))
    written: dict[str, Any] = {
        "disease": str(work / "disease.json"),
        "mass_heads": str(work / "heads.json"),
        "mass_figures": str(work / "masses.json"),
    }
    return renew.Knobs(segment="segment-run", mass="mass-run", version="9.1.0", **written)


@pytest.mark.long
def test_what_is_kept_is_kept_byte_for_byte_and_what_is_new_is_that_of_the_runs(
    work: Path, loaded: Loaded
) -> None:
    new: dict[bundle.Role, bytes] = {r: drawing(r) for r in renew.RENEWED}
    renew.renewed(loaded, runs(work, **new), [SOURCE], work / "out")
    opened = open_bundle(work / "out", 1)
    manifest, before = opened.bundle.manifest, loaded.manifest
    opened.backend.close()
    assert (manifest.version, manifest.line.version) == ("9.1.0", 3)
    assert manifest.requires_appliance == "0.2.0"
    for role, network in manifest.networks.items():
        data = (work / "out" / network.file).read_bytes()
        assert data == (new[role] if role in new else loaded.networks[role])
    line, was = manifest.line, before.line
    assert (line.calibration, line.propose, line.measure) == (
        was.calibration,
        was.propose,
        was.measure,
    )
    assert (line.mass.scale, line.mass.threshold) == (3.5, 0.3)
    assert (line.disease.diffuse_share, line.body) == (0.07, bundle.BODY_HEAD)
    assert manifest.shapes == before.shapes is not None
    assert (work / "out" / "shapes.npz").read_bytes() == loaded.shapes, "what ships is probed"
    golden = {g.network for g in manifest.goldens}
    assert golden == set(manifest.networks) == set(before.networks)


@pytest.mark.long
def test_the_card_has_the_figures_of_both_and_says_which_networks_are_older(
    work: Path, loaded: Loaded
) -> None:
    new: dict[bundle.Role, bytes] = {r: drawing(r) for r in renew.RENEWED}
    renew.renewed(loaded, runs(work, **new), [SOURCE], work / "out")
    said = json.loads((work / "out" / "source.json").read_text())["provenance"]
    old = loaded.manifest.provenance.figures
    patches = {name: one for name, one in old.items() if name.startswith(("patches", "implants"))}
    assert len(patches) > 10
    assert set(patches) < set(said["figures"])
    masses = {name for name in said["figures"] if "mass" in name}
    assert masses == {"implanted masses, scan left out, all: sensitivity"}
    assert sum("disease" in name for name in said["figures"]) == 1
    notes = " ".join(said["notes"])
    assert f"propose, classify, measure: those of {loaded.manifest.version}" in notes
    assert "segment: run segment-run, learned from R01-001, A0001." in notes
    assert said["sources"] == [SOURCE]


def test_a_run_that_draws_nothing_and_judges_that_wrote_nothing_are_refused(
    work: Path, loaded: Loaded
) -> None:
    plain = loaded.networks["propose"]
    k = runs(work, segment=drawing("segment"), mass=plain)
    with pytest.raises(RunError, match="the run of mass draws nothing"):
        renew.renewed(loaded, k, [SOURCE], work / "out")
    (work / "disease.json").unlink()
    (work / "mass-run" / "int8.onnx").write_bytes(drawing("mass"))
    with pytest.raises(RunError, match=r"disease\.json: not there"):
        renew.renewed(loaded, k, [SOURCE], work / "out")


def test_a_kept_network_with_other_ops_is_refused(loaded: Loaded) -> None:
    networks = dict(loaded.manifest.networks)
    networks["propose"] = networks["propose"].model_copy(update={"preprocess": ()})
    other: Manifest = loaded.manifest.model_copy(update={"networks": networks})
    with pytest.raises(RunError, match=r"propose of .* has other ops"):
        renew.refuse_others(other, {r: drawing(r) for r in renew.RENEWED})
