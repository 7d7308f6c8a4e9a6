"""All that is measured of a series: through the line, in any order of arrival."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from appliance.quality import series, slices
from appliance.reasons import Code
from appliance.report import Status
from appliance.watching.quality import VolumeQuality
from rigs.chests import Dicom, Slices
from rigs.device import Process
from rigs.slices import MUSCLE_HU, PIXEL_MM, body, lungs, noise, plane, stack

IMAGES = [body(seed=k) for k in range(16)]
F64 = NDArray[np.float64]


def measured(images: Sequence[F64]) -> VolumeQuality:
    """Of slices that are all sampled: 26 mm apart, at the beginning of a band."""
    found = series.measured([plane(hu, 13 * k) for k, hu in enumerate(images)])
    assert found is not None
    return found


def test_every_value_of_a_whole_series_is_there() -> None:
    many = IMAGES * 5
    found = series.values(stack(many), lungs(many, 2, 78), lungs_side_cm2=0.0)
    assert found is not None
    without = {"lung_edge_hu_per_mm"}  # the made body shows too few of these edges
    assert None not in found.model_dump(exclude=without).values()
    assert found.noise_hu == found.noise_thick_hu == pytest.approx(10, rel=0.15)
    assert found.contrast == "no"
    assert found.step_z_mm is not None


def test_without_facts_of_every_slice_nothing_is_said() -> None:
    whole = stack(IMAGES)
    planes = (replace(whole.planes[0], facts=None), *whole.planes[1:])
    found = series.values(replace(whole, planes=planes), lungs(IMAGES), lungs_side_cm2=0.0)
    assert found is None


def test_lungs_that_were_not_found_leave_what_does_not_need_them() -> None:
    found = series.values(stack(IMAGES), lungs(IMAGES, 0, 0), lungs_side_cm2=0.0)
    assert found is not None
    assert (found.lungs_head_cm2, found.blood_hu, found.step_mm) == (None, None, None)
    assert found.contrast == "unknown"
    assert found.noise_hu is not None


def test_the_order_of_arrival_changes_nothing_and_neither_does_a_resend(
    process: Process, dicom: Dicom, slices: Slices
) -> None:
    data = [dicom.bytes(ds) for ds in slices]
    once = process(data)
    assert once.status is Status.ANALYSED
    assert once.room is not None
    assert len(once.quality) == 1
    for again in (process(data[::-1]), process([*data[1::2], *data[::2], data[3]])):
        assert again.room == once.room
        assert again.quality == once.quality


def test_what_is_not_analysed_has_no_check_and_what_was_measured_of_its_images(
    process: Process, dicom: Dicom, slices: Slices
) -> None:
    refused = process([dicom.bytes(ds) for ds in slices[:2]])
    assert refused.status is Status.NOT_ANALYSED
    assert refused.room is None
    assert refused.quality == process([dicom.bytes(ds) for ds in slices[1::-1]]).quality
    assert refused.reasons[0].code is Code.TOO_FEW_SLICES


def test_every_figure_of_the_watch_is_that_of_the_made_body() -> None:
    """An oval of muscle of 200 x 150 mm with two lungs of 60 x 100 mm in it."""
    found = measured(IMAGES)
    body_mm2, lungs_mm2 = np.pi * 100 * 75, 2 * np.pi * 30 * 50
    water_mm2 = (body_mm2 - lungs_mm2) * (1 + MUSCLE_HU / 1000) + lungs_mm2 * 0.15
    assert found.noise_hu == pytest.approx(10, rel=0.1)
    assert found.tissue_hu == pytest.approx(MUSCLE_HU, abs=1)
    assert found.air_hu == pytest.approx(-1000, abs=1)
    assert found.diameter_mm == pytest.approx(2 * np.sqrt(water_mm2 / np.pi), rel=0.02)
    assert found.lung_share == pytest.approx(lungs_mm2 / body_mm2, rel=0.1)
    assert found.metal_share == 0
    assert found.contrast == "unknown"
    assert None not in found.model_dump(exclude={"lung_edge_hu_per_mm"}).values()


def test_metal_is_a_share_of_the_body() -> None:
    pin = IMAGES[0].copy()
    pin[100:110, 100:110] = 3000
    pin[:20, :10] = 3000  # beside the body
    share = measured([pin] * 4).metal_share
    assert share == pytest.approx(100 * PIXEL_MM**2 / (np.pi * 100 * 75), rel=0.05)


@pytest.mark.parametrize("off", [-15.0, 15.0, 40.0])
def test_an_offset_moves_tissue_and_air_by_itself(off: float) -> None:
    one, other = measured(IMAGES), measured([hu + off for hu in IMAGES])
    for name in ("tissue_hu", "air_hu"):
        assert getattr(other, name) - getattr(one, name) == pytest.approx(off, abs=1), name
    assert other.noise_hu == pytest.approx(one.noise_hu, rel=0.05)


def test_a_scale_that_is_off_is_seen_beyond_the_window_of_the_mode() -> None:
    """A slope of 1.1 with the intercept kept: muscle is at 157 HU."""
    scaled = measured([(hu + 1024) * 1.1 - 1024 for hu in IMAGES])
    assert scaled.tissue_hu == pytest.approx((MUSCLE_HU + 1024) * 1.1 - 1024, abs=2)


def test_step_hu_is_how_much_neighbours_differ() -> None:
    still, moving = measured([IMAGES[0]] * 9), measured([body(y_mm=k % 2 * 4) for k in range(9)])
    assert still.step_hu == 0
    assert moving.step_hu is not None
    assert moving.step_hu > 3


def test_whole_numbers_and_floats_of_equal_hu_are_measured_alike() -> None:
    planes = [plane(hu, 13 * k) for k, hu in enumerate(IMAGES)]
    floats = [replace(p, native=p.native.astype(np.float32)) for p in planes]
    floats = [replace(p, facts=slices.facts(p)) for p in floats]
    assert series.measured(floats) == series.measured(planes)


def test_a_child_and_a_head_are_measured_as_far_as_they_go() -> None:
    child = measured([body(scale=0.55, seed=k) for k in range(16)])
    assert child.diameter_mm is not None
    assert child.diameter_mm < 95
    assert child.tissue_hu == pytest.approx(MUSCLE_HU, abs=2)
    head = measured(
        [np.where(hu > -950, MUSCLE_HU + noise(4, k), hu) for k, hu in enumerate(IMAGES)]
    )
    assert (head.lung_share, head.lung_edge_hu_per_mm) == (0, None)


@pytest.mark.parametrize("fill", [-2048.0, -1000.0, 0.0])
def test_of_padding_alone_nothing_is_said(fill: float) -> None:
    """But that neighbours do not differ."""
    found = measured([np.full((240, 240), fill)] * 8)
    share = 1.0 if fill == 0 else None  # one value above air is body to its end
    assert found.model_dump(exclude={"of", "contrast", "step_hu"}, exclude_none=True).keys() <= (
        {"diameter_mm", "lung_share", "metal_share"} if share else set()
    )


def test_noise_over_all_of_16_bits_is_measured_without_an_error() -> None:
    junk = [np.random.default_rng(k).integers(-32768, 32767, (64, 64)) for k in range(8)]
    planes = [plane(IMAGES[0][:64, :64], 13 * k) for k in range(8)]
    odd = [replace(p, native=hu.astype(np.int16)) for p, hu in zip(planes, junk, strict=True)]
    found = series.measured([replace(p, facts=slices.facts(p)) for p in odd])
    assert found is not None
    assert found.noise_hu is None


def test_one_slice_says_what_one_slice_can() -> None:
    found = measured(IMAGES[:1])
    assert found.diameter_mm is not None
    assert (found.skin_hu_per_mm, found.step_hu) == (None, None)
    between = series.measured([plane(IMAGES[0], 3)])
    assert between is None, "it is none of those that are sampled"


def test_two_thousand_slices_are_measured_as_the_few_that_repeat_in_them() -> None:
    once = [plane(hu, 13 * k) for k, hu in enumerate(IMAGES)]
    many = [
        replace(p, header=replace(p.header, sop_instance_uid=f"1.{n}"), digest=str(n))
        for n, p in enumerate(once * 125)
    ]
    found, few = series.measured(many), series.measured(once)
    assert found is not None
    assert few is not None
    assert found.noise_hu == pytest.approx(few.noise_hu, abs=0.05)
    assert found.tissue_hu == few.tissue_hu
    assert found.diameter_mm == few.diameter_mm


def test_slices_that_nobody_measured_say_nothing() -> None:
    planes = [plane(hu, 13 * k) for k, hu in enumerate(IMAGES)]
    assert series.measured([*planes, replace(planes[0], facts=None, digest="x")]) is None
    assert series.measured([]) is None
