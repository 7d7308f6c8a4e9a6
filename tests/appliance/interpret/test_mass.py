"""Masses are scored by their own calibration, and take the nodules at their rim with them."""

from __future__ import annotations

import numpy as np
import pytest

from appliance.bundle.heads import DetectHead, MassHead
from appliance.interpret import mass
from appliance.preprocess import plan
from appliance.records import Candidate, Mask, Tensor

HEAD = MassHead(
    detect=DetectHead(heat="heat", log_diameter="size", stride=4, top_k=8, within_mm=30.0),
    scale=2.0,
    bias=-1.0,
    threshold=0.5,
    least_mm=25.0,
)
PLACES = [(1, 1, 1), (1, 1, 5), (5, 5, 3)]


def kept(grid, *peaks: tuple[float, float], head: MassHead = HEAD):
    """(logit, diameter) of cells far apart -> masses; all of the grid is lung."""
    heat, size = np.full((1, 1, 7, 7, 7), -9.0), np.full((1, 1, 7, 7, 7), np.log(5.0))
    for cell, (logit, diameter) in zip(PLACES, peaks, strict=False):
        heat[(0, 0, *cell)], size[(0, 0, *cell)] = logit, np.log(diameter)
    outputs = {"heat": heat.astype(np.float32), "size": size.astype(np.float32)}
    lungs = Mask("lungs", np.ones(grid.shape, bool), grid)
    return mass.kept(outputs, Tensor(None, (1, 1, 28, 28, 28), grid), head, lungs)


@pytest.fixture
def grid(grid_of):
    return grid_of((28, 28, 28))


def test_a_mass_has_its_own_score_and_place(grid, grid_of, axes):
    lying = grid_of((28, 28, 28), axes=axes)
    (one,) = kept(lying, (1.5, 55.0))
    assert one.score == pytest.approx(1 / (1 + np.exp(-2.0)))
    assert one.logits == {"mass": 1.5}
    assert one.diameter_mm == pytest.approx(55.0)
    assert one.center_lps_mm == pytest.approx(plan.to_lps(lying, (5.5, 5.5, 5.5)), abs=0.1)


def test_masses_reach_the_threshold_and_the_least_diameter_best_first(grid):
    found = kept(grid, (0.6, 40.0), (2.0, 30.0), (3.0, 24.0))
    assert [m.logits["mass"] for m in found] == pytest.approx([2.0, 0.6])
    assert kept(grid, (0.4, 40.0)) == ()
    assert len(kept(grid, (0.5, 25.1))) == 1


def test_nothing_is_a_mass_where_the_head_does_not_reach(grid):
    far = HEAD.model_copy(update={"detect": HEAD.detect.model_copy(update={"min_logit": 5.0})})
    assert kept(grid, (4.0, 40.0), head=far) == ()


def at(x: float, diameter: float) -> Candidate:
    return Candidate((x, 0.0, 0.0), diameter, {"propose": 1.0}, 0.7)


def test_a_candidate_within_the_radius_of_a_mass_is_part_of_it():
    masses = [at(0.0, 50.0), at(200.0, 30.0)]
    candidates = [at(x, 8.0) for x in (24.9, 25.1, -10.0, 190.0, 100.0, 215.1)]
    assert [c.center_lps_mm[0] for c in mass.outside(candidates, masses)] == [25.1, 100.0, 215.1]
    assert mass.outside(candidates, []) == tuple(candidates)
