"""Figures that recipes and evaluation share.

Rules. Each takes plain arrays and returns plain numbers. A hit is a finding whose centre lies
within the nodule's radius, at least 5 mm; findings near a lesion marked `ignore` count neither way.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]


def auc(labels: npt.ArrayLike, scores: npt.ArrayLike) -> float:
    """Area under the ROC curve as the Mann-Whitney statistic (ties count half)."""
    y, s = np.asarray(labels).astype(bool), np.asarray(scores, dtype=np.float64)
    _, inverse, counts = np.unique(s, return_inverse=True, return_counts=True)
    rank = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    n1, n0 = int(y.sum()), int((~y).sum())
    if n1 == 0 or n0 == 0:
        raise ValueError("auc needs both classes")
    return float((rank[y].sum() - n1 * (n1 + 1) / 2) / (n1 * n0))
