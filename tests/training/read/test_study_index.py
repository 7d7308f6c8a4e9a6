"""The study index: one row a scan, the same split for a patient everywhere."""

from __future__ import annotations

import sqlite3
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("scipy", reason="scipy is not installed (pip install -e '.[train]')")

from rigs.cuts import Full
from training.errors import DataError, command
from training.read import study_index
from training.read.study_index import (
    as_table,
    build,
    patient_key,
    read_index,
    read_patients,
    split_of,
)

HU = np.random.default_rng(1).integers(-1000, 1000, (8, 24, 24)).astype(np.int16)

KNOWN = [
    "train",
    "train",
    "train",
    "test",
    "test",
    "train",
    "train",
    "val",
    "test",
    "train",
    "train",
    "train",
]
KEY = "P087d432366a03694"


def luna16(root: Path, subset: int, name: str, hu: np.ndarray = HU) -> Path:
    folder = root / f"subset{subset}"
    folder.mkdir(parents=True, exist_ok=True)
    size = " ".join(map(str, hu.shape[::-1]))
    (folder / f"{name}.mhd").write_text(
        f"NDims = 3\nDimSize = {size}\nElementType = MET_SHORT\nElementSpacing = 1 1 2\n"
        f"Offset = 0 0 0\nTransformMatrix = 1 0 0 0 1 0 0 0 1\nElementDataFile = {name}.raw\n"
    )
    (folder / f"{name}.raw").write_bytes(hu.astype("<i2").tobytes())
    return folder / f"{name}.mhd"


def test_the_split_of_a_patient_never_changes() -> None:
    # written down once: a change would put patients that trained a model into its test set
    known = [split_of(f"LIDC-IDRI-{n:04d}") for n in range(1, 13)]
    assert known == KNOWN
    assert patient_key("LIDC-IDRI-0001") == KEY


def test_the_shares_of_the_splits_are_what_was_asked_for() -> None:
    splits = [split_of(f"p{n}", (0.5, 0.3, 0.2)) for n in range(4000)]
    shares = [splits.count(s) / 4000 for s in ("train", "val", "test")]
    assert shares == pytest.approx([0.5, 0.3, 0.2], abs=0.03)
    with pytest.raises(DataError, match="not shares of one"):
        split_of("p", (0.9, 0.9, 0.1))


def test_what_was_made_of_a_patient_stays_in_its_split() -> None:
    for n in range(200):
        key = patient_key(f"p{n}")
        assert patient_key(key) == key
        assert split_of(key) == split_of(f" p{n} ")


def test_one_scan_has_one_row_whatever_its_format(tmp_path: Path, write_ct: Any) -> None:
    write_ct(tmp_path / "dicom" / "a", HU, patient="1.9.9")
    luna16(tmp_path, 3, "1.9.9")
    luna16(tmp_path, 8, "1.9.8", HU[::-1])
    luna16(tmp_path, 9, "1.9.7", -HU)
    rows = {r.path: r for r in build(tmp_path, {})}
    dicom, meta = rows["dicom/a"], rows["subset3/1.9.9.mhd"]
    assert (dicom.source, meta.source) == ("dicom", "luna16")
    assert dicom.digest == meta.digest
    assert dicom.patient == meta.patient == patient_key("1.9.9")
    assert (meta.fold, meta.split, meta.slices) == (3, "train", 8)
    assert meta.spacing_mm == (2.0, 1.0, 1.0)
    assert dicom.split == split_of("1.9.9")
    assert rows["subset8/1.9.8.mhd"].split == "val"
    assert rows["subset9/1.9.7.mhd"].split == "test"
    assert len({r.digest for r in rows.values()}) == 3


def test_the_lidc_database_says_whose_a_scan_is(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "lidc.sqlite") as link:
        link.execute("create table scans (series_instance_uid, patient_id)")
        link.execute("insert into scans values ('1.9.9', 'LIDC-IDRI-0001')")
    luna16(tmp_path / "data", 0, "1.9.9")
    (row,) = build(tmp_path / "data", read_patients(tmp_path / "lidc.sqlite"))
    assert row.patient == KEY


def test_an_index_is_read_as_it_was_written(tmp_path: Path) -> None:
    luna16(tmp_path, 3, "a")
    rows = build(tmp_path, {})
    (tmp_path / "index.csv").write_text(as_table(rows))
    (again,) = read_index(tmp_path / "index.csv")
    for name in ("source", "patient", "path", "digest", "spacing_mm", "slices", "split", "fold"):
        assert getattr(again, name) == getattr(rows[0], name)
    assert float((again.fingerprint * rows[0].fingerprint).sum()) > 0.999


def test_a_half_written_index_is_refused(tmp_path: Path) -> None:
    luna16(tmp_path, 3, "a")
    text = as_table(build(tmp_path, {}))
    path = tmp_path / "index.csv"
    for broken, wanted in (
        (text[:-200], "no whole study index"),
        (text[:-200] + "\n", "line 2 is no row"),
        (text.replace(",train,", ",trainn,"), "line 2 is no row"),
        ("a,b\n1,2\n", "no whole study index"),
    ):
        path.write_text(broken)
        with pytest.raises(DataError, match=wanted):
            read_index(path)


def test_a_scan_without_a_patient_is_refused(tmp_path: Path, write_ct: Any) -> None:
    write_ct(tmp_path / "a", HU, patient="")
    with pytest.raises(DataError, match="no Patient ID; name its patient"):
        build(tmp_path, {})


def run(monkeypatch: pytest.MonkeyPatch, *words: object) -> str:
    """What the command says: its last words where it fails."""
    monkeypatch.setattr(sys, "argv", ["study_index", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        command(study_index.main)
    return str(ended.value)


def test_a_broken_data_set_leaves_no_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, out = luna16(tmp_path / "data", 3, "a"), tmp_path / "out" / "index.csv"
    out.parent.mkdir()
    out.write_text("the one before")
    path.with_suffix(".raw").write_bytes(b"half")
    said = run(monkeypatch, tmp_path / "data", "--out", out)
    assert said.startswith("error: ")
    assert "a.raw: 4 bytes of pixels" in said
    assert "no such folder" in run(monkeypatch, tmp_path / "gone", "--out", out)
    (tmp_path / "empty").mkdir()
    assert "no scan in it" in run(monkeypatch, tmp_path / "empty", "--out", out)
    assert [p.name for p in out.parent.iterdir()] == ["index.csv"]
    assert out.read_text() == "the one before"


def test_a_full_disk_leaves_the_index_of_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    luna16(tmp_path / "data", 3, "a")
    out = tmp_path / "index.csv"
    out.write_text("the one before")
    monkeypatch.setattr(study_index, "DISK", Full())
    said = run(monkeypatch, tmp_path / "data", "--out", out)
    assert said == f"error: {out}: No space left on device"
    assert out.read_text() == "the one before"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["data", "index.csv"]


def test_a_folder_that_cannot_be_written_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    luna16(tmp_path / "data", 3, "a")
    said = run(monkeypatch, tmp_path / "data", "--out", tmp_path / "gone" / "index.csv")
    assert "no such folder" in said
    (tmp_path / "taken").mkdir()
    said = run(monkeypatch, tmp_path / "data", "--out", tmp_path / "taken")
    assert said.startswith(f"error: {tmp_path / 'taken'}: ")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["data", "taken"]
