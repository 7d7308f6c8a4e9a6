"""Who is left out of all patches and shapes, and that no row of theirs can come back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from training.errors import DataError
from training.read import left_out
from training.read.folders import shared_folder
from training.read.left_out import HOSTS, KEY, LUNA_ROWS, OWNERS, kept_patches, kept_rows

# of ../shared/data/README.md, written out once more: who changes one has to change both
OUT = [
    (145_300, 148_500),
    (309_100, 312_300),
    (123_600, 127_300),
    (391_900, 394_900),
    (51_400, 54_800),
    (161_300, 164_400),
]
PATCHES = shared_folder() / "data" / "patches" / "luna16_patches50.npz"


def test_no_row_of_a_patient_who_is_left_out_is_kept_and_every_other_is() -> None:
    rows = np.arange(400_000)
    wanted = np.ones(len(rows), bool)
    for first, last in OUT:
        wanted[first : last + 1] = False
    assert np.array_equal(kept_rows(rows), wanted)


def test_the_owners_patients_and_every_lidc_host_are_left_out() -> None:
    assert OWNERS == ("LIDC-IDRI-0001", "LIDC-IDRI-0002", "LIDC-IDRI-0063")
    assert HOSTS == ("LIDC-IDRI-0003", "LIDC-IDRI-0004", "LIDC-IDRI-0005", "LIDC-IDRI-0021")
    assert set(left_out.SERIES.values()) == {*OWNERS, *HOSTS}
    assert set(LUNA_ROWS) == {*OWNERS, *HOSTS} - {"LIDC-IDRI-0002"}  # it has no patch


@pytest.mark.skipif(not PATCHES.is_file(), reason="no ../shared/data")
def test_the_shared_patches_have_such_rows_and_none_is_left() -> None:
    with np.load(PATCHES) as file:
        kept = kept_patches(PATCHES, file)
        for split in ("train", "val"):
            rows = file[f"{split}_luna_row"]
            gone = np.zeros(len(rows), bool)
            for first, last in OUT:
                gone |= (rows >= first) & (rows <= last)
            assert len(kept[f"{split}_images"]) == len(rows) - gone.sum()
            assert np.array_equal(kept[f"{split}_images"], file[f"{split}_images"][~gone])
            assert np.array_equal(kept[f"{split}_labels"], file[f"{split}_labels"][~gone])
        every = np.concatenate([file["train_luna_row"], file["val_luna_row"]])
    for first, last in OUT:
        assert ((every >= first) & (every <= last)).any()


def test_a_file_that_does_not_tell_whose_its_patches_are_is_refused(tmp_path: Path) -> None:
    images, labels = np.zeros((3, 50, 50), np.uint8), np.zeros(3, np.uint8)
    plain = {"train_images": images, "train_labels": labels}
    for more in ({}, {"left_out": np.array("before")}):
        with pytest.raises(DataError, match=r"does not tell whose its train patches are.*luna16"):
            kept_patches(tmp_path, {**plain, **more})
    assert len(kept_patches(tmp_path, {**plain, "left_out": np.array(KEY)})["train_labels"]) == 3
    rows = np.array([51_399, 51_400, 54_801])
    assert len(kept_patches(tmp_path, {**plain, "train_luna_row": rows})["train_labels"]) == 2
