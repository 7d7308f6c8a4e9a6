"""Where a finding of today lies in the earlier exam, to be sought there.

Rules
- The field says where; the lung about the finding says it more exactly. The finding's own body, and
  GROWN_MM about it, take no part: it may have grown, shrunk or not been there.
- Only lung takes part: what lies beyond the pleura moves otherwise.
- Where too little is left, nothing is alike or nothing is clearly more alike, the place of the
  field holds.
"""

from __future__ import annotations

from typing import Final, Protocol

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike, NDArray

from appliance.preprocess import plan
from appliance.prior import identity, warp
from appliance.prior.entry import Image
from appliance.prior.keypoints import BRIGHT
from appliance.prior.refine import ALIKE, SOFT, regions, tops
from appliance.prior.warp import F32, F64
from appliance.records import Mask

GROWN_MM: Final = 2.0
AROUND: Final = 7
SEARCH: Final = 2
"""Voxels: of what is compared around the body's edge, and of how far the place may move."""
FARTHEST: Final = 20
"""Voxels from the middle: about a larger body too little is left, and the field's place holds."""
LEAST: Final = 400
"""Voxels that must be left of what is compared."""
NEAR_WEIGHT: Final = 0.004
"""Of a squared mm from the field's place, in units of correlation."""
BETTER: Final = 0.03
"""By so much a place must be more alike than the field's own: less is noise."""


class Laid(Protocol):
    """One exam laid over another, this way or the other way round."""

    def to_prior(self, points_lps: ArrayLike, /) -> F64:
        """Places [n, 3] -> places [n, 3] in the other exam, LPS mm."""
        ...

    def jacobian(self, points_lps: ArrayLike, /) -> F64:
        """[n, 3, 3]: how the other exam is stretched there, d of its place by d of this one."""
        ...


def locate(
    registration: Laid,
    prior: Image,
    current: Image,
    center_lps_mm: ArrayLike,
    body: float | Mask,
) -> F64:
    """Place [3] in PRIOR (LPS mm) of a finding of CURRENT with its middle at `center_lps_mm`.

    `body` is its radius in mm, or its mask on a grid of its own. ValueError where the radius is no
    length.
    """
    center = np.asarray(center_lps_mm, np.float64).reshape(1, 3)
    there = registration.to_prior(center)
    step = current.grid.spacing_mm[0]
    reach = min(AROUND + round(_radius(body, center) / step), FARTHEST)
    steps = np.arange(-reach, reach + 1) * step
    z, y, x = np.meshgrid(steps, steps, steps, indexing="ij")
    places = np.stack([x.ravel(), y.ravel(), z.ravel()], -1) + center
    weights = identity.at(current.lungs & current.covered, current, places)
    weights &= ~_in_body(body, center, places)
    if weights.sum() < LEAST:
        return np.asarray(there[0])
    stretch = registration.jacobian(center)
    here = _drawn(current, center, np.eye(3)[None], step, reach)
    region = _drawn(prior, there, stretch, step, reach + SEARCH)
    scores = _correlation(here, region, weights.reshape(here.shape).astype(np.float32))
    shift = np.arange(-SEARCH, SEARCH + 1) * step
    z, y, x = np.meshgrid(shift, shift, shift, indexing="ij")
    shifts = np.stack([x.ravel(), y.ravel(), z.ravel()], -1)
    near = (scores.ravel() - NEAR_WEIGHT * (shifts**2).sum(1)).astype(np.float32)
    best = near.argmax(keepdims=True)
    if scores.ravel()[best[0]] < max(ALIKE, scores.ravel()[near.size // 2] + BETTER):
        return np.asarray(there[0])
    moved = shifts[best] + step * tops(near[None], best, 2 * SEARCH + 1)
    return np.asarray(there[0] + stretch[0] @ moved[0])


def _radius(body: float | Mask, center: F64) -> float:
    if isinstance(body, Mask):
        inside = plan.to_lps(body.grid, np.argwhere(body.voxels))
        return float(np.sqrt(((inside - center) ** 2).sum(1).max(initial=0)))
    if not 0 <= body < np.inf:
        raise ValueError(f"a body with a radius of {body} mm is none")
    return float(body)


def _in_body(body: float | Mask, center: F64, places: F64) -> NDArray[np.bool_]:
    """[n]: in the body or GROWN_MM about it."""
    if not isinstance(body, Mask):
        return np.asarray(((places - center) ** 2).sum(1) <= (body + GROWN_MM) ** 2)
    index = plan.to_index(body.grid, places)
    out = np.zeros(len(places), np.bool_)
    grown = [round(GROWN_MM / mm) for mm in body.grid.spacing_mm]
    ranges = [np.unique([-g, 0, g]) for g in grown]
    for offset in np.stack(np.meshgrid(*ranges, indexing="ij"), -1).reshape(-1, 3):
        near = np.rint(index + offset).astype(np.int64)
        inside = np.all((near >= 0) & (near < body.voxels.shape), axis=1)
        out[inside] |= body.voxels[tuple(near[inside].T)]
    return out


def _drawn(image: Image, place: F64, stretch: F64, step: float, reach: int) -> F32:
    values = np.minimum(
        regions(warp.Volume(image.values), image, place, stretch, step, reach), BRIGHT
    )
    return warp.smoothed(values[0], SOFT)


def _correlation(here: F32, region: F32, weights: F32) -> F32:
    """[shifts, shifts, shifts]: weighted correlation of `here` with each place of the region."""
    views = sliding_window_view(region, here.shape)
    total = float(weights.sum())
    own = (here - (here * weights).sum() / total) * weights
    axes = ((3, 4, 5), (0, 1, 2))
    mean = np.tensordot(views, weights, axes) / total
    squares = np.tensordot(views**2, weights, axes)
    product = np.tensordot(views, own, axes)
    varied = np.maximum(squares - total * mean**2, 0) + total
    return np.asarray(product / np.sqrt(varied * ((own * own).sum() + total)), np.float32)
