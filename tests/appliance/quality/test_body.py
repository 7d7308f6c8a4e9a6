"""Where the body is, and how much of it the field of view cuts off."""

from __future__ import annotations

import numpy as np

from appliance.quality import body as measured
from rigs.slices import body, samples


def test_a_body_that_lies_inside_meets_no_edge() -> None:
    assert measured.edge_percent(samples([body()] * 3)) == 0


def test_a_field_of_view_inside_the_body_is_all_edge() -> None:
    inside = np.full((240, 240), 50.0) + np.random.default_rng(1).normal(0, 10, (240, 240))
    assert measured.edge_percent(samples([inside] * 3)) == 100


def test_a_body_that_lies_to_one_side_is_cut_there_alone() -> None:
    found = measured.edge_percent(samples([body(y_mm=60)] * 3))
    assert found is not None
    assert 5 < found < 20


def test_the_edge_of_a_round_field_is_its_circle() -> None:
    y, x = np.indices((240, 240)) - 119.5
    hu = np.full((240, 240), 50.0) + np.random.default_rng(1).normal(0, 10, (240, 240))
    hu[np.hypot(x, y) > 119] = -2048
    assert measured.edge_percent(samples([hu])) == 100


def test_without_a_body_nothing_is_said() -> None:
    assert measured.edge_percent(samples([np.full((240, 240), -1000.0)])) is None
    assert measured.edge_percent([]) is None


def test_air_in_front_of_the_body_is_above_it_and_never_beside_or_behind() -> None:
    inside = np.zeros((40, 40), np.bool_)
    inside[20:30, 10:30] = True
    found = measured.before(inside, (5.0, 5.0))
    assert found[:16, 15:25].all()
    assert not found[17:].any()
    assert not found[:, :6].any()
    assert not measured.before(np.zeros((4, 4), np.bool_), (5.0, 5.0)).any()
