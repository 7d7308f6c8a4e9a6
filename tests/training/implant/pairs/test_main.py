"""`python -m training.implant.pairs` writes a data set, split by patient, or nothing."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from rigs.made_chest import made_chest
from training.errors import DataError
from training.implant.pairs import __main__ as command
from training.implant.pairs.pair import Chest, at_points


@pytest.fixture
def hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every host is the quick one, under its own name."""

    def chest(host: str, grid_mm: float) -> Chest:
        if host == "nobody":
            raise DataError("nobody is no host")
        made = made_chest(grid_mm)
        return Chest(host, made.hu, made.lungs, grid_mm)

    monkeypatch.setattr(command, "chest_of", chest)


def test_pairs_are_written_with_their_truth_and_split_by_patient(
    hosts: None, tmp_path: Path
) -> None:
    out = tmp_path / "pairs"
    assert command.write_pairs(out, ["R01-001", "A0001", "phantom-3"], 2, 4, 4.0) == 6
    said = json.loads((out / "pairs.json").read_text())
    assert (said["grid_mm"], said["field_mm"]) == (4.0, 8.0)
    splits = {row["host"]: row["split"] for row in said["pairs"]}
    assert splits == {"R01-001": "val", "A0001": "train", "phantom-3": "train"}
    assert {path.name for path in out.iterdir()} == {"pairs.json", "train", "val"}
    for row in said["pairs"]:
        assert row["lesions"]
        with np.load(out / row["file"]) as file:
            assert file["fixed"].dtype == np.int16
            assert file["fixed"].shape == file["moving"].shape == file["fixed_lungs"].shape
            here, there = np.moveaxis(file["points"].astype(np.float64), 1, 0)
            assert np.allclose(there - here, at_points(file["field"], here), atol=0.01)


def test_a_host_that_is_none_leaves_nothing_behind(hosts: None, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nobody"):
        command.write_pairs(tmp_path / "pairs", ["A0001", "nobody"], 1, 4, 4.0)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_there_is_not_touched(hosts: None, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="already there"):
        command.write_pairs(tmp_path, ["A0001"], 1, 4, 4.0)
