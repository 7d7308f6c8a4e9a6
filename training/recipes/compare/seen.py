"""A pair as the appliance sees it: both boxes of lungs laid over each other, at 8 mm.

    Pair (any grid) -> fixed, moving [z, y, x] in [0, 1] at 8 mm, and the field between them

Rules.
1. Of an exam the box of its lungs and AROUND_MM about it is kept; what lies outside is air.
2. The earlier exam is stretched and shifted along each axis until its box is that of today: so the
   network is left what a box cannot say. The boxes of lessons are moved by up to JITTER_MM, because
   another mask draws them a little differently.
3. Sizes are multiples of 8 cells, filled up with air at the far ends.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from appliance.prior.entry import AROUND_MM
from training.implant.pairs.fields import FIELD_MM, box_of
from training.implant.pairs.pair import Pair, at_points, mean_cells, sampled
from training.read.volume import F32, F64, Bool, window

MULTIPLE = 8
JITTER_MM = 4.0


@dataclass(frozen=True)
class Boxes:
    """From where to where the lungs go in each exam, mm from the outer edge of the canvas."""

    fixed: tuple[F64, F64]
    moving: tuple[F64, F64]

    @property
    def scale(self) -> F64:
        """How much longer fixed is than moving, along each axis."""
        (a, b), (c, d) = self.fixed, self.moving
        return np.asarray((b - a) / (d - c), np.float64)

    def aligned(self, moving_mm: F64) -> F64:
        """Points [n, 3] of moving where the laid-over image has them."""
        return np.asarray((moving_mm - self.moving[0]) * self.scale + self.fixed[0], np.float64)

    def back(self, aligned_mm: F64) -> F64:
        """The way back of `aligned`."""
        return np.asarray((aligned_mm - self.fixed[0]) / self.scale + self.moving[0], np.float64)


@dataclass(frozen=True)
class Seen:
    """One lesson, or one case of a judge."""

    fixed: F32  # [z, y, x] in [0, 1]
    moving: F32  # laid over fixed
    lungs: F32  # share of each cell that is lung of fixed and inside moving's cover
    truth: F32  # [3, z, y, x] mm: fixed + truth = moving, as laid over
    corner_mm: F64  # outer edge of cell 0 on the canvas
    boxes: Boxes


def seen(pair: Pair, rng: np.random.Generator | None = None) -> Seen:
    """The pair at 8 mm; with `rng`, its boxes jittered as for a lesson."""
    grid, per = pair.grid_mm, round(FIELD_MM / pair.grid_mm)
    boxes = Boxes(_box(pair.fixed_lungs, grid, rng), _box(pair.moving_lungs, grid, rng))
    corner = boxes.fixed[0] - AROUND_MM
    cells = np.ceil((boxes.fixed[1] - boxes.fixed[0] + 2 * AROUND_MM) / FIELD_MM)
    cells = (np.ceil(cells / MULTIPLE) * MULTIPLE).astype(int)
    places = _places(cells * per, grid, corner)
    fixed, lungs = _read(
        [(pair.fixed + 1000) * pair.fixed_cover, pair.fixed_lungs], places, grid, boxes.fixed
    )
    moving = _read(
        [(pair.moving + 1000) * pair.moving_cover], boxes.back(places), grid, boxes.moving
    )[0]
    centres = _places(cells, FIELD_MM, corner).reshape(-1, 3)
    there = centres + at_points(pair.field, centres)
    truth = (boxes.aligned(there) - centres).T.reshape(3, *cells)
    cover = sampled(pair.moving_cover[None].astype(np.float32), _voxels(there, grid))
    share = mean_cells(lungs, per) * (cover[0].reshape(cells) > 0.5)
    return Seen(
        window(mean_cells(fixed, per) - 1000),
        window(mean_cells(moving, per) - 1000),
        np.asarray(share, np.float32),
        truth.astype(np.float32),
        corner,
        boxes,
    )


def _box(mask: Bool, grid_mm: float, rng: np.random.Generator | None) -> tuple[F64, F64]:
    low, high = box_of(mask)
    ends = low * grid_mm, (high + 1) * grid_mm
    if rng is None:
        return ends
    off = rng.uniform(-JITTER_MM, JITTER_MM, (2, 3))
    return ends[0] + off[0], ends[1] + off[1]


def _places(shape: F64, grid_mm: float, corner: F64) -> F64:
    """Centres [z, y, x, 3] of a grid's voxels, mm."""
    axes = [(np.arange(n) + 0.5) * grid_mm + c for n, c in zip(shape, corner, strict=True)]
    return np.stack(np.meshgrid(*axes, indexing="ij"), -1)


def _voxels(places: F64, grid_mm: float) -> F32:
    """mm [n, 3] as voxels [3, n, 1, 1]."""
    return np.asarray((places / grid_mm - 0.5).T[:, :, None, None], np.float32)


def _read(images: list[np.ndarray], places: F64, grid_mm: float, box: tuple[F64, F64]) -> F32:
    """Values [n, z, y, x] at places [z, y, x, 3]; 0 outside of the box and what is around it."""
    near = ((places >= box[0] - AROUND_MM) & (places < box[1] + AROUND_MM)).all(-1)
    voxels = np.moveaxis(places / grid_mm - 0.5, -1, 0).astype(np.float32)
    stacked = np.stack([np.asarray(image, np.float32) for image in images])
    return np.asarray(sampled(stacked, voxels) * near, np.float32)
