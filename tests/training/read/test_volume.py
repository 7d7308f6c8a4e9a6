"""Resampling by the rule, the label-making of lungs, and what may not be trained on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("scipy", reason="scipy is not installed (pip install -e '.[train]')")

from appliance.preprocess import reference
from appliance.preprocess.spec import Resample
from training.read.lung_truth import close, lung_truth
from training.read.shared_series import NEVER_TRAIN, training_series
from training.read.volume import Volume, resample, stack_of, window


def test_a_resampled_ramp_keeps_its_mean() -> None:
    ramp = np.arange(24 * 30 * 40, dtype=np.float32).reshape(24, 30, 40)
    out = resample(ramp, (2.0, 0.7, 0.7), (3.0, 1.4, 1.4))
    assert out.shape == (16, 15, 20)
    assert out.mean() == pytest.approx(ramp.mean(), rel=1e-5)


def test_a_volume_is_resampled_as_the_appliance_does() -> None:
    rng = np.random.default_rng(0)
    hu = rng.normal(-500, 300, (10, 40, 37)).astype(np.float32)
    volume = Volume("v", hu, (2.5, 0.7, 0.8), (0.0, 0.0, 0.0))
    ops = (Resample(spacing_mm=(1.25, 1.25, 1.25)),)
    wanted, _ = reference.apply(stack_of(volume), ops, None)
    assert np.allclose(resample(hu, volume.spacing, (1.25,) * 3), wanted[0, 0], atol=0.05)


def test_the_window_is_from_air_to_bone() -> None:
    values = np.array([-2000, -1000, -300, 400, 3000], np.float32)
    assert window(values).tolist() == [0, 0, 0.5, 1, 1]


def test_points_go_to_the_patient_and_back() -> None:
    volume = Volume("v", np.zeros((2, 2, 2), np.float32), (2.0, 0.5, 0.25), (10.0, 20.0, 30.0))
    assert volume.lps([1, 2, 4]).tolist() == [11.0, 21.0, 32.0]
    assert volume.zyx(volume.lps([1, 2, 4])).tolist() == [1, 2, 4]


def test_closing_bridges_a_gap_and_does_not_grow() -> None:
    mask = np.zeros((9, 30, 30), bool)
    mask[:, 4:12, 4:26], mask[:, 15:26, 4:26] = True, True
    closed = close(mask, 9.0, 3.0)
    assert closed[4, 13, 15]
    assert not closed[4, 1, 15]
    assert (closed & mask).sum() == mask.sum()


def test_lungs_are_the_inner_air_without_the_windpipe() -> None:
    hu = np.full((60, 100, 100), -1000, np.float32)
    z, y, x = np.ogrid[:60, :100, :100]
    hu[np.broadcast_to(((y - 50) / 40) ** 2 + ((x - 50) / 46) ** 2 < 1, hu.shape)] = 40
    for side in (28, 72):
        lung = ((z - 25) / 22) ** 2 + ((y - 50) / 24) ** 2 + ((x - side) / 14) ** 2 < 1
        hu[lung] = -850
    windpipe = np.broadcast_to((y - 45) ** 2 + (x - 50) ** 2 < 16, hu.shape) & (z > 30)
    hu[windpipe] = -1000
    truth = lung_truth(hu, 2.0)
    assert truth[25, 50, 28]
    assert truth[25, 50, 72]
    assert not truth[:, 0].any()
    assert not truth[40:, 43:48, 48:53].any()


@pytest.mark.parametrize("name", NEVER_TRAIN)
def test_series_without_a_licence_to_train_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="may not be trained on"):
        training_series(tmp_path, name)
