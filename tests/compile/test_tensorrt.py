"""NVIDIA's own parser and builder refuse what is planted, by the node's name."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from appliance.bundle import trust
from appliance.bundle.trust import Loaded
from appliance.errors import BackendUnavailable, BundleRefused
from compile import engine, tensorrt
from compile.lint import lint
from compile.tensorrt import Library

FACTORY = Path(__file__).parents[2] / "appliance" / "factory" / "bundles"
needs_rtx = pytest.mark.skipif(
    find_spec("tensorrt_rtx") is None,
    reason="tensorrt_rtx is not installed (pip install 'scanside[trt-rtx]')",
)


@pytest.fixture(scope="module")
def rtx() -> Library:
    return tensorrt.load("tensorrt_rtx")


@pytest.fixture(scope="module")
def factory() -> Loaded:
    return trust.check((FACTORY / "lung-nodule.scanside").read_bytes())


def asymmetric(model: onnx.ModelProto) -> str:
    """Another zero point for the first pair of the graph."""
    model.graph.initializer.append(numpy_helper.from_array(np.int8(-128), "planted"))
    first = next(n for n in model.graph.node if n.op_type == "QuantizeLinear")
    first.input[2] = "planted"
    return str(first.name)


def int32_bias(model: onnx.ModelProto) -> str:
    """The first convolution's bias as onnxruntime's quantiser stores it by default."""
    layer = next(n for n in model.graph.node if n.op_type == "Conv" and len(n.input) > 2)
    (bias,) = [w for w in model.graph.initializer if w.name == layer.input[2]]
    channels = bias.dims[0]
    for name, array in {
        "planted": np.ones(channels, np.int32),
        "planted_scale": np.full(channels, 1e-3, np.float32),
    }.items():
        model.graph.initializer.append(numpy_helper.from_array(array, name))
    pair = helper.make_node(
        "DequantizeLinear", ["planted", "planted_scale"], ["bias"], name="dq_planted", axis=0
    )
    model.graph.node.insert(0, pair)
    layer.input[2] = "bias"
    return str(layer.name)


def unknown_operator(model: onnx.ModelProto) -> str:
    first = next(n for n in model.graph.node if n.op_type == "Relu")
    first.op_type, first.domain = "Rectify", "nowhere"
    model.opset_import.append(helper.make_opsetid("nowhere", 1))
    return str(first.name)


PLANTED: dict[Callable[[onnx.ModelProto], str], tuple[str, str | None]] = {
    asymmetric: ("zero_point", None),
    int32_bias: ("float_bias", "dq_planted"),
    unknown_operator: ("opset", None),
}
"""Fault -> the linter's rule, and the parser's node where it is not the linter's."""


@needs_rtx
@pytest.mark.parametrize("fault", PLANTED)
def test_a_planted_fault_is_refused_by_linter_and_parser_by_its_node(
    fault: Callable[[onnx.ModelProto], str], rtx: Library, factory: Loaded
) -> None:
    model = onnx.load_model_from_string(factory.networks["propose"])
    node = fault(model)
    assert node
    rule, parser_node = PLANTED[fault]
    data = model.SerializeToString()
    network = factory.manifest.networks["propose"]
    found = lint(data, network, "propose")
    assert (rule, node, "error") in [(f.rule, f.node, f.severity) for f in found]
    shapes = engine.profile("propose", network, factory.manifest)
    with pytest.raises(BundleRefused) as caught:
        tensorrt.build(rtx, "propose", network, data, shapes, architecture="sm_86")
    assert caught.value.code == "engine_node"
    assert repr(parser_node or node) in caught.value.text
    assert caught.value.text.startswith("network 'propose': the parser refuses node")


@needs_rtx
def test_a_file_that_is_no_network_is_refused(rtx: Library, factory: Loaded) -> None:
    network = factory.manifest.networks["propose"]
    with pytest.raises(BundleRefused) as caught:
        tensorrt.build(rtx, "propose", network, b"no network at all", {}, architecture="sm_86")
    assert caught.value.code == "engine_node"


@needs_rtx
def test_what_the_builder_refuses_is_an_error_in_its_words(rtx: Library, factory: Loaded) -> None:
    network = factory.manifest.networks["propose"]
    onnx_bytes = factory.networks["propose"]
    with pytest.raises(BundleRefused) as caught:  # free axes, and no profile for them
        tensorrt.build(rtx, "propose", network, onnx_bytes, {}, architecture="sm_86")
    assert caught.value.code == "engine_build"
    assert "no optimization profile has been defined" in caught.value.text


