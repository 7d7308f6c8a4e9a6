"""The share from which on a lung is missing is fitted to volumes that the appliance measures."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("scipy", reason="scipy is not installed (pip install -e '.[train]')")
pytest.importorskip("torch", reason="torch is not installed (pip install -e '.[train]')")

from appliance.backend.cpu import CpuBackend
from appliance.bundle.heads import Calibration
from training.read.volume import Volume
from training.recipes.lung_nodule import bundle
from training.recipes.lung_nodule.judge_sides import fitted, share, volumes

PLAIN = Calibration(propose=1.0, classify=1.0, bias=0.0, threshold=0.5)


def test_volumes_are_those_of_the_lungs_on_either_side() -> None:
    """Boxes of 144 x 144 x 90 and x 45 mm, 12 mm from the middle; air is lung for this network."""
    hu = np.full((64, 80, 96), 40.0, np.float32)
    hu[:, :8] = hu[:, -8:] = hu[:, :, :6] = hu[:, :, -6:] = -1000
    hu[8:56, 16:64, 14:44] = hu[8:56, 16:64, 52:67] = -850
    volume = Volume("v", hu, (3.0, 3.0, 3.0), (-100.0, -50.0, 7.0))

    def lungs(image: np.ndarray) -> dict[str, np.ndarray]:
        return {"lungs": np.where(np.abs(image - 150 / 1400) < 0.05, 5.0, -5.0).astype(np.float32)}

    entries = {"segment": bundle.network("segment", "0" * 64)}
    backend = CpuBackend("onnxruntime", entries, {"segment": lungs})  # type: ignore[dict-item]
    left, right = volumes(volume, bundle.line_model(PLAIN), backend)
    assert right == pytest.approx(144 * 144 * 90 / 1000, rel=0.02)
    assert left == pytest.approx(right / 2, rel=0.02)
    assert share(left, right) == share(right, left) == pytest.approx(0.5, rel=0.03)


def test_the_share_is_half_of_the_least_that_two_lungs_have() -> None:
    assert fitted([0.91, 0.64, 0.8]) == 0.32
    assert share(0.0, 0.0) == 0.0
    assert share(0.0, 900.0) == 0.0
