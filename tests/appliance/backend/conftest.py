"""A GPU of the host for the tests of this folder, which import it by name."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def _known_as(name: str, path: Path) -> None:
    """Import a file under a name of its own: these folders are no packages (importmode)."""
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)


_known_as("host_gpu", HERE / "host_gpu.py")
_known_as("engine_bench", HERE / "engine_bench.py")


@pytest.fixture(scope="session")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """kernels.cu as a library of the host."""
    import host_gpu  # noqa: PLC0415 - known since just now

    if not host_gpu.GXX:
        pytest.skip("g++ is not installed: the kernels cannot be compiled for the host")
    return host_gpu.build(tmp_path_factory.mktemp("kernels"))
