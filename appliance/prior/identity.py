"""Whether two exams show the same person, judged by their lungs alone.

Rules
- What counts is the share of keypoints of today's lungs that are found in the earlier exam, each by
  itself, where their neighbours are found too. No two people's vessels are alike; outlines and
  bones are.
- Only keypoints count whose place is aerated lung inside the cover of both exams: an effusion, a
  collapsed lobe or the end of the images takes away keypoints, not share.
- Where the lungs are cut, or their boxes differ too much, how the exams lie on one another is a
  guess. If nothing agrees then, no place is known to lie in both exams, and no keypoint counts.
- SAME and more is the same person. Below DISAGREE the images disagree: another person, or a great
  change; both must be said. Between them, or with fewer than LEAST keypoints, nobody knows.
- Below SAME the earlier exam is tried mirrored: where that is the same person, one of the two has
  its sides exchanged.
- Thresholds are provisional: they stand on CTs that were moved by computation (docs/prior.md).
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from appliance.comparison import Identity
from appliance.preprocess import plan
from appliance.prior import warp
from appliance.prior.entry import HIGH_HU, LOW_HU, Image
from appliance.prior.warp import F64

SAME: Final = 0.40
DISAGREE: Final = 0.25
LEAST: Final = 50
AERATED_HU: Final = -400.0
"""Mean about a place, vessels and all, up to which it is aerated lung."""
ABOUT_MM: Final = 6.0
"""SD of that mean."""


def judged(share: float, keypoints: int, mirrored_share: float | None) -> Identity:
    """The verdict; `mirrored_share` None: the mirrored exam was not tried."""
    if keypoints < LEAST:
        return "identity_unsure"
    if share >= SAME:
        return "same"
    if mirrored_share is not None and mirrored_share >= SAME:
        return "laterality"
    return "images_disagree" if share < DISAGREE else "identity_unsure"


def aerated(image: Image) -> NDArray[np.bool_]:
    """[z, y, x]: lung inside the cover that holds air."""
    mean = warp.smoothed(image.values.astype(np.float32), ABOUT_MM / image.grid.spacing_mm[0])
    limit = (AERATED_HU - LOW_HU) * 255 / (HIGH_HU - LOW_HU)
    return np.asarray(image.lungs & image.covered & (mean <= limit))


def at(mask: NDArray[np.bool_], image: Image, points_lps: F64) -> NDArray[np.bool_]:
    """[n]: whether the voxel of each place [n, 3] is set; outside of the image it is not."""
    index = np.rint(plan.to_index(image.grid, points_lps)).astype(np.int64)
    inside = np.all((index >= 0) & (index < mask.shape), axis=1)
    out = np.zeros(len(index), np.bool_)
    out[inside] = mask[tuple(index[inside].T)]
    return out


def counted(prior: Image, current: Image, there_lps: F64, here_lps: F64) -> NDArray[np.bool_]:
    """[n]: which keypoints count, by their places in PRIOR and in CURRENT."""
    return np.asarray(
        at(aerated(prior), prior, there_lps) & at(aerated(current), current, here_lps)
    )


def mirrored(image: Image) -> Image:
    """The image with its sides exchanged, on the same grid."""
    return Image(
        values=np.ascontiguousarray(image.values[:, :, ::-1]),
        lungs=np.ascontiguousarray(image.lungs[:, :, ::-1]),
        covered=np.ascontiguousarray(image.covered[:, :, ::-1]),
        grid=image.grid,
    )
