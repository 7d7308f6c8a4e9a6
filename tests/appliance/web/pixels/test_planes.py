"""Cubes of a place become three planes that lie as a reader expects."""

from __future__ import annotations

import io

import numpy as np
import pytest

from appliance.compare.beside import packed
from appliance.web.pixels.planes import CUBE, GAP, NoCubes, of_pair
from rigs import beside


def middle(plane: np.ndarray) -> tuple[float, float]:
    """Row and column of what is bright."""
    row, column = np.argwhere(plane > 128).mean(axis=0)
    return float(row), float(column)


@pytest.mark.parametrize("way", [(1, 1, 1), (-1, 1, 1), (1, -1, -1)])
def test_head_and_front_are_up_and_the_right_of_the_patient_is_left(
    way: tuple[int, int, int],
) -> None:
    shown = beside.ball(14.0, way)
    found = of_pair(packed([(shown, shown)]), 0, "then")
    assert found.shape == (CUBE, 3 * CUBE + 2 * GAP)
    axial, coronal, sagittal = (found[:, n * (CUBE + GAP) :][:, :CUBE] for n in range(3))
    # the ball lies 32 of 48 towards the head, the back and the left
    assert middle(axial) == pytest.approx((32, 32), abs=1)
    assert middle(coronal) == pytest.approx((47 - 32, 32), abs=1)
    assert middle(sagittal) == pytest.approx((47 - 32, 32), abs=1)


def test_then_and_now_are_two_cubes_in_one_window() -> None:
    data = packed([(beside.ball(12.0), beside.ball(16.0))])
    then, now = of_pair(data, 0, "then"), of_pair(data, 0, "now")
    assert (then > 128).sum() < (now > 128).sum()
    assert then.max() == now.max()


@pytest.mark.parametrize(("pair", "cut"), [(1, None), (0, 200), (0, 0)])
def test_a_pair_that_is_not_there_or_damaged_is_said(pair: int, cut: int | None) -> None:
    data = packed([(beside.ball(4.0), beside.ball(6.0))])
    with pytest.raises(NoCubes, match="no cube of this pair"):
        of_pair(data[:cut], pair, "now")


def test_a_cube_of_another_size_is_damaged() -> None:
    data = io.BytesIO()
    np.savez_compressed(data, now_0=np.zeros((4, 4, 4), np.int16), now_0_lps=np.eye(4))
    with pytest.raises(NoCubes, match="damaged"):
        of_pair(data.getvalue(), 0, "now")
