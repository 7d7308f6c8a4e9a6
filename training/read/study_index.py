"""One row a scan: whose it is, where it lies, what its pixels are, and the split it belongs to.

    python -m training.read.study_index ROOT --out index.csv [--patients lidc.sqlite | table.csv]

Rules.
1. A patient is known by a key, a hash of the name that the data set uses: Patient ID in DICOM, the
   table given by --patients (series UID or file name -> patient), else the file's own name. A DICOM
   scan that names no patient is refused: its split could not be kept. The key is no protection
   against who knows the names; it keeps them out of tables and logs.
2. The split is a function of the patient's key alone: the same on every machine and for every data
   set, whatever else is indexed with it.
3. LUNA16 keeps its own ten folds (subset0 to subset9): VAL_FOLD and TEST_FOLD are val and test.
   LIDC has patients with two scans; `training.leaks` says where that puts one into two splits.
4. The digest is of the canonical HU and spacing: equal for the same scan in any format.
5. The table appears whole or not at all.
"""

from __future__ import annotations

import argparse
import base64
import csv
import hashlib
import io
import re
import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
import numpy.typing as npt

from appliance.errors import ScansideError
from appliance.store.files import DISK
from training.errors import DataError, command
from training.read.datasets import SPLITS, dicom_files, named_in, read
from training.read.fingerprint import GRID_3D, of_volume
from training.read.image_files import bytes_of
from training.read.volume import F32, Volume

FRACTIONS = (0.70, 0.15, 0.15)
"""Shares of train, val and test."""
VAL_FOLD, TEST_FOLD = 8, 9
_KEY = re.compile(r"P[0-9a-f]{16}")
_SUBSET = re.compile(r"subset([0-9])")
_LABELS = re.compile(r"(mask|seg|label)$")


@dataclass(frozen=True)
class Study:
    """One scan."""

    source: str  # dicom, luna16, metaimage or nifti
    patient: str  # key, see patient_key
    path: str  # from the root of the data set, with /
    digest: str
    spacing_mm: tuple[float, float, float]  # z y x
    slices: int
    split: str
    fold: int | None  # LUNA16's subset
    fingerprint: F32  # see training.read.fingerprint


def patient_key(name: str) -> str:
    """The key of a patient; a key is its own, so that what was made of a scan stays beside it."""
    name = name.strip()
    if _KEY.fullmatch(name):
        return name
    return "P" + hashlib.sha256(f"scanside.patient/1\0{name}".encode()).hexdigest()[:16]


def split_of(patient: str, fractions: tuple[float, float, float] = FRACTIONS) -> str:
    """train, val or test, by a hash of the patient's key (or name)."""
    if min(fractions) < 0 or abs(sum(fractions) - 1) > 1e-9:
        raise DataError(f"fractions of the splits are {fractions}: not shares of one")
    text = f"scanside.split/1\0{patient_key(patient)}"
    at = int(hashlib.sha256(text.encode()).hexdigest()[:12], 16) / 16**12
    train, val, _ = fractions
    return SPLITS[0] if at < train else SPLITS[1] if at < train + val else SPLITS[2]


def read_patients(path: Path) -> dict[str, str]:
    """Series UID or file name -> patient: a table with two columns, or the LIDC database."""
    data = bytes_of(path)
    if data.startswith(b"SQLite format 3\0"):
        try:
            with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as link:
                found = link.execute("select series_instance_uid, patient_id from scans").fetchall()
        except sqlite3.Error as e:
            raise DataError(f"{path}: no LIDC database ({e})") from e
        return {str(uid): str(patient) for uid, patient in found}
    rows = list(csv.reader(data.decode("utf-8-sig", "replace").splitlines()))
    for number, row in enumerate(rows, 1):
        if len(row) != 2 or not all(v.strip() for v in row):
            raise DataError(f"{path}: line {number} is not a name and its patient")
    return {name.strip(): patient.strip() for name, patient in rows}


def pixel_digest(volume: Volume) -> str:
    """SHA-256 of shape, spacing (um) and whole HU of the canonical volume, hex."""
    total = hashlib.sha256()
    total.update(repr((volume.hu.shape, [round(1000 * s) for s in volume.spacing])).encode())
    for plane in volume.hu:
        total.update(np.rint(plane).astype("<i4").tobytes())
    return total.hexdigest()


def find(root: Path) -> Iterator[tuple[str, Path]]:
    """(source, path) of each scan below `root`, in order of path; labels are left out."""
    if not root.is_dir():
        raise DataError(f"{root}: no such folder")
    for path in [root, *sorted(root.rglob("*"))]:
        if path.is_dir():
            others = any(p.suffix in {".mhd", ".mha"} for p in path.iterdir())
            if not others and next(dicom_files(path), None) is not None:
                yield "dicom", path
        elif _LABELS.search(path.name.split(".nii")[0].split(".mh")[0]):
            continue
        elif path.suffix in {".mhd", ".mha"}:
            yield "luna16" if _SUBSET.fullmatch(path.parent.name) else "metaimage", path
        elif path.name.endswith((".nii", ".nii.gz")):
            yield "nifti", path


