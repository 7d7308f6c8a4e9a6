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
from appliance.bundle.lines import Role
from appliance.bundle.manifest import Network
from appliance.phantom.chest import chest
from appliance.preprocess import reference
from training import source
from training.data import F32, Volume, resample, window
from training.findings import stack_of
from training.loop import RunError

LEAST_ATOL = 0.1
"""Logits. INT8 kernels round each in its own way: onnxruntime's own differ by 0.04 from Q/DQ as
written; another network differs by whole logits."""
MOST_APART = 1.0
"""Logits that two backends may differ on a golden case before something is wrong."""


def inputs_of(roles: Mapping[source.Role, bytes]) -> dict[source.Role, F32]:
    """What each network is fed with, cut from the phantom by the appliance's reference."""
    phantom = chest(5, spacing_mm=(3.0, 1.4, 1.4))
    hu = phantom.hu.astype(np.float32)
    volume = Volume("phantom", hu, phantom.spacing_mm, phantom.origin_lps_mm)
    stack = stack_of(volume)
    coarse = window(resample(hu, volume.spacing, [source.SEGMENT_MM] * 3))
    middle = len(coarse) // 2
    chest_part = coarse[None, None, middle - 16 : middle + 16, 32:80, 16:64]
    fine = window(resample(hu[40:60], volume.spacing, [source.PROPOSE_MM] * 3))
    centers = [n.center_lps_mm for n in phantom.nodules[:4]]
    made: dict[source.Role, F32] = {
        "segment": chest_part,
        "mass": chest_part,
        "propose": fine[None, None, :32, 120:168, 64:112],
        "classify": reference.apply_patches(stack, source.OPS["classify"], centers, 2),
    }
    if "cube" in roles:
        made["cube"] = reference.apply_patches(stack, source.OPS["cube"], centers)
    if "measure" in roles:
        made["measure"] = reference.apply_patches(stack, source.OPS["measure"], centers[:1])
    return {role: np.ascontiguousarray(made[role], np.float32) for role in roles}


def record(networks: Mapping[source.Role, bytes], out: Path) -> list[dict[str, Any]]:
    """Writes one recorded run a network of the nodule line; returns the entries for them."""
    return [
        case(role, source.network(role, "0" * 64), networks[role], image, out)
        for role, image in inputs_of(networks).items()
    ]


def case(role: Role, entry: Network, network: bytes, image: F32, out: Path) -> dict[str, Any]:
    """Writes one recorded run to golden/ of a source folder; returns its entry. RunError where the
    two backends differ by more than rounding can explain."""
    recorded, other = (
        load({role: entry}, {role: network}, 1)[role](image)
        for load in (LOADERS["onnxruntime"], LOADERS["openvino"])
    )
    gap = max(float(np.abs(recorded[name] - other[name]).max()) for name in recorded)
    print(f"{role}: onnxruntime and openvino differ by {gap:.4f}")
    if gap > MOST_APART:
        raise RunError(f"{role}: the backends differ by {gap:.2f}")
    (out / "golden").mkdir(exist_ok=True)
    arrays: dict[str, Any] = {"input": image, **recorded}
    np.savez_compressed(out / "golden" / f"{role}.npz", **arrays)
    atol = max(LEAST_ATOL, round(3 * gap, 2))
    return {"network": role, "file": f"golden/{role}.npz", "atol": atol}
