"""What the tests of data sets share: a CT series written from an array."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset

Writer = Callable[..., Path]


@pytest.fixture
def write_ct() -> Writer:
    """(folder, hu [z, y, x], spacing z y x, origin x y z, patient) -> the folder of its files."""

    def write(
        folder: Path,
        hu: np.ndarray,
        spacing: Sequence[float] = (2.0, 1.0, 1.0),
        origin: Sequence[float] = (0.0, 0.0, 0.0),
        patient: str = "patient-1",
    ) -> Path:
        folder.mkdir(parents=True)
        number = 1 + sum(map(ord, folder.name))
        for k, plane in enumerate(hu):
            ds = Dataset()
            ds.SOPClassUID, ds.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", f"1.2.{number}.3.{k}"
            ds.StudyInstanceUID, ds.SeriesInstanceUID = f"1.2.{number}.1", f"1.2.{number}.2"
            ds.FrameOfReferenceUID, ds.Modality = f"1.2.{number}.4", "CT"
            ds.PatientID, ds.PatientName, ds.InstitutionName = patient, "Doe^Jane", "St. Nowhere"
            ds.InstanceNumber, ds.SliceThickness = k + 1, spacing[0]
            ds.ImagePositionPatient = [origin[0], origin[1], origin[2] + k * spacing[0]]
            ds.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
            ds.PixelSpacing = [spacing[1], spacing[2]]
            ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
            ds.Rows, ds.Columns = plane.shape
            ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
            ds.RescaleSlope, ds.RescaleIntercept = 1, -1024
            ds.PixelData = (np.rint(plane) + 1024).astype("<u2").tobytes()
            ds["PixelData"].VR = "OW"
            ds.file_meta = FileMetaDataset()
            ds.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
            # the last slice comes first: order is by position, never by name
            pydicom.dcmwrite(folder / f"{len(hu) - k:03d}.dcm", ds, enforce_file_format=True)
        return folder

    return write
