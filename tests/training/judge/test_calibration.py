"""The logistic fit."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("scipy", reason="scipy is not installed (pip install -e '.[train]')")
pytest.importorskip("torch", reason="torch is not installed (pip install -e '.[train]')")
from training.judge.calibration import fit


def test_the_logistic_fit_finds_the_figures_that_made_the_data() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(20000, 2))
    p = 1 / (1 + np.exp(-(1.5 * x[:, 0] - 0.7 * x[:, 1] + 0.3)))
    w = fit(x, (rng.random(20000) < p).astype(float))
    assert w == pytest.approx([1.5, -0.7, 0.3], abs=0.08)
