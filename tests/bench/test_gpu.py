"""What `make gpu-check` measures, over the host's device; and what it says without a GPU."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from appliance.backend.fatbin import SHIPPED
from appliance.bundle import trust
from appliance.errors import BackendUnavailable
from appliance.host import driver
from appliance.preprocess import reference
from appliance.records import Grid
from bench import gpu
from rigs import host_gpu


def test_prepare_is_timed_on_the_tensor_of_the_reference(kernels) -> None:
    manifest = trust.check(gpu.FACTORY.read_bytes()).manifest
    stack, ops = gpu.stack_of(12, 64), manifest.networks["segment"].preprocess
    owner = host_gpu.device(kernels)
    try:
        backend = gpu.still(owner, manifest)
        first, then, moved = gpu.prepared(backend, stack, ops, 2)
        made = np.asarray(backend.prepare(stack, ops, None).data)
        backend.close()
    finally:
        owner.stop()
    expected, _ = reference.apply(stack, ops, None)
    assert np.abs(made - expected).max() < 1e-4
    assert first > 0
    assert then > 0
    assert moved == 12 * 64 * 64 * 2 + expected.nbytes


def test_without_a_gpu_it_says_what_is_missing_and_fails() -> None:
    if driver.there():
        pytest.skip("this machine has a GPU")
    done = subprocess.run(
        [sys.executable, "-m", "bench.gpu"],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("gpu-check: no usable NVIDIA driver")


@pytest.mark.parametrize(("said", "code"), [("60 passed", 0), ("no tests ran", 1)])
def test_the_whole_check_runs_over_the_hosts_gpu_and_its_exit_code_is_the_suites(
    kernels, monkeypatch, capsys, said: str, code: int
) -> None:
    placed = []
    here = driver.Driver(name="a GPU", major=9, minor=0, version=13000)

    def missing(name: str) -> None:
        raise BackendUnavailable(f"the library {name} is not installed")

    monkeypatch.setattr(driver, "probe", lambda: here)
    monkeypatch.setattr(gpu, "with_pycuda", lambda: None)
    monkeypatch.setattr(gpu, "for_gpu", lambda _: b"fatbin")
    monkeypatch.setattr(gpu, "place", lambda folder, data: placed.append((folder, data)))
    monkeypatch.setattr(gpu, "contract", lambda: gpu.Figure("contract suite", said))
    monkeypatch.setattr(gpu, "copy_rate", lambda *_: 1e9)  # pycuda's own copies
    monkeypatch.setattr(gpu, "of_torch", lambda *_: ("torch", {}, [gpu.Figure("torch", "none")]))
    monkeypatch.setattr(gpu.tensorrt, "load", missing)
    monkeypatch.setattr(gpu, "open_device", lambda *_: host_gpu.device(kernels, available=2 << 30))
    monkeypatch.setattr(gpu, "_run", lambda *words: failed(words))
    monkeypatch.setattr(sys, "argv", ["gpu", "--slices", "6", "--repeat", "1"])
    assert gpu.main() == code
    assert placed == [(SHIPPED.parent, b"fatbin")]
    title, _, *rows = capsys.readouterr().out.splitlines()
    assert title.endswith(", a GPU (sm_90), driver 13000")
    found = dict(row.strip("| ").split(" | ") for row in rows[2:] if row and " | " in row)
    assert "of the copy rate" in found["prepare segment, 6 x 512 x 512, slices there"]
    assert found["INT8, FP16, FP32 by layer"] == "the library tensorrt is not installed"
    assert found["engines"].startswith("no TensorRT here [backend_unavailable]")
    assert "compare" not in found  # it needs the engines


def failed(words: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    assert words[:3] == ("-m", "compile", "engine")
    return subprocess.CompletedProcess(words, 1, "", "no TensorRT here [backend_unavailable] x")


def test_without_a_gpu_the_contract_suite_has_not_passed_and_says_why() -> None:
    if driver.there():
        pytest.skip("this machine has a GPU")
    figure = gpu.contract()
    assert "passed" not in figure.value
    assert "skipped" in figure.value
    assert "gpu: no usable NVIDIA driver" in figure.value


def test_a_box_in_the_middle_is_as_large_as_usual_lungs_or_as_the_volume() -> None:
    for mm, shape, size in (
        ((3.0, 3.0, 3.0), (112, 128, 128), (93, 67, 97)),
        ((5.0, 1.0, 2.0), (50, 60, 200), (50, 60, 145)),
    ):
        to_lps = np.eye(4)[:, [2, 1, 0, 3]] * [*mm, 1.0]
        _, box = gpu.middle(Grid(shape, mm, to_lps))
        assert tuple(h - low for low, h in zip(box.low, box.high, strict=True)) == size
        rest = [s - h for s, h in zip(shape, box.high, strict=True)]
        assert all(abs(low - r) <= 1 for low, r in zip(box.low, rest, strict=True))


def test_what_was_built_is_compared_with_the_cpu_and_a_ct_runs_on_it(monkeypatch, tmp_path) -> None:
    ran = []

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        ran.append(words)
        return subprocess.CompletedProcess(words, 0, "first\nthe last line\n", "")

    def opened(name, loaded, folder):
        raise BackendUnavailable(f"{name} in {folder.name} cannot be opened")

    monkeypatch.setattr(gpu, "_run", run)
    monkeypatch.setattr(gpu.compare, "opened", opened)
    loaded = trust.check(gpu.FACTORY.read_bytes())
    engines, compared, ct = gpu.of_engines(loaded, 2, 1)
    assert engines.value.startswith("the last line (")
    assert compared.what == "compare"
    backends = ran[1][ran[1].index("--backends") + 1]
    assert backends.split(",")[1] == "gpu"  # the second is judged by the first
    assert ran[1][ran[1].index("--engines") + 1] == ran[0][ran[0].index("-o") + 1]
    assert ct.value == "gpu in engines cannot be opened"


def test_the_table_can_be_pasted_into_the_docs() -> None:
    text = gpu.table("2026-01-01, a GPU", [gpu.Figure("copy", "1 GB/s")])
    assert text.endswith("| what | figure |\n|---|---|\n| copy | 1 GB/s |")
