"""`scanside compare`: two folders from disk, and where points of one were in the other."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from appliance.errors import ScansideError
from appliance.phantom import chest
from appliance.phantom.chest import Phantom
from appliance.verbs import compare
from rigs.chests import Dicom
from rigs.device import Device

SHIFT = (12.0, -7.0, 25.0)
"""By which the earlier exam lies elsewhere on the table."""


@pytest.fixture(scope="module")
def lungs() -> Phantom:
    return chest.chest(spacing_mm=(2.5, 1.5, 1.5))


@pytest.fixture
def folders(dicom: Dicom, lungs: Phantom, tmp_path: Path) -> tuple[Path, Path]:
    """One scan twice, under other UIDs and elsewhere: the very same pixels."""
    x, y, z = (float(v) for v in np.add(lungs.origin_lps_mm, SHIFT))
    moved = replace(lungs, origin_lps_mm=(x, y, z))
    prior = dicom.series(moved, study_uid="1.2.1", series_uid="1.3.1")
    current = dicom.series(lungs, study_uid="1.2.2", series_uid="1.3.2")
    return dicom.write(prior, tmp_path / "prior"), dicom.write(current, tmp_path / "current")


def points(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "points.json"
    file.write_text(text)
    return file


@pytest.mark.long
def test_one_scan_in_two_studies_is_told_and_its_points_are_found_all_the_same(
    ready_site: Device, folders: tuple[Path, Path], lungs: Phantom, tmp_path: Path
) -> None:
    places = [one.center_lps_mm for one in lungs.nodules]
    asked = points(tmp_path, json.dumps([*places, (900.0, 0.0, 0.0), (1e300, 0.0, -1e9)]))
    printed = json.loads(compare.as_json(compare.laid(*folders, ready_site.settings, asked)))
    assert {"points", "identity", "share", "findings"} <= set(printed)
    assert [reason["code"] for reason in printed["reasons"]] == ["same_scan"]
    assert printed["findings"] == []
    assert printed["identity"] == "same"
    assert printed["share"] > 0.9
    assert [printed["points"].pop() for _ in range(2)] == [None, None]
    assert np.array(printed["points"]) == pytest.approx(np.add(places, SHIFT), abs=1.0)


@pytest.mark.parametrize(
    "text", ["", "{}", "[[1, 2]]", '[["a", 1, 2]]', "[1, 2, 3]", "[[NaN, 0, 0]]", "[[1e999, 0, 0]]"]
)
def test_a_file_that_holds_no_points_is_told(ready_site: Device, tmp_path: Path, text: str) -> None:
    with pytest.raises(ScansideError, match="no list of") as error:
        compare.laid(tmp_path, tmp_path, ready_site.settings, points(tmp_path, text))
    assert error.value.code == "no_points"


def test_points_that_are_not_there_are_told(ready_site: Device, tmp_path: Path) -> None:
    with pytest.raises(ScansideError) as error:
        compare.laid(tmp_path, tmp_path, ready_site.settings, tmp_path / "none.json")
    assert error.value.code == "no_points"


def test_a_folder_without_a_chest_says_why(
    ready_site: Device, dicom: Dicom, tmp_path: Path
) -> None:
    short = dicom.write(dicom.chest()[:2], tmp_path / "short")
    with pytest.raises(ScansideError) as error:
        compare.laid(short, short, ready_site.settings)
    assert error.value.code == "nothing_to_compare"
    assert "2 images" in error.value.text
