"""The compiler gate builds every network, INT8 and float, or names the node that is refused."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import onnx
import pytest

from appliance.bundle import trust
from appliance.errors import BundleRefused
from compile import gate
from compile.__main__ import main

BUNDLES = sorted(
    (Path(__file__).parents[2] / "appliance" / "factory" / "bundles").glob("*.scanside")
)
needs_rtx = pytest.mark.skipif(
    find_spec("tensorrt_rtx") is None,
    reason="tensorrt_rtx is not installed (pip install 'scanside[trt-rtx]')",
)


@needs_rtx
@pytest.mark.parametrize("bundle", BUNDLES, ids=lambda p: p.stem)
def test_a_factory_bundle_passes_in_int8_and_float_and_its_time_is_said(
    bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["gate", str(bundle)]) == 0
    *rows, last = capsys.readouterr().out.splitlines()
    with capsys.disabled():
        sys.stdout.write(f"\ngate: {last}\n")
    loaded = trust.check(bundle.read_bytes())
    built = {tuple(row.split()[1:4]) for row in rows}
    assert {(role, target) for role, _, target in built} == {
        (role, f"{target}:") for role in loaded.networks for target in gate.TARGETS
    }
    for role in loaded.networks:
        whats = {what for name, what, _ in built if name == role}
        assert "float32" in whats
        int8 = loaded.manifest.networks[role].precision == "int8"
        lower = {what for what in whats if what.startswith("int8+" if int8 else "float16")}
        assert whats == {"float32", *lower}
        assert lower
    assert len(rows) == len(built) == 4 * len(loaded.networks)
    assert re.search(rf"{len(rows)} engines built for rtx:SM86, rtx:SM89 in [\d.]+ s", last)


@needs_rtx
def test_of_a_float_network_that_holds_in_float16_both_are_built(tiny_bytes: bytes) -> None:
    loaded = trust.check(tiny_bytes)
    rows = list(gate.gate(loaded, ["rtx:SM86"]))
    assert {row.network for row in rows} == set(loaded.networks)
    assert {row.what for row in rows} <= {"float16", "float32"}
    assert all(row.bytes > 0 for row in rows)


@needs_rtx
def test_a_planted_fault_ends_it_by_the_nodes_name(tiny_bytes: bytes) -> None:
    loaded = trust.check(tiny_bytes)
    model = onnx.load_model_from_string(loaded.networks["segment"])
    model.graph.node[0].domain = "nowhere"
    planted = replace(loaded, networks={**loaded.networks, "segment": model.SerializeToString()})
    with pytest.raises(BundleRefused) as caught:
        list(gate.gate(planted))
    assert caught.value.code == "lint"
    assert "no standard operator" in caught.value.text


def test_a_target_that_is_none_is_wrong_usage(tiny_bundle: Path) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["gate", str(tiny_bundle), "--targets", "rtx:SM86,cuda"])
    assert caught.value.code == 2
