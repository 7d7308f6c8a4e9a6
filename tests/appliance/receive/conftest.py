"""A receiver as a real child process, and peers: dcmtk, pynetdicom, and one that breaks rules."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from rigs.receiver import ALLOW, MakeImage, RawScu, Receiver, StartReceiver


@pytest.fixture(scope="session")
def dcmtk() -> Callable[..., subprocess.Popen[bytes]]:
    """Start a dcmtk program: pynetdicom's scripts of the same names are not looked at."""
    venv = Path(sys.executable).parent
    folders = [f for f in os.environ.get("PATH", os.defpath).split(os.pathsep) if Path(f) != venv]

    def start(name: str, *arguments: object) -> subprocess.Popen[bytes]:
        program = shutil.which(name, path=os.pathsep.join(folders))
        if program is None:
            pytest.skip(f"dcmtk's {name} is not installed (apt install dcmtk)")
        version = subprocess.run([program, "--version"], capture_output=True, check=False)
        if b"dcmtk" not in version.stdout:
            pytest.skip(f"{program} is not dcmtk's")
        return subprocess.Popen(
            [program, *map(str, arguments)],
            env={**os.environ, "TCP_NODELAY": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    return start


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[StartReceiver]:
    """receiver(dicom="", more=ALLOW) -> a running receiver with these lines in its settings."""
    running: list[Receiver] = []

    def start(dicom: str = "", more: str = ALLOW) -> Receiver:
        folder = tmp_path / f"receiver{len(running)}"
        folder.mkdir()
        config = folder / "scanside.toml"
        config.write_text(
            f'state = "{folder / "state"}"\n'
            f'[dicom]\nbind = "127.0.0.1"\nport = 0\n{dicom}\n{more}'
            + ("" if "[retain]" in more else "[retain]\nreserve_mb = 0\n")
        )
        one = Receiver(config, folder / "state", None, folder / "log")  # type: ignore[arg-type]
        running.append(one)
        one.start()
        return one

    yield start
    for one in running:
        one.stop(signal.SIGKILL)
        sys.stdout.write(one.log.read_text())


@pytest.fixture
def make_ct() -> MakeImage:
    """make_ct(n, study=..., series=..., size=...) -> CT slice number n with its own pixels."""
    study, series = generate_uid(), generate_uid()

    def make(n: int = 0, *, size: int = 64, **changes: Any) -> Dataset:
        ds = Dataset()
        ds.SOPClassUID = CTImageStorage
        ds.SOPInstanceUID = generate_uid(entropy_srcs=[series, str(n)])
        ds.StudyInstanceUID = study
        ds.SeriesInstanceUID = series
        ds.PatientName = "SECRET^NAME"
        ds.PatientID = "SECRET-ID"
        ds.Modality = "CT"
        ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        ds.InstanceNumber = n + 1
        ds.ImagePositionPatient = [0.0, 0.0, float(n)]
        ds.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        ds.PixelSpacing = [0.7, 0.7]
        ds.SliceThickness = 1.0
        ds.RescaleIntercept, ds.RescaleSlope = 0, 1
        ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
        ds.Rows = ds.Columns = size
        ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 1
        pixels = np.random.default_rng(n).integers(-1000, 1000, (size, size), dtype=np.int16)
        ds.PixelData = pixels.tobytes()
        for name, value in changes.items():
            setattr(ds, name, value)
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
        ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
        return ds

    return make


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., Path]:
    """Write data sets into a new folder and return it."""

    def write(datasets: list[Dataset], name: str = "series") -> Path:
        folder = tmp_path / name
        folder.mkdir()
        for n, ds in enumerate(datasets):
            ds.save_as(folder / f"{n:04}.dcm", enforce_file_format=True)
        return folder

    return write


@pytest.fixture
def raw_scu() -> type[RawScu]:
    return RawScu
