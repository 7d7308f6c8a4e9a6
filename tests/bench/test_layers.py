"""INT8, FP16 and FP32 by layer and end to end, over engines of the host that tell their layers."""

from __future__ import annotations

import ctypes
import json
import math
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from appliance.backend.device import EngineError
from appliance.bundle import trust
from appliance.bundle.lines import SegmentProposeClassify
from appliance.bundle.trust import Loaded
from appliance.errors import BackendUnavailable
from bench import gpu, layers
from compile.half import LAYERS
from compile.unquantized import unquantized
from rigs import host_gpu

PNEUMONIA = gpu.FACTORY.with_name("chest-pneumonia.scanside")
"""The smallest shipped network, in INT8."""


class Telling(host_gpu.HostEngine):
    """device.Profiled: onnxruntime's own profile of an unoptimised session, layer by layer."""

    def __init__(self, role, network, onnx_file: bytes, folder: Path) -> None:
        super().__init__(role, network, onnx_file)
        self._file, self._folder = onnx_file, folder

    def layers_ms(self, stream, image, outputs, scratch):
        assert not self.closed
        self.run(stream, image, outputs, scratch)
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.enable_profiling = True
        options.profile_file_prefix = str(self._folder / "profile")
        session = onnxruntime.InferenceSession(self._file, options)
        size = math.prod(self._shape)
        held = np.ctypeslib.as_array((ctypes.c_float * size).from_address(image))
        session.run(None, {session.get_inputs()[0].name: held.reshape(self._shape)})
        path = Path(session.end_profiling())
        told: dict[str, float] = {}
        for event in json.loads(path.read_text()):
            name, _, kind = event["name"].rpartition("_kernel_")
            if event["cat"] == "Node" and kind == "time":
                told[name] = told.get(name, 0.0) + event["dur"] / 1000
        path.unlink()
        return told


@pytest.fixture(scope="module")
def pneumonia() -> Loaded:
    return trust.check(PNEUMONIA.read_bytes())


@pytest.fixture
def owner(kernels):
    made = host_gpu.device(kernels)
    yield made
    made.stop()


def test_each_precision_is_timed_as_a_whole_and_by_layer(owner, pneumonia, tmp_path) -> None:
    def make(role, precision, data, shapes):
        return Telling(role, layers.networks_of(pneumonia)[role], data, tmp_path)

    networks = layers.files(pneumonia)
    held = owner.call(lambda device: set(device.cuda.held))
    found = layers.measured(owner, pneumonia, networks, make, 2)
    assert owner.call(lambda device: set(device.cuda.held)) == held  # all was given back
    row, names = found["classify"], layers.weighted(networks["classify"]["FP32"])
    assert list(row) == ["INT8", "FP16", "FP32"]
    assert len(names) == 12
    for one in row.values():
        assert isinstance(one, layers.Timed)
        assert one.whole_s > 0
        told = layers.by_layer(one.layers, names)
        assert all(isinstance(told[name], float) for name in (*names, layers.REST))
        assert sum(told.values()) == pytest.approx(sum(one.layers.values()))
    assert any("QuantizeLinear" in kernel for kernel in row["INT8"].layers)
    assert not any("QuantizeLinear" in kernel for kernel in row["FP32"].layers)
    table = layers.layer_table("classify", names, row).splitlines()
    assert table[0] == "classify, by layer"
    assert table[2] == "| layer | INT8 ms | FP16 ms | FP32 ms |"
    assert [line.split(" | ")[0] for line in table[4:]] == [
        f"| {name}" for name in (*names, layers.REST, "all")
    ]


FUSED = {
    "node_Conv_1 + node_relu": 1.0,
    "__myl_Conv_0 [ONNX Layer: node_Conv_10][ONNX Layer: node_Conv_12]": 2.0,
    "reformat of node_Conv_1": 0.25,
    "cast": 0.5,
}


def test_a_kernel_counts_for_the_first_layer_that_it_holds() -> None:
    names = ["node_Conv_1", "node_Conv_10", "node_Conv_12", "node_Conv_120"]
    assert layers.by_layer(FUSED, names) == {
        "node_Conv_1": 1.25,
        "node_Conv_10": 2.0,
        "node_Conv_12": "with node_Conv_10",
        "node_Conv_120": "not told",
        "the rest": 0.5,
    }


def test_what_cannot_be_had_is_said_in_the_table_and_the_rest_is_measured(owner, pneumonia) -> None:
    class Silent(host_gpu.HostEngine):
        def layers_ms(self, stream, image, outputs, scratch):
            raise EngineError("this TensorRT has no profiler")

    def make(role, precision, data, shapes):
        if precision == "FP16":
            raise BackendUnavailable("the builder ran out of memory")
        kind = Silent if precision == "INT8" else host_gpu.HostEngine
        return kind(role, layers.networks_of(pneumonia)[role], data)

    networks = layers.files(pneumonia)
    found = layers.measured(owner, pneumonia, networks, make, 1)
    text = layers.layer_table("classify", ["node_Conv_169"], found["classify"])
    assert text == (
        "classify, by layer; INT8: this TensorRT has no profiler; "
        "FP16: the builder ran out of memory; FP32: this engine tells no times of its layers"
    )
    assert found["classify"]["INT8"].whole_s > 0
    rows = dict(layers.ratios(found, {"classify": 1.0}, "torch"))
    assert "FP16: the builder ran out of memory" in rows["classify, host to host"]


