"""Logits of patches become one calibrated score a candidate."""

from __future__ import annotations

import numpy as np
import pytest

from appliance.bundle.heads import Calibration, ClassifyHead, CubeHead
from appliance.errors import Poisoned
from appliance.interpret import classify
from appliance.preprocess import reference
from appliance.records import Candidate

CALIBRATION = Calibration(propose=0.5, classify=1.0, bias=-1.0, threshold=0.5)
PLACES = [(0.0, 0.0, 0.0), (9.0, 0.0, 0.0), (5.0, 0.0, 0.0)]


def proposed(*logits: float) -> list[Candidate]:
    return [
        Candidate(place, 6.0, {"propose": logit}, 0.5)
        for place, logit in zip(PLACES, logits, strict=False)
    ]


def test_a_logit_is_the_mean_over_its_views():
    head = ClassifyHead(output="logit", views=4)
    raw = np.arange(12, dtype=np.float32)[:, None]
    assert classify.logits({"logit": raw}, head).tolist() == [1.5, 5.5, 9.5]
    assert classify.logits({"logit": raw[:, 0]}, head).tolist() == [1.5, 5.5, 9.5]


def test_views_of_a_patch_fall_to_the_same_candidate():
    patches = np.stack([np.full((1, 4, 4), float(k), np.float32) for k in range(3)])
    seen = reference.views(patches, 8).mean(axis=(2, 3))
    assert classify.logits({"y": seen}, ClassifyHead(output="y")).tolist() == [0, 1, 2]


def test_the_score_is_the_calibrated_sum_and_the_best_comes_first():
    done = classify.scored(proposed(2.0, 2.0), np.array([-1.0, 3.0], np.float32), CALIBRATION)
    assert [c.center_lps_mm for c in done] == [PLACES[1], PLACES[0]]
    assert done[0].score == pytest.approx(1 / (1 + np.exp(-3.0)))
    assert done[1].score == pytest.approx(1 / (1 + np.exp(1.0)))
    assert done[0].logits == {"propose": 2.0, "classify": 3.0}


def test_a_cube_adds_its_part_to_the_score():
    calibration = CALIBRATION.model_copy(update={"cube": 2.0})
    patch, cube = np.array([-1.0, 3.0], np.float32), np.array([4.0, -1.0], np.float32)
    done = classify.scored(proposed(2.0, 2.0), patch, calibration, cube)
    assert [c.center_lps_mm for c in done] == PLACES[:2]
    assert done[0].score == pytest.approx(1 / (1 + np.exp(-(1.0 - 1.0 + 8.0 - 1.0))))
    assert done[0].logits == {"propose": 2.0, "classify": -1.0, "cube": 4.0}
    assert done[1].score == pytest.approx(1 / (1 + np.exp(-(1.0 + 3.0 - 2.0 - 1.0))))
    with pytest.raises(Poisoned, match="cube logits"):
        classify.scored(proposed(2.0, 2.0), patch, calibration, cube[:1])


def test_a_cube_has_one_logit():
    head = CubeHead(output="y")
    for shape in ((3,), (3, 1)):
        raw = np.arange(3, dtype=np.float32).reshape(shape)
        assert classify.cube_logits({"y": raw}, head).tolist() == [0, 1, 2]
    with pytest.raises(Poisoned) as error:
        classify.cube_logits({"y": np.zeros((3, 2), np.float32)}, head)
    assert error.value.code == "backend_failed"


def test_equal_scores_are_ordered_by_place():
    done = classify.scored(proposed(1.0, 1.0, 1.0), np.zeros(3, np.float32), CALIBRATION)
    assert [c.center_lps_mm for c in done] == sorted(PLACES)


def test_extreme_logits_keep_a_score():
    done = classify.scored(proposed(1e4, -1e4), np.array([1e4, -1e4], np.float32), CALIBRATION)
    assert [c.score for c in done] == [1.0, 0.0]


@pytest.mark.parametrize("shape", [(7, 1), (8, 2), (3,)])
def test_an_output_that_is_not_one_logit_a_view_fails(shape):
    with pytest.raises(Poisoned) as error:
        classify.logits({"y": np.zeros(shape, np.float32)}, ClassifyHead(output="y", views=8))
    assert error.value.code == "backend_failed"


def test_as_many_logits_as_candidates():
    with pytest.raises(Poisoned):
        classify.scored(proposed(1.0), np.zeros(2, np.float32), CALIBRATION)
    assert classify.scored([], np.zeros(0, np.float32), CALIBRATION) == ()
