"""The factory bundles' networks at a usual size: INT8 in OpenVINO against onnxruntime, and against
the same network in float32 and bfloat16.

Rules. Float networks are the bundle's own without their Q/DQ: same layers, same weights after
rounding. float32 is the pinned precision of every reference; bfloat16 is what OpenVINO would choose
by itself on processors that have it, and is left out elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np

from appliance.backend.cpu import openvino_core
from appliance.backend.open import open_backend
from appliance.bundle import trust
from appliance.bundle.manifest import Network
from appliance.bundle.shelf import FACTORY
from appliance.records import Tensor
from compile.unquantized import unquantized

SHAPES: Mapping[str, Mapping[str, tuple[int, ...]]] = {
    "lung-nodule": {
        "segment": (1, 1, 112, 128, 128),
        "mass": (1, 1, 112, 128, 128),
        "propose": (1, 1, 208, 160, 240),
        "classify": (192, 1, 48, 48),
        "measure": (2, 1, 48, 48, 48),
    },
    "chest-pneumonia": {"classify": (1, 1, 28, 28)},
}
"""Bundle -> role -> shape: a usual chest, 24 candidates in 8 views, 2 findings, one radiograph."""
AT_LEAST_S = 0.02
"""A run repeats the network until it takes about so long: a clock tells little of microseconds."""


def comparisons() -> Iterator[tuple[str, str, str, Callable[[], object], Callable[[], object]]]:
    """Three rows a network."""
    for path in sorted((FACTORY / "bundles").glob("*.scanside")):
        loaded = trust.check(path.read_bytes())
        networks: dict[str, Network] = dict(loaded.manifest.networks.items())
        int8 = open_backend("openvino", networks, loaded.networks)
        plain = {role: unquantized(data) for role, data in loaded.networks.items()}
        peers: list[tuple[str, Callable[[str, Tensor], object]]]
        opened = [
            int8,
            open_backend("onnxruntime", networks, loaded.networks),
            open_backend("openvino", networks, plain),
        ]
        peers = [("onnxruntime INT8", opened[1].infer), ("float32", opened[2].infer)]
        if half := bfloat16(plain):
            peers.append(("bfloat16", half))
        for role, shape in SHAPES[path.stem].items():
            array = np.random.default_rng(1).random(shape, dtype=np.float32)
            image = Tensor(array, shape, None)
            many = max(1, math.ceil(AT_LEAST_S * 4e7 / array.size))
            for name, peer in peers:
                yield (
                    f"{path.stem}: {role} {'x'.join(map(str, shape))}"
                    + (f", {many} times" if many > 1 else ""),
                    "INT8",
                    name,
                    partial(repeated, int8.infer, role, image, many),
                    partial(repeated, peer, role, image, many),
                )
        for backend in opened:
            backend.close()


def repeated(infer: Callable[[str, Tensor], object], role: str, image: Tensor, many: int) -> None:
    """The same inference `many` times."""
    for _ in range(many):
        infer(role, image)


def bfloat16(files: Mapping[str, bytes]) -> Callable[[str, Tensor], object] | None:
    """The networks in OpenVINO's bfloat16; None on a processor without it."""
    core = openvino_core()
    if "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        return None
    asked = {"INFERENCE_PRECISION_HINT": "bf16", "PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": "1"}
    compiled: dict[str, Any] = {
        role: core.compile_model(core.read_model(data), "CPU", asked)
        for role, data in files.items()
    }

    def infer(role: str, image: Tensor) -> object:
        return compiled[role](image.data)

    return infer
