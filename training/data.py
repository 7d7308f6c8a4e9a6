"""Readers of the shared data, and the resampling that every network of the line sees.

Rules.
1. The canonical volume is [z, y, x] in HU with +z to the head, +y to the back, +x to the patient's
   left: indices grow with LPS+ millimetres. What lies outside or is padding is -1000.
2. Grids are edge-aligned: n = round(N * spacing / target), x = (i + 0.5) * target / spacing - 0.5.
   Area average when shrinking, linear with edge clamp when growing, each axis by itself, float32
   throughout.
3. Only axis-parallel axial series are read here; anything else is an error. Nothing is repaired.
4. Shared series but those of TRAINING_SERIES have no licence for it: `training_series` refuses
   them by name. A name with a slash is a folder of the caller's own: CT images and `truth.json`, as
   training.luna16 writes them.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.errors import InvalidDicomError
from scipy import ndimage

from appliance.preprocess import reference
from appliance.preprocess.reference import axis_weights
from training.cache import whole
from training.errors import DataError
from training.source import HIGH_HU, LOW_HU

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]

TRAINING_SERIES = ("R01-001", "C3N-00247", "A0001")
NEVER_TRAIN = ("ge-tilted-head", "siemens-j2k")
AIR_HU = -1000.0


@dataclass(frozen=True)
class Volume:
    """A scan on the canonical grid."""

    name: str
    hu: F32  # [z, y, x]
    spacing: tuple[float, float, float]  # mm, z y x
    origin: tuple[float, float, float]  # LPS mm of the centre of voxel [0, 0, 0], as x y z

    def lps(self, zyx: npt.ArrayLike) -> F64:
        """Voxel indices [..., 3] (z, y, x) as LPS millimetres [..., 3] (x, y, z)."""
        mm = np.asarray(zyx, np.float64) * self.spacing
        return np.asarray(mm[..., ::-1] + np.asarray(self.origin), np.float64)

    def zyx(self, lps: npt.ArrayLike) -> F64:
        """LPS millimetres [..., 3] as fractional voxel indices [..., 3] (z, y, x)."""
        mm = np.asarray(lps, np.float64) - np.asarray(self.origin)
        return np.asarray(mm[..., ::-1] / np.asarray(self.spacing), np.float64)


@dataclass(frozen=True)
class Lesion:
    """A lesion marked in a real scan."""

    center_lps_mm: tuple[float, float, float]
    diameter_mm: float
    cancer: bool
    what: str


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
        said = e.stderr.strip().splitlines() or [f"ended with {e.returncode}"]
        raise DataError(f"{unpack}: {said[-1]}") from e
    return Path(done.stdout.strip()) / name


def training_series(shared: Path, name: str) -> Volume:
    """A series whose licence lets it train weights that ship; ValueError for any other."""
    if "/" not in name and name not in TRAINING_SERIES:
        raise ValueError(f"{name} may not be trained on; use one of {', '.join(TRAINING_SERIES)}")
    return read_series(series_folder(shared, name))


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


def resample(hu: F32, spacing: Sequence[float], target: Sequence[float]) -> F32:
    """[z, y, x] at `spacing` (mm, z y x) on the grid of `target` spacing."""
    wz, wy, wx = (axis_weights(n, s, t) for n, s, t in zip(hu.shape, spacing, target, strict=True))
    planes = np.empty((hu.shape[0], wy.shape[0], wx.shape[0]), np.float32)
    across = np.ascontiguousarray(wx.T)
    for i, plane in enumerate(hu):
        planes[i] = wy @ (plane @ across)
    flat = wz @ planes.reshape(planes.shape[0], -1)
    return np.asarray(flat.reshape(-1, *planes.shape[1:]), np.float32)


def window(hu: F32) -> F32:
    """clip((HU - low) / (high - low), 0, 1)."""
    return reference.window(hu, LOW_HU, HIGH_HU)


def ball(radius_mm: float, spacing: Sequence[float]) -> Bool:
    """A ball as a structuring element on a grid of `spacing`."""
    reach = [int(np.floor(radius_mm / s + 1e-6)) for s in spacing]
    grid = np.meshgrid(
        *[np.arange(-r, r + 1) * s for r, s in zip(reach, spacing, strict=True)], indexing="ij"
    )
    squared = np.sum([g.astype(np.float64) ** 2 for g in grid], axis=0)
    return np.asarray(squared <= radius_mm**2 + 1e-6, np.bool_)


def dilate(mask: Bool, radius_mm: float, spacing: float) -> Bool:
    """Dilation by a ball on an isotropic grid, through the distance transform."""
    if not mask.any():
        return np.array(mask)
    near: Bool = ndimage.distance_transform_edt(~mask) * spacing <= radius_mm + 1e-6
    return near


def close(mask: Bool, radius_mm: float, spacing: float) -> Bool:
    """Closing by a ball on an isotropic grid; the border is no wall."""
    reach = int(np.ceil(radius_mm / spacing)) + 1
    wide = np.pad(mask, reach)
    if not wide.any():
        return np.array(mask)
    grown = ndimage.distance_transform_edt(~wide) * spacing <= radius_mm + 1e-6
    shrunk = ndimage.distance_transform_edt(grown) * spacing > radius_mm + 1e-6
    inner = tuple(slice(reach, -reach) for _ in range(3))
    closed: Bool = shrunk[inner] | mask
    return closed


def lung_truth(hu: F32, spacing: float) -> Bool:
    """Closed lungs without trachea, from an unaltered chest CT on an isotropic grid [z, y, x].

    Air under -400 HU that does not reach the sides of the field of view; the largest two pieces
    (one, where the lungs touch); the trachea and main bronchi grown from the top and removed;
    closed by 9 mm in each lung, holes up to 7 cm2 filled slice by slice (a dome of the diaphragm is
    larger). For training labels: disease denser than -400 HU at the pleura is missed, which is why
    disease is implanted after this and not before.
    """
    smooth = ndimage.gaussian_filter(hu, 1.0 / spacing)
    air = smooth < -400
    sides = np.zeros_like(air)
    sides[:, [0, -1], :] = True
    sides[:, :, [0, -1]] = True
    labels, _ = ndimage.label(air)
    outside = np.isin(labels, np.unique(labels[sides & air]))
    inside = air & ~outside
    trachea = _airways(smooth, inside, spacing)
    lung = ndimage.binary_opening(
        inside & ~dilate(trachea, 2.0, spacing), ball(spacing, [spacing] * 3)
    )
    labels, count = ndimage.label(lung)
    if count == 0:
        return np.zeros_like(air)
    sizes = ndimage.sum_labels(lung, labels, np.arange(1, count + 1)) * spacing**3 / 1000
    keep = [i + 1 for i in np.argsort(-sizes)[:2] if sizes[i] > max(150.0, 0.15 * sizes.max())]
    mask = np.zeros_like(air)
    for label in keep:
        one = close(labels == label, 9.0, spacing)
        for plane in one:
            _fill_small_holes(plane, 700.0 / spacing**2)
        mask |= one
    return np.asarray(mask & ~trachea)


def _fill_small_holes(plane: Bool, largest: float) -> None:
    """Fills, in place, the holes of a slice that have at most `largest` pixels."""
    holes, count = ndimage.label(ndimage.binary_fill_holes(plane) & ~plane)
    sizes = np.bincount(holes.ravel())
    small = [i for i in range(1, count + 1) if sizes[i] <= largest]
    plane |= np.isin(holes, small)


def _airways(smooth: F32, inside: Bool, spacing: float) -> Bool:
    """Trachea and main bronchi: grown from the most central small air piece of the upper slices."""
    best = np.zeros_like(inside)
    top = inside.shape[0]
    body = smooth > -400
    centre = np.array([np.mean(np.flatnonzero(body.any((0, 1)))), 0])[0]
    for z in range(top - 1, top // 2, -1):
        labels, count = ndimage.label(inside[z])
        for i in range(1, count + 1):
            piece = labels == i
            area = piece.sum() * spacing**2
            x = np.mean(np.nonzero(piece)[1])
            if not 60 < area < 900 or abs(x - centre) * spacing > 35:
                continue
            for level in (-850, -900, -930, -950):
                grown, _ = ndimage.label((smooth < level) & inside)
                seeds = np.unique(grown[z][piece & (grown[z] > 0)])
                if not len(seeds):
                    break
                tube = np.isin(grown, seeds)
                millilitres = tube.sum() * spacing**3 / 1000
                if 5 < millilitres < 90:
                    return np.asarray(ndimage.binary_dilation(tube, iterations=1) & inside)
    return best


def known_lesions(shared: Path, name: str) -> list[Lesion]:
    """Lesions marked in a training CT; those of A0001 come from its boxes."""
    if "/" in name:
        return [_nodule(e) for e in json.loads((Path(name) / "truth.json").read_text())]
    text = (shared / "data" / "ct-truth" / "known-lesions.json").read_text()
    return [
        Lesion(
            (
                float(e["center_lps_mm"][0]),
                float(e["center_lps_mm"][1]),
                float(e["center_lps_mm"][2]),
            ),
            float(e["diameter_mm"]),
            bool(e.get("cancer", False)),
            str(e["what"]),
        )
        for e in json.loads(text).get(name, [])
    ]


def _nodule(entry: dict[str, Any]) -> Lesion:
    x, y, z = (float(v) for v in entry["center_lps_mm"])
    return Lesion((x, y, z), float(entry["diameter_mm"]), cancer=False, what="nodule")


@dataclass(frozen=True)
class Box:
    """An axial tumour box in LPS millimetres (x0, y0, x1, y1) at height z."""

    xyxy: tuple[float, float, float, float]
    z: float


def tumour_boxes(shared: Path, volume_folder: Path) -> list[Box]:
    """The Pascal VOC boxes that belong to this series, matched by SOPInstanceUID = file name."""
    truth = {p.stem: p for p in (shared / "data" / "ct-truth" / "A0001-boxes").glob("*.xml")}
    boxes = []
    for path in sorted(volume_folder.iterdir()):
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
    """Tumour boxes of a training CT; only A0001 has any."""
    return tumour_boxes(shared, series_folder(shared, name)) if name == "A0001" else []


def file_digest(path: Path) -> str:
    """SHA-256 of a file, hex."""
    total = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            total.update(chunk)
    return total.hexdigest()
