"""Lung that holds less air: consolidation, ground glass, many small opacities.

Rules.
1. Words are those of the Fleischner Society: glossary of 2008 (Hansell et al., Radiology
   2008;246:697-722). The classes of density are those of CT of injured lungs: no air -100 to
   +100 HU, little air -500 to -100 (Cressoni et al., Crit Care 2013;17:R93). Ground glass reaches
   up to -300 HU (BMC Infect Dis 2021, doi 10.1186/s12879-021-06556-z).
2. A border inside the lung fades over some mm; a border at pleura or fissure is sharp.
3. Nothing here moves: the lung keeps its volume, as it nearly does in pneumonia.
"""

from __future__ import annotations

import numpy as np

from training.implant.disease.airways import lumen
from training.implant.disease.fields import (
    Balls,
    Sizes,
    cloud,
    distance,
    places,
    radius_of,
    ramp,
    stretched,
    threshold,
)
from training.implant.disease.layers import Kind, Layer, Site
from training.read.volume import F32, F64, Bool

TISSUE_HU = (15.0, 80.0)
"""Airless lung, without and with contrast."""
AIR_HU = -960.0
"""Air in a bronchus: a little of its wall is in every voxel."""
FLUID_HU = 30.0
GLASS = (0.2, 0.48)
"""Share of the air spaces that ground glass fills: lung of -850 HU becomes -670 to -430."""
SPOT_MM = (5.0, 40.0)
"""Diameters of the opacities of COVID-19."""


def consolidation(rng: np.random.Generator, site: Site, ml: float) -> list[Layer]:
    """Consolidation of `ml` ml with an air bronchogram.

    A homogeneous increase of density that hides vessels and airway walls, with air in the bronchi
    (Fleischner 2008); most often it begins at the pleura, keeps to a fissure where it meets one,
    and frays elsewhere.
    """
    lung, count = site.lung, site.count(ml)
    near = np.where(site.free & (lung.depth_mm < 15), 1.3 - lung.height, 0)
    near = near if near.any() else site.free.astype(np.float32)
    size = radius_of(ml)
    seed = next(places(rng, lung, near))
    field = -distance(lung, seed, stretched(rng, 1.35))
    field += cloud(rng, field.shape, site.spacing, max(0.6 * size, 10)) * (0.3 * size)
    field += cloud(rng, field.shape, site.spacing, 6.0) * 3.5
    free, cut = site.free, np.ones(field.shape, np.float32)
    if rng.random() < 0.5:
        beyond = fissure(rng, site, seed, rng.uniform(0.4, 0.9) * size)
        if (free & (beyond > 0)).sum() > 1.1 * count:
            free, cut = free & (beyond > 0), ramp(beyond, 0, site.edge_mm)
    at = threshold(field, free, count)
    air = lumen(rng, site, free & (field >= at), int(np.clip(6 + ml / 8, 6, 45)))
    solid = free & (air < 0.5)
    at = threshold(field, solid, count)
    share = ramp(field, at, rng.uniform(3, 8)) * cut
    level = rng.uniform(*TISSUE_HU) + 6 * cloud(rng, field.shape, site.spacing, 12.0)
    return [
        Layer(share, level, "consolidation", solid & (field >= at)),
        Layer(air * share, AIR_HU),
    ]


def fissure(rng: np.random.Generator, site: Site, within: F64, far_mm: float) -> F32:
    """Signed distance in mm [z, y, x] to a slightly bent sheet `far_mm` from a point, positive on
    its side.

    The sheet lies as an oblique fissure does: from high at the back to low at the front.
    """
    lung = site.lung
    down = rng.random() < 0.6  # the lower lobe lies below and behind it
    normal = np.array([-0.6, 0.8, 0.0]) * (1 if down else -1) + 0.15 * rng.standard_normal(3)
    normal /= np.linalg.norm(normal)
    out = np.full((1, 1, 1), far_mm, np.float32)
    for axis, c, n in zip(lung.zyx_mm, within, normal, strict=True):
        out = out + (axis - np.float32(c)) * np.float32(n)
    return np.asarray(out + 3 * cloud(rng, lung.inside.shape, site.spacing, 50.0), np.float32)


def ground_glass(rng: np.random.Generator, site: Site, ml: float) -> list[Layer]:
    """Ground glass of `ml` ml.

    Hazy increase of density that leaves bronchi and vessels to be seen (Fleischner 2008), in
    patches, along the pleura, in the middle or in what lies below, without a border.
    """
    lung = site.lung
    shape, size = lung.inside.shape, float(np.clip(0.8 * radius_of(ml), 7, 35))
    field = cloud(rng, shape, site.spacing, size) + 0.3 * cloud(rng, shape, site.spacing, size / 3)
    depth = np.clip(lung.depth_mm / 30, 0, 1)
    trend = (-depth, depth, lung.back, 1 - lung.height)[int(rng.integers(4))]
    field = np.asarray(field + rng.uniform(0.4, 2.0) * trend, np.float32)
    at = threshold(field, site.free, site.count(ml))
    share = ramp(field, at, rng.uniform(7, 18) * 1.3 / size)
    return [_glass(rng, site, "ground_glass", share, site.free & (field >= at))]


def _glass(rng: np.random.Generator, site: Site, kind: Kind, share: F32, mask: Bool) -> Layer:
    """A layer of ground glass, a little uneven in itself."""
    shape = share.shape
    uneven = 0.1 * cloud(rng, shape, site.spacing, 6.0) + 0.1 * cloud(rng, shape, site.spacing, 25)
    filled = rng.uniform(*GLASS) * np.clip(1 + uneven, 0.7, 1.3)
    return Layer(share * filled, FLUID_HU, kind, mask)


def multifocal(rng: np.random.Generator, site: Site, ml: float) -> list[Layer]:
    """Many small opacities of ground glass, `ml` ml of them, as in COVID-19.

    Round or oval, 5 to 40 mm, at the pleura and behind and below more than elsewhere (Bernheim et
    al., Radiology 2020;295:200463: both sides, periphery and lower lobes are the rule).
    """
    lung, count = site.lung, site.count(ml)
    outer = np.exp(-np.maximum(lung.rim_mm, 0) / 5)
    weight = np.where(site.free, outer * (1.3 - lung.height) * (0.4 + lung.back), 0)
    low, high = SPOT_MM[0] / 2 + 1, min(SPOT_MM[1] / 2, 1.6 * radius_of(ml / 3) + 3)
    sizes = Sizes(low, max(high, low + 0.5), 1.25)
    balls = Balls.filling(rng, lung, site.free, weight, count, sizes)
    field = balls.deepest + cloud(rng, weight.shape, site.spacing, 10.0) * 2.2
    at = threshold(field, site.free, count)
    share = ramp(field, at, rng.uniform(2.5, 5))
    return [_glass(rng, site, "multifocal", share, site.free & (field >= at))]
