"""The lung recipe learns."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("scipy", reason="scipy is not installed (pip install -e '.[train]')")
torch = pytest.importorskip("torch", reason="torch is not installed (pip install -e '.[train]')")
pytest.importorskip("onnxscript", reason="onnxscript is not installed (pip install -e '.[train]')")
from training.learn.checkpoint import load_checkpoint  # noqa: E402
from training.read.lung_truth import lung_truth  # noqa: E402
from training.read.volume import resample  # noqa: E402
from training.recipes.lung_nodule import segment  # noqa: E402


def test_the_lung_recipe_takes_two_steps(tmp_path: Path) -> None:
    hu = np.full((40, 48, 48), -1000, np.float32)
    z, y, x = np.ogrid[:40, :48, :48]
    hu[np.broadcast_to((y - 24) ** 2 + (x - 24) ** 2 < 22**2, hu.shape)] = 40
    for side in (15, 33):
        hu[((z - 20) / 15) ** 2 + ((y - 24) / 14) ** 2 + ((x - side) / 7) ** 2 < 1] = -850
    fine = resample(hu, [3.0] * 3, [1.5] * 3)
    truth = lung_truth(fine, 1.5).astype(np.float32)
    assert truth.any()
    host = segment.Host(
        "made-up", {1.5: fine, 3.0: hu}, {1.5: truth, 3.0: resample(truth, [1.5] * 3, [3.0] * 3)}
    )
    k = segment.Knobs(steps=2, batch=2, depth=32, width=48, warmup=1)
    segment.train(k, [host], tmp_path)
    assert load_checkpoint(tmp_path / "last.pt")["step"] == 2
