"""What several tests share: a CT series from an array, and a step that waits for another."""

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


STEP = """
import pathlib, sys, time
name, want = sys.argv[1:]
here = pathlib.Path()
with open("order", "a") as file:
    file.write(name + "\\n")
(here / name).touch()
end = time.monotonic() + 60
while want and not (here / want).exists():
    if time.monotonic() > end:
        sys.exit(3)
    time.sleep(0.01)
sys.exit(1 if name == "broken" else 0)
"""


@pytest.fixture
def steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which `python -m step NAME WAITS_FOR` is a recipe."""
    (tmp_path / "step.py").write_text(STEP)
    monkeypatch.chdir(tmp_path)
    return tmp_path
