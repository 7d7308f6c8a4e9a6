"""Effusion, and lung that has collapsed.

Rules.
1. The patient lies on the back: free fluid lies behind, deepest at the base, and its front edge
   runs up the wall as a thin crescent (a meniscus). No fissure is known here, so none holds fluid.
2. Fluid of an effusion has 0 to 25 HU: means of 7 (exudate) and 10 (transudate) in 100 of them,
   range up to 32 (Abramowitz et al., AJR 2009;192:618-623).
3. Collapsed lung has no air and less volume (Fleischner glossary 2008, "atelectasis"). The density
   is painted; the loss of volume is not: fissures, bronchi and diaphragm stay where they were.
"""

from __future__ import annotations

import numpy as np

from training.implant.disease.airways import lumen
from training.implant.disease.fields import cloud, ramp, threshold
from training.implant.disease.layers import Layer, Site
from training.implant.disease.opacities import AIR_HU
from training.read.volume import F32

FLUID_HU = (0.0, 25.0)
COLLAPSED_HU = (30.0, 100.0)
"""Airless and crowded, so denser than consolidation; with contrast it takes much of it."""
BASE = 0.2
"""Mm that a lung's base lies deeper than its apex, for each mm along the body."""
CRESCENT = (0.35, 0.9)
"""Thickness of the fluid for each mm below its level."""


def _sunk(rng: np.random.Generator, site: Site) -> F32:
    """How far below and how near to the wall a voxel lies, in mm [z, y, x]."""
    z, y, _ = site.lung.zyx_mm
    level = y - BASE * z
    out = level - np.maximum(site.lung.depth_mm, 0) / np.float32(rng.uniform(*CRESCENT))
    return np.asarray(out + 2.5 * cloud(rng, out.shape, site.spacing, 40.0), np.float32)


def effusion(rng: np.random.Generator, site: Site, ml: float) -> list[Layer]:
    """Free fluid of `ml` ml behind the lung, with a rim of collapsed lung before it where it is
    thick."""
    field = _sunk(rng, site)
    at = threshold(field, site.free, site.count(ml))
    share = ramp(field, at, max(site.edge_mm, 1.0))
    fluid = Layer(share, rng.uniform(*FLUID_HU), "effusion", site.free & (field >= at))
    if rng.random() < 0.3:
        return [fluid]
    rim = rng.uniform(3, 14) * (1 + 0.5 * cloud(rng, field.shape, site.spacing, 20.0))
    reach = np.asarray(field + np.clip(rim, 0, 25), np.float32)
    collapsed = site.free & (field < at) & (reach >= at)
    level = rng.uniform(*COLLAPSED_HU)
    return [Layer(ramp(reach, at, 4.0), level, "atelectasis", collapsed), fluid]


def atelectasis(rng: np.random.Generator, site: Site, ml: float) -> list[Layer]:
    """Collapsed lung of `ml` ml: what lies below in a band with a soft edge, or a lobe's part, a
    wedge along the spine and the diaphragm with the straight edge of its fissure."""
    lung, shape = site.lung, site.lung.inside.shape
    if rng.random() < 0.5:
        field = _sunk(rng, site) + 2 * cloud(rng, shape, site.spacing, 8.0)
        width = rng.uniform(3, 7)
    else:
        normal = np.array([-rng.uniform(0.15, 0.6), 1.0, rng.uniform(0.3, 0.9)])
        normal /= np.linalg.norm(normal)
        inward = 1 if lung.side == "right" else -1
        z, y, x = lung.zyx_mm
        field = z * normal[0] + y * normal[1] + x * normal[2] * inward
        field = field + 5 * cloud(rng, shape, site.spacing, 60.0)
        width = max(site.edge_mm, 1.5)
    field = np.asarray(field, np.float32)
    count = site.count(ml)
    at = threshold(field, site.free, count)
    level = rng.uniform(*COLLAPSED_HU) + 5 * cloud(rng, shape, site.spacing, 15.0)
    if rng.random() < 0.5:
        share = ramp(field, at, width)
        return [Layer(share, level, "atelectasis", site.free & (field >= at))]
    air = lumen(rng, site, site.free & (field >= at), int(np.clip(4 + ml / 15, 4, 20)))
    solid = site.free & (air < 0.5)
    at = threshold(field, solid, count)
    share = ramp(field, at, width)
    return [
        Layer(share, level, "atelectasis", solid & (field >= at)),
        Layer(air * share, AIR_HU),
    ]
