"""Whether HU are HU: air in front of the body and soft tissue inside it.

- `air_hu`: median of the quarters of blocks in air in front of the body (slices.py, body.py); air
  is -1000 HU by definition of the scale. Those that are cut at the least value say nothing
  (noise.py).
- `tissue_hu` of the in-room check: the most common mean of the evener half of the quarters of soft
  tissue, in bins of 5 HU smoothed over five, None where that is the tail of fat; muscle is 40 to
  60 HU, and a little more where contrast medium is in it.

- `tissue_hu` for the watch over the scanner: the mode of the means of cells of 4 mm that lie in the
  body and touch neither lung nor skin (the body of body.py, eroded by a cell), in MODE_HU, of bins
  of 1 HU smoothed by a Gaussian of SMOOTH_HU. Where the highest bin is the end of MODE_HU, what is
  there is the tail of something else: then the highest mode up to MODE_MOST_HU is taken, so that a
  scale that is off is seen as one; None where there is none. It is finer than that of the check
  and sees a narrower range.

In the check air decides. Tissue is a flag only where there is no air to ask, because an upper
abdomen with much contrast medium shows a liver that is more common and brighter than any muscle. An
offset of 60 HU is found either way. One of 25 is calibration; it cannot be found in one series.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from appliance.records import Sample

TISSUE_HU = -80.0, 260.0
"""Means of blocks of soft tissue: above fat, also where all is 60 HU off."""
AIR_HU = -1035.0, -965.0
MUSCLE_HU = 20.0, 95.0
AIR_A_SLICE: Final = 8
"""Blocks of air, on average: fewer are a small field of view with blankets in its corners."""
BIN_HU, SMOOTHED = 5.0, 5
FEWEST: Final = 100
"""Quarters of a series: a quantile of fewer says little."""
MODE_HU = 0.0, 100.0
MODE_MOST_HU: Final = 200.0
SMOOTH_HU: Final = 5.0
COUNTED_HU = -20, 220
"""Bins that are counted of each slice: what is smoothed has no end within MODE_HU."""
FEWEST_CELLS: Final = 1000
"""About 175 cm2 of tissue in all slices."""

F32 = NDArray[np.float32]


def air(samples: Sequence[Sample]) -> float | None:
    """`air_hu`."""
    if not samples:
        return None
    found = np.concatenate([one.air_hu[np.isfinite(one.air_sd)] for one in samples])
    return None if len(found) < AIR_A_SLICE * len(samples) else float(np.median(found))


def tissue(samples: Sequence[Sample]) -> float | None:
    """`tissue_hu`."""
    if sum(len(one.tissue_sd) for one in samples) < FEWEST:
        return None
    means = np.concatenate([one.tissue_hu for one in samples])
    sds = np.concatenate([one.tissue_sd for one in samples])
    edges = np.arange(TISSUE_HU[0], TISSUE_HU[1] + BIN_HU, BIN_HU)
    counts, _ = np.histogram(means[sds <= np.median(sds)], edges)
    smooth = np.convolve(counts, np.ones(SMOOTHED), mode="same")
    most = int(smooth.argmax())
    return None if most < SMOOTHED else float(edges[most] + BIN_HU / 2)


def counted(cells: F32) -> NDArray[np.int32]:
    """[bins of 1 HU]: how many of these cells, mean HU, lie in each bin of COUNTED_HU."""
    low, high = COUNTED_HU
    kept = np.floor(cells[(cells >= low) & (cells < high)]).astype(np.int32) - low
    return np.bincount(kept, minlength=high - low).astype(np.int32)


def mode(samples: Sequence[Sample]) -> float | None:
    """`tissue_hu` for the watch over the scanner."""
    counts = np.sum([one.tissue_cells for one in samples], axis=0) if samples else np.zeros(1)
    if counts.sum() < FEWEST_CELLS:
        return None
    reach = np.arange(-3 * SMOOTH_HU, 3 * SMOOTH_HU + 1)
    smooth = np.convolve(counts, np.exp(-0.5 * (reach / SMOOTH_HU) ** 2), mode="same")
    first, end, last = (int(hu) - COUNTED_HU[0] for hu in (*MODE_HU, MODE_MOST_HU))
    top = first + int(smooth[first:end].argmax())
    if top in (first, end - 1):
        above = smooth[end : last + 1]
        top = end + int(above.argmax())
        if top in (end, last):
            return None
    before, there, after = smooth[top - 1 : top + 2]
    curve = before - 2 * there + after
    aside = (before - after) / (2 * curve) if curve < 0 else 0.0  # the top of a parabola
    return float(COUNTED_HU[0] + top + 0.5 + aside)
