"""What of TensorRT and pycuda can be seen without a GPU: names, refusals, and that nothing dies."""

from __future__ import annotations

import json
import re
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from appliance.backend import trt_engine
from appliance.backend.cuda_device import KERNELS, PyCuda
from appliance.backend.device import EngineError
from appliance.backend.trt_engine import Library, TrtEngine
from appliance.bundle import trust
from appliance.errors import BackendUnavailable
from appliance.host import driver
from compile import engine, tensorrt

needs_rtx = pytest.mark.skipif(
    find_spec("tensorrt_rtx") is None,
    reason="tensorrt_rtx is not installed (pip install 'scanside[trt-rtx]')",
)


@needs_rtx
def test_every_name_that_is_called_is_one_of_nvidias_bindings():
    import tensorrt_rtx as trt  # noqa: PLC0415 - only where it is installed

    for table in (trt_engine.USED, trt_engine.PROFILED):
        for kind, names in table.items():
            for name in names:
                assert hasattr(getattr(trt, kind), name), f"{kind}.{name}"
    assert hasattr(trt.ICudaEngine, "device_memory_size_v2")
    assert hasattr(trt.IExecutionContext, "set_device_memory")
    assert trt.ExecutionContextAllocationStrategy.USER_MANAGED is not None
    assert trt.TensorIOMode.INPUT is not None
    assert callable(trt.nptype)


@needs_rtx
def test_a_plan_that_is_not_taken_is_an_error_and_the_process_lives_on(tiny_bytes):
    rtx = tensorrt.load("tensorrt_rtx")
    loaded = trust.check(tiny_bytes)
    network = loaded.manifest.networks["classify"]
    shapes = engine.profile("classify", network, loaded.manifest)
    plan = tensorrt.build(
        rtx, "classify", network, loaded.networks["classify"], shapes, architecture="sm_86"
    ).data
    if driver.there():
        pytest.skip("this machine has a GPU: the plan may be taken")
    for data in (plan, plan[:1000], b"no plan"):
        with pytest.raises(EngineError, match="TensorRT"):
            TrtEngine(Library(rtx.module, rtx.version), data)


@needs_rtx
def test_a_profiler_of_ours_is_one_of_nvidias_and_adds_up_what_comes_twice():
    import tensorrt_rtx as trt  # noqa: PLC0415 - only where it is installed

    times = trt_engine.profiler(trt)
    assert isinstance(times, trt.IProfiler)
    for ms in (1.0, 0.5):
        times.report_layer_time("conv", ms)
    assert times.ms == {"conv": 1.5}


LAYERS = {"__myl_Conv_0": "[ONNX Layer: node_Conv_1]", "cast": ""}


def small_tensorrt(said: str, *, without: tuple[str, ...] = (), quiet: bool = False):
    """As much of TensorRT as one engine needs, with the calls and answers of its documentation: a
    context tells its profiler each layer's time before execute_async_v3 returns."""

    class Context:
        profiler = None

        def set_input_shape(self, name, shape):
            return True

        def set_device_memory(self, at, size):
            self.scratch = at, size

        def set_tensor_address(self, name, at):
            return True

        def execute_async_v3(self, stream):
            for layer in LAYERS if self.profiler is not None and not quiet else ():
                self.profiler.report_layer_time(layer, 0.25)
            return True

    class Engine:
        num_io_tensors = 2
        device_memory_size_v2 = 64

        def create_execution_context(self, strategy):
            return Context()

        def get_tensor_name(self, i):
            return ("image", "logit")[i]

        def get_tensor_mode(self, name):
            return name == "image"

        def get_tensor_dtype(self, name):
            return np.float32

        def create_engine_inspector(self):
            return SimpleNamespace(get_engine_information=lambda form: said)

    for name, kind in (("profiler", Context), ("create_engine_inspector", Engine)):
        if name in without:
            delattr(kind, name)
    runtime = SimpleNamespace(deserialize_cuda_engine=lambda plan: Engine())
    logger = type("ILogger", (), {"ERROR": 1, "INTERNAL_ERROR": 0, "WARNING": 2})
    return SimpleNamespace(
        ILogger=logger,
        IProfiler=type("IProfiler", (), {}),
        Runtime=lambda log: runtime,
        ExecutionContextAllocationStrategy=SimpleNamespace(USER_MANAGED=1),
        TensorIOMode=SimpleNamespace(INPUT=True),
        LayerInformationFormat=SimpleNamespace(JSON="json"),
        nptype=lambda kind: kind,
    )


