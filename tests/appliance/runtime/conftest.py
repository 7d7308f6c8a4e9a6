"""The kernels of the GPU, compiled for the host; bundles that are forged."""

from __future__ import annotations

from rigs.endless import endless_bytes
from rigs.host_gpu import kernels
from rigs.shelves import forge

__all__ = ["endless_bytes", "forge", "kernels"]
