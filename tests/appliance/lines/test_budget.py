"""Refusals for want of memory: with figures, and never by a wrong one."""

from __future__ import annotations

from appliance.lines import budget as admission

MB = 1 << 20


def test_pixels_are_held_up_to_the_room_there_is() -> None:
    assert admission.too_many(100 * MB, 100 * MB) is None
    assert "100 MB" in str(admission.too_many(100 * MB + 1, 100 * MB))
    assert admission.too_many(100 * MB, 0) is not None


def test_no_room_is_so_large_that_a_series_may_be_endless() -> None:
    assert admission.too_many(admission.MAX_BYTES, None) is None
    assert admission.too_many(admission.MAX_BYTES + 1, None) is not None
    assert admission.too_many(admission.MAX_BYTES + 1, 1 << 40) is not None


def test_an_analysis_needs_its_pixels_its_networks_and_its_masks() -> None:
    need = 100 * MB + MB * (admission.BYTES_INFERRED + admission.BYTES_LABELLED)
    assert admission.too_wide(100 * MB, MB, MB, need) is None
    text = admission.too_wide(100 * MB, MB, MB, need - 1)
    assert text == "its analysis needs 196 MB of memory, this device has 195 MB left"
    assert admission.too_wide(100 * MB, 1 << 40, 1 << 40, None) is None


def test_a_usual_chest_takes_about_a_gigabyte_with_the_factory_bundle() -> None:
    usual = admission.usual((1.25, 3.0), (3.0, 3.0, 3.0), (1.25, 1.25, 1.25))
    assert 800 * MB < usual < 1500 * MB


def test_masses_and_cubes_take_more() -> None:
    grids = ((1.25, 3.0), (3.0, 3.0, 3.0), (1.25, 1.25, 1.25))
    usual = admission.usual(*grids)
    voxels = 400 * 360 * 360 / 6.0**3
    more = admission.usual(*grids, mass_mm=(6.0, 6.0, 6.0), cube_voxels=MB)
    assert abs(more - usual - (voxels + MB) * admission.BYTES_INFERRED) < 2
