"""What a reader sees of a place: the cube that was kept, or one of the coarse image."""

from __future__ import annotations

import numpy as np
import pytest

from appliance.preprocess import plan
from appliance.prior.entry import CUBE
from appliance.prior.shown import of_cube, of_image
from rigs.two_exams import Ball, Exam, entry

PLACE = (45.0, 8.0, 0.0)


def test_a_cube_of_the_image_has_the_place_in_its_middle():
    seen = of_image(entry(Exam([Ball(PLACE)])).image, PLACE)
    middle = plan.to_lps(seen.grid, [(CUBE - 1) / 2] * 3)
    assert middle == pytest.approx(np.array(PLACE))
    assert (seen.hu.shape, seen.hu.dtype) == ((CUBE,) * 3, np.int16)


def test_a_cube_of_the_image_shows_what_the_cube_that_was_kept_shows():
    exam = entry(Exam([Ball(PLACE, 14.0)]))
    kept, coarse = of_cube(exam.cubes[0]), of_image(exam.image, exam.cubes[0].center_lps_mm)
    assert kept.hu is exam.cubes[0].hu
    away = np.abs(kept.hu.astype(float) - coarse.hu)
    assert np.median(away) < 30
    assert np.corrcoef(kept.hu.ravel(), coarse.hu.ravel())[0, 1] > 0.95


def test_beyond_the_image_there_is_air():
    exam = entry(Exam())
    assert (of_image(exam.image, (500.0, 0.0, 0.0)).hu == -1000).all()
    edge = of_image(exam.image, (86.0, 0.0, 0.0))
    assert (edge.hu[:, :, -20:] == -1000).all()
    assert (edge.hu[:, :, :20] > -1000).all()
