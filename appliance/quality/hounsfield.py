"""Whether HU are HU: air in front of the body and soft tissue inside it.

- `air_hu`: median of the blocks of air in front of the body (slices.py, body.py); air is -1000 HU
  by definition of the scale. Blocks that are cut at the least value say nothing (noise.py).
- `tissue_hu`: the most common mean of the evener half of the blocks of soft tissue, in bins of 5 HU
  smoothed over five, None where that is the tail of fat; muscle is 40 to 60 HU, and a little more
  where contrast medium is in it.

Air decides. Tissue is a flag only where there is no air to ask, because an upper abdomen with much
contrast medium shows a liver that is more common and brighter than any muscle. An offset of 60 HU
is found either way. One of 25 is calibration; it cannot be found in one series.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from appliance.records import Sample

TISSUE_HU = -80.0, 260.0
"""Means of blocks of soft tissue: above fat, also where all is 60 HU off."""
AIR_HU = -1035.0, -965.0
MUSCLE_HU = 20.0, 95.0
AIR_A_SLICE: Final = 8
"""Blocks of air, on average: fewer are a small field of view with blankets in its corners."""
BIN_HU, SMOOTHED = 5.0, 5
FEWEST: Final = 100
"""Blocks of a series: a quantile of fewer says little."""


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
