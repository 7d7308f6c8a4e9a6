"""A driver that is missing, broken or deadly is a named error, and this process lives on."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

from appliance.errors import BackendUnavailable
from appliance.host.driver import probe
from compile.__main__ import main

Make = Callable[[str], None]

WORKING = """
#include <string.h>
int cuInit(unsigned flags) { return 0; }
int cuDeviceGet(int *device, int at) { *device = 0; return 0; }
int cuDeviceGetName(char *name, int size, int device) { strncpy(name, "Orin", size); return 0; }
int cuDeviceGetAttribute(int *value, int what, int device) {
  *value = what == 75 ? 8 : 7; return 0;
}
int cuDriverGetVersion(int *version) { *version = 12060; return 0; }
"""
BROKEN = {
    "ended by SIGSEGV": "int cuInit(unsigned f) { return *(volatile int *) 0; }",
    "cuInit answers 100": "int cuInit(unsigned f) { return 100; }",
    "undefined symbol: cuInit": "int nothing;",
}


@pytest.fixture
def libcuda(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """C source -> a libcuda.so.1 that every child finds before any other."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler (cc) to make a libcuda.so.1 with")

    def make(source: str) -> None:
        (tmp_path / "cuda.c").write_text(source)
        made = tmp_path / "libcuda.so.1"
        subprocess.run(
            [compiler, "-shared", "-fPIC", "-o", str(made), str(tmp_path / "cuda.c")],
            check=True,
            timeout=120,
        )
        monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))

    return make


@pytest.mark.parametrize("said", BROKEN)
def test_a_broken_driver_is_an_error_that_says_how_it_failed(libcuda: Make, said: str) -> None:
    libcuda(BROKEN[said])
    with pytest.raises(BackendUnavailable) as caught:
        probe()
    assert said in caught.value.text
    assert "rtx:SM86" in caught.value.remedy


def test_a_driver_names_its_gpu_and_architecture(libcuda: Make) -> None:
    libcuda(WORKING)
    found = probe()
    assert (found.name, found.architecture, found.version) == ("Orin", "sm_87", 12060)


def test_a_driver_that_answers_nonsense_is_an_error(libcuda: Make) -> None:
    libcuda(WORKING.replace("? 8 : 7", "? -1 : 7"))
    with pytest.raises(BackendUnavailable, match="nonsense"):
        probe()


@pytest.mark.parametrize("file", [None, b"this is no library"])
def test_no_driver_is_an_error_with_a_remedy(
    file: bytes | None,
    tmp_path: Path,
    tiny_bundle: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if file is not None:
        (tmp_path / "libcuda.so.1").write_bytes(file)
        monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    else:
        try:
            probe()
        except BackendUnavailable:
            pass
        else:
            pytest.skip("this machine has an NVIDIA driver")
    assert main(["engine", str(tiny_bundle), "--target", "this"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "no usable NVIDIA driver: OSError" in line
    assert "[backend_unavailable] Install the NVIDIA driver" in line


@pytest.mark.skipif(find_spec("tensorrt") is not None, reason="TensorRT is installed here")
def test_a_gpu_without_tensorrt_is_an_error_with_a_remedy(
    libcuda: Make, tiny_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    libcuda(WORKING)
    assert main(["engine", str(tiny_bundle), "--target", "this"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("Orin (sm_87): the library tensorrt is not installed; ")
    assert "[backend_unavailable] On a Jetson it comes with JetPack" in line