DETAILED = json.dumps({"Layers": [{"Name": n, "Metadata": m} for n, m in LAYERS.items()]})
NAMES_ALONE = json.dumps({"Layers": list(LAYERS)})
TOLD = {"__myl_Conv_0 [ONNX Layer: node_Conv_1]": 0.25, "cast": 0.25}


@pytest.mark.parametrize(
    ("trt", "told"),
    [
        (small_tensorrt(DETAILED), TOLD),
        (small_tensorrt(NAMES_ALONE), dict.fromkeys(LAYERS, 0.25)),
        (small_tensorrt("no json at all"), dict.fromkeys(LAYERS, 0.25)),
        (small_tensorrt("", without=("create_engine_inspector",)), dict.fromkeys(LAYERS, 0.25)),
    ],
    ids=["detailed", "names alone", "no json", "no inspector"],
)
def test_layers_are_told_with_their_nodes_where_the_library_knows_them(trt, told):
    one = TrtEngine(Library(trt, "10.16"), b"plan")
    for _ in range(2):  # each run anew, never added to the one before
        assert one.layers_ms(1, 256, {"logit": 512}, 768) == told


def test_a_tensorrt_without_a_profiler_or_one_that_says_nothing_is_an_error():
    for trt, said in (
        (small_tensorrt(DETAILED, without=("profiler",)), "this TensorRT has no profiler"),
        (small_tensorrt(DETAILED, quiet=True), "told the time of no layer"),
    ):
        one = TrtEngine(Library(trt, "10.16"), b"plan")
        with pytest.raises(EngineError, match=said):
            one.layers_ms(1, 256, {"logit": 512}, 768)


@pytest.mark.skipif(find_spec("tensorrt") is not None, reason="TensorRT is installed here")
def test_without_tensorrt_the_error_says_where_it_comes_from():
    with pytest.raises(BackendUnavailable) as error:
        trt_engine.load()
    assert error.value.text == "TensorRT is not installed"
    assert "JetPack" in error.value.remedy


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "ended by SIGSEGV"),
        ("raise ImportError('libnvinfer.so.10 is away')", "libnvinfer.so.10 is away"),
        (
            "__version__ = '10.3'\nclass Logger:\n ERROR = 1\n def __init__(self, s): pass",
            "Runtime",
        ),
    ],
)
def test_a_tensorrt_that_kills_its_process_or_lacks_a_runtime_is_an_error(
    program: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "tensorrt.py").write_text(program)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(BackendUnavailable, match="TensorRT cannot be loaded") as error:
        trt_engine.load()
    assert said in error.value.text
    assert "tensorrt" not in sys.modules


@pytest.mark.skipif(find_spec("pycuda") is not None, reason="pycuda is installed here")
def test_without_pycuda_the_error_says_how_to_build_it():
    with pytest.raises(BackendUnavailable, match="pycuda is missing") as error:
        PyCuda(b"")
    assert "--no-binary pycuda" in error.value.remedy


def test_every_kernel_that_is_launched_is_in_the_source():
    source = (Path(trt_engine.__file__).parent / "kernels.cu").read_text()
    patterns = re.findall(r"__global__ void (\w+##name(?:##\w+)?)\(", source)
    elements = re.findall(r"^KERNELS\((\w+), \w+\)$", source, re.M)
    made = {p.replace("##name", e).replace("##", "") for p in patterns for e in elements}
    assert len(made) == 21
    assert len(KERNELS) == 7
    assert made >= set(KERNELS)


def test_an_old_driver_is_named_with_its_version():
    orin = driver.Driver(name="Orin", major=8, minor=7, version=12060, integrated=True)
    assert driver.recent(orin) == orin
    with pytest.raises(BackendUnavailable, match=r"supports CUDA 11\.4.* 12\.6 or later") as error:
        driver.recent(orin.model_copy(update={"version": 11040}))
    assert error.value.code == "driver_old"
    assert "JetPack" in error.value.remedy


def test_a_gpu_is_where_the_kernel_shows_a_device_file(tmp_path):
    assert not driver.there(tmp_path)
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev" / "nvhost-gpu").touch()
    assert driver.there(tmp_path)


@pytest.mark.parametrize("module", ["nvidia", "nvgpu"])
def test_a_gpu_that_this_process_is_kept_from_is_hidden(tmp_path, module):
    assert not driver.hidden(tmp_path)
    (tmp_path / "sys" / "module" / module).mkdir(parents=True)
    assert driver.hidden(tmp_path)
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev" / "nvmap").touch()
    assert not driver.hidden(tmp_path)
