"""The kernels of the GPU, compiled for the host."""

from __future__ import annotations

from pathlib import Path

import pytest

from rigs import host_gpu


@pytest.fixture(scope="session")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """kernels.cu as a library of the host."""
    if not host_gpu.GXX:
        pytest.skip("g++ is not installed: the kernels cannot be compiled for the host")
    return host_gpu.build(tmp_path_factory.mktemp("kernels"))
