"""What `make gpu-check` measures, over the host's device; and what it says without a GPU."""

from __future__ import annotations

import subprocess
import sys

import host_gpu
import numpy as np
import pytest

from appliance.bundle import trust
from appliance.host import driver
from appliance.preprocess import reference
from bench import gpu


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


def test_the_table_can_be_pasted_into_the_docs() -> None:
    text = gpu.table("2026-01-01, a GPU", [gpu.Figure("copy", "1 GB/s")])
    assert text.endswith("| what | figure |\n|---|---|\n| copy | 1 GB/s |")