def study(root: Path, source: str, path: Path, patients: Mapping[str, str]) -> Study:
    """Reads one scan and says whose it is."""
    volume = read(path)
    name, patient = named_in(path) if source == "dicom" else (volume.name, volume.name)
    patient = patients.get(name, patient)
    if not patient.strip():
        raise DataError(f"{path}: no Patient ID; name its patient in a table (--patients)")
    fold = _SUBSET.fullmatch(path.parent.name) if source == "luna16" else None
    number = int(fold[1]) if fold else None
    by_fold = {VAL_FOLD: "val", TEST_FOLD: "test"}
    return Study(
        source=source,
        patient=patient_key(patient),
        path=path.relative_to(root).as_posix(),
        digest=pixel_digest(volume),
        spacing_mm=volume.spacing,
        slices=len(volume.hu),
        split=split_of(patient) if number is None else by_fold.get(number, "train"),
        fold=number,
        fingerprint=of_volume(volume.hu),
    )


def build(root: Path, patients: Mapping[str, str]) -> list[Study]:
    """A row for every scan below `root`; the first that cannot be read ends it."""
    rows = [study(root, source, path, patients) for source, path in find(root)]
    if not rows:
        raise DataError(f"{root}: no scan in it (DICOM folders, .mhd, .mha, .nii, .nii.gz)")
    return rows


def as_table(rows: list[Study]) -> str:
    """The index as CSV."""
    out = io.StringIO()
    table = csv.DictWriter(out, [f.name for f in fields(Study)], lineterminator="\n")
    table.writeheader()
    for row in rows:
        values = asdict(row)
        values["spacing_mm"] = " ".join(f"{s:.6g}" for s in row.spacing_mm)
        values["fold"] = "" if row.fold is None else row.fold
        coarse = np.rint(row.fingerprint * 127 / max(np.abs(row.fingerprint).max(), 1e-9))
        values["fingerprint"] = base64.b64encode(coarse.astype(np.int8).tobytes()).decode()
        table.writerow(values)
    return out.getvalue()


def read_index(path: Path) -> list[Study]:
    """The rows of an index; DataError where it is no whole index."""
    text = bytes_of(path).decode("utf-8", "replace")
    table = csv.DictReader(io.StringIO(text))
    if table.fieldnames != [f.name for f in fields(Study)] or not text.endswith("\n"):
        raise DataError(f"{path}: no whole study index (training.read.study_index writes one)")
    rows = []
    for number, row in enumerate(table, 2):
        try:
            rows.append(_row(row))
        except (TypeError, ValueError, AttributeError):
            raise DataError(f"{path}: line {number} is no row of a study index") from None
    return rows


def _row(row: Mapping[str, str]) -> Study:
    if row["split"] not in SPLITS or not _KEY.fullmatch(row["patient"]):
        raise ValueError(row["split"])
    z, y, x = (float(v) for v in row["spacing_mm"].split())
    coarse = np.frombuffer(base64.b64decode(row["fingerprint"], validate=True), np.int8)
    return Study(
        source=row["source"],
        patient=row["patient"],
        path=row["path"],
        digest=row["digest"],
        spacing_mm=(z, y, x),
        slices=int(row["slices"]),
        split=row["split"],
        fold=int(row["fold"]) if row["fold"] else None,
        fingerprint=_unit(coarse),
    )


def _unit(coarse: npt.NDArray[np.int8]) -> F32:
    values = coarse.astype(np.float32).reshape(GRID_3D)
    return np.asarray(values / max(float(np.linalg.norm(values)), 1e-9), np.float32)


def write_whole(path: Path, data: bytes) -> None:
    """Writes a file so that it appears whole or not at all; DataError where it cannot."""
    try:
        DISK.write(path, data)
    except OSError as e:
        raise DataError(f"{path}: {e.strerror}") from e
    except ScansideError as e:
        raise DataError(e.text) from e


def main() -> None:
    """Indexes a data set, or says in one line why not."""
    parser = argparse.ArgumentParser(description="Index the scans of a data set.")
    parser.add_argument("root", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--patients", type=Path, help="LIDC database, or a table name,patient")
    given = parser.parse_args()
    if not given.out.parent.is_dir():
        raise DataError(f"{given.out.parent}: no such folder")
    patients = read_patients(given.patients) if given.patients else {}
    rows = build(given.root, patients)
    write_whole(given.out, as_table(rows).encode())
    counts = Counter(row.split for row in rows)
    shown = ", ".join(f"{split} {counts[split]}" for split in SPLITS)
    print(f"{given.out}: {len(rows)} scans, {len({r.patient for r in rows})} patients: {shown}")


if __name__ == "__main__":
    command(main)
