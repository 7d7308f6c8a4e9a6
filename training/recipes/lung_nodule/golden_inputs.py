"""What the nodule line's networks are fed with in their golden cases: pieces of our phantom."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from appliance.phantom.chest import chest
from appliance.preprocess import reference
from training.read.volume import F32, Volume, resample, stack_of, window
from training.recipes.lung_nodule import bundle
from training.ship.goldens import case


def inputs_of(roles: Mapping[bundle.Role, bytes]) -> dict[bundle.Role, F32]:
    """What each network is fed with, cut from the phantom by the appliance's reference."""
    phantom = chest(5, spacing_mm=(3.0, 1.4, 1.4))
    hu = phantom.hu.astype(np.float32)
    volume = Volume("phantom", hu, phantom.spacing_mm, phantom.origin_lps_mm)
    stack = stack_of(volume)
    coarse = window(resample(hu, volume.spacing, [bundle.SEGMENT_MM] * 3))
    middle = len(coarse) // 2
    chest_part = coarse[None, None, middle - 16 : middle + 16, 32:80, 16:64]
    fine = window(resample(hu[40:60], volume.spacing, [bundle.PROPOSE_MM] * 3))
    centers = [n.center_lps_mm for n in phantom.nodules[:4]]
    made: dict[bundle.Role, F32] = {
        "segment": chest_part,
        "mass": chest_part,
        "propose": fine[None, None, :32, 120:168, 64:112],
        "classify": reference.apply_patches(stack, bundle.OPS["classify"], centers, 2),
    }
    if "cube" in roles:
        made["cube"] = reference.apply_patches(stack, bundle.OPS["cube"], centers)
    if "measure" in roles:
        made["measure"] = reference.apply_patches(stack, bundle.OPS["measure"], centers[:1])
    return {role: np.ascontiguousarray(made[role], np.float32) for role in roles}


def record(networks: Mapping[bundle.Role, bytes], out: Path) -> list[dict[str, Any]]:
    """Writes one recorded run a network of the nodule line; returns the entries for them."""
    return [
        case(role, bundle.network_of(role, networks[role]), networks[role], image, out)
        for role, image in inputs_of(networks).items()
    ]
