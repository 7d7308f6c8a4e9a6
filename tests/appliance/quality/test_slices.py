"""What one slice says while it arrives."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from appliance.quality import slices
from rigs.slices import body, noise, plane


def test_whole_numbers_and_floats_of_equal_hu_give_equal_facts() -> None:
    one = plane(body())
    other = slices.facts(replace(one, native=one.native.astype(np.float32)))
    assert one.facts is not None
    for name in ("across", "down", "tissue_hu", "tissue_sd", "air_hu", "air_sd"):
        assert getattr(one.facts, name) == pytest.approx(getattr(other, name), abs=0.2), name
    assert one.facts.body_edge == other.body_edge


def test_blocks_are_sorted_into_soft_tissue_and_air_in_front_of_the_body() -> None:
    found = plane(body(sd=10)).facts
    assert found is not None
    assert len(found.tissue_hu) > 10
    assert np.median(found.tissue_hu) == pytest.approx(50, abs=3)
    assert np.median(found.air_hu) == pytest.approx(-1000, abs=3)


@pytest.mark.parametrize("fill", [-2048, -1024, -1000])
def test_fill_is_neither_air_nor_tissue(fill: int) -> None:
    hu = np.full((240, 240), float(fill))
    found = plane(hu).facts
    assert found is not None
    assert len(found.air_hu) == len(found.tissue_hu) == 0
    assert found.body_edge is None


@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (5, 400), (33, 17)])
def test_an_image_of_any_size_is_measured_as_far_as_it_goes(shape: tuple[int, int]) -> None:
    found = plane(noise(20, 3)[: shape[0], : shape[1]] + 50).facts
    assert found is not None
    assert len(found.across) >= 1
    assert np.isfinite(found.across).all()


def test_metal_and_fill_do_not_move_a_profile_beyond_soft_tissue_and_air() -> None:
    hu = body()
    hu[100:110, 100:110] = 3071
    hu[:20] = -2048
    found = plane(hu).facts
    assert found is not None
    assert found.across.max() <= slices.HIGHEST
    assert found.down.min() >= slices.LOWEST


def test_a_slice_is_measured_in_few_bytes() -> None:
    found = plane(body()).facts
    assert found is not None
    arrays = (found.across, found.down, found.tissue_hu, found.tissue_sd, found.air_hu)
    assert sum(array.nbytes for array in arrays) < 8_000