def test_memory_that_runs_out_is_said_for_each_engine(owner, pneumonia) -> None:
    def make(role, precision, data, shapes):
        return host_gpu.HostEngine(role, layers.networks_of(pneumonia)[role], data)

    owner.call(lambda device: setattr(device.cuda, "fails", "allocate"))
    found = layers.measured(owner, pneumonia, layers.files(pneumonia), make, 1)
    assert len(found["classify"]) == 3
    assert all("illegal memory access" in said for said in found["classify"].values())


def timed(seconds: float) -> layers.Timed:
    return layers.Timed(seconds, {})


def test_the_ratio_is_of_all_networks_together_and_names_its_baseline() -> None:
    engines = {
        "segment": {"INT8": timed(0.001), "FP16": timed(0.002), "FP32": timed(0.004)},
        "propose": {"INT8": timed(0.004), "FP16": timed(0.005), "FP32": timed(0.009)},
    }
    rows = layers.ratios(engines, {"segment": 0.004, "propose": 0.016}, "torch 2 eager float32")
    assert rows[0] == (
        "segment, host to host",
        "INT8 1.00 ms; FP16 2.00 ms; FP32 4.00 ms; torch 2 eager float32 4.00 ms: INT8 is 4.00x",
    )
    assert rows[-1] == (
        "INT8 engines against torch 2 eager float32, all networks, host to host",
        "4.00x (aim 3.2x)",
    )
    assert layers.ratios(engines, {"segment": 0.004}, "torch")[-1][1] == "not all were measured"
    engines["segment"]["INT8"] = "no memory"
    both = {"segment": 0.004, "propose": 0.016}
    assert layers.ratios(engines, both, "torch")[-1][1] == "not all were measured"


def test_the_baseline_has_the_architectures_of_the_shipped_networks() -> None:
    pytest.importorskip("torch", reason="torch is not installed: there is no baseline")
    loaded = trust.check(gpu.FACTORY.read_bytes())
    for role, data in loaded.networks.items():
        graph = onnx.load_model_from_string(unquantized(data)).graph
        stored = {w.name: w for w in graph.initializer}
        ours = sorted(
            sorted(numpy_helper.to_array(stored[node.input[1]]).shape)
            for node in graph.node
            if node.op_type in LAYERS
        )
        theirs = sorted(
            sorted(p.shape) for p in layers.architecture(role).parameters() if len(p.shape) > 1
        )
        assert ours == theirs, role


def test_torch_eager_is_timed_from_host_to_host() -> None:
    pytest.importorskip("torch", reason="torch is not installed: there is no baseline")
    for role, shape in (("classify", (2, 1, 48, 48)), ("segment", (1, 1, 16, 16, 16))):
        assert layers.eager_s(role, shape, "cpu", "float32", 1) > 0


def test_the_baseline_is_named_with_its_version_and_its_precision(monkeypatch) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed: there is no baseline")
    monkeypatch.setattr(layers, "eager_s", lambda role, *_: {"segment": 0.5}[role])
    loaded = trust.check(gpu.FACTORY.read_bytes())
    name, baseline, lines = gpu.of_torch(loaded, "cpu", 1)
    assert name.startswith(f"torch {torch.__version__} eager float32 (cuDNN's TF32 o")
    assert baseline == {"segment": 0.5}
    said = {line.what: line.value for line in lines}
    assert said["torch eager segment float16, 1 x 1 x 112 x 128 x 128"] == "500.00 ms"
    assert said["torch eager propose float32"] == "KeyError: 'propose'"


def test_without_torch_or_its_gpu_the_reason_is_a_line(monkeypatch) -> None:
    loaded = trust.check(gpu.FACTORY.read_bytes())
    torch = pytest.importorskip("torch", reason="torch is not installed: there is no baseline")
    if not torch.cuda.is_available():
        _, baseline, (line,) = gpu.of_torch(loaded, "cuda", 1)
        assert (baseline, line.value) == ({}, "this torch sees no GPU")
    monkeypatch.setitem(sys.modules, "torch", None)
    _, baseline, (line,) = gpu.of_torch(loaded, "cuda", 1)
    assert (baseline, line.value) == ({}, "torch is not installed")


def test_without_tensorrt_the_reason_is_a_line(owner, monkeypatch) -> None:
    def missing(name):
        raise BackendUnavailable(f"the library {name} is not installed")

    monkeypatch.setattr(layers.tensorrt, "load", missing)
    monkeypatch.setattr(layers, "files", lambda _: {})
    loaded = trust.check(gpu.FACTORY.read_bytes())
    monkeypatch.setattr(gpu, "of_torch", lambda *_: ("torch", {}, []))
    (row,), tables = gpu.of_layers(owner, loaded, None, 1)
    assert (row.what, row.value) == (
        "INT8, FP16, FP32 by layer",
        "the library tensorrt is not installed",
    )
    assert tables == []


def test_a_ct_runs_through_every_network_of_the_line(kernels, tiny_bytes) -> None:
    loaded = trust.check(tiny_bytes)
    networks, ran = layers.networks_of(loaded), []
    profiles = {role: layers.shapes_of(loaded, role) for role in networks}
    backend = host_gpu.backend(kernels, networks, loaded.networks, profiles, available=4 << 30)
    infer = backend.infer
    backend.infer = lambda role, image: (ran.append((role, image.shape)), infer(role, image))[1]
    try:
        took = gpu.ct_s(backend, loaded.manifest, gpu.stack_of(40, 128), 1)
    finally:
        backend.close()
    assert took > 0
    line = loaded.manifest.line_of(SegmentProposeClassify)
    number = line.propose.top_k * line.classify.views
    once = [role for role, _ in ran[: len(ran) // 2]]
    assert once == ["segment", "propose", "classify"]
    assert dict(ran)["classify"] == (number, 1, 48, 48)
