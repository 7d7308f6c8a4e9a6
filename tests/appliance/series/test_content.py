"""HU out of range, and where a plane has data."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from appliance.reasons import Code
from appliance.records import Stack
from appliance.series.assemble import LOSSY_SYNTAXES, assemble
from appliance.series.content import airless, field_of_view, hu_check, repeated


def chest(air: float = -1000, tissue: float = 50, seed: int = 0) -> list[NDArray[np.int16]]:
    """Air around tissue with lungs of -850 HU in it, noise of 20 HU."""
    random = np.random.default_rng(seed)
    volume = np.full((6, 96, 96), air)
    volume[:, 16:80, 10:86] = tissue
    volume[:, 28:68, 18:42] = volume[:, 28:68, 54:78] = air + 150
    return list((volume + random.normal(0, 20, volume.shape)).round().astype(np.int16))


def codes(make: Any, native: list[NDArray[Any]], **more: Any) -> list[Code]:
    return [r.code for r in hu_check(make.stack(native, **more))]


@pytest.mark.parametrize("tissue", [-100, 0, 40, 120])
def test_usual_air_fat_and_muscle_are_no_suspects(make: Any, tissue: float) -> None:
    assert codes(make, chest(tissue=tissue)) == []


def test_a_phantom_of_exact_values_is_no_suspect(make: Any) -> None:
    exact = np.full((64, 64), -1000, np.int16)
    exact[16:48, 16:48] = 30
    assert codes(make, [exact] * 3) == []


def test_air_clipped_at_minus_1024_and_fill_of_minus_2000_are_no_suspects(make: Any) -> None:
    planes = [np.maximum(p, -1024) for p in chest()]
    for plane in planes:
        plane[:8] = -2000
    assert codes(make, planes) == []


@pytest.mark.parametrize("shift", [1024, 1000, -1024, 200, -200])
def test_a_wrong_intercept_is_suspect(make: Any, shift: int) -> None:
    assert codes(make, [p + np.int16(shift) for p in chest()]) == [Code.SUSPECT_HU]


@pytest.mark.parametrize("factor", [0.5, 2.0, -1.0])
def test_a_wrong_slope_is_suspect(make: Any, factor: float) -> None:
    wrong = [(p * factor).astype(np.float32) for p in chest()]
    assert codes(make, wrong) == [Code.SUSPECT_HU]


def inside(seed: int = 0) -> list[NDArray[np.int16]]:
    """Tissue from border to border with an eighth of bone in it, as in a brain cut close."""
    hu = np.random.default_rng(seed).normal(40, 15, (6, 96, 96))
    hu[:, :, :12] += 960
    return list(hu.round().astype(np.int16))


def test_images_of_a_body_s_inside_have_no_air_but_their_hu_are_right(make: Any) -> None:
    assert codes(make, inside()) == [Code.SUSPECT_HU]
    assert airless(make.stack(inside()))


@pytest.mark.parametrize("wrong", [lambda p: p + np.int16(1024), lambda p: p // np.int16(2)])
def test_wrong_hu_are_not_taken_for_a_body_s_inside(make: Any, wrong: Any) -> None:
    planes = [wrong(p) for p in chest()]
    assert codes(make, planes) == [Code.SUSPECT_HU]
    assert not airless(make.stack(planes))


def test_padding_is_not_taken_for_air(make: Any) -> None:
    shifted = [p + np.int16(1024) for p in chest()]
    for plane in shifted:
        plane[:, :20] = -1000
    assert codes(make, shifted, padding=True) == [Code.SUSPECT_HU]


def test_a_stack_of_padding_alone_is_suspect(make: Any) -> None:
    empty = np.full((8, 8), -1000, np.int16)
    assert codes(make, [empty] * 3, padding=True) == [Code.SUSPECT_HU]


def test_the_reason_names_the_figure(make: Any) -> None:
    (reason,) = hu_check(make.stack([p + np.int16(200) for p in chest()]))
    assert "expected -1000" in reason.text


def test_the_circle_of_reconstruction_is_where_a_padded_plane_has_data(make: Any) -> None:
    rows, columns = np.mgrid[:64, :64] - 31.5
    hu = np.where(np.hypot(rows, columns) < 31, 40, -1000).astype(np.int16)
    seen = field_of_view(make.stack([hu], padding=True).planes[0])
    np.testing.assert_array_equal(seen, hu == 40)


def test_air_without_padding_is_no_edge(make: Any) -> None:
    hu = np.full((8, 8), -1000, np.int16)
    assert field_of_view(make.stack([hu]).planes[0]).all()


def test_exact_minus_1000_in_the_lungs_is_not_taken_for_padding(make: Any) -> None:
    hu = np.full((9, 9), 40, np.int16)
    hu[:, 0] = -1000
    hu[4, 4] = -1000
    seen = field_of_view(make.stack([hu], padding=True).planes[0])
    assert not seen[:, 0].any()
    assert seen[:, 1:].all()


def test_one_image_at_two_neighbouring_places_is_refused_and_named(make: Any) -> None:
    planes = [make.plane(float(z), native=hu) for z, hu in enumerate(chest())]
    assert isinstance(assemble(planes, None), Stack)
    stuck = [make.plane(float(z), native=chest()[min(z, 3)]) for z in range(6)]
    found = assemble(stuck, None)
    assert isinstance(found, tuple)
    assert [reason.code for reason in found] == [Code.REPEATED_PIXELS]
    assert "image 4, image 5" in found[0].text
    assert found[0].where == "z 4.0 mm"


def test_neighbours_of_air_or_of_one_value_may_be_equal(make: Any) -> None:
    air = np.full((9, 9), -1000, np.int16)
    air[0] = -1024
    flat = np.full((9, 9), 40, np.int16)
    assert repeated([make.plane(float(z), native=air) for z in range(3)]) == []
    assert repeated([make.plane(float(z), native=flat) for z in range(3)]) == []


def test_a_transfer_syntax_that_may_lose_is_a_limitation(make: Any) -> None:
    planes = [make.plane(float(z), native=hu) for z, hu in enumerate(chest())]
    for syntax in sorted(LOSSY_SYNTAXES):
        one = make.plane(2.0, native=chest()[2], transfer_syntax_uid=syntax)
        found = assemble([*planes[:2], one, *planes[3:]], None)
        assert isinstance(found, Stack)
        (reason,) = found.limitations
        assert reason.code is Code.LOSSY
        assert "1 of 6 images" in reason.text
        assert re.search(r"\(decoded by [a-z0-9-]+ [0-9.]+\)", reason.text)
