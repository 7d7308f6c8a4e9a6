"""Readers of public data sets: DICOM folders, MetaImage (LUNA16), NIfTI, MedMNIST, LUNA16's tables.

Rules.
1. Every scan becomes a Volume: HU as float32 [z, y, x] whose indices grow with LPS+ mm. Its
   axes are turned and flipped into that order, never resampled: axes that are not parallel to the
   patient's are refused, as are uneven slices.
2. DICOM goes through the appliance's line, so a series that it refuses is refused here, with the
   same reason. HU below -1024 (a scanner's mark outside its field of view) is air in every format.
3. A file is whole or refused: the bytes that its header promises must be there, no fewer, no more.
4. Every fault is a DataError of one line that names the file.
"""

from __future__ import annotations

import csv
import math
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from appliance import line
from appliance.errors import SeriesRefused
from appliance.reasons import Code
from appliance.records import Plane, Stack
from appliance.series import phases, pixels
from appliance.series.elements import is_media_directory, parse
from training.errors import DataError
from training.read.image_files import bytes_of, canonical, read_metaimage, read_nifti
from training.read.volume import Volume

EVEN = 0.01
"""Largest deviation of a slice from its even place, as a share of the slice distance."""
MARGIN_MM = 3.0
_MAX_HEADER = 64 << 20
SPLITS = ("train", "val", "test")


def read(path: Path) -> Volume:
    """A scan in any known format: a folder of DICOM files, .mhd or .mha, .nii or .nii.gz."""
    if path.is_dir():
        return read_dicom(path)
    if path.suffix in {".mhd", ".mha"}:
        return read_metaimage(path)
    if path.name.endswith((".nii", ".nii.gz")):
        return read_nifti(path)
    what = "a format without a reader (DICOM folder, .mhd, .mha, .nii, .nii.gz)"
    raise DataError(f"{path}: {what if path.exists() else 'not there'}")


def dicom_files(folder: Path) -> Iterator[tuple[Path, bytes]]:
    """Name and bytes of each DICOM file right in a folder; what is not DICOM is left out, and so is
    a media directory, whatever it is called."""
    try:
        files = sorted(p for p in folder.iterdir() if p.is_file())
    except OSError as e:
        raise DataError(f"{folder}: {e.strerror}") from e
    for path in files:
        data = bytes_of(path)
        if is_media_directory(data):
            continue
        if data[128:132] != b"DICM" and path.suffix.lower() != ".dcm":
            try:
                pixels.header(data)
            except SeriesRefused as e:
                if e.reason.code is Code.UNREADABLE:
                    continue
        yield path, data


def named_in(folder: Path) -> tuple[str, str]:
    """(Series Instance UID, Patient ID or "") of the first CT image of a DICOM folder."""
    for path, data in dicom_files(folder):
        try:
            instance = parse(data, (0x00100020, 0x0020000E), pixels=False, max_bytes=_MAX_HEADER)
            uid = instance.elements.uid(0x0020000E, "Series Instance UID")
            return uid or "", instance.elements.text(0x00100020, "Patient ID") or ""
        except SeriesRefused as e:
            raise DataError(f"{path}: {e.text}") from e
    raise DataError(f"{folder}: no DICOM file in it")


def dicom_stack(folder: Path) -> Stack:
    """The one CT series of a folder as the appliance's line assembles it."""
    fold, count = line.begin(()), 0
    for path, data in dicom_files(folder):
        refused = len(fold.share(None).refusals)
        fold, count = line.add(fold, data), count + 1
        if len(refusals := fold.share(None).refusals) > refused:
            raise DataError(f"{path}: {refusals[-1].text}")
    if not count:
        raise DataError(f"{folder}: no DICOM file in it")
    planes = [image for image in fold.share(None).images if isinstance(image, Plane)]
    found = phases.volume(planes)
    if any(reason.code is Code.DYNAMIC for reason in found.limitations):
        raise DataError(f"{folder}: it holds {found.groups} phases; name a folder for each")
    outline = fold.share(None).outline
    if not isinstance(outline.subject, Stack):
        raise DataError(f"{folder}: {outline.reasons[0].text}")
    return outline.subject


def read_dicom(folder: Path) -> Volume:
    """The one CT series of a folder of DICOM files, through the appliance's line."""
    stack = dicom_stack(folder)
    gap = stack.spacing_mm[0]
    even = np.arange(len(stack.z_mm)) * gap
    worst = float(np.abs(stack.z_mm - even).max())
    if worst > EVEN * gap + 0.01:
        raise DataError(f"{folder}: slices are not even; one lies {worst:.2f} mm off its place")
    first = stack.planes[0].geometry
    axes = np.array([stack.normal_lps, first.column_lps, first.row_lps])
    hu = np.stack([plane.native for plane in stack.planes])
    return canonical(folder, hu, axes, stack.spacing_mm, first.position_lps_mm)


