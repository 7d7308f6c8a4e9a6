"""All that is measured of a series: through the line, in any order of arrival."""

from __future__ import annotations

from dataclasses import replace

import pytest

from appliance.quality import series
from appliance.reasons import Code
from appliance.report import Status
from rigs.chests import Dicom, Slices
from rigs.device import Process
from rigs.slices import body, lungs, stack

IMAGES = [body(seed=k) for k in range(16)]


def test_every_value_of_a_whole_series_is_there() -> None:
    many = IMAGES * 5
    found = series.values(stack(many), lungs(many, 2, 78), lungs_side_cm2=0.0)
    assert found is not None
    assert None not in found.model_dump().values()
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
    assert process(data[::-1]).room == once.room
    assert process([*data[1::2], *data[::2], data[3]]).room == once.room


def test_what_is_not_analysed_is_not_measured(
    process: Process, dicom: Dicom, slices: Slices
) -> None:
    refused = process([dicom.bytes(ds) for ds in slices[:2]])
    assert refused.status is Status.NOT_ANALYSED
    assert refused.room is None
    assert refused.reasons[0].code is Code.TOO_FEW_SLICES
