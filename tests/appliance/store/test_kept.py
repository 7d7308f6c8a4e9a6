"""What is kept beside a report lies in its own folder, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from appliance.errors import StateUnusable
from appliance.records import Axes, Facts, Grid, HeatMap, Mask, Result
from appliance.report import Coverage, Report, Scored, Scores, SeriesKey, Status
from appliance.store.kept import images, inputs, keep, maps, masks, scores
from rigs.reports import NAMING


@pytest.fixture
def result() -> Result:
    facts = Facts("1.2", "1.2.3", "CT", 2, None, None, None, Coverage())
    return Result(status=Status.NOT_ANALYSED, facts=facts, input_digest="a" * 64)


def test_the_inputs_are_found_again(
    tmp_path: Path, result: Result, make_report: Callable[[], Report]
) -> None:
    report = make_report()
    keep(tmp_path, report, result, ["1.3", "1.2"])
    assert inputs(tmp_path, str(report.report_id)) == ["1.2", "1.3"]
    assert inputs(tmp_path, "another") is None


def test_the_masks_are_found_again_with_the_ends_of_the_axes(
    tmp_path: Path, result: Result, make_report: Callable[[], Report]
) -> None:
    report = make_report()
    assert masks(tmp_path, report.report_id) == ()
    grid = Grid((2, 3, 5), (0.8, 0.7, 0.6), np.eye(4) * 1.25)
    axes = Axes(((0.1, 0.2, 0.3), (4.0, 5.0, 0.3)), ((1.0, 2.0, 0.3), (2.0, 1.0, 0.3)))
    voxels = np.arange(30).reshape(grid.shape) % 7 == 0
    made = (Mask("finding-1", voxels, grid, axes), Mask("lungs", ~voxels, grid))
    heat = HeatMap("heat-1", np.zeros((2, 2), np.float32), np.eye(3))
    folder = keep(tmp_path, report, replace(result, masks=made, maps=(heat,)), ["1.2"])
    found = masks(tmp_path, report.report_id)
    assert [(m.name, m.axes, m.grid.shape, m.grid.spacing_mm) for m in found] == [
        (m.name, m.axes, m.grid.shape, m.grid.spacing_mm) for m in made
    ]
    for one, other in zip(found, made, strict=True):
        assert np.array_equal(one.voxels, other.voxels)
        assert np.array_equal(one.grid.to_lps, other.grid.to_lps)
    (folder / "lungs.npz").write_bytes((folder / "lungs.npz").read_bytes()[:-30])
    with pytest.raises(ValueError, match=r"lungs\.npz .* is damaged"):
        masks(tmp_path, report.report_id)


def test_a_mask_with_any_byte_changed_is_whole_or_is_damaged_and_is_named(
    tmp_path: Path, result: Result, make_report: Callable[[], Report]
) -> None:
    report = make_report()
    grid = Grid((4, 9, 9), (0.8, 0.7, 0.6), np.eye(4) * 1.25)
    voxels = np.random.default_rng(7).random(grid.shape) < 0.5
    folder = keep(tmp_path, report, replace(result, masks=(Mask("lungs", voxels, grid),)), ["1.2"])
    path, damaged = folder / "lungs.npz", 0
    good = path.read_bytes()
    for at in range(0, len(good), 2):
        path.write_bytes(good[:at] + bytes([good[at] ^ 0x5A]) + good[at + 1 :])
        try:
            masks(tmp_path, report.report_id)
        except ValueError as e:
            assert "lungs.npz" in str(e)  # noqa: PT017 - what else is raised fails the test
            damaged += 1
    assert damaged > len(good) / 4


def test_a_mask_that_says_it_is_larger_than_it_is_takes_no_memory(
    tmp_path: Path, result: Result, make_report: Callable[[], Report]
) -> None:
    report = make_report()
    folder = keep(tmp_path, report, result, ["1.2"])
    np.savez_compressed(
        folder / "lungs.npz",
        voxels=np.zeros(9, np.uint8),
        shape=np.array([1 << 20] * 3),
        spacing_mm=np.ones(3),
        to_lps=np.eye(4),
    )
    with pytest.raises(ValueError, match="fewer voxels"):
        masks(tmp_path, report.report_id)


@pytest.mark.parametrize("whole", [True, False])
def test_no_symbolic_link_is_followed(
    tmp_path: Path, result: Result, make_report: Callable[[], Report], whole: bool
) -> None:
    state, report = tmp_path / "state", make_report()
    outside = tmp_path / "outside"
    folder = keep(state, report, result, ["1.2"])
    linked = folder.parent if whole else folder
    linked.rename(outside)
    linked.symlink_to(outside)
    before = sorted(outside.rglob("*"))
    assert inputs(state, str(report.report_id)) is None
    with pytest.raises(StateUnusable, match="symbolic link"):
        keep(state, report, result, ["1.2", "1.3"])
    assert sorted(outside.rglob("*")) == before


def test_the_images_are_found_again_in_their_order_and_the_maps_with_their_places(
    tmp_path: Path, result: Result, make_report: Callable[[], Report]
) -> None:
    report = make_report()
    heat = HeatMap("heat-1", np.arange(4, dtype=np.float32).reshape(2, 2), np.eye(3) * 1.5)
    facts = replace(result.facts, images=("1.9/0", "1.2/0"))
    keep(tmp_path, report, replace(result, facts=facts, maps=(heat,)), ["1.2", "1.9", "1.5"])
    assert images(tmp_path, report.report_id) == ["1.9/0", "1.2/0"]
    (found,) = maps(tmp_path, report.report_id)
    assert (found.name, found.values.tolist()) == ("heat-1", [[0, 1], [2, 3]])
    assert np.array_equal(found.to_stored, heat.to_stored)
    assert images(tmp_path, NAMING.report(SeriesKey("1", "2"), None, "0")) is None


def test_what_was_scored_is_found_again_beside_the_images_and_costs_no_file(
    tmp_path: Path, result: Result, make_report: Callable[[], Report]
) -> None:
    report = make_report()
    said = Scores(
        threshold=0.5,
        candidates=(Scored(score=0.75, center_lps_mm=(1.0, 2.0, 3.25)), Scored(score=1 / 3)),
    )
    facts = replace(result.facts, images=("1.2/0",))
    folder = keep(tmp_path, report, replace(result, facts=facts, scores=said), ["1.2"])
    assert {path.name for path in folder.iterdir()} == {"inputs.json", "images.json"}
    assert scores(tmp_path, report.report_id) == said
    assert images(tmp_path, report.report_id) == ["1.2/0"]
    (folder / "images.json").write_text('["1.2/0"]')  # as an earlier release wrote it
    assert images(tmp_path, report.report_id) == ["1.2/0"]
    assert scores(tmp_path, report.report_id) is None
    (folder / "images.json").write_text('{"images": ["1.2/0"], "scores": {"threshold": 7}}')
    assert scores(tmp_path, report.report_id) is None, "damaged"
    (folder / "images.json").write_text("[" * 100_000)
    assert images(tmp_path, report.report_id) is None
    assert scores(tmp_path, report.report_id) is None
