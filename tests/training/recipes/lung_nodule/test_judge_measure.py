"""The judge of the measuring network finds no error in a right answer, and how large one is."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

pytest.importorskip("scipy", reason="scipy is not installed (pip install -e '.[train]')")
pytest.importorskip("torch", reason="torch is not installed (pip install -e '.[train]')")

from appliance.quality.implant import SHAPE_MM, Shape
from training.implant.hosts import Host
from training.implant.nodules import Places
from training.implant.shapes import shape_of
from training.read.volume import Volume
from training.recipes.lung_nodule.judge_measure import (
    PLAIN,
    Row,
    figures_of,
    judged,
    summary,
    true_axes,
)
from training.recipes.lung_nodule.measure import Example, draw


def ball(diameter_mm: float) -> Shape:
    n = int(np.ceil(diameter_mm / SHAPE_MM)) + 2
    axis = (np.arange(n) - (n - 1) / 2) * SHAPE_MM
    far = np.sqrt(sum(g**2 for g in np.meshgrid(axis, axis, axis)))
    shape = shape_of(np.clip((diameter_mm / 2 - far) / SHAPE_MM + 0.5, 0, 1).astype(np.float32), 1)
    assert shape is not None
    return shape


def example(diameter_mm: float, seed: int = 0) -> Example:
    hu = np.full((54, 100, 100), -850, np.float32)
    places = Places(np.full((40, 3), 40.0), np.linspace(0.5, 30, 40), np.zeros((0, 3)))
    volume = Volume("made-up", hu, (1.5, 0.8, 0.8), (0.0, 0.0, 0.0))
    host = Host(volume, 0.0, places, (), np.zeros((1, 1, 1), bool))
    k = dataclasses.replace(PLAIN, smallest_mm=diameter_mm, largest_mm=diameter_mm)
    return draw(np.random.default_rng(seed), host, [ball(diameter_mm)], k, "solid")


def right(one: Example) -> dict[str, np.ndarray]:
    """What a network without error would answer."""
    share = np.clip(one.body, 0.01, 0.99)
    density = np.zeros((1, 4), np.float32)
    density[0, one.density] = 5
    return {"body": np.log(share / (1 - share))[None, None], "density": density}


@pytest.mark.parametrize("diameter_mm", [6.0, 11.0, 24.0])
def test_a_right_outline_has_nearly_no_error(diameter_mm: float) -> None:
    one = example(diameter_mm)
    assert true_axes(one) == pytest.approx((diameter_mm, diameter_mm), abs=0.5)
    row = judged(one, right(one), thick=False)
    assert row.dice > 0.97
    assert row.hausdorff_mm <= 0.81
    assert row.mean_mm == pytest.approx(row.true_mean_mm, abs=0.4)
    assert row.volume_mm3 == pytest.approx(row.true_volume_mm3, rel=0.08)
    assert row.density == row.true_density


def test_an_outline_too_large_is_said_to_be_so() -> None:
    one, larger = example(10.0), example(14.0)
    row = judged(one, right(dataclasses.replace(one, body=larger.body)), thick=False)
    assert row.mean_mm is not None
    assert row.mean_mm - row.true_mean_mm == pytest.approx(4, abs=0.7)
    assert row.dice < 0.7


def test_no_outline_at_the_place_is_not_measured() -> None:
    one = example(9.0)
    empty = {**right(one), "body": np.full((1, 1, 48, 48, 48), -5, np.float32)}
    row = judged(one, empty, thick=False)
    assert (row.mean_mm, row.volume_mm3, row.dice) == (None, None, 0.0)


def test_figures_are_of_what_was_measured_and_say_what_was_not() -> None:
    row = Row("solid", 9.0, False, 10.0, 500.0, 0, 0.9, 1.0, 0, 11.0, 600.0)
    rows = [row, dataclasses.replace(row, mean_mm=8.0, density=3)]
    missed = dataclasses.replace(row, dice=0.0, hausdorff_mm=np.inf, mean_mm=None, volume_mm3=None)
    figures = figures_of([*rows, missed])
    assert (figures["implants"], figures["measured"]) == (3, 2)
    assert figures["mean_axis_error_mm"] == 1.5
    assert figures["mean_axis_bias_mm"] == -0.5
    assert figures["volume_error"] == pytest.approx(0.2)
    table = summary([*rows, missed, dataclasses.replace(row, thick=True)])
    assert table["confusion"]["solid"] == [2, 0, 0, 1]
    assert table["groups"]["slices of 5 mm"]["implants"] == 1
    assert figures_of([missed]) == {"implants": 1, "measured": 0}
