"""Planes -> a Stack in order of rising z, or all reasons why not."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

from appliance.bundle.accepts import Limits
from appliance.reasons import Code
from appliance.records import Plane, Stack
from appliance.report import Reason
from appliance.series import pixels
from appliance.series.assemble import assemble, hu_check

FILL = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")


def stack_of(found: Stack | tuple[Reason, ...]) -> Stack:
    assert isinstance(found, Stack), [r.text for r in found]  # type: ignore[union-attr]
    return found


def codes(found: Stack | tuple[Reason, ...]) -> list[Code]:
    assert not isinstance(found, Stack)
    return [r.code for r in found]


def limits(found: Stack | tuple[Reason, ...]) -> list[Code]:
    return [r.code for r in stack_of(found).limitations]


# --- order and spacing


def test_planes_in_any_order_rise_to_the_head(make: Any) -> None:
    planes = make.planes(np.arange(5) * 2.0 - 300)
    wanted = stack_of(assemble(planes, None))
    assert [p.header.instance_number for p in wanted.planes] == [1, 2, 3, 4, 5]
    for order in permutations(planes):
        found = stack_of(assemble(order, None))
        assert found.planes == wanted.planes
    np.testing.assert_allclose(wanted.z_mm, [0, 2, 4, 6, 8])
    assert wanted.normal_lps == (0, 0, 1)
    assert wanted.spacing_mm == (2.0, 0.7, 0.7)


@pytest.mark.parametrize("row", [0, 1])
@pytest.mark.parametrize("signs", [(1, 1), (1, -1), (-1, 1), (-1, -1)])
def test_every_flip_and_swap_of_axes_rises_to_the_head(
    make: Any, row: int, signs: tuple[int, int]
) -> None:
    axes = np.eye(3)
    first, second = axes[row] * signs[0], axes[1 - row] * signs[1]
    planes = make.planes([8, 2, 6, 4, 0], row=tuple(first), column=tuple(second))
    found = stack_of(assemble(planes, None))
    assert found.normal_lps == (0, 0, 1)
    assert [p.geometry.position_lps_mm[2] for p in found.planes] == [0, 2, 4, 6, 8]


def test_spacing_comes_from_positions_and_never_from_thickness(make: Any) -> None:
    planes = make.planes(np.arange(80) * 2.0, thickness_mm=1.0)
    assert stack_of(assemble(planes, make.accepts())).spacing_mm[0] == 2.0


def test_instance_numbers_may_skip_and_run_backwards(make: Any) -> None:
    planes = [make.plane(2.0 * i, number=304 - 2 * i) for i in range(100)]
    assert stack_of(assemble(planes, make.accepts())).limitations == ()


def test_a_stack_tilted_as_a_whole_keeps_its_distances(make: Any) -> None:
    angle = math.radians(10)
    column = (0, math.cos(angle), math.sin(angle))
    normal = np.array([0, -math.sin(angle), math.cos(angle)])
    planes = [
        make.plane(2.0 * i, column=column, position=tuple(normal * 2.0 * i)) for i in range(60)
    ]
    found = stack_of(assemble(planes, make.accepts()))
    assert found.spacing_mm[0] == pytest.approx(2.0)
    np.testing.assert_allclose(found.normal_lps, normal, atol=1e-12)


# --- what is not one series


def test_nothing_is_no_slices_and_too_much_is_too_large(make: Any) -> None:
    assert codes(assemble([], None)) == [Code.NO_SLICES]
    assert codes(assemble(make.planes(range(5)), None, max_slices=4)) == [Code.TOO_LARGE]


@pytest.mark.parametrize("count", [1, 9])
def test_too_few_slices_are_refused_with_their_number(make: Any, count: int) -> None:
    found = assemble(make.planes(range(count)), make.accepts(cover_mm=0))
    assert codes(found) == [Code.TOO_FEW_SLICES]
    assert found[0].text.startswith(f"{count} images")  # type: ignore[index]


def test_one_slice_is_refused_without_a_bundle_too(make: Any) -> None:
    assert codes(assemble(make.planes([0]), None)) == [Code.TOO_FEW_SLICES]


@pytest.mark.parametrize("name", ["study_uid", "series_uid", "frame_of_reference_uid", "patient"])
def test_mixed_patients_studies_series_or_frames_are_refused(make: Any, name: str) -> None:
    planes = make.planes(range(20), patient="1.2.3.98")
    said = {"patient": "1.2.3.98", name: "1.2.3.99"}
    planes[7] = make.plane(7, number=8, **said)
    (reason,) = assemble(planes, None)  # type: ignore[misc]
    assert reason.code is Code.MIXED_SERIES
    assert reason.where == "image 8"
    assert "1 of 20" in reason.text


def test_an_image_that_does_not_say_whose_it_is_differs_from_nobody(make: Any) -> None:
    planes = make.planes(range(20), patient="a")
    planes[7] = make.plane(7, number=8)
    assert len(stack_of(assemble(planes, None)).planes) == 20


def test_mixed_orientation_names_the_image_and_the_angle(make: Any) -> None:
    planes = make.planes(range(20))
    angle = math.radians(3)
    planes[4] = make.plane(
        4, number=5, row=(math.cos(angle), math.sin(angle), 0),
        column=(-math.sin(angle), math.cos(angle), 0),
    )  # fmt: skip
    (reason,) = assemble(planes, None)  # type: ignore[misc]
    assert reason.code is Code.MIXED_ORIENTATION
    assert reason.where == "image 5"
    assert "3.0 degrees" in reason.text


def test_mixed_size_names_both(make: Any) -> None:
    planes = make.planes(range(20))
    planes[4] = make.plane(4, number=5, native=np.zeros((4, 6), np.int16))
    (reason,) = assemble(planes, None)  # type: ignore[misc]
    assert (reason.code, reason.where) == (Code.MIXED_SIZE, "image 5")
    assert "6 x 4" in reason.text
    assert "8 x 8" in reason.text


def test_mixed_pixel_spacing_names_both(make: Any) -> None:
    planes = make.planes(range(20))
    planes[4] = make.plane(4, number=5, spacing=(0.9, 0.7))
    (reason,) = assemble(planes, None)  # type: ignore[misc]
    assert (reason.code, reason.where) == (Code.MIXED_SPACING, "image 5")
    assert "0.9" in reason.text


def test_one_uid_with_different_pixels_is_refused(make: Any) -> None:
    planes = make.planes(range(20))
    uid = planes[3].header.sop_instance_uid
    planes[4] = make.plane(4, number=5, sop_instance_uid=uid)
    assert Code.DUPLICATE_UID in codes(assemble(planes, None))


def test_a_resent_instance_is_one_instance(make: Any) -> None:
    planes = make.planes(range(20))
    found = stack_of(assemble([*planes, planes[3]], None))
    assert len(found.planes) == 20
    assert found.limitations == ()


def test_a_field_of_view_beside_the_others_is_refused(make: Any) -> None:
    planes = make.planes(range(20))
    planes[0] = make.plane(0, number=1, position=(-100, -60, 0))
    (reason,) = assemble(planes, None)  # type: ignore[misc]
    assert (reason.code, reason.where) == (Code.MIXED_SERIES, "image 1")
    assert "40.0 mm" in reason.text


# --- axial, tilt


@pytest.mark.parametrize(
    ("row", "column"), [((1, 0, 0), (0, 0, -1)), ((0, 1, 0), (0, 0, -1)), ((0, 1, 0), (0, 0, 1))]
)
def test_coronal_and_sagittal_images_are_not_axial(make: Any, row: Any, column: Any) -> None:
    normal = np.cross(row, column)
    planes = [make.plane(i, row=row, column=column, position=tuple(normal * i)) for i in range(20)]
    assert codes(assemble(planes, None)) == [Code.NOT_AXIAL]


def test_a_tilted_gantry_is_refused_with_its_angle(make: Any) -> None:
    angle = math.radians(18.5)
    column = (0, math.cos(angle), -math.sin(angle))
    planes = [make.plane(3.0 * i, column=column) for i in range(40)]
    (reason,) = assemble(planes, make.accepts())  # type: ignore[misc]
    assert reason.code is Code.GANTRY_TILT
    assert "18.5 degrees" in reason.text


@pytest.mark.parametrize(("degrees", "refused"), [(0.4, False), (0.7, True)])
def test_a_tilt_above_half_a_degree_is_a_tilt(make: Any, degrees: float, refused: bool) -> None:
    shift = math.tan(math.radians(degrees))
    planes = [make.plane(2.0 * i, position=(-100, 2.0 * i * shift, 2.0 * i)) for i in range(60)]
    found = assemble(planes, make.accepts())
    assert isinstance(found, Stack) is not refused


def test_rounded_positions_are_no_tilt(make: Any) -> None:
    planes = [
        make.plane(0.5 * i, position=(-100 + 0.01 * (i % 2), -100, 0.5 * i)) for i in range(240)
    ]
    assert stack_of(assemble(planes, make.accepts())).limitations == ()


def test_a_tilt_tag_that_the_orientation_does_not_show_is_refused(make: Any) -> None:
    planes = make.planes(range(120), gantry_tilt_deg=12.0)
    assert codes(assemble(planes, make.accepts())) == [Code.GANTRY_TILT]
    level = make.planes(range(120), gantry_tilt_deg=0.0)
    assert stack_of(assemble(level, make.accepts()))


def test_a_tilt_tag_that_varies_is_refused(make: Any) -> None:
    planes = [make.plane(i, gantry_tilt_deg=0.1 * i) for i in range(120)]
    assert codes(assemble(planes, make.accepts())) == [Code.GANTRY_TILT]


# --- positions that repeat


def test_two_images_at_one_position_are_refused_by_name(make: Any) -> None:
    planes = make.planes(range(120))
    other = make.plane(7, number=500, native=np.ones((8, 8), np.int16), sop_instance_uid="1.9")
    (reason,) = assemble([*planes, other], make.accepts())  # type: ignore[misc]
    assert reason.code is Code.DUPLICATE_POSITION
    assert reason.where == "z 7.0 mm"
    assert "image 8" in reason.text
    assert "image 500" in reason.text


def test_an_equal_copy_under_another_uid_is_used_once_and_told(make: Any) -> None:
    planes = make.planes(range(120))
    copy = replace(planes[7], header=replace(planes[7].header, sop_instance_uid="1.9"))
    found = stack_of(assemble([*planes, copy], make.accepts()))
    assert len(found.planes) == 120
    assert [r.code for r in found.limitations] == [Code.DUPLICATE_POSITION]
    assert found.limitations[0].where == "z 7.0 mm"
    again = stack_of(assemble([copy, *reversed(planes)], make.accepts()))
    assert again.planes == found.planes


def test_a_series_whose_positions_repeat_is_dynamic(make: Any) -> None:
    planes = [
        make.plane(z, number=k * 100 + z, native=np.full((8, 8), 10 * k, np.int16),
                   sop_instance_uid=f"1.{k}.{z}")
        for k in range(3)
        for z in range(20)
    ]  # fmt: skip
    assert codes(assemble(planes, None)) == [Code.DYNAMIC]


def test_many_images_of_one_position_are_dynamic(make: Any) -> None:
    native = [np.full((8, 8), k, np.int16) for k in range(20)]
    planes = [make.plane(0, native=n, sop_instance_uid=f"1.{k}") for k, n in enumerate(native)]
    assert codes(assemble(planes, None)) == [Code.DYNAMIC, Code.TOO_FEW_SLICES]


# --- steps, holes, extent


def without(planes: list[Plane], *gone: int) -> list[Plane]:
    return [p for i, p in enumerate(planes) if i not in gone]


def test_one_hole_of_up_to_10_mm_is_a_limitation_with_its_place(make: Any) -> None:
    planes = without(make.planes(np.arange(80) * 2.5), 30)
    found = stack_of(assemble(planes, make.accepts()))
    assert [r.code for r in found.limitations] == [Code.GAP_FILLED]
    assert "5.0 mm" in found.limitations[0].text
    assert found.limitations[0].where == "z 72.5 mm"
    assert found.spacing_mm[0] == 2.5


def test_one_missing_image_of_5_mm_is_still_filled(make: Any) -> None:
    planes = without(make.planes(np.arange(40) * 5.0), 20)
    assert limits(assemble(planes, make.accepts())) == [Code.SPACING_LIMITED, Code.GAP_FILLED]


def test_a_wider_hole_is_refused(make: Any) -> None:
    planes = without(make.planes(np.arange(120) * 2.0), 30, 31, 32, 33, 34)
    (reason,) = assemble(planes, make.accepts())  # type: ignore[misc]
    assert reason.code is Code.GAP_TOO_WIDE
    assert "12.0 mm" in reason.text
    assert reason.where == "z 58.0 mm"


def test_two_holes_are_refused(make: Any) -> None:
    planes = without(make.planes(range(120)), 30, 60)
    (reason,) = assemble(planes, make.accepts())  # type: ignore[misc]
    assert reason.code is Code.GAP_TOO_WIDE
    assert "2 holes" in reason.text


def test_a_blank_image_between_others_counts_as_missing(make: Any) -> None:
    planes = make.planes(np.arange(60) * 2.0)
    one = [replace(p, blank=i == 30) for i, p in enumerate(planes)]
    stack = stack_of(assemble(one, make.accepts()))
    assert limits(stack) == [Code.GAP_FILLED, Code.MISSING_PIXELS]
    assert len(stack.planes) == 59
    assert "image 31: all pixels are equal" in stack.limitations[1].text
    many = [replace(p, blank=30 <= i < 35) for i, p in enumerate(planes)]
    assert codes(assemble(many, make.accepts())) == [Code.GAP_TOO_WIDE]


def test_blank_images_at_the_ends_are_air(make: Any) -> None:
    planes = make.planes(np.arange(60) * 2.0)
    ends = [replace(p, blank=i < 3 or i > 55) for i, p in enumerate(planes)]
    stack = stack_of(assemble(ends, make.accepts()))
    assert (limits(stack), len(stack.planes)) == ([], 60)
    nothing = stack_of(assemble([replace(p, blank=True) for p in planes], make.accepts()))
    assert (limits(nothing), len(nothing.planes)) == ([], 60)


def test_irregular_steps_are_a_limitation_with_figures(make: Any) -> None:
    zs = np.arange(120) * 2.0
    zs[50] += 0.5
    found = stack_of(assemble(make.planes(zs), make.accepts()))
    assert [r.code for r in found.limitations] == [Code.IRREGULAR_SPACING]
    assert "1.50 to 2.50" in found.limitations[0].text


def test_many_wide_steps_are_judged_by_the_widest(make: Any) -> None:
    fine = np.cumsum(np.tile([1.0, 1.0, 2.0], 40))
    assert limits(assemble(make.planes(fine), make.accepts())) == [Code.IRREGULAR_SPACING]
    coarse = np.cumsum(np.tile([3.0, 3.0, 6.0], 40))
    assert codes(assemble(make.planes(coarse), make.accepts())) == [Code.SPACING_TOO_WIDE]


@pytest.mark.parametrize(
    ("spacing", "limitations"),
    [
        (0.5, []),
        (2.5, []),
        (2.51, []),
        (2.6, [Code.SPACING_LIMITED]),
        (5.0, [Code.SPACING_LIMITED]),
    ],
)
def test_spacing_within_the_intended_use(make: Any, spacing: float, limitations: Any) -> None:
    zs = np.arange(round(150 / spacing)) * spacing
    assert limits(assemble(make.planes(zs), make.accepts())) == limitations


def test_spacing_above_the_intended_use_is_refused_with_its_figure(make: Any) -> None:
    (reason,) = assemble(make.planes(np.arange(30) * 6.0), make.accepts())  # type: ignore[misc]
    assert reason.code is Code.SPACING_TOO_WIDE
    assert "6.00 mm" in reason.text


@pytest.mark.parametrize(
    ("thickness", "code"), [(3.0, Code.THICKNESS_LIMITED), (8.0, Code.THICKNESS_TOO_WIDE)]
)
def test_thickness_is_judged_by_the_same_limits(make: Any, thickness: float, code: Code) -> None:
    found = assemble(make.planes(np.arange(120) * 2.0, thickness_mm=thickness), make.accepts())
    told = found.limitations if isinstance(found, Stack) else found
    assert [r.code for r in told] == [code]


@pytest.mark.parametrize(
    ("spacing", "thickness", "told"),
    [
        (5.0, 5.0, [Code.SPACING_LIMITED, Code.THICKNESS_LIMITED]),
        (6.0, 5.0, [Code.MASSES_ONLY, Code.THICKNESS_LIMITED]),
        (4.0, 10.0, [Code.SPACING_LIMITED, Code.MASSES_ONLY]),
        (10.2, 5.0, [Code.SPACING_TOO_WIDE]),
        (5.0, 10.2, [Code.THICKNESS_TOO_WIDE]),
    ],
)
def test_between_two_limits_only_masses_are_looked_for(
    make: Any, spacing: float, thickness: float, told: list[Code]
) -> None:
    accepts = make.accepts(spacing_mm=Limits(full=2.5, limited=5.0, masses=10.0))
    found = assemble(make.planes(np.arange(30) * spacing, thickness_mm=thickness), accepts)
    said = found.limitations if isinstance(found, Stack) else found
    assert [r.code for r in said] == told
    if Code.MASSES_ONLY in told:
        (only,) = (r for r in said if r.code is Code.MASSES_ONLY)
        assert "above 5: only masses are looked for" in only.text


def test_too_short_a_cover_is_refused_with_its_figure(make: Any) -> None:
    (reason,) = assemble(make.planes(range(50)), make.accepts())  # type: ignore[misc]
    assert reason.code is Code.COVER_TOO_SHORT
    assert "49 mm" in reason.text


def test_a_volume_larger_than_any_scan_is_impossible(make: Any) -> None:
    (long,) = assemble(make.planes(np.arange(600) * 5.0), make.accepts())  # type: ignore[misc]
    assert long.code is Code.INVALID_VALUE
    assert "2995 mm" in long.text
    (wide,) = assemble(make.planes(range(150), spacing=(0.7, 130.0)), None)  # type: ignore[misc]
    assert wide.code is Code.INVALID_VALUE
    assert "1040 mm" in wide.text
    assert stack_of(assemble(make.planes(range(150), spacing=(0.7, 120.0)), make.accepts()))


def test_all_reasons_come_the_most_fundamental_first(make: Any) -> None:
    planes = make.planes(np.arange(8) * 7.0)
    planes[2] = make.plane(14.0, number=3, series_uid="1.9", native=np.zeros((4, 4), np.int16))
    assert codes(assemble(planes, make.accepts())) == [
        Code.MIXED_SERIES,
        Code.MIXED_SIZE,
        Code.SPACING_TOO_WIDE,
        Code.TOO_FEW_SLICES,
        Code.COVER_TOO_SHORT,
    ]


def test_an_image_without_number_is_named_by_its_place(make: Any) -> None:
    planes = make.planes(range(20))
    bare = make.plane(4, spacing=(0.9, 0.7))
    planes[4] = replace(bare, header=replace(bare.header, instance_number=None))
    (reason,) = assemble(planes, None)  # type: ignore[misc]
    assert reason.where == "image at z 4.0 mm"


# --- real series


def read_series(folder: Path, fill: bool = False) -> list[Plane]:
    planes = []
    for index, path in enumerate(sorted(folder.iterdir())):
        data = path.read_bytes()
        if fill:
            data = _with_uids(data, index)
        for i in pixels.read(data):
            planes.append(Plane(i.header, i.frame, i.geometry, i.hu, {}, i.padding, i.digest))
    return planes


def _with_uids(data: bytes, index: int) -> bytes:
    import io  # noqa: PLC0415

    ds = pydicom.dcmread(io.BytesIO(data))
    ds.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    ds.StudyInstanceUID, ds.SeriesInstanceUID = "1.2.3", "1.2.4"
    ds.SOPInstanceUID = f"1.2.5.{index + 1}"
    out = io.BytesIO()
    ds.save_as(out, enforce_file_format=False)
    return out.getvalue()


LIMITED = [Code.SPACING_LIMITED, Code.THICKNESS_LIMITED]


@pytest.mark.parametrize(
    ("name", "known"),
    [("R01-001", (152, 2.0, [])), ("C3N-00247", (99, 3.0, LIMITED)), ("A0001", (64, 5.0, LIMITED))],
)
def test_real_chests_assemble(
    make: Any, ct_series: Callable[[str], Path], name: str, known: tuple[int, float, list[Code]]
) -> None:
    found = stack_of(assemble(read_series(ct_series(name)), make.accepts()))
    z = [p.geometry.position_lps_mm[2] for p in found.planes]
    told = [r.code for r in found.limitations]
    assert (len(z), found.spacing_mm[0], told) == known
    assert z == sorted(z)
    assert hu_check(found) == ()


def test_the_real_tilted_head_is_refused(make: Any, ct_series: Callable[[str], Path]) -> None:
    found = assemble(read_series(ct_series("ge-tilted-head")), make.accepts())
    assert codes(found)[0] is Code.GANTRY_TILT
    assert "18.5 degrees" in found[0].text  # type: ignore[index]


def test_the_real_series_without_uids_is_refused(
    make: Any, ct_series: Callable[[str], Path]
) -> None:
    for path in ct_series("siemens-j2k").iterdir():
        assert make.code(path.read_bytes()) is Code.MISSING_UID


def test_the_same_series_with_uids_filled_in_covers_too_little(
    make: Any, ct_series: Callable[[str], Path]
) -> None:
    """20 images; data/README.md says 8 mm apart, their positions say 2 mm."""
    planes = read_series(ct_series("siemens-j2k"), fill=True)
    (reason,) = assemble(planes, make.accepts(cover_mm=180.0))  # type: ignore[misc]
    assert reason.code is Code.COVER_TOO_SHORT
    assert "38 mm" in reason.text
