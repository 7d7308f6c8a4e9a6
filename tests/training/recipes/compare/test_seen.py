"""A pair as the appliance sees it: boxes laid over each other, and the field between them."""

from __future__ import annotations

import numpy as np
import torch

from training.implant.pairs.fields import FIELD_MM, moved
from training.implant.pairs.pair import Chest, at_points, drawn
from training.learn.registration import warped
from training.recipes.compare.seen import MULTIPLE, seen


def test_the_truth_lays_moving_over_fixed_at_8_mm(host: Chest) -> None:
    for seed in range(3):
        view = seen(drawn(np.random.default_rng(seed), host, moved))
        assert view.fixed.shape == view.moving.shape == view.lungs.shape == view.truth.shape[1:]
        assert all(n % MULTIPLE == 0 for n in view.fixed.shape)
        images = [torch.from_numpy(a)[None, None] for a in (view.fixed, view.moving, view.lungs)]
        fixed, moving, lungs = images
        laid = warped(moving, torch.from_numpy(view.truth)[None])
        before, after = (
            float(((one - fixed).abs() * lungs).sum() / lungs.sum()) for one in (moving, laid)
        )
        assert after < 0.85 * before


def test_points_come_back_through_the_boxes_to_where_they_were(host: Chest) -> None:
    """What the truth says at 8 mm is the place in the earlier exam, to the field's own cells."""
    pair = drawn(np.random.default_rng(5), host, moved)
    view = seen(pair)
    here, there = pair.points[:, 0], pair.points[:, 1]
    said = view.boxes.back(here + at_points(view.truth, here - view.corner_mm))
    assert np.linalg.norm(said - there, axis=1).max() < 1.0
    assert np.allclose(view.boxes.back(view.boxes.aligned(there)), there)


def test_outside_of_a_box_and_its_margin_is_air(host: Chest) -> None:
    view = seen(drawn(np.random.default_rng(1), host, moved))
    cells = np.ceil((view.boxes.fixed[1] - view.boxes.fixed[0] + 32) / FIELD_MM).astype(int)
    for image in (view.fixed, view.moving):
        assert image[cells[0] :].sum() == image[:, cells[1] :].sum() == 0
        assert image.max() <= 1
    assert view.lungs[cells[0] :].sum() == 0


def test_a_lesson_has_boxes_of_its_own_and_a_judge_has_not(host: Chest) -> None:
    pair = drawn(np.random.default_rng(1), host, moved)
    plain, again = seen(pair), seen(pair)
    assert np.array_equal(plain.truth, again.truth)
    off = seen(pair, np.random.default_rng(1)).boxes.fixed[0] - plain.boxes.fixed[0]
    assert 0 < np.abs(off).max() <= 4.0
