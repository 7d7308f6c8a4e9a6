"""CTs of the shared data, and what is known of them: lesions, tumour boxes, lungs.

Rules.
1. Only axis-parallel axial series are read here; anything else is an error. Nothing is repaired.
2. Shared series but those of TRAINING_SERIES have no licence for it: `training_series` refuses
   them by name. A name with a slash is a folder of the caller's own: CT images and `truth.json`, as
   the recipes write them.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pydicom
from pydicom.errors import InvalidDicomError

from training.errors import DataError
from training.read.files import whole
from training.read.lung_truth import lung_truth
from training.read.volume import AIR_HU, F32, Bool, Volume, resample

TRAINING_SERIES = {
    "R01-001": "TCIA NSCLC Radiogenomics, CC BY 3.0",
    "C3N-00247": "TCIA CPTAC-LSCC, CC BY",
    "A0001": "TCIA Lung-PET-CT-Dx, CC BY 4.0",
    "A0002": "TCIA Lung-PET-CT-Dx, CC BY 4.0",
    "LIDC-IDRI-0003": "TCIA LIDC-IDRI, CC BY 3.0",
    "LIDC-IDRI-0004": "TCIA LIDC-IDRI, CC BY 3.0",
    "LIDC-IDRI-0005": "TCIA LIDC-IDRI, CC BY 3.0",
    "LIDC-IDRI-0021": "TCIA LIDC-IDRI, CC BY 3.0",
}
"""Series that may train weights that ship, with source and licence."""
MASSES_ONLY = ("A0002",)
"""Slices of 8 mm: a nodule lies in one of them or between two, a mass in several."""
NODULE_SERIES = tuple(name for name in TRAINING_SERIES if name not in MASSES_ONLY)
NEVER_TRAIN = ("ge-tilted-head", "siemens-j2k")
ENOUGH_READERS = 3
"""So many radiologists make a mark the truth (LUNA16's rule)."""


@dataclass(frozen=True)
class Lesion:
    """A lesion marked in a real scan."""

    center_lps_mm: tuple[float, float, float]
    diameter_mm: float
    cancer: bool
    what: str
    ignore: bool = False  # fewer than ENOUGH_READERS marked it: no lesson, neither found nor false
    by_eye: bool = False  # engineers marked it: a lesson, and nothing that figures may count


@dataclass(frozen=True)
class Box:
    """An axial tumour box in LPS millimetres (x0, y0, x1, y1) at height z."""

    xyxy: tuple[float, float, float, float]
    z: float


def series_folder(shared: Path, name: str) -> Path:
    """Folder of one CT series; unpacks the archives into their cache at the first call.

    DataError where they cannot be unpacked.
    """
    if "/" in name:
        return Path(name)
    unpack = shared / "data" / "unpack"
    try:
        done = subprocess.run([str(unpack)], check=True, capture_output=True, text=True)
    except subprocess.CalledProcessError as e:
        printed = e.stderr.strip().splitlines() or [f"ended with {e.returncode}"]
        raise DataError(f"{unpack}: {printed[-1]}") from e
    return Path(done.stdout.strip()) / name


def training_series(shared: Path, name: str) -> Volume:
    """A series whose licence lets it train weights that ship; DataError for any other."""
    if "/" not in name and name not in TRAINING_SERIES:
        raise DataError(f"{name} may not be trained on; use one of {', '.join(TRAINING_SERIES)}")
    return read_series(series_folder(shared, name))


def nodule_hosts(names: str) -> list[str]:
    """The CTs of a list separated by commas; DataError for one that counts for masses alone."""
    hosts = names.split(",")
    if thick := [name for name in hosts if name in MASSES_ONLY]:
        raise DataError(f"{thick[0]} has slices of 8 mm: it counts for masses alone; leave it out")
    return hosts


def read_series(folder: Path) -> Volume:
    """Reads an axial DICOM series of one folder; DataError where it is not even and parallel, or
    not whole."""
    try:
        return _series(folder)
    except (AttributeError, InvalidDicomError, TypeError, ValueError) as e:
        text = str(e).splitlines()[0]
        raise DataError(text if folder.name in text else f"{folder}: {text}") from e


def _series(folder: Path) -> Volume:
    slices = [
        pydicom.dcmread(path)
        for path in sorted(folder.iterdir())
        if path.suffix != ".json" and path.is_file()
    ]
    if len(slices) < 2:
        raise ValueError(f"{folder}: {len(slices)} images are no series")
    axes = np.array([s.ImageOrientationPatient for s in slices], float)
    if not np.allclose(axes, [1, 0, 0, 0, 1, 0], atol=1e-3):
        raise ValueError(f"{folder.name}: rows and columns are not parallel to the axes")
    slices.sort(key=lambda s: float(s.ImagePositionPatient[2]))
    z = np.array([float(s.ImagePositionPatient[2]) for s in slices])
    gaps = np.diff(z)
    if not np.allclose(gaps, gaps[0], atol=0.01):
        raise ValueError(f"{folder.name}: slice positions are not even")
    hu = np.stack(
        [
            s.pixel_array.astype(np.float32) * float(s.RescaleSlope) + float(s.RescaleIntercept)
            for s in slices
        ]
    )
    hu[hu < -1024] = AIR_HU
    dy, dx = (float(v) for v in slices[0].PixelSpacing)
    x0, y0, z0 = (float(v) for v in slices[0].ImagePositionPatient)
    return Volume(folder.name, hu, (float(gaps[0]), dy, dx), (x0, y0, z0))


def known_lesions(shared: Path, name: str) -> list[Lesion]:
    """Lesions marked in a CT, by radiologists or by engineers; a boxed mass is not among them.

    DataError where a file of marks is no list of them.
    """
    if "/" in name:
        own = Path(name)
        return [
            *(_lesion(e) for e in _marks(own / "truth.json")),
            *(replace(_lesion(e), ignore=True) for e in _marks(own / "ignore.json")),
        ]
    truth = shared / "data" / "ct-truth"
    return [
        *(replace(_lesion(e), by_eye=True) for e in _marks(truth / "known-lesions.json", name)),
        *(_read_lesion(e) for e in _marks(truth / "lidc-readers.json", name)),
    ]


def _marks(path: Path, name: str = "") -> list[dict[str, Any]]:
    """The marks of a file, or what it has of a series; none where there is no such file."""
    try:
        found: Any = json.loads(path.read_text()) if path.exists() else []
        if name and found:
            found = found.get(name, [])
        for entry in found:
            _lesion(entry)
        return list(found)
    except (AttributeError, KeyError, TypeError, ValueError) as e:
        raise DataError(f"{path}: not a list of center_lps_mm and diameter_mm") from e


def _lesion(entry: dict[str, Any]) -> Lesion:
    x, y, z = (float(v) for v in entry["center_lps_mm"])
    return Lesion(
        (x, y, z),
        float(entry["diameter_mm"]),
        cancer=bool(entry.get("cancer")),
        what=str(entry.get("what", "nodule")),
        ignore=bool(entry.get("ignore")),
    )


def _read_lesion(entry: dict[str, Any]) -> Lesion:
    """A mark of LIDC-IDRI, which says how many of four radiologists made it."""
    readers = int(entry["readers"])
    what = f"marked by {readers} of 4 radiologists"
    one = _lesion(entry)
    return replace(one, what=what, ignore=one.ignore or readers < ENOUGH_READERS)


def tumour_boxes(shared: Path, volume_folder: Path) -> list[Box]:
    """The Pascal VOC boxes that belong to this series, matched by SOPInstanceUID = file name; none
    where there are none for a series of this name."""
    folder = _boxes_folder(shared, volume_folder.name)
    truth = {p.stem: p for p in folder.glob("*.xml")}
    boxes = []
    for path in sorted(p for p in volume_folder.iterdir() if p.suffix != ".json") if truth else []:
        head = pydicom.dcmread(path, stop_before_pixels=True)
        if str(head.SOPInstanceUID) not in truth:
            continue
        dy, dx = (float(v) for v in head.PixelSpacing)
        x0, y0, z0 = (float(v) for v in head.ImagePositionPatient)
        tree = ElementTree.parse(truth[str(head.SOPInstanceUID)])  # noqa: S314 - our own shared data
        for b in tree.iter("bndbox"):
            v = {e.tag: float(e.text or "nan") for e in b}
            boxes.append(
                Box(
                    (
                        x0 + v["xmin"] * dx,
                        y0 + v["ymin"] * dy,
                        x0 + v["xmax"] * dx,
                        y0 + v["ymax"] * dy,
                    ),
                    z0,
                )
            )
    return boxes


def mass_of_boxes(
    volume: Volume, boxes: Sequence[Box], shape: Sequence[int], spacing: float
) -> Bool:
    """The boxed mass on an isotropic grid of the volume: one ellipse a box, from first to last
    height."""
    out = np.zeros(tuple(shape), bool)
    if not boxes:
        return out
    heights = np.array([b.z for b in boxes])
    edge = np.asarray(volume.origin) - 0.5 * np.asarray(volume.spacing[::-1])
    y = edge[1] + (np.arange(shape[1]) + 0.5) * spacing
    x = edge[0] + (np.arange(shape[2]) + 0.5) * spacing
    for k in range(shape[0]):
        z = edge[2] + (k + 0.5) * spacing
        if not heights.min() - 2.5 <= z <= heights.max() + 2.5:
            continue
        x0, y0, x1, y1 = boxes[int(np.argmin(np.abs(heights - z)))].xyxy
        dy = (y - (y0 + y1) / 2) / max((y1 - y0) / 2, 1.0)
        dx = (x - (x0 + x1) / 2) / max((x1 - x0) / 2, 1.0)
        out[k] |= dy[:, None] ** 2 + dx[None, :] ** 2 <= 1
    return out


def host_lungs(shared: Path, name: str, cache: Path) -> tuple[Volume, F32, Bool]:
    """A training CT, its HU at 1.5 mm and its lung truth there (made once, kept in `cache`)."""
    volume = training_series(shared, name)
    fine = resample(volume.hu, volume.spacing, [1.5] * 3)
    kept = cache / f"{Path(name).name}-lungs.npz"
    if kept.exists():
        with np.load(kept) as file:
            return volume, fine, np.asarray(file["mask"], bool)
    truth = lung_truth(fine, 1.5)
    truth |= mass_of_boxes(volume, host_boxes(shared, name), truth.shape, 1.5)
    with whole(kept) as file:
        np.savez_compressed(file, mask=truth)
    return volume, fine, truth


def host_boxes(shared: Path, name: str) -> list[Box]:
    """Tumour boxes of a shared CT; only those of Lung-PET-CT-Dx (A0001, A0002) have any."""
    boxed = "/" not in name and _boxes_folder(shared, name).is_dir()
    return tumour_boxes(shared, series_folder(shared, name)) if boxed else []


def _boxes_folder(shared: Path, name: str) -> Path:
    return shared / "data" / "ct-truth" / f"{name}-boxes"
