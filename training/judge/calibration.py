"""How logits become a score: a logistic fit."""

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
