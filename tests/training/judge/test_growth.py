"""One body that did not change, scanned twice, and how far apart its sizes lie."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from appliance.bundle.exams import Repeatability
from appliance.prior.change import Measuring, changes
from appliance.prior.entry import CUBE
from appliance.quality.implant import SHAPE_MM, Block, Nodule, Shape
from rigs.two_exams import bundles
from training.judge.growth import FAR, FLOOR_MM, Kernel, Two, kernels, row_of, scanned, table

CELL = ((6.0, 10.0), "solid", True)


def sphere() -> Shape:
    """Of 10 mm."""
    cells = round(12 / SHAPE_MM)
    at = (np.arange(cells) - (cells - 1) / 2) * SHAPE_MM
    away = np.sqrt(at[:, None, None] ** 2 + at[None, :, None] ** 2 + at[None, None] ** 2)
    occupancy = np.where(away <= 5, 255, 0).astype(np.uint8)
    return Shape(occupancy, 10.0, 1, "made")


@pytest.fixture(scope="module")
def lung() -> Block:
    rng = np.random.default_rng(1)
    hu = rng.normal(-850, 20, (60, 85, 85)).astype(np.float32)
    return Block(hu, (1.0, 0.7, 0.7), 20.0)


def test_one_body_is_as_large_in_both_scans(lung: Block) -> None:
    rng = np.random.default_rng(2)
    nodule = Nodule(sphere(), 10.0, "solid")
    both = [scanned(rng, lung, np.full(3, 30.0), nodule, Kernel(), 7) for _ in range(2)]
    assert all(one is not None and one.cubes[0].hu.shape == (CUBE,) * 3 for one in both)
    assert both[0].facts.spacing_mm != both[1].facts.spacing_mm
    by = bundles().nodules
    (seen,) = changes(
        [(both[0].cubes[0], both[1].cubes[0])],
        *both,
        Measuring(by.manifest, by.backend),
        days=None,
    )
    assert seen.then.volume_mm3 == pytest.approx(seen.now.volume_mm3, rel=0.2)
    assert seen.then.mean_axis_mm == pytest.approx(10, abs=1.5)
    assert (lung.hu < -700).all()


def test_a_place_that_takes_no_implant_is_told(lung: Block) -> None:
    wall = Block(np.full_like(lung.hu, 40.0), lung.spacing, lung.noise_hu)
    nodule = Nodule(sphere(), 10.0, "solid")
    rng = np.random.default_rng(2)
    assert scanned(rng, wall, np.full(3, 30.0), nodule, Kernel(), 7) is None


def test_both_scans_have_one_kernel_or_two(lung: Block) -> None:
    rng = np.random.default_rng(3)
    for _ in range(20):
        one, other = kernels(rng, same=True)
        assert one == other
        one, other = kernels(rng, same=False)
        assert one != other


def test_a_soft_kernel_is_wider_and_an_edge_enhancing_one_steeper() -> None:
    edge = np.tile(np.repeat([-850.0, 40.0], 20).astype(np.float32), (3, 40, 1))
    assert np.diff(Kernel(soft_mm=0.8).of(edge, 0.7)).max() < np.diff(edge).max()
    assert np.ptp(Kernel(sharp=1.0).of(edge, 0.7)) > np.ptp(edge)
    assert Kernel(sharp=1.0).spread_mm == FLOOR_MM
    assert Kernel(soft_mm=0.8).spread_mm > Kernel().spread_mm


def test_a_row_counts_a_bias_as_an_error_and_what_was_not_measured_apart() -> None:
    found = [Two(0.1, 0.5)] * 39 + [Two(None, None)]
    row = row_of(CELL, found)
    assert row is not None
    assert (row["volume_percent"], row["axis_mm"]) == (10.0, 0.5)
    assert (row["n"], row["of"]) == (39, 40)
    assert row_of(CELL, [Two(None, None)]) is None


def test_a_row_holds_ninety_five_in_a_hundred_pairs() -> None:
    rng = np.random.default_rng(4)
    drawn = rng.standard_t(3, 400) * 0.05
    row = row_of(CELL, [Two(float(v), float(v)) for v in drawn])
    assert row is not None
    within = np.mean(np.abs(drawn) <= FAR * row["volume_percent"] / 100)
    assert within >= 0.95 - 1 / math.sqrt(400) / 2


def test_rows_are_those_of_a_manifest_and_a_table() -> None:
    row = row_of(CELL, [Two(0.1, 0.5)] * 30)
    assert row is not None
    kept = {key: value for key, value in row.items() if key != "of"}
    assert Repeatability.model_validate(json.loads(json.dumps(kept))).n == 30
    assert "| 6-10 | solid | same | 10.0 | 0.5 | 30 of 30 |" in table([row])
