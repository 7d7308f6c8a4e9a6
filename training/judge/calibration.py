"""How logits become a score, a logistic fit; and from which score on one is nearly always right."""

from __future__ import annotations

import numpy as np

from training.judge.metrics import F64


def fit(features: F64, labels: F64, weights: F64 | None = None, ridge: float = 1e-3) -> F64:
    """Logistic regression [n, k] -> k + 1 figures, the last the intercept; Newton's method."""
    each = np.ones(len(features)) if weights is None else weights
    x = np.column_stack([features, np.ones(len(features))])
    w = np.zeros(x.shape[1])
    for _ in range(100):
        p = 0.5 * (1 + np.tanh(0.5 * (x @ w)))
        gradient = x.T @ (each * (p - labels)) + ridge * w
        hessian = (x * (each * p * (1 - p))[:, None]).T @ x + ridge * np.eye(len(w))
        step = np.linalg.solve(hessian, gradient)
        w -= step
        if np.abs(step).max() < 1e-9:
            break
    return np.asarray(w, np.float64)


def isotonic(scores: F64, right: F64) -> F64:
    """[n] share that is right at each score, never falling as the score rises: the pool-adjacent-
    violators fit (Barlow et al., Statistical Inference under Order Restrictions, 1972)."""
    _, place, count = np.unique(scores, return_inverse=True, return_counts=True)
    means = np.bincount(place, right) / count
    blocks: list[tuple[float, int, int]] = []  # mean, weight, scores
    for mean, weight in zip(means.tolist(), count.tolist(), strict=True):
        blocks.append((mean, weight, 1))
        while len(blocks) > 1 and blocks[-2][0] >= blocks[-1][0]:
            (b, n, k), (a, m, j) = blocks.pop(), blocks.pop()
            blocks.append(((a * m + b * n) / (m + n), m + n, j + k))
    return np.repeat([mean for mean, _, _ in blocks], [k for _, _, k in blocks])[place]


def sure_from(scores: F64, right: F64, least: float) -> float:
    """The lowest score from which on, by the isotonic fit, at least this share is right; 1 where
    none is."""
    enough = isotonic(scores, right) >= least
    return float(scores[enough].min()) if enough.any() else 1.0
