"""Stair-steps between slices."""

from __future__ import annotations

import numpy as np
import pytest

from appliance.quality import steps
from rigs.slices import STEP_MM, body, facts

COUNT = 16
Z = np.arange(COUNT) * STEP_MM
EVERYWHERE = (-1e3, 1e3)


def series(moved: dict[int, tuple[float, float]] | None = None) -> list[np.ndarray]:
    """Slices of a body that grows evenly; some of them lie elsewhere (mm to the left, to the
    back)."""
    found = []
    for k in range(COUNT):
        x_mm, y_mm = (moved or {}).get(k, (0.0, 0.0))
        found.append(body(x_mm=x_mm, y_mm=y_mm, scale=0.9 + 0.01 * k, seed=k))
    return found


def test_a_body_that_grows_evenly_makes_no_step() -> None:
    found = steps.largest(facts(series()), Z, EVERYWHERE)
    assert found is not None
    assert found[0] < 0.3


@pytest.mark.parametrize("way", [(4.0, 0.0), (-4.0, 0.0), (0.0, 4.0), (0.0, -6.0)])
def test_one_slice_that_lies_elsewhere_is_found_at_its_place(way: tuple[float, float]) -> None:
    found = steps.largest(facts(series({7: way})), Z, EVERYWHERE)
    assert found is not None
    step, index = found
    assert step == pytest.approx(max(map(abs, way)), rel=0.2)
    assert index in (7, 8)
    assert step > steps.limit_mm(STEP_MM)


def test_a_block_of_slices_that_lies_elsewhere_is_found_at_one_of_its_ends() -> None:
    found = steps.largest(facts(series(dict.fromkeys(range(5, 11), (4.0, 0.0)))), Z, EVERYWHERE)
    assert found is not None
    assert found[0] == pytest.approx(4, rel=0.2)
    assert found[1] in (5, 11)


def test_a_patient_who_lies_askew_makes_no_step() -> None:
    askew = {k: (1.5 * k, 0.0) for k in range(COUNT)}
    found = steps.largest(facts(series(askew)), Z, EVERYWHERE)
    assert found is not None
    assert found[0] < 0.5


def test_across_a_hole_and_beyond_the_lungs_no_step_is_looked_for() -> None:
    shifted = facts(series(dict.fromkeys(range(8, COUNT), (6.0, 0.0))))
    holed = np.where(np.arange(COUNT) < 8, Z, Z + 9.0)
    for z, within in ((holed, EVERYWHERE), (Z, (0.0, 10.0)), (Z, (20.0, 40.0))):
        found = steps.largest(shifted, z, within)
        assert found is not None
        assert found[0] < 0.5


def test_of_too_few_or_unlike_slices_nothing_is_said() -> None:
    assert steps.largest(facts(series())[:4], Z[:4], EVERYWHERE) is None
    unlike = [*series()[:8], *(hu[:, :200] for hu in series()[8:])]
    assert steps.largest(facts(unlike), Z, EVERYWHERE) is None
    blank = [np.full((240, 240), -1000.0)] * COUNT
    assert steps.largest(facts(blank), Z, EVERYWHERE) is None


def test_the_limit_grows_with_the_distance_of_the_slices() -> None:
    assert steps.limit_mm(1.0) < steps.limit_mm(5.0) < 4.0
