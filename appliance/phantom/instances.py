"""CT images of a phantom, as a scanner would make them.

Rules of this module:

1. Pure: the same phantom gives the same instances, UIDs included; no clock.
2. They are valid CT Image Storage instances (PS3.3 A.3) and say in their tags that no patient is
   behind them.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID, uuid5

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian

from appliance.phantom.chest import Phantom

ROOT: Final = UUID("0d8c1d0e-6f0b-5c4e-9a51-3f6f2a7c9d10")
"""The namespace of the UIDs that are derived here (PS3.5 B.2: 2.25 and a UUID)."""
IMPLEMENTATION: Final = UID("2.25.294019470125236226013226186842107341841")


@dataclass(frozen=True, slots=True)
class Patient:
    """What the images say of who was scanned; what is empty is left empty, and an empty issuer out
    (PS3.3 C.2.2: Issuer of Patient ID is of type 3)."""

    patient_id: str = "PHANTOM-CHEST"
    issuer: str = ""
    name: str = "PHANTOM^CHEST"
    birth_date: str = ""
    sex: str = "O"


PHANTOM: Final = Patient()


def series(
    phantom: Phantom,
    *,
    study_uid: str | None = None,
    series_uid: str | None = None,
    when: datetime = datetime(2026, 1, 5, 9, 30),
    kernel: str = "STANDARD",
    series_number: int = 1,
    patient: Patient = PHANTOM,
) -> Iterator[Dataset]:
    """The phantom as CT instances, from the head down, in Explicit VR Little Endian.

    UIDs that are not given are derived from the voxels and the geometry. Stored values are HU +
    1024 in signed 16 bits with a rescale intercept of -1024, as scanners do.
    """
    images = _images(
        phantom,
        study_uid,
        series_uid,
        when,
        kernel=kernel,
        series_number=series_number,
        patient=patient,
    )
    return _Counted(images, len(phantom.hu))


class _Counted(Iterator[Dataset]):
    """An iterator that knows how many it has left, so that a progress bar has an end."""

    def __init__(self, images: Iterator[Dataset], count: int) -> None:
        self._images, self._left = images, count

    def __next__(self) -> Dataset:
        image = next(self._images)
        self._left -= 1
        return image

    def __length_hint__(self) -> int:
        return self._left


def _images(
    phantom: Phantom,
    study_uid: str | None,
    series_uid: str | None,
    when: datetime,
    *,
    kernel: str,
    series_number: int,
    patient: Patient,
) -> Iterator[Dataset]:
    digest = hashlib.sha256(phantom.hu.tobytes())
    digest.update(repr((phantom.spacing_mm, phantom.origin_lps_mm, phantom.hu.shape)).encode())
    name = digest.hexdigest()
    study_uid = study_uid or uid(name, "study")
    series_uid = series_uid or uid(name, f"series {series_number}")
    count = len(phantom.hu)
    shared = _shared(phantom, when, kernel, patient)
    shared.StudyInstanceUID, shared.SeriesInstanceUID = study_uid, series_uid
    shared.FrameOfReferenceUID = uid(study_uid, "frame of reference")
    shared.SeriesNumber = series_number
    x, y, z0 = phantom.origin_lps_mm
    for number, k in enumerate(reversed(range(count)), start=1):
        image = Dataset()
        image.update(shared)
        z = z0 + k * phantom.spacing_mm[0]
        image.SOPInstanceUID = uid(series_uid, str(number))
        image.InstanceNumber = number
        image.ImagePositionPatient = [round(v, 4) for v in (x, y, z)]
        image.SliceLocation = round(z, 4)
        image.PixelData = (phantom.hu[k].astype(np.int32) + 1024).astype("<i2").tobytes()
        image.file_meta = meta(image)
        yield image


def uid(space: str, name: str) -> str:
    return f"2.25.{uuid5(ROOT, f'{space}/{name}').int}"


def packed(image: Dataset) -> bytes:
    """An instance as a Part-10 file."""
    out = io.BytesIO()
    image.save_as(out, enforce_file_format=True)
    return out.getvalue()


def meta(image: Dataset) -> FileMetaDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = image.SOPClassUID
    meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = IMPLEMENTATION
    return meta


def _shared(phantom: Phantom, when: datetime, kernel: str, patient: Patient) -> Dataset:
    """What all images of the series have in common, module by module of PS3.3 A.3."""
    d = Dataset()
    day, hour = when.strftime("%Y%m%d"), when.strftime("%H%M%S")
    dz, dy, dx = phantom.spacing_mm
    # SOP Common, Patient, General Study
    d.SpecificCharacterSet = "ISO_IR 192"
    d.SOPClassUID = CTImageStorage
    d.PatientName, d.PatientID = patient.name, patient.patient_id
    if patient.issuer:
        d.IssuerOfPatientID = patient.issuer
    d.PatientBirthDate, d.PatientSex, d.PatientAge = patient.birth_date, patient.sex, "060Y"
    d.QualityControlSubject = "YES"
    d.StudyDate = d.SeriesDate = d.AcquisitionDate = d.ContentDate = day
    d.StudyTime = d.SeriesTime = d.AcquisitionTime = d.ContentTime = hour
    d.ReferringPhysicianName = d.AccessionNumber = ""
    d.StudyID, d.StudyDescription = "1", "Phantom chest"
    # General Series, Frame of Reference, General Equipment
    d.Modality, d.SeriesDescription = "CT", "Chest, synthetic"
    d.BodyPartExamined, d.PatientPosition, d.ProtocolName = "CHEST", "HFS", "Chest phantom"
    d.PositionReferenceIndicator = ""
    d.Manufacturer, d.ManufacturerModelName = "Scanside", "Phantom scanner"
    d.InstitutionName, d.StationName, d.DeviceSerialNumber = "", "PHANTOM", "0"
    d.SoftwareVersions = "1"
    # General Image, Image Plane, Image Pixel
    d.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    d.AcquisitionNumber, d.ImagesInAcquisition = 1, len(phantom.hu)
    d.ImageComments = "Synthetic image; no patient."
    d.LossyImageCompression = "00"
    d.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    d.PixelSpacing = [round(dy, 6), round(dx, 6)]
    d.SliceThickness = d.SpacingBetweenSlices = round(dz, 6)
    d.SamplesPerPixel, d.PhotometricInterpretation = 1, "MONOCHROME2"
    _, d.Rows, d.Columns = phantom.hu.shape
    d.BitsAllocated, d.BitsStored, d.HighBit, d.PixelRepresentation = 16, 16, 15, 1
    # CT Image, VOI LUT
    d.RescaleIntercept, d.RescaleSlope, d.RescaleType = -1024, 1, "HU"
    d.KVP, d.XRayTubeCurrent, d.ExposureTime = 120, 120, 500
    d.GantryDetectorTilt, d.ScanOptions = 0, "HELICAL MODE"
    d.ReconstructionDiameter = round(dx * phantom.hu.shape[2], 3)
    d.DataCollectionDiameter, d.ConvolutionKernel = 500, kernel
    d.WindowCenter, d.WindowWidth = -600, 1500
    return d
