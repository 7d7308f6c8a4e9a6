"""What faults move, told of made figures: the real ones take the public CTs."""

from __future__ import annotations

import json

import numpy as np
import pytest

from appliance.quality.prior import SHIPPED
from appliance.watching.alarm import Statistic
from appliance.watching.quality import VolumeQuality
from training.judge import spreads

GOOD = VolumeQuality(
    noise_hu=20.0,
    texture_per_mm=0.4,
    skin_hu_per_mm=500.0,
    lung_edge_hu_per_mm=450.0,
    tissue_hu=50.0,
    air_hu=-1000.0,
    lung_share=0.2,
    diameter_mm=260.0,
    contrast="no",
)


def made(**changed: float | None) -> VolumeQuality:
    return VolumeQuality.model_validate(GOOD.model_dump() | changed)


def parts(slope: float) -> tuple[VolumeQuality, ...]:
    rng = np.random.default_rng(1)
    return tuple(
        made(
            diameter_mm=float(mm),
            noise_hu=float(20 * np.exp(slope * mm)),
            skin_hu_per_mm=float(500 * np.exp(rng.normal(0, 0.1))),
        )
        for mm in range(200, 320, 20)
    )


def test_a_fault_is_told_in_spreads_and_what_it_takes_away_is_gone() -> None:
    found = spreads.away(made(noise_hu=20 * 2**0.5, tissue_hu=65.0, air_hu=None), GOOD)
    assert found[Statistic.NOISE] == pytest.approx(np.log(2**0.5) / 0.165)
    assert found[Statistic.TISSUE] == pytest.approx(15 / SHIPPED.spreads[Statistic.TISSUE])
    assert found[Statistic.AIR] is None
    assert found[Statistic.SKIN] == 0
    assert Statistic.AIR not in spreads.away(GOOD, made(air_hu=None))


def test_the_slope_of_noise_is_that_within_a_series() -> None:
    found = spreads.slope_of_noise(parts(0.004))
    assert found is not None
    slope, known = found
    assert slope == pytest.approx(0.004)
    assert known == 6
    assert spreads.slope_of_noise([made(diameter_mm=None)] * 6) is None


def test_correlations_are_of_what_parts_differ_from_their_series() -> None:
    twice = [
        tuple(made(noise_hu=n, texture_per_mm=t) for n, t in some)
        for some in (
            ((20.0, 0.4), (22.0, 0.42), (24.0, 0.44)),
            ((60.0, 0.3), (66.0, 0.32), (72.0, 0.34)),
        )
    ]
    found = spreads.correlation(twice)
    assert found[0, 1] == found[1, 0]
    assert found[0, 1] > 0.9, "between the two series it is the other way round"
    assert np.array_equal(np.diag(found), np.ones(7))


def test_what_is_written_is_read_by_the_simulation() -> None:
    measured = spreads.Measured(
        GOOD, parts(0.003), {fault.name: made(air_hu=None) for fault in spreads.FAULTS}
    )
    head = spreads.Measured(made(lung_share=0.01), (), {})
    read = json.loads(spreads.written({"one": measured, spreads.WRONG_BODY: head}))
    assert set(read["effects"]) == {fault.name for fault in spreads.FAULTS} | {"wrong body"}
    assert read["effects"]["HU +40"]["one"]["air"] is None
    assert read["effects"]["wrong body"]["one"]["lung_share"] < -10
    assert "dose halved" in spreads.table({"one": measured})
