"""Golden cases: recorded runs of a bundle's networks on our own phantom.

Rules. Recorded by onnxruntime, which computes Q/DQ as written; the tolerance is what OpenVINO's
INT8 kernels differ on them, times three, and never below LEAST_ATOL. Nothing of any patient is in
them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from appliance.backend.open import LOADERS
from appliance.bundle.golden import INPUT
from appliance.bundle.lines import Role
from appliance.bundle.manifest import Network
from training.errors import RunError
from training.read.volume import F32

LEAST_ATOL = 0.1
"""Logits. INT8 kernels round each in its own way: onnxruntime's own differ by 0.04 from Q/DQ as
written; another network differs by whole logits."""


MOST_APART = 1.0
"""Logits that two backends may differ on a golden case before something is wrong."""


def case(
    role: Role, entry: Network, network: bytes, image: F32 | Mapping[str, F32], out: Path
) -> dict[str, Any]:
    """Writes one recorded run to golden/ of a source folder; returns its entry. RunError where the
    two backends differ by more than rounding can explain. `image`: of several inputs, by name."""
    recorded, other = (
        load({role: entry}, {role: network}, 1)[role](image)
        for load in (LOADERS["onnxruntime"], LOADERS["openvino"])
    )
    gap = max(float(np.abs(recorded[name] - other[name]).max()) for name in recorded)
    print(f"{role}: onnxruntime and openvino differ by {gap:.4f}")
    if gap > MOST_APART:
        raise RunError(f"{role}: the backends differ by {gap:.2f}")
    (out / "golden").mkdir(exist_ok=True)
    given = image if isinstance(image, Mapping) else {INPUT: image}
    arrays: dict[str, Any] = {**given, **recorded}
    np.savez_compressed(out / "golden" / f"{role}.npz", **arrays)
    atol = max(LEAST_ATOL, round(3 * gap, 2))
    return {"network": role, "file": f"golden/{role}.npz", "atol": atol}
