"""A made-up chest radiograph: the CT phantom seen from the front, as a digital X-ray machine sends
it.

Rules of this module:

1. Pure: the same phantom gives the same instance, UIDs included; no clock.
2. A parallel projection: attenuation is summed from front to back (Beer and Lambert), water 0.02 a
   millimetre and in proportion to HU + 1000, so bones are bright. No scatter, no grid.
3. A consolidation is drawn into the volume before it is projected, as air spaces filled with fluid:
   what was air within an ellipsoid comes closer to the HU of fluid, bones, heart and vessels stay.
   `LOWER_LUNGS` is large enough for the demonstration bundle to call it: smaller ones, or one side
   alone, it does not (docs/radiographs.md has the figures).
4. It is a valid Digital X-Ray Image for presentation (PS3.3 A.26) and says in its tags that no
   patient is behind it. The age is that of a small child, for whom the demonstration bundle is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence as Many
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import DigitalXRayImageStorageForPresentation

from appliance.phantom.chest import Phantom
from appliance.phantom.instances import meta, uid
from appliance.phantom.raster import Point

WATER = 0.02
CHILD = 0.5
"""A child of four is about half as wide as the phantom."""
PIXEL_MM = 0.3
BORDER = 0.06
"""Of each edge: what the collimator keeps dark."""

AIR_BELOW = -300
"""HU: below it a voxel is lung or airway, which fluid can fill."""
FLUID = 30
"""HU of what fills them."""
EDGE_MM = 15.0
"""Over so much of its shortest radius a consolidation fades out."""

Pixels = NDArray[np.uint16]


@dataclass(frozen=True, slots=True)
class Consolidation:
    """An ellipsoid of filled air spaces: centre (LPS mm), half axes (x, y, z, mm), and the share of
    the air that fluid replaces in its middle (0..1)."""

    center_lps_mm: Point
    radii_mm: Point
    filled: float = 0.95


LOWER_LUNGS = (
    Consolidation((-75.0, 5.0, -85.0), (78.0, 78.0, 105.0)),
    Consolidation((80.0, 5.0, -75.0), (66.0, 78.0, 95.0)),
)
"""Both lower zones of `chest`, the right one more: within the body at every height."""


def consolidated(phantom: Phantom, areas: Many[Consolidation] = LOWER_LUNGS) -> Phantom:
    """The phantom with these areas of its lungs filled (rule 3)."""
    z, y, x = (
        (phantom.origin_lps_mm[axis] + np.arange(size) * step).astype(np.float32)
        for axis, size, step in zip((2, 1, 0), phantom.hu.shape, phantom.spacing_mm, strict=True)
    )
    hu = phantom.hu.copy()
    for area in areas:
        cx, cy, cz = area.center_lps_mm
        rx, ry, rz = area.radii_mm
        plane = (((x - cx) / rx) ** 2)[None, :] + (((y - cy) / ry) ** 2)[:, None]
        for k in np.flatnonzero(np.abs(z - cz) < rz):
            inside = (1 - np.sqrt(plane + ((z[k] - cz) / rz) ** 2)) * min(area.radii_mm) / EDGE_MM
            share = area.filled * np.clip(inside, 0, 1)
            air = hu[k] < AIR_BELOW
            hu[k][air] += ((FLUID - hu[k]) * share)[air].astype(np.int16)
    return replace(phantom, hu=hu)


def projected(phantom: Phantom, *, border: float = BORDER, noise: float = 6.0) -> Pixels:
    """The phantom from the front, 12 bits, bones bright: [rows (head first), columns (to the
    left)]."""
    dz, dy, dx = phantom.spacing_mm
    through = np.maximum(phantom.hu.astype(np.float32) + 1000, 0).sum(axis=1)[::-1]
    seen = through * np.float32(WATER / 1000 * dy * CHILD)
    size = (
        round(seen.shape[1] * dx * CHILD / PIXEL_MM),
        round(seen.shape[0] * dz * CHILD / PIXEL_MM),
    )
    picture = cv2.resize(np.ascontiguousarray(seen), size, interpolation=cv2.INTER_CUBIC)
    low, high = np.percentile(picture, (1, 99.5))
    grey = 400 + (picture - low) / max(float(high - low), 1e-6) * 3000
    grey += np.random.default_rng(0).normal(0, noise, grey.shape)
    edges = [round(n * border) for n in grey.shape]
    dark = np.ones(grey.shape, np.bool_)
    dark[edges[0] : grey.shape[0] - edges[0], edges[1] : grey.shape[1] - edges[1]] = False
    grey[dark] = 20
    return np.asarray(np.clip(np.rint(grey), 0, 4095), np.uint16)


def instance(
    pixels: Pixels,
    *,
    study_uid: str | None = None,
    series_uid: str | None = None,
    number: int = 1,
    age: str = "004Y",
    when: datetime = datetime(2026, 1, 5, 9, 30),
) -> Dataset:
    """The pixels as one image for presentation; UIDs that are not given are derived from them."""
    name = hashlib.sha256(pixels.tobytes()).hexdigest()
    d = _patient_to_equipment(when, age)
    d.StudyInstanceUID = study_uid or uid(name, "study")
    d.SeriesInstanceUID = series_uid or uid(name, "series")
    d.SOPInstanceUID = uid(d.SeriesInstanceUID, str(number))
    d.InstanceNumber, d.SeriesNumber, d.AcquisitionNumber = number, 1, number
    # General Image, Image Pixel
    d.ImageType = ["DERIVED", "PRIMARY"]
    d.PatientOrientation = ["L", "F"]
    d.ImageComments = "Synthetic image; no patient."
    d.BurnedInAnnotation, d.LossyImageCompression = "NO", "00"
    d.SamplesPerPixel, d.PhotometricInterpretation = 1, "MONOCHROME2"
    d.Rows, d.Columns = pixels.shape
    d.BitsAllocated, d.BitsStored, d.HighBit, d.PixelRepresentation = 16, 12, 11, 0
    d.ImagerPixelSpacing = [PIXEL_MM, PIXEL_MM]
    # DX Image, VOI LUT, DX Anatomy, DX Positioning
    d.PixelIntensityRelationship, d.PixelIntensityRelationshipSign = "LOG", -1
    d.RescaleIntercept, d.RescaleSlope, d.RescaleType = 0, 1, "US"
    d.PresentationLUTShape = "IDENTITY"
    d.WindowCenter, d.WindowWidth = 1900, 3200
    d.BodyPartExamined, d.ViewPosition, d.ImageLaterality = "CHEST", "AP", "U"
    d.AnatomicRegionSequence = _code("51185008", "Chest")
    d.ViewCodeSequence = _code("399348003", "antero-posterior")
    d.PixelData = pixels.astype("<u2").tobytes()
    d.file_meta = meta(d)
    return d


def _patient_to_equipment(when: datetime, age: str) -> Dataset:
    d = Dataset()
    day, hour = when.strftime("%Y%m%d"), when.strftime("%H%M%S")
    d.SpecificCharacterSet = "ISO_IR 192"
    d.SOPClassUID = DigitalXRayImageStorageForPresentation
    d.PatientName, d.PatientID = "PHANTOM^CHILD", "PHANTOM-CHILD"
    d.PatientBirthDate, d.PatientSex, d.PatientAge = "", "O", age
    d.QualityControlSubject = "YES"
    d.StudyDate = d.SeriesDate = d.AcquisitionDate = d.ContentDate = day
    d.StudyTime = d.SeriesTime = d.AcquisitionTime = d.ContentTime = hour
    d.ReferringPhysicianName = d.AccessionNumber = ""
    d.StudyID, d.StudyDescription = "1", "Phantom chest"
    d.Modality, d.SeriesDescription = "DX", "Chest, synthetic"
    d.PresentationIntentType = "FOR PRESENTATION"
    d.Manufacturer, d.ManufacturerModelName = "Scanside", "Phantom X-ray machine"
    d.InstitutionName, d.StationName, d.DeviceSerialNumber = "", "PHANTOM", "0"
    d.SoftwareVersions = "1"
    return d


def _code(value: str, meaning: str) -> Any:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "SCT", meaning
    return Sequence([item])
