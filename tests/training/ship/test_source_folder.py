"""The source folder: what is copied from a run, and the one line where a step is missing."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from training.errors import RunError
from training.ship.source_folder import copied, precision_named, read_json, with_quantized


def test_the_network_of_a_precision_is_copied_with_what_is_known_of_it(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "int8.onnx").write_bytes(b"small")
    (run / "float.onnx").write_bytes(b"a float network")
    (run / "quantize.json").write_text(json.dumps({"method": "percentile"}))
    data, about = copied(run, "fp32", tmp_path / "network.onnx")
    assert data == (tmp_path / "network.onnx").read_bytes() == b"a float network"
    digest = hashlib.sha256(data).hexdigest()
    assert about == {"method": "percentile", "bytes": len(data), "sha256": digest}
    assert copied(run, "int8", tmp_path / "network.onnx")[0] == b"small"


def test_a_step_that_did_not_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"heads\.json: not there or not whole: run the step"):
        read_json(tmp_path / "heads.json")
    (tmp_path / "half.json").write_text('{"scale": ')
    with pytest.raises(RunError, match="run the step that writes it first"):
        read_json(tmp_path / "half.json")


def test_a_precision_that_is_none_is_refused_in_one_line() -> None:
    assert precision_named("fp32") == "fp32"
    with pytest.raises(SystemExit, match="--precision is one of int8, fp32, not 'int4'"):
        precision_named("int4")


def test_an_int8_network_says_how_it_was_quantised_and_then_an_older_appliance_is_told() -> None:
    about = {
        "method": "minmax",
        "scales": {"a": 0.5, "b": 0.25},
        "calibration": {"images": 16, "digest": "c" * 64},
    }
    source = {"networks": {"propose": {"precision": "int8"}, "segment": {"precision": "fp32"}}}
    said = with_quantized(source, {"propose": about, "segment": about})
    assert said["requires_appliance"] == "0.2.0"
    assert "quantized" not in said["networks"]["segment"]
    way = said["networks"]["propose"]["quantized"]
    digest = hashlib.sha256(b'{"a":0.5,"b":0.25}').hexdigest()
    assert way == {
        "method": "minmax",
        "scales_digest": digest,
        "images": 16,
        "images_digest": "c" * 64,
    }
    kept = with_quantized(source, {"propose": {"quantized": way}})
    assert kept["networks"]["propose"]["quantized"] == way
    assert with_quantized(source, {"propose": {"method": "minmax"}}) == source
