"""The factory bundle's networks at a chest's size: OpenVINO against onnxruntime, both float32."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from appliance.backend.open import open_backend
from appliance.bundle import trust
from appliance.bundle.manifest import Network
from appliance.bundle.shelf import FACTORY
from appliance.records import Tensor

SHAPES = {
    "segment": (1, 1, 112, 128, 128),
    "propose": (1, 1, 208, 160, 240),
    "classify": (192, 1, 48, 48),
}


def comparisons() -> Iterator[tuple[str, str, str, Callable[[], object], Callable[[], object]]]:
    """One row a network."""
    for path in sorted((FACTORY / "bundles").glob("*.scanside")):
        loaded = trust.check(path.read_bytes())
        networks: dict[str, Network] = dict(loaded.manifest.networks.items())
        ours = open_backend("openvino", networks, loaded.networks)
        peer = open_backend("onnxruntime", networks, loaded.networks)
        for role, shape in SHAPES.items():
            array = np.random.default_rng(1).random(shape, dtype=np.float32)
            image = Tensor(array, shape, None)
            yield (
                f"{path.stem}: {role} {'x'.join(map(str, shape))}",
                "openvino",
                "onnxruntime",
                partial(ours.infer, role, image),
                partial(peer.infer, role, image),
            )
        ours.close()
        peer.close()
