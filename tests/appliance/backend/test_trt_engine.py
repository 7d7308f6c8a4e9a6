"""What of TensorRT and pycuda can be seen without a GPU: names, refusals, and that nothing dies."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

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

    for kind, names in trt_engine.USED.items():
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
    assert len(KERNELS) == 6
    for name in KERNELS:
        assert f"__global__ void {name}(" in source


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
