"""What is measured of a water phantom is what its maker gave it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from appliance.bundle.water import WaterPhantom
from appliance.phantom import water as made
from appliance.phantom.water import SHARP, SOFT, Water
from appliance.quality import passing, water
from appliance.watching.qa import Expected, QaCode, WaterFigures
from rigs import phantoms

BLURRED = ((1.0, 0.8),)
EXPECTED = Expected(
    diameter_mm=200.0,
    noise_hu=6.0,
    response_50_per_mm=round(made.frequency(SOFT, 0.5), 3),
    response_10_per_mm=round(made.frequency(SOFT, 0.1), 3),
)


def measured(phantom: Water, **how: object) -> WaterFigures:
    found = water.figures(phantoms.seen(phantom, **how))
    assert found is not None
    return found


@pytest.mark.parametrize("response", [SOFT, SHARP, BLURRED], ids=["soft", "sharp", "blurred"])
@pytest.mark.parametrize(
    "mm", [(0.6, 0.4, 0.4), (5.0, 0.7, 0.7), (2.5, 0.98, 0.98)], ids=["0.4", "0.7", "0.98"]
)
def test_all_figures_are_within_their_tolerance(
    response: made.Response, mm: tuple[float, float, float]
) -> None:
    found = measured(Water(response=response), spacing_mm=mm, slices=5)
    assert found.water_hu == pytest.approx(0, abs=0.5)
    assert found.uniformity_hu == pytest.approx(0, abs=1)
    assert found.noise_hu == pytest.approx(6, rel=0.05)
    assert found.diameter_mm == pytest.approx(200, abs=0.5)
    assert found.scale == pytest.approx(1, abs=0.002)
    wanted = [made.frequency(response, level) for level in (0.5, 0.1)]
    assert found.response_50_per_mm == pytest.approx(wanted[0], abs=0.05)
    assert found.response_10_per_mm == pytest.approx(wanted[1], abs=0.05)


@pytest.mark.parametrize("rim", [2.0, 3.0, 6.0, 10.0])
def test_the_rim_itself_moves_the_response_by_less_than_its_tolerance(rim: float) -> None:
    found = measured(Water(rim_mm=rim))
    assert found.response_50_per_mm == pytest.approx(EXPECTED.response_50_per_mm, abs=0.05)
    assert found.response_10_per_mm == pytest.approx(EXPECTED.response_10_per_mm, abs=0.05)


FAULTS = [
    (Water(), set()),
    (Water(cupping_hu=14), {QaCode.UNIFORMITY, QaCode.CUPPING}),
    (Water(tilt_deg=3), {QaCode.TILT}),
    (Water(centre_mm=(20, -12)), {QaCode.OFF_CENTRE}),
    (Water(bubble_mm=20), {QaCode.BUBBLE}),
    (Water(offset_hu=8), {QaCode.WATER_HU}),
    (Water(scale=1.1), {QaCode.WATER_HU, QaCode.HU_SCALE}),
    (Water(noise_hu=12), {QaCode.NOISE}),
    (Water(response=BLURRED), {QaCode.RESPONSE}),
    (Water(response=SHARP), {QaCode.RESPONSE}),
    (Water(diameter_mm=203), {QaCode.DIAMETER}),
]


@pytest.mark.parametrize(("fault", "codes"), FAULTS, ids=[str(n) for n in range(len(FAULTS))])
def test_each_fault_is_found_and_named_and_nothing_else(fault: Water, codes: set[QaCode]) -> None:
    found = passing.judged(measured(fault, slices=8), WaterPhantom(), EXPECTED)
    assert set(found) == codes


def test_its_figures_name_how_large_a_fault_is() -> None:
    found = measured(Water(tilt_deg=4, centre_mm=(12, 9), bubble_mm=24, offset_hu=-30), slices=8)
    assert found.tilt_deg == pytest.approx(4, abs=0.1)
    assert found.diameter_mm == pytest.approx(200, abs=0.5)
    assert found.out_of_round_mm == pytest.approx(0, abs=0.3)
    assert found.off_centre_mm == pytest.approx(15, abs=0.5)
    assert found.bubble_mm == pytest.approx(24, abs=2)
    assert found.water_hu == pytest.approx(-30, abs=0.5)
    assert (found.air_hu, found.edges_hu[0], found.cupping_hu) == (
        pytest.approx(-1024, abs=1), None, None,
    )  # fmt: skip


def test_too_short_a_series_has_no_tilt_and_one_slice_is_measured() -> None:
    assert measured(Water(), spacing_mm=(1.0, 0.98, 0.98), slices=8).tilt_deg is None
    assert measured(Water(), slices=1).measured == 1


def test_ends_without_phantom_are_not_measured() -> None:
    found = measured(Water(length_mm=40), slices=14)
    assert (found.slices, found.measured) == (8, 6)
    assert found.water_hu == pytest.approx(0, abs=0.5)


def test_noise_of_a_thin_slice_moves_no_frequency() -> None:
    found = measured(Water(noise_hu=40))
    assert found.noise_hu == pytest.approx(40, rel=0.05)
    assert found.response_50_per_mm == pytest.approx(EXPECTED.response_50_per_mm, abs=0.05)
    assert found.response_10_per_mm == pytest.approx(EXPECTED.response_10_per_mm, abs=0.05)


def test_what_shows_no_phantom_has_no_figures() -> None:
    assert water.figures([]) is None
    (plane,) = phantoms.seen(slices=1)
    air = np.full_like(plane.native, -1000)
    assert water.figures([replace(plane, native=air)]) is None
