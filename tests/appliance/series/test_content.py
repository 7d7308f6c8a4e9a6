"""HU out of range, lungs cut by the field of view."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from appliance.reasons import Code
from appliance.series.content import field_of_view, hu_check, truncated_fov


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


def lungs(*, left: int = 10, planes: int = 6) -> NDArray[np.bool_]:
    mask = np.zeros((planes, 64, 64), np.bool_)
    mask[:, 20:44, left:30] = True
    return mask


def test_lungs_inside_the_image_are_whole() -> None:
    assert truncated_fov(lungs()) == ()


def test_lungs_that_reach_the_border_are_cut() -> None:
    (reason,) = truncated_fov(lungs(left=0))
    assert reason.code is Code.TRUNCATED_FOV
    assert "6 of 6 planes" in reason.text


def test_a_mask_that_leaks_in_one_plane_is_not_cut() -> None:
    mask = lungs()
    mask[2, 20:44, :10] = True
    assert truncated_fov(mask) == ()


def test_lungs_cut_by_the_circle_of_reconstruction_are_cut(make: Any) -> None:
    rows, columns = np.mgrid[:64, :64] - 31.5
    hu = np.where(np.hypot(rows, columns) < 31, 40, -1000).astype(np.int16)
    seen = field_of_view(make.stack([hu], padding=True).planes[0])
    np.testing.assert_array_equal(seen, hu == 40)
    assert truncated_fov(lungs(left=10), seen) == ()
    assert truncated_fov(lungs(left=0) & seen, seen)


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