@dataclass(frozen=True)
class Mark:
    """A row of LUNA16's tables: a place, and the diameter (mm) or the class that it has."""

    center_lps_mm: tuple[float, float, float]
    diameter_mm: float | None
    nodule: bool


def read_annotations(path: Path) -> dict[str, list[Mark]]:
    """LUNA16's annotations.csv: series UID -> its nodules."""
    return _marks(path, "diameter_mm")


def read_candidates(path: Path) -> dict[str, list[Mark]]:
    """LUNA16's candidates.csv or candidates_V2.csv: series UID -> its candidates."""
    return _marks(path, "class")


def _marks(path: Path, last: str) -> dict[str, list[Mark]]:
    columns = ["seriesuid", "coordX", "coordY", "coordZ", last]
    found: dict[str, list[Mark]] = {}
    try:
        text = bytes_of(path).decode("utf-8-sig")
    except UnicodeDecodeError as e:
        raise DataError(f"{path}: not a table in UTF-8") from e
    rows = csv.DictReader(text.splitlines())
    if missing := [c for c in columns if c not in (rows.fieldnames or ())]:
        raise DataError(f"{path}: no column {', '.join(missing)} in its first line")
    if not text.endswith("\n"):
        raise DataError(f"{path}: its last line has no end: half-written?")
    for number, row in enumerate(rows, 2):
        try:
            x, y, z, value = (float(row[c]) for c in columns[1:])
        except (TypeError, ValueError):
            raise DataError(f"{path}: line {number} does not hold numbers: half-written?") from None
        of_diameter = last == "diameter_mm"
        possible = value > 0 if of_diameter else value in {0, 1}
        if not row["seriesuid"] or not all(map(math.isfinite, (x, y, z, value))) or not possible:
            raise DataError(f"{path}: line {number} holds an impossible value")
        mark = Mark((x, y, z), value if of_diameter else None, of_diameter or value == 1)
        found.setdefault(row["seriesuid"], []).append(mark)
    if not found:
        raise DataError(f"{path}: not one row")
    return found


def negatives(candidates: Sequence[Mark], nodules: Sequence[Mark]) -> list[Mark]:
    """Candidates of one scan that may be learnt as no nodule.

    None of class 1, and none within a nodule's radius (at least 5 mm) plus MARGIN_MM of its centre:
    a known lesion is never mined as a negative, whatever the table of candidates says.
    """
    return [
        c
        for c in candidates
        if not c.nodule
        and all(
            math.dist(c.center_lps_mm, n.center_lps_mm)
            > max((n.diameter_mm or 0) / 2, 5.0) + MARGIN_MM
            for n in nodules
        )
    ]


@dataclass(frozen=True)
class Labelled:
    """Images of one split, [n, height, width] or [n, height, width, 3], with their labels [n]."""

    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]


def read_medmnist(path: Path) -> dict[str, Labelled]:
    """A MedMNIST npz: the splits that are in it, train at least. No pickled object is loaded."""
    found = {}
    try:
        with np.load(path, allow_pickle=False) as file:
            for split in SPLITS:
                names = f"{split}_images", f"{split}_labels"
                there = [name for name in names if name in file]
                if len(there) == 1:
                    raise DataError(f"{path}: {there[0]} without its counterpart")
                if there:
                    found[split] = _labelled(path, split, file[names[0]], file[names[1]])
    except OSError as e:
        raise DataError(f"{path}: {e.strerror or 'no npz'}") from e
    except (zipfile.BadZipFile, zlib.error, EOFError, AttributeError, TypeError) as e:
        raise DataError(f"{path}: no whole npz: half-written?") from e
    except ValueError as e:
        if isinstance(e, DataError):
            raise
        raise DataError(f"{path}: it holds arrays that cannot be read: half-written?") from e
    if "train" not in found:
        raise DataError(f"{path}: no train_images and train_labels in it")
    return found


def _labelled(
    path: Path, split: str, images: npt.NDArray[np.uint8], labels: npt.NDArray[np.number]
) -> Labelled:
    plain = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
    if images.dtype != np.uint8 or images.ndim not in {3, 4}:
        raise DataError(f"{path}: {split}_images is not of uint8 images")
    if plain.ndim != 1 or plain.dtype.kind not in "iub":
        raise DataError(f"{path}: {split}_labels is not one whole number an image")
    if len(plain) != len(images):
        raise DataError(f"{path}: {len(images)} {split}_images, {len(plain)} {split}_labels")
    return Labelled(images, plain.astype(np.int64))