def test_an_error_in_the_log_fails_a_build_that_made_an_engine() -> None:
    library = Library("tensorrt", "11.4.1", None)
    assert tensorrt.accepted(b"engine", "propose", library, []) == b"engine"
    for engine_bytes, errors, said in (
        (b"engine", ["Error Code 1: Cuda Runtime"], "Error Code 1: Cuda Runtime"),
        (None, [], "it gives no reason"),
    ):
        with pytest.raises(BundleRefused) as caught:
            tensorrt.accepted(engine_bytes, "propose", library, errors)
        assert caught.value.code == "engine_build"
        assert caught.value.text.endswith(said)


@needs_rtx
def test_a_uint8_zero_point_builds_with_a_warning_so_the_linter_refuses_it_first(
    rtx: Library, factory: Loaded
) -> None:
    model = onnx.load_model_from_string(factory.networks["segment"])
    model.graph.initializer.append(numpy_helper.from_array(np.uint8(0), "planted"))
    first = next(n for n in model.graph.node if n.op_type == "QuantizeLinear")
    (pair,) = [n for n in model.graph.node if first.output[0] in n.input]
    first.input[2] = pair.input[2] = "planted"
    network, data = factory.manifest.networks["segment"], model.SerializeToString()
    assert ("int8", first.name) in [(f.rule, f.node) for f in lint(data, network, "segment")]
    shapes = engine.profile("segment", network, factory.manifest)
    made = tensorrt.build(rtx, "segment", network, data, shapes, architecture="sm_86")
    assert any("Defaulting to INT8" in warning for warning in made.warnings)


@needs_rtx
@pytest.mark.parametrize("detailed", [False, True])
def test_only_an_engine_that_is_asked_to_says_what_its_layers_are_made_of(
    detailed: bool, rtx: Library, factory: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []
    kind = rtx.module.IBuilderConfig
    real = kind.profiling_verbosity

    def put(config: object, value: object) -> None:
        asked.append(value)
        real.__set__(config, value)

    monkeypatch.setattr(kind, "profiling_verbosity", property(real.__get__, put))
    network = factory.manifest.networks["classify"]
    shapes = engine.profile("classify", network, factory.manifest)
    made = tensorrt.build(
        rtx, "classify", network, factory.networks["classify"], shapes,
        architecture="sm_86", detailed=detailed,
    )  # fmt: skip
    assert made.data
    assert asked == ([rtx.module.ProfilingVerbosity.DETAILED] if detailed else [])


@pytest.mark.skipif(find_spec("tensorrt") is not None, reason="TensorRT is installed here")
def test_a_missing_library_is_an_error_that_says_how_to_install_it() -> None:
    with pytest.raises(BackendUnavailable) as caught:
        tensorrt.load("tensorrt")
    assert caught.value.text == "the library tensorrt is not installed"
    assert "JetPack" in caught.value.remedy


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "ended by SIGSEGV"),
        ("raise ImportError('libnvinfer.so.10 is away')", "libnvinfer.so.10 is away"),
    ],
)
def test_a_library_that_kills_its_process_is_an_error(
    program: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tensorrt.py").write_text(program)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(BackendUnavailable) as caught:
        tensorrt.load("tensorrt")
    assert said in caught.value.text


LACKING = {
    "10.3": (["FP16", "INT8", "TF32"], ["max_aux_streams"], False),
    "10.12": (["FP16", "INT8", "TF32"], ["tiling_optimization_level"], True),
    "11.4": (["TF32"], ["tiling_optimization_level"], True),
}
"""Version -> builder flags, attributes of its configuration (of NVIDIA's bindings), strong."""


@pytest.mark.parametrize("version", LACKING)
def test_only_a_tensorrt_without_tiling_gets_precision_flags(version: str) -> None:
    flags, attributes, strong = LACKING[version]
    module = SimpleNamespace(
        BuilderFlag=SimpleNamespace(**dict.fromkeys(flags)),
        IBuilderConfig=SimpleNamespace(**dict.fromkeys(attributes)),
    )
    assert Library("tensorrt", version, module).strong is strong


@needs_rtx
def test_tensorrt_rtx_is_strongly_typed_and_lists_its_architectures(rtx: Library) -> None:
    assert rtx.strong
    assert {"sm_86", "sm_89"} <= set(rtx.architectures)
    assert "sm_87" not in rtx.architectures
