"""Resampling by the rule, the label-making of lungs, and what may not be trained on."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("scipy", reason="scipy is not installed (pip install -e '.[train]')")


import pytest

from appliance.preprocess import reference
from appliance.preprocess.spec import Resample
from appliance.quality.implant import Axis, box_mean
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


def test_box_means_keep_the_volume() -> None:
    source = np.random.default_rng(0).random(20).astype(np.float32)
    weights = box_mean(Axis(12, 1.3, 0.0), Axis(20, 0.5, 1.0))
    assert (weights @ source).sum() * 1.3 == pytest.approx(source.sum() * 0.5, rel=1e-5)


def test_a_volume_becomes_a_stack_in_the_same_place() -> None:
    volume = Volume("v", np.zeros((3, 4, 5), np.float32), (2.0, 0.5, 0.5), (1.0, 2.0, 3.0))
    stack = stack_of(volume)
    assert stack.planes[2].geometry.position_lps_mm == (1.0, 2.0, 7.0)
    assert stack.z_mm.tolist() == [0, 2, 4]
