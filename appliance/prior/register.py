"""One exam laid over another: where each place of today's chest was in the earlier exam.

    align -> displace -> refine, twice -> Registration, with a share that says whose exams they are

Rules
- It maps CURRENT (today's) to PRIOR (the earlier one), LPS mm each, and back.
- It never fails for what the images show. Without lungs, or with too little in common, it says
  that it is `weak`, and its share is that of strangers.
- Weak as a whole: too few keypoints, a field that does not pass near them, or folds in over
  MOST_FOLDED of the lungs. Weak at a place: near a fold, or far from all that was found.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from appliance.preprocess import plan
from appliance.prior import field as fields
from appliance.prior import identity, keypoints, refine, warp
from appliance.prior.align import aligned
from appliance.prior.displace import Displace, demons
from appliance.prior.entry import Image
from appliance.prior.field import Field
from appliance.prior.warp import F32, F64
from appliance.records import Grid

SEARCHES: Final = (5, 2)
"""Voxels about the displaced place, one search after another."""
MOST_RESIDUAL_MM: Final = 2.0
MOST_FOLDED: Final = 0.01
FAR_MM: Final = 30.0
"""So far from all that was found, the field is a guess."""


@dataclass(frozen=True, slots=True)
class Registration:
    """CURRENT -> PRIOR."""

    field: Field
    method: Literal["network", "demons"]
    weak: bool
    residual_mm: float | None
    """Median distance of keypoints from the smooth field; None where none was found."""
    share: float
    """Of the keypoints that count (identity.py) those that match and agree; 0 where none does."""
    keypoints: int
    """That count."""
    mirrored_share: float | None
    """The same with PRIOR mirrored; None where it was not tried."""
    folds: int
    """Nodes in the lungs at which the field folds or nearly does."""
    anchors_lps: F64
    """[n, 3]: keypoints of CURRENT that the field is made of."""

    def to_prior(self, points_lps: ArrayLike) -> F64:
        """Places [n, 3] of CURRENT -> places [n, 3] of PRIOR, LPS mm."""
        return self.field.to_prior(points_lps)

    def to_current(self, points_lps: ArrayLike) -> F64:
        """Places [n, 3] of PRIOR -> places [n, 3] of CURRENT, LPS mm."""
        return self.field.to_current(points_lps)

    def jacobian(self, points_lps: ArrayLike) -> F64:
        """[n, 3, 3]: d of the place in PRIOR by d of that in CURRENT."""
        return self.field.jacobian(points_lps)

    def weak_at(self, points_lps: ArrayLike) -> NDArray[np.bool_]:
        """[n]: whether the place in PRIOR of these places of CURRENT is not to be relied on."""
        points = np.asarray(points_lps, np.float64).reshape(-1, 3)
        if self.weak or not len(self.anchors_lps):
            return np.ones(len(points), np.bool_)
        away = ((points[:, None] - self.anchors_lps) ** 2).sum(-1).min(1)
        z, y, x = plan.to_index(self.field.grid, points).T.astype(np.float32)
        near_fold = warp.Volume(self.field.folded()).at(z, y, x) > 0
        return np.asarray((away > FAR_MM**2) | near_fold)


def register(prior: Image, current: Image, displace: Displace | None) -> Registration:
    """PRIOR laid under CURRENT; `displace` None: by demons.

    ValueError where `displace` gives another shape than its grid's, or what is no number.
    """
    found = _registered(prior, current, displace)
    if found.share >= identity.SAME or found.keypoints < identity.LEAST:
        return found
    other = _registered(identity.mirrored(prior), current, displace)
    if other.keypoints < identity.LEAST:
        return found
    return replace(found, mirrored_share=other.share)


def _registered(prior: Image, current: Image, displace: Displace | None) -> Registration:
    alignment = aligned(prior, current)
    grid = fields.nodes(current)
    moved = (displace or demons)(*fields.inputs(prior, current, alignment))
    field = Field(alignment, _checked(moved, grid), grid)
    places = keypoints.found(current)
    pictures = refine.pictures(prior, current)
    step = current.grid.spacing_mm[0]
    first = refine.matched(pictures, places, field, SEARCHES[0])
    field = refine.added(field, first, SEARCHES[0] * step)
    last = refine.matched(pictures, places, field, SEARCHES[1])
    aim = field.to_prior(last.points_lps) + last.offset_mm
    field = refine.added(field, last, SEARCHES[1] * step)
    there = field.to_prior(last.points_lps)
    off = np.linalg.norm(there - aim, axis=1)[last.used]
    counts = identity.counted(prior, current, there, last.points_lps)
    share = float(first.agreed[counts].mean()) if counts.any() else 0.0
    if alignment.guessed and share < identity.DISAGREE:
        counts[:] = False
        share = 0.0
    lungs = _lungs_at_nodes(current, grid)
    folded = field.folded() & lungs
    residual = float(np.median(off)) if len(off) else None
    weak = (
        int(counts.sum()) < identity.LEAST
        or residual is None
        or residual > MOST_RESIDUAL_MM
        or folded.sum() > MOST_FOLDED * lungs.sum()
    )
    return Registration(
        field=field,
        method="demons" if displace is None else "network",
        weak=bool(weak),
        residual_mm=residual,
        share=share,
        keypoints=int(counts.sum()),
        mirrored_share=None,
        folds=int(folded.sum()),
        anchors_lps=last.points_lps[last.used],
    )


def _checked(moved: F32, grid: Grid) -> F32:
    if moved.shape != (3, *grid.shape):
        raise ValueError(f"a field of shape {moved.shape} for a grid of {grid.shape}")
    if not np.isfinite(moved).all():
        raise ValueError("the field holds what is no number; check the network that made it")
    return moved


def _lungs_at_nodes(image: Image, grid: Grid) -> NDArray[np.bool_]:
    """[z, y, x] of the nodes: whether the node lies in the lungs of the image."""
    axes = [np.arange(count) for count in grid.shape]
    index = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
    return identity.at(image.lungs, image, plan.to_lps(grid, index)).reshape(grid.shape)
