"""Opens a backend by its name: the one place that knows them all.

Rules. Only the library of the named backend is imported, and only here and now. What is opened
belongs to the caller, who closes it; several may be open side by side (a bundle is switched so).
"""

from __future__ import annotations

from collections.abc import Mapping

from appliance.backend import cpu
from appliance.backend.choose import Name
from appliance.backend.protocol import Backend
from appliance.bundle.manifest import Network

LOADERS: dict[Name, cpu.Loader] = {
    "openvino": cpu.load_openvino,
    "onnxruntime": cpu.load_onnxruntime,
}


def open_backend(
    name: Name, networks: Mapping[str, Network], onnx: Mapping[str, bytes], threads: int = 0
) -> Backend:
    """Load a bundle's networks: role -> manifest entry, role -> bytes of its ONNX file.

    `threads` 0: as many as the library sees cores. BackendUnavailable where the library is missing
    or broken; BundleRefused (`bundle_network`) where it does not take a network.
    """
    return cpu.CpuBackend(name, networks, LOADERS[name](networks, onnx, threads))
