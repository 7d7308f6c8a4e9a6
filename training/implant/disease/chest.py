"""The chest that disease is painted into: a CT and its two lungs, on any grid.

Rules.
1. Axes are [z, y, x] and grow to the head, to the back and to the patient's left, as in
   `training.read.volume`. The patient lies on the back, so fluid sinks towards +y. An array that
   was turned or flipped says so by its `Frame`: it is painted as if it had not been, and turned
   again.
2. A lung is a mask and, in millimetres, the distance to its surface. What depends on the host
   alone is worked out here, once; painting itself only reads it.
3. A lung's mask ends where the wall begins to show in the voxel. Up to EDGE_MM outside of it, a
   voxel that is part lung and part wall takes part in what touches the wall: without it a dark line
   would run between fluid and ribs. Nothing else outside the lungs is filled with disease.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from appliance.quality.implant import blurred_in_plane
from training.implant.masses import same_shape, soft_tissue_spread
from training.implant.nodules import host_noise
from training.read.volume import F32, F64, Bool, Volume, resample

Side = Literal["right", "left"]
Spacing = tuple[float, float, float]
Part = tuple[slice, slice, slice]
T = TypeVar("T", bound=np.generic)

SIDES: tuple[Side, ...] = ("right", "left")
EDGE_MM = 3.0
"""How far outside a lung's mask a voxel may still be a part of it."""
WALL_HU = (-920.0, 0.0)
"""Between these, without noise, a voxel at the edge is a mixture: less is a bronchus."""
SMOOTH_MM = 1.0
TRUTH_MM = 1.5
"""Grid of `training.read.lung_truth`."""
MEDIAL_MM = 30.0
"""How much deeper than it is a voxel counts that lies at the heart, for what keeps to the ribs."""
COARSE_MM = 2.0
"""From this pixel on, most of what is fine is anatomy: `host_noise` would be too high."""
LEAST_SHARE = 0.05
"""Of both lungs, in volume: a smaller piece is no lung of its own."""
WAIST_MM = 40.0
"""Lungs that touch are parted where the bridge is at most so wide."""
APART_MM = 60.0
"""So far apart, across, lie the middles of two lungs; those of one that broke in two do not."""


@dataclass(frozen=True)
class Frame:
    """How an array was turned: its axis i is the patient's axis `order[i]`, reversed if
    `flip[i]`."""

    order: tuple[int, int, int] = (0, 1, 2)
    flip: tuple[bool, bool, bool] = (False, False, False)

    def upright(self, array: npt.NDArray[T]) -> npt.NDArray[T]:
        """An array of this frame as [z, y, x] of rule 1."""
        reverse = tuple(slice(None, None, -1 if f else 1) for f in self.flip)
        return np.ascontiguousarray(array[reverse].transpose(np.argsort(self.order)))

    def turned(self, array: npt.NDArray[T]) -> npt.NDArray[T]:
        """An array [z, y, x] of rule 1 in this frame."""
        reverse = tuple(slice(None, None, -1 if f else 1) for f in self.flip)
        return np.ascontiguousarray(array.transpose(self.order)[reverse])


@dataclass(frozen=True)
class Lung:
    """One lung, in the box `part` of the chest; every array has the shape of that box."""

    side: Side
    part: Part
    inside: Bool  # [z, y, x]
    depth_mm: F32  # [z, y, x] to the lung's surface, positive inside
    rim_mm: F32
    """[z, y, x], mm to the ribs, the spine or the diaphragm: `depth_mm`, and more where the heart
    and the hilum are nearer."""
    takes: Bool  # [z, y, x]: inside, or a voxel of rule 3
    zyx_mm: tuple[F32, F32, F32]  # of voxel centres from the box's edge: [z,1,1], [1,y,1], [1,1,x]
    height: F32  # [z, 1, 1]: 0 at the base, 1 at the apex
    back: F32  # [1, y, 1]: 0 at the front, 1 at the back
    inward: F32  # [1, 1, x]: 0 at the ribs, 1 at the mediastinum


@dataclass(frozen=True)
class Chest:
    """A CT that disease may be painted into; all arrays upright (rule 1)."""

    hu: F32  # [z, y, x]
    spacing: Spacing  # mm, z y x
    noise_hu: float
    lungs: tuple[Lung, ...]  # one or two
    frame: Frame = Frame()

    @property
    def voxel_ml(self) -> float:
        """Volume of a voxel in ml."""
        return float(np.prod(self.spacing)) / 1000


def chest_of(volume: Volume, lungs: Bool, grid_mm: float | None = None) -> Chest:
    """A scan as a chest, on its own grid or on an isotropic one of `grid_mm`.

    `lungs` is `lung_truth` of the scan: [z, y, x] on a grid of TRUTH_MM.
    """
    spacing = volume.spacing if grid_mm is None else (grid_mm,) * 3
    hu = volume.hu if grid_mm is None else resample(volume.hu, volume.spacing, spacing)
    masks = [
        same_shape(resample(m.astype(np.float32), [TRUTH_MM] * 3, spacing), hu.shape) >= 0.5
        for m in parted(lungs, TRUTH_MM)
    ]
    return make_chest(hu, spacing, masks[0], masks[1])


