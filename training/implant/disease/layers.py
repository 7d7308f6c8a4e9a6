"""What a disease lays over a lung, and how it is mixed into the CT.

Rules.
1. A layer says for each voxel which share of it (0-1) is replaced by matter of which HU. Layers lie
   one over the other; a painter returns them and changes nothing itself.
2. Matter that fills a share f of what is there leaves (1 - f) of it: a little fluid in the air
   spaces raises lung and leaves vessels, all of it hides them. This is what tells ground glass from
   consolidation (Hansell et al., Fleischner Society glossary, Radiology 2008;246:697-722).
3. An edge goes over a voxel's width, about as the mean of its own box would (partial volume), or
   over more where the disease fades; then comes the host's point spread in plane, as in
   `implant.nodules`.
4. Noise keeps its variance: of the host's own noise (1 - f) is left, so the new noise has the
   variance 1 - (1 - f)^2 of the host's.
5. Outside of what the lung takes part in, and in what other disease has taken, a share is 0. Air
   fades out over the last PLEURA_MM before the lung ends: nothing eats into the wall.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from appliance.quality.implant import blurred_in_plane, correlated_noise
from training.implant.disease.chest import Lung, Spacing
from training.read.volume import F32, Bool

Kind = Literal[
    "consolidation",
    "ground_glass",
    "multifocal",
    "effusion",
    "atelectasis",
    "emphysema",
    "bulla",
    "honeycombing",
    "cavity",
    "scar",
    "metal",
]
SPREAD_MM = (0.35, 0.75)
"""Sigma of the point spread, as in `implant.nodules`."""
GRAIN_PX = 0.5
PLEURA_MM = 2.0
AIRY_HU = -500.0
"""Matter below it is air."""


@dataclass(frozen=True)
class Site:
    """One lung with what it holds now."""

    lung: Lung
    hu: F32  # [z, y, x] of the lung's box, read only
    free: Bool  # [z, y, x]: in the lung, and no disease there yet
    spacing: Spacing

    @property
    def core(self) -> Bool:
        """What of `free` can be filled with air (rule 5)."""
        return np.asarray(self.free & (self.lung.depth_mm >= PLEURA_MM / 2))

    def count(self, ml: float) -> int:
        """So many ml in voxels, at least one."""
        return max(1, round(ml * 1000 / float(np.prod(self.spacing))))

    @property
    def edge_mm(self) -> float:
        """Over how many mm the edge of something sharp goes in this grid."""
        return float(np.prod(self.spacing) ** (1 / 3))


@dataclass(frozen=True)
class Layer:
    """Matter over a lung's box; `kind` and `mask` where it is a disease's truth, not an
    ornament."""

    share: F32  # [z, y, x], 0-1
    level: F32 | float  # HU
    kind: Kind | None = None
    mask: Bool | None = None


def mix(rng: np.random.Generator, site: Site, layers: list[Layer], noise_hu: float) -> F32:
    """HU [z, y, x] of the lung's box with the layers over it."""
    out = site.hu.copy()
    blur = rng.uniform(*SPREAD_MM)
    sigma = (blur / site.spacing[1], blur / site.spacing[2])
    taken = site.lung.inside & ~site.free
    bed = np.clip(site.lung.depth_mm / PLEURA_MM, 0, 1)
    for layer in layers:
        airy = float(np.mean(layer.level)) < AIRY_HU
        share = blurred_in_plane(layer.share * bed if airy else layer.share, sigma)
        share[~(site.lung.inside if airy else site.lung.takes) | taken] = 0
        np.clip(share, 0, 1, out=share)
        grain = correlated_noise(rng, out.shape, GRAIN_PX)
        grain *= np.sqrt(share * (2 - share)) * np.float32(noise_hu)
        out += share * (layer.level - out)
        out += grain
    return np.asarray(out, np.float32)
