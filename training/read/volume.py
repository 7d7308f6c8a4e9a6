"""A scan as numbers: the canonical grid, its window, and the resampling that every network sees.

Rules.
1. The canonical volume is [z, y, x] in HU with +z to the head, +y to the back, +x to the patient's
   left: indices grow with LPS+ millimetres. What lies outside or is padding is -1000.
2. Grids are edge-aligned: n = round(N * spacing / target), x = (i + 0.5) * target / spacing - 0.5.
   Area average when shrinking, linear with edge clamp when growing, each axis by itself, float32
   throughout.
3. Every network of a chest CT sees LOW_HU to HIGH_HU as 0 to 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from appliance.preprocess import reference
from appliance.preprocess.reference import axis_weights
from appliance.records import Geometry, Header, Plane, Stack

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]

AIR_HU = -1000.0
LOW_HU, HIGH_HU = -1000.0, 400.0


@dataclass(frozen=True)
class Volume:
    """A scan on the canonical grid."""

    name: str
    hu: F32  # [z, y, x]
    spacing: tuple[float, float, float]  # mm, z y x
    origin: tuple[float, float, float]  # LPS mm of the centre of voxel [0, 0, 0], as x y z

    def lps(self, zyx: npt.ArrayLike) -> F64:
        """Voxel indices [..., 3] (z, y, x) as LPS millimetres [..., 3] (x, y, z)."""
        mm = np.asarray(zyx, np.float64) * self.spacing
        return np.asarray(mm[..., ::-1] + np.asarray(self.origin), np.float64)

    def zyx(self, lps: npt.ArrayLike) -> F64:
        """LPS millimetres [..., 3] as fractional voxel indices [..., 3] (z, y, x)."""
        mm = np.asarray(lps, np.float64) - np.asarray(self.origin)
        return np.asarray(mm[..., ::-1] / np.asarray(self.spacing), np.float64)


def resample(hu: F32, spacing: Sequence[float], target: Sequence[float]) -> F32:
    """[z, y, x] at `spacing` (mm, z y x) on the grid of `target` spacing."""
    wz, wy, wx = (axis_weights(n, s, t) for n, s, t in zip(hu.shape, spacing, target, strict=True))
    planes = np.empty((hu.shape[0], wy.shape[0], wx.shape[0]), np.float32)
    across = np.ascontiguousarray(wx.T)
    for i, plane in enumerate(hu):
        planes[i] = wy @ (plane @ across)
    flat = wz @ planes.reshape(planes.shape[0], -1)
    return np.asarray(flat.reshape(-1, *planes.shape[1:]), np.float32)


def window(hu: F32) -> F32:
    """clip((HU - low) / (high - low), 0, 1)."""
    return reference.window(hu, LOW_HU, HIGH_HU)


def stack_of(volume: Volume) -> Stack:
    """A volume as the appliance's stack of planes."""
    dz, dy, dx = volume.spacing
    x, y, z = volume.origin
    planes = []
    for k, hu in enumerate(volume.hu):
        place = Geometry((x, y, z + k * dz), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (dy, dx))
        header = Header("", str(k), "", "")
        planes.append(Plane(header, 0, place, hu, {}, False, ""))
    heights = np.arange(len(planes), dtype=np.float64) * dz
    return Stack(tuple(planes), heights, (0.0, 0.0, 1.0), volume.spacing)
