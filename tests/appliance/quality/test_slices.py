"""What one slice says while it arrives."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from appliance.quality import slices
from appliance.records import Geometry, Sample, Vector
from rigs.slices import STEP_MM, body, noise, plane


def sample(hu: NDArray[np.floating]) -> Sample:
    """Of an image at the beginning of a band."""
    found = plane(hu).facts
    assert found is not None
    assert found.sample is not None
    return found.sample


def at(position_lps_mm: Vector, *, upright: bool = False) -> Geometry:
    """A slice across z, or a coronal one."""
    column = (0.0, 0.0, -1.0) if upright else (0.0, 1.0, 0.0)
    return Geometry(position_lps_mm, (1.0, 0.0, 0.0), column, (0.7, 0.7))


def test_whole_numbers_and_floats_of_equal_hu_give_equal_facts() -> None:
    one = plane(body())
    other = slices.facts(replace(one, native=one.native.astype(np.float32)))
    assert one.facts is not None
    for name in ("across", "down"):
        assert getattr(one.facts, name) == pytest.approx(getattr(other, name), abs=0.2), name
    assert one.facts.sample is not None
    assert other.sample is not None
    for name in ("tissue_hu", "tissue_sd", "air_hu", "air_sd"):
        whole, floats = getattr(one.facts.sample, name), getattr(other.sample, name)
        assert whole == pytest.approx(floats, abs=0.2), name
    assert one.facts.sample.body_edge == other.sample.body_edge


def test_a_body_is_as_large_wherever_it_lies_in_the_image() -> None:
    """Also where it lies across rows of cells that are averaged apart."""
    rng = np.random.default_rng(6)
    for top in (6, 120, 132, 174, 294):
        hu = np.full((420, 300), -1000.0)
        hu[top : top + 120, 60:240] = 40 + rng.normal(0, 5, (120, 180))
        found = slices.sample(plane(hu, pixel_mm=0.7))
        assert found.body_mm2 == pytest.approx(120 * 180 * 0.7**2, rel=1e-6), top
        assert found.tissue_cells.sum() == 18 * 28, top


def test_which_slices_are_sampled_hangs_on_their_place_alone() -> None:
    """Of slices half a millimetre apart a seventh; of those that adjoin one of each band."""
    places = [(0.0, 0.0, z / 2 - 400.0) for z in range(1600)]
    chosen = [one for one in places if slices.in_band(at(one), None)]
    assert len(chosen) == pytest.approx(1600 * slices.BAND_MM / slices.EVERY_MM, rel=0.05)
    beside = [(7.0, -3.0, z) for *_, z in chosen]
    assert all(slices.in_band(at(one), None) for one in beside)
    for apart in (0.6, 1.25, 3.0, 5.0):
        heights = np.arange(0.3, 299, apart)
        chosen_heights = [h for h in heights if slices.in_band(at((0, 0, h)), apart)]
        bands = {h // slices.EVERY_MM for h in chosen_heights}
        assert len(bands) == 23, apart
    assert slices.in_band(at((0.0, 12.0, 1.0)), 2.0)
    assert not slices.in_band(at((0.0, 0.0, 7.0)), 2.0)
    assert slices.in_band(at((0.0, 0.0, 7.0)), 8.0), "a band is as wide as slices are thick"
    assert slices.in_band(at((5.0, 1.0, 90.0), upright=True), 2.0)
    assert not slices.in_band(at((5.0, 7.0, 90.0), upright=True), 2.0)


def test_a_slice_between_the_bands_has_a_profile_and_no_sample() -> None:
    between = plane(body(), round(slices.BAND_MM / STEP_MM) + 1).facts
    first = plane(body()).facts
    assert between is not None
    assert first is not None
    assert between.sample is None
    assert (between.across == first.across).all()


def test_blocks_are_sorted_into_soft_tissue_and_air_in_front_of_the_body() -> None:
    found = sample(body(sd=10))
    assert len(found.tissue_hu) > 10
    assert np.median(found.tissue_hu) == pytest.approx(50, abs=3)
    assert np.median(found.air_hu) == pytest.approx(-1000, abs=3)


@pytest.mark.parametrize("fill", [-2048, -1024, -1000])
def test_fill_is_neither_air_nor_tissue(fill: int) -> None:
    found = sample(np.full((240, 240), float(fill)))
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
    assert found.down.min() >= slices.LOWEST - 0.001, "a mean is rounded"


def test_a_slice_is_measured_in_few_bytes() -> None:
    found = plane(body()).facts
    assert found is not None
    assert found.sample is not None
    of_blocks = (found.sample.tissue_hu, found.sample.tissue_sd, found.sample.air_hu)
    arrays = (found.across, found.down, *of_blocks)
    assert sum(array.nbytes for array in arrays) < 8_000
