"""Phases overlap, acquisitions adjoin: which images of a series are one volume."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from appliance.reasons import Code
from appliance.records import Plane, Stack
from appliance.report import Reason
from appliance.series.assemble import assemble
from appliance.series.phases import Volume, volume

NOISE = np.random.default_rng(4).integers(-60, 60, (8, 8)).astype(np.int16)


def acquired(make: Any, zs: Any, number: int | None, **more: Any) -> list[Plane]:
    """One acquisition; its images get darker towards the head."""
    return [
        make.plane(
            float(z),
            number=1000 * (number or 0) + i,
            native=np.full((8, 8), round(-2 * z) + (number or 0), np.int16),
            sop_instance_uid=f"1.{number or 0}.{i}",
            **{"acquisition_number": number, **more},
        )
        for i, z in enumerate(zs)
    ]


def codes(reasons: tuple[Reason, ...]) -> list[Code]:
    return [reason.code for reason in reasons]


def places(found: Volume) -> list[float]:
    return sorted(p.geometry.position_lps_mm[2] for p in found.planes)


def acquisitions(found: Volume) -> set[int | None]:
    return {p.header.acquisition_number for p in found.planes}


# --- phases


@pytest.mark.parametrize("name", ["acquisition_number", "temporal_position", "cardiac_phase"])
def test_of_phases_the_largest_is_the_volume(make: Any, name: str) -> None:
    planes = [
        make.plane(float(z), native=np.full((8, 8), k, np.int16), sop_instance_uid=f"1.{k}.{z}",
                   **{name: k})
        for k, count in enumerate((19, 20, 20))
        for z in range(count)
    ]  # fmt: skip
    found = volume(planes)
    assert {getattr(p.header, name) for p in found.planes} == {1}
    assert (len(found.planes), found.groups) == (20, 3)
    assert codes(found.limitations) == [Code.DYNAMIC]
    assert "3 phases" in found.limitations[0].text
    assert isinstance(assemble(found.planes, None), Stack)


def test_phases_are_known_without_a_shared_position(make: Any) -> None:
    found = volume(
        [*acquired(make, np.arange(20) * 2.0, 1), *acquired(make, np.arange(15) * 2.0 + 0.7, 2)]
    )
    assert acquisitions(found) == {1}
    assert codes(found.limitations) == [Code.DYNAMIC]


@pytest.mark.parametrize(("shared", "phase"), [(9, False), (11, False), (12, True), (20, True)])
def test_over_half_of_the_shorter_range_is_a_phase(make: Any, shared: int, phase: bool) -> None:
    """The shorter one reaches over 20 mm, and `shared` of its images lie beside the other's."""
    lower = acquired(make, range(30), 1)
    upper = acquired(make, range(30 - shared, 51 - shared), 2)
    found = volume([*lower, *upper])
    assert codes(found.limitations) == [Code.DYNAMIC if phase else Code.JOINED_ACQUISITIONS]
    assert acquisitions(found) == ({1} if phase else {1, 2})


def test_what_no_tag_tells_apart_stays_together(make: Any) -> None:
    twice = [*acquired(make, range(20), None), *acquired(make, range(20), None, patient="x")]
    named = [
        replace(p, digest=f"{i}", header=replace(p.header, sop_instance_uid=f"1.9.{i}"))
        for i, p in enumerate(twice)
    ]
    found = volume(named)
    assert (len(found.planes), found.limitations) == (40, ())
    assert volume([]) == Volume(())


# --- acquisitions


def test_acquisitions_that_adjoin_are_joined_with_the_place_of_the_seam(make: Any) -> None:
    found = volume([*acquired(make, range(20), 2), *acquired(make, range(20, 50), 3)])
    assert places(found) == [*range(50)]
    (reason,) = found.limitations
    assert (reason.code, reason.where) == (Code.JOINED_ACQUISITIONS, "z 19.5 mm")
    assert "2 acquisitions" in reason.text
    assert found.seams_mm == (19.5,)


@pytest.mark.parametrize("number", [None, 7])
def test_one_acquisition_or_none_is_no_grouping(make: Any, number: int | None) -> None:
    found = volume(acquired(make, range(20), number))
    assert (len(found.planes), found.groups, found.limitations) == (20, 1, ())


def test_an_acquisition_number_an_image_is_no_grouping(make: Any) -> None:
    planes = [p for z in range(20) for p in acquired(make, [float(z)], z)]
    found = volume([*planes, *acquired(make, [7.0], 99)])
    assert (len(found.planes), found.groups, found.limitations) == (21, 1, ())


@pytest.mark.parametrize("at", [19, 20])
def test_at_a_doubled_seam_the_image_that_fits_its_neighbours_is_kept(make: Any, at: int) -> None:
    """A noisy image of one acquisition lies where the other begins or ends."""
    lower, upper = acquired(make, range(20), 2), acquired(make, range(20, 50), 3)
    other = 3 if at == 19 else 2
    noisy = make.plane(
        float(at), number=500, sop_instance_uid="1.0.0", acquisition_number=other,
        native=(NOISE - 2 * at).astype(np.int16),
    )  # fmt: skip
    found = volume([noisy, *upper, *lower])
    assert places(found) == [*range(50)]
    assert "1.0.0" not in {p.header.sop_instance_uid for p in found.planes}
    assert "at 1 places both have an image" in found.limitations[0].text


