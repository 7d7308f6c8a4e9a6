"""Refusals for want of memory: with figures, and never by a wrong one."""

from __future__ import annotations

from appliance.lines import budget
from appliance.lines.budget import Budget

MB = 1 << 20


def test_pixels_are_held_up_to_the_memory_there_is() -> None:
    assert Budget(100 * MB, 100 * MB).too_many() is None
    assert "100 MB" in str(Budget(100 * MB + 1, 100 * MB).too_many())
    assert Budget(100 * MB, 0).too_many() is not None


def test_no_memory_is_so_large_that_a_series_may_be_endless() -> None:
    assert Budget(budget.MAX_BYTES).too_many() is None
    assert Budget(budget.MAX_BYTES + 1).too_many() is not None
    assert Budget(budget.MAX_BYTES + 1, 1 << 40).too_many() is not None


def test_an_analysis_needs_its_pixels_its_networks_and_its_masks() -> None:
    need = 100 * MB + MB * (budget.BYTES_INFERRED + budget.BYTES_LABELLED)
    assert Budget(100 * MB, need).too_wide(MB, MB) is None
    text = Budget(100 * MB, need - 1).too_wide(MB, MB)
    assert text == "its analysis needs 196 MB of memory, this device has 195 MB left"
    assert Budget(100 * MB).too_wide(1 << 40, 1 << 40) is None


def test_a_usual_chest_takes_about_a_gigabyte_with_the_factory_bundle() -> None:
    usual = budget.usual((1.25, 3.0), (3.0, 3.0, 3.0), (1.25, 1.25, 1.25))
    assert 800 * MB < usual < 1500 * MB


def test_masses_and_cubes_take_more() -> None:
    grids = ((1.25, 3.0), (3.0, 3.0, 3.0), (1.25, 1.25, 1.25))
    usual = budget.usual(*grids)
    voxels = 400 * 360 * 360 / 6.0**3
    more = budget.usual(*grids, mass_mm=(6.0, 6.0, 6.0), cube_voxels=MB)
    assert abs(more - usual - (voxels + MB) * budget.BYTES_INFERRED) < 2
    drawn = budget.usual(*grids, mass_mm=(6.0, 6.0, 6.0), drawn=True, cube_voxels=MB)
    assert abs(drawn - more - voxels * budget.BYTES_LABELLED) < 2
    sick = budget.usual(*grids, diseased=True)
    assert abs(sick - usual - 8 * voxels * budget.BYTES_LABELLED) < 2