def make_chest(
    hu: F32, spacing: Spacing, right: Bool, left: Bool, frame: Frame | None = None
) -> Chest:
    """A chest from HU [z, y, x], spacing (mm, in the array's order) and the mask of each lung.

    An array that was turned comes with its `frame`. ValueError where neither mask holds anything,
    or shapes differ.
    """
    frame = frame or Frame()
    if not hu.shape == right.shape == left.shape:
        raise ValueError(
            f"HU {hu.shape} and lungs {right.shape}, {left.shape} differ in shape; bring them to "
            "one grid first"
        )
    order = np.argsort(frame.order)
    dz, dy, dx = (float(spacing[i]) for i in order)
    upright = frame.upright(np.asarray(hu, np.float32))
    masks = {"right": frame.upright(right), "left": frame.upright(left)}
    lungs = tuple(
        _lung(side, masks[side], upright, (dz, dy, dx)) for side in SIDES if masks[side].any()
    )
    if not lungs:
        raise ValueError("no lung in the masks: nothing to paint disease into; check lung_truth")
    coarse = min(dy, dx) >= COARSE_MM  # then only the calmest twentieth shows noise alone
    noise = soft_tissue_spread(upright, 5, 5) if coarse else host_noise(upright)
    return Chest(upright, (dz, dy, dx), noise, lungs, frame)


def _lung(side: Side, mask: Bool, hu: F32, spacing: Spacing) -> Lung:
    """One lung in its box, grown by EDGE_MM, with all that painting asks of it."""
    inner = ndimage.find_objects(mask.astype(np.int8))[0]
    grow = [int(np.ceil(EDGE_MM / s)) + 1 for s in spacing]
    z, y, x = (
        slice(max(p.start - g, 0), min(p.stop + g, n))
        for p, g, n in zip(inner, grow, mask.shape, strict=True)
    )
    part = (z, y, x)
    inside = np.ascontiguousarray(mask[part])
    inner_mm = ndimage.distance_transform_edt(inside, sampling=spacing)
    outer_mm = ndimage.distance_transform_edt(~inside, sampling=spacing)
    half = 0.5 * min(spacing)  # distances are between centres of voxels, the surface lies between
    depth = np.asarray(inner_mm - outer_mm + np.where(inside, -half, half), np.float32)
    calm = blurred_in_plane(hu[part], (SMOOTH_MM / spacing[1], SMOOTH_MM / spacing[2]))
    wall = (depth > -EDGE_MM) & (calm > WALL_HU[0]) & (calm < WALL_HU[1])
    axes = [
        ((np.arange(n, dtype=np.float32) + 0.5) * np.float32(s)).reshape(shape)
        for n, s, shape in zip(
            inside.shape, spacing, ((-1, 1, 1), (1, -1, 1), (1, 1, -1)), strict=True
        )
    ]
    share = [_shares(axis, inside, i) for i, axis in enumerate(axes)]
    inward = share[2] if side == "right" else 1 - share[2]
    away = MEDIAL_MM * np.clip(2 * inward - 1, 0, 1) * (1 - share[1])
    return Lung(
        side,
        part,
        inside,
        depth,
        np.asarray(depth + away, np.float32),
        inside | wall,
        (axes[0], axes[1], axes[2]),
        share[0],
        share[1],
        inward,
    )


def _shares(axis_mm: F32, inside: Bool, axis: int) -> F32:
    """Where each plane lies between the first (0) and the last (1) that the lung is in."""
    others = tuple(i for i in range(3) if i != axis)
    filled = np.flatnonzero(inside.any(others))
    flat = axis_mm.ravel()
    low, high = flat[filled[0]], flat[filled[-1]]
    share = np.clip((axis_mm - low) / max(float(high - low), 1e-3), 0, 1)
    return np.asarray(share, np.float32)


def parted(lungs: Bool, spacing: float) -> tuple[Bool, Bool]:
    """The right and the left lung of one mask [z, y, x] on an isotropic grid (mm).

    Lungs that touch are shrunk until the bridge breaks, and every voxel goes to the piece that it
    is nearest to. One lung alone is on the side of the middle on which it lies.
    """
    empty = np.zeros_like(lungs)
    if not lungs.any():
        return empty, empty
    depth = ndimage.distance_transform_edt(lungs) * spacing
    pieces: list[Bool] = []
    for shrink in np.arange(0, WAIST_MM / 2 + spacing, spacing):
        pieces = _large_pieces(depth > shrink)
        if _apart(pieces, spacing):
            break
    if not _apart(pieces, spacing):
        middle = (lungs.shape[2] - 1) / 2
        right = float(np.nonzero(lungs)[2].mean()) < middle
        return (lungs, empty) if right else (empty, lungs)
    seeds = pieces[0] | pieces[1]
    nearest = ndimage.distance_transform_edt(~seeds, return_distances=False, return_indices=True)
    first = pieces[0][tuple(nearest)] & lungs
    second = lungs & ~first
    if np.nonzero(first)[2].mean() > np.nonzero(second)[2].mean():
        first, second = second, first
    return np.asarray(first), np.asarray(second)


def _apart(pieces: Sequence[Bool], spacing: float) -> bool:
    """Whether these are two pieces, side by side."""
    if len(pieces) < 2:
        return False
    first, second = (float(np.nonzero(p)[2].mean()) for p in pieces)
    return abs(first - second) * spacing >= APART_MM


def _large_pieces(mask: Bool) -> list[Bool]:
    """The pieces of at least LEAST_SHARE of the mask, largest first."""
    labels, count = ndimage.label(mask)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    least = LEAST_SHARE * sizes.sum()
    return [labels == i + 1 for i in np.argsort(-sizes, kind="stable")[:2] if sizes[i] >= least]


def centre_of(points_mm: Sequence[F32], mask: Bool) -> F64:
    """Mean place (z y x, mm) of the voxels of a mask in a lung's box."""
    where = np.nonzero(mask)
    return np.array(
        [float(axis.ravel()[w].mean()) for axis, w in zip(points_mm, where, strict=True)]
    )