def test_a_stray_image_inside_another_acquisition_is_left_out(make: Any) -> None:
    lower = acquired(make, range(20), 2)
    stray = make.plane(
        5.0, number=1, sop_instance_uid="1.0.0", acquisition_number=3,
        native=lower[5].native + np.int16(1),
    )  # fmt: skip
    alone = volume([*lower, stray])
    assert [p.header.acquisition_number for p in alone.planes] == [2] * 20
    assert codes(alone.limitations) == [Code.DYNAMIC]
    wide = volume([*lower, *acquired(make, range(20, 80), 4), stray])
    assert "1.0.0" not in {p.header.sop_instance_uid for p in wide.planes}


def test_where_both_overlap_each_keeps_its_own_end(make: Any) -> None:
    lower, upper = acquired(make, range(24), 2), acquired(make, range(20, 50), 3, kernel=None)
    found = volume([*lower, *upper])
    own = {p.geometry.position_lps_mm[2]: p.header.acquisition_number for p in found.planes}
    assert [own[z] for z in (19, 20, 21, 22, 23, 24)] == [2, 2, 2, 3, 3, 3]
    assert len(found.planes) == 50


def test_images_of_two_acquisitions_beside_each_other_share_a_place(make: Any) -> None:
    lower = acquired(make, np.arange(24) * 2.0, 2)
    upper = acquired(make, np.arange(20, 50) * 2.0 + 0.6, 3)
    found = volume([*lower, *upper])
    assert len(found.seams_mm) == 1
    assert min(np.diff(places(found))) > 1.0
    assert len(found.planes) == 50


def test_three_acquisitions_have_two_seams(make: Any) -> None:
    found = volume([p for k in range(3) for p in acquired(make, np.arange(12) + 12.0 * k, k + 1)])
    assert found.seams_mm == (11.5, 23.5)
    assert "z 11.5 mm, z 23.5 mm" in found.limitations[0].text


def test_a_later_phase_of_joined_acquisitions_is_left_out(make: Any) -> None:
    found = volume(
        [
            *acquired(make, range(30), 1),
            *acquired(make, range(30, 50), 2),
            *acquired(make, np.arange(10, 40, 1.5), 3),
        ]
    )
    assert acquisitions(found) == {1, 2}
    assert codes(found.limitations) == [Code.DYNAMIC, Code.JOINED_ACQUISITIONS]
    assert "2 of them, which adjoin" in found.limitations[0].text


@pytest.mark.parametrize(
    "other",
    [
        {"kernel": "B70f"},
        {"table_height_mm": 140.0},
        {"spacing": (0.8, 0.8)},
        {"position": (-80.0, -100.0)},
        {"native": np.zeros((9, 8), np.int16)},
    ],
    ids=lambda other: next(iter(other)),
)
def test_where_kernel_table_matrix_or_field_differ_the_largest_is_analysed(
    make: Any, other: dict[str, Any]
) -> None:
    usual = {"kernel": "B45f", "table_height_mm": 130.0}
    lower = acquired(make, range(20), 2, **usual)
    upper = []
    for i, z in enumerate(range(20, 50)):
        more = dict(other)
        if "position" in more:
            more["position"] = (*more["position"], float(z))
        native = more.pop("native", np.full((8, 8), z, np.int16))
        said = {**usual, "acquisition_number": 3, "sop_instance_uid": f"1.3.{i}", **more}
        upper.append(make.plane(float(z), number=i, native=native, **said))
    found = volume([*lower, *upper])
    assert acquisitions(found) == {3}
    assert codes(found.limitations) == [Code.DYNAMIC]


def test_what_an_acquisition_does_not_say_of_kernel_or_table_differs_from_nothing(
    make: Any,
) -> None:
    lower = acquired(make, range(20), 2, kernel="B45f", table_height_mm=130.0)
    assert len(volume([*lower, *acquired(make, range(20, 50), 3)]).planes) == 50


def test_an_equal_copy_under_another_acquisition_is_left_for_assemble(make: Any) -> None:
    lower, upper = acquired(make, range(60), 2), acquired(make, range(60, 120), 3)
    copy = replace(
        lower[30], header=replace(lower[30].header, sop_instance_uid="1.0.0", acquisition_number=3)
    )
    found = volume([copy, *lower, *upper])
    assert len(found.planes) == 121
    assert found.seams_mm == (59.5,)
    stack = assemble(found.planes, make.accepts())
    assert isinstance(stack, Stack)
    assert codes(stack.limitations) == [Code.DUPLICATE_POSITION]


def test_one_uid_with_two_images_is_kept_for_assemble_to_refuse(make: Any) -> None:
    planes = [*acquired(make, range(20), 2), *acquired(make, range(20, 50), 3)]
    twin = replace(planes[4], digest="another")
    found = volume([*planes, twin])
    assert len(found.planes) == 51
    refused = assemble(found.planes, None)
    assert not isinstance(refused, Stack)
    assert Code.DUPLICATE_UID in codes(refused)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_the_order_of_arrival_changes_nothing(data: st.DataObject, make: Any) -> None:
    count = data.draw(st.integers(6, 20), "images below")
    overlap = data.draw(st.integers(-2, count), "images beside each other")
    shift = data.draw(st.sampled_from([0.0, 0.3, 0.8]), "shift")
    planes = [
        *acquired(make, range(count), 2),
        *acquired(make, np.arange(count - overlap, count - overlap + 16) + shift, 3),
    ]
    wanted = volume(planes)
    found = volume(data.draw(st.permutations(planes)))
    by_name = sorted(p.mark for p in found.planes)
    assert by_name == sorted(p.mark for p in wanted.planes)
    assert (found.limitations, found.seams_mm, found.groups) == (
        wanted.limitations,
        wanted.seams_mm,
        wanted.groups,
    )
    assert (len({round(p.geometry.position_lps_mm[2], 3) for p in found.planes})) == len(
        found.planes
    )
