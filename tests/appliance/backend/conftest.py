"""The kernels of the GPU, compiled for the host."""

from __future__ import annotations

from rigs.host_gpu import kernels

__all__ = ["kernels"]
