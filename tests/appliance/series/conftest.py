"""Makes CT instances and planes, good and bad ones, in memory: the fixture `make`."""

from __future__ import annotations

import io
import shutil
import subprocess
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import UID

from appliance.bundle.accepts import Accepts, Limits
from appliance.errors import SeriesRefused
from appliance.reasons import Code
from appliance.records import Geometry, Header, Plane, Stack
from appliance.series import pixels
from appliance.series.pixels import digest

EXPLICIT = "1.2.840.10008.1.2.1"
ROOT = "1.2.826.0.1.3680043.10.1"
CT_IMAGE, ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.2.1"


class Make:
    """Datasets, bytes and planes. Whatever is not asked for is a plain axial chest CT slice."""

    def stored(self, size: tuple[int, int] = (48, 64), seed: int = 0) -> NDArray[np.uint16]:
        """12-bit values: air around a noisy square of soft tissue."""
        values = np.full(size, 24, np.uint16)
        rows, columns = size
        inner = (slice(rows // 4, -rows // 4), slice(columns // 4, -columns // 4))
        values[inner] = 1064
        noise = np.random.default_rng(seed).integers(0, 30, size)
        return (values + noise).astype(np.uint16)

    def ct(self, index: int = 0, *, stored: NDArray[Any] | None = None, **tags: Any) -> Dataset:
        """One CT image at z = index mm. A tag given as None is left out; "" is there, but empty."""
        values = self.stored(seed=index) if stored is None else stored
        ds = Dataset()
        ds.SpecificCharacterSet = "ISO_IR 100"
        ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        ds.SOPClassUID, ds.SOPInstanceUID = CT_IMAGE, f"{ROOT}.3.{index + 1}"
        ds.StudyInstanceUID, ds.SeriesInstanceUID = f"{ROOT}.1", f"{ROOT}.2"
        ds.FrameOfReferenceUID = f"{ROOT}.4"
        ds.Modality, ds.BodyPartExamined, ds.Manufacturer = "CT", "CHEST", "ACME"
        ds.PatientName, ds.PatientAge = "Doe^Jane", "063Y"
        ds.ConvolutionKernel, ds.SliceThickness, ds.GantryDetectorTilt = "B30f", "1.0", "0"
        ds.InstanceNumber, ds.AcquisitionNumber = index + 1, 1
        ds.ImagePositionPatient = [-12.0, -16.0, float(index)]
        ds.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        ds.PixelSpacing = [0.75, 0.7]
        ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
        ds.Rows, ds.Columns = values.shape
        ds.BitsAllocated = 8 * values.dtype.itemsize
        ds.BitsStored = 12 if values.dtype == np.uint16 else ds.BitsAllocated
        ds.HighBit = ds.BitsStored - 1
        ds.PixelRepresentation = int(values.dtype.kind == "i")
        ds.RescaleSlope, ds.RescaleIntercept = "1", "-1024"
        ds.PixelData = values.tobytes() + b"\0" * (values.nbytes % 2)
        ds["PixelData"].VR = "OW" if ds.BitsAllocated > 8 else "OB"
        for name, value in tags.items():
            if value is None:
                del ds[name]
            else:
                setattr(ds, name, value)
        if tags.get("BitsStored") and "HighBit" not in tags:
            ds.HighBit = ds.BitsStored - 1
        return ds

    def enhanced(self, frames: int = 3, **tags: Any) -> Dataset:
        """One Enhanced CT image: orientation shared, position and rescale per frame."""
        stack = np.stack([self.stored(seed=i) for i in range(frames)])
        ds = self.ct(0, stored=stack[0], SOPClassUID=ENHANCED_CT, NumberOfFrames=frames)
        for name in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing",
                     "RescaleSlope", "RescaleIntercept", "SliceThickness"):  # fmt: skip
            del ds[name]
        ds.PixelData = stack.tobytes()
        shared = Dataset()
        shared.PlaneOrientationSequence = _one(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])
        shared.PixelMeasuresSequence = _one(PixelSpacing=[0.75, 0.7], SliceThickness=1.5)
        ds.SharedFunctionalGroupsSequence = Items([shared])
        groups = []
        for i in range(frames):
            group = Dataset()
            group.PlanePositionSequence = _one(ImagePositionPatient=[-12.0, -16.0, 2.0 * i])
            group.PixelValueTransformationSequence = _one(
                RescaleSlope=1, RescaleIntercept=-1024, RescaleType="HU"
            )
            group.FrameContentSequence = _one(FrameAcquisitionNumber=7, TemporalPositionIndex=i + 1)
            group.CTImageFrameTypeSequence = _one(
                FrameType=["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
            )
            groups.append(group)
        ds.PerFrameFunctionalGroupsSequence = Items(groups)
        for name, value in tags.items():
            setattr(ds, name, value)
        return ds

    def bytes(self, ds: Dataset, syntax: str = EXPLICIT) -> bytes:
        """Part 10 in a native or deflated transfer syntax, as it is, nothing checked."""
        uid = UID(syntax)
        if not uid.is_little_endian:
            kind = np.dtype(f"u{ds.BitsAllocated // 8}")
            ds.PixelData = np.frombuffer(ds.PixelData, kind).byteswap().tobytes()
        return self._written(ds, uid)

    def _written(self, ds: Dataset, uid: UID) -> bytes:
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = uid
        ds.file_meta.MediaStorageSOPClassUID = CT_IMAGE
        ds.file_meta.MediaStorageSOPInstanceUID = f"{ROOT}.9"
        out = io.BytesIO()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom warns of the bad values that are wanted here
            ds.save_as(
                out,
                implicit_vr=uid.is_implicit_VR,
                little_endian=uid.is_little_endian,
                enforce_file_format=True,
            )
        return out.getvalue()

    def compressed(self, ds: Dataset, syntax: str, **how: Any) -> bytes:
        """Part 10 in an encapsulated transfer syntax that pydicom can encode."""
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = UID(EXPLICIT)
        ds.compress(UID(syntax), generate_instance_uid=False, **how)
        return self._written(ds, UID(syntax))

    def jpeg_lossless(self, ds: Dataset, folder: Path, *, first_order: bool) -> bytes:
        """Part 10 in JPEG Lossless by dcmtk's dcmcjpeg."""
        tool = shutil.which("dcmcjpeg")
        if tool is None:
            pytest.skip("no dcmcjpeg (apt install dcmtk)")
        raw, coded = folder / "raw.dcm", folder / "coded.dcm"
        raw.write_bytes(self.bytes(ds))
        how = "--encode-lossless-sv1" if first_order else "--encode-lossless"
        subprocess.run([tool, how, "--uid-never", str(raw), str(coded)], check=True)
        return coded.read_bytes()

    def refusal(self, data: bytes, **limits: Any) -> SeriesRefused:
        """What `pixels.read` raises."""
        with pytest.raises(SeriesRefused) as caught:
            pixels.read(data, **limits)
        return caught.value

    def code(self, data: bytes, **limits: Any) -> Code:
        return self.refusal(data, **limits).reason.code

    def plane(
        self,
        z: float,
        *,
        number: int | None = None,
        row: Sequence[float] = (1, 0, 0),
        column: Sequence[float] = (0, 1, 0),
        position: Sequence[float] | None = None,
        spacing: tuple[float, float] = (0.7, 0.7),
        native: NDArray[Any] | None = None,
        **header: Any,
    ) -> Plane:
        """One oriented plane at z mm; its Instance Number is z unless it is said."""
        at = Geometry(
            tuple(position) if position is not None else (-100.0, -100.0, z),  # type: ignore[arg-type]
            tuple(map(float, row)),  # type: ignore[arg-type]
            tuple(map(float, column)),  # type: ignore[arg-type]
            spacing,
        )
        hu = np.full((8, 8), round(z) % 1000, np.int16) if native is None else native
        said = Header(CT_IMAGE, f"{ROOT}.3.{round(z * 100) + 10**6}", f"{ROOT}.1", f"{ROOT}.2",
                      f"{ROOT}.4", "CT")  # fmt: skip
        said = replace(said, instance_number=round(z) if number is None else number)
        return Plane(replace(said, **header), 0, at, hu, {}, False, digest(hu, at))

    def planes(self, zs: Sequence[float], **more: Any) -> list[Plane]:
        return [self.plane(float(z), number=i + 1, **more) for i, z in enumerate(zs)]

    def stack(self, native: Sequence[NDArray[Any]], *, padding: bool = False) -> Stack:
        planes = tuple(
            replace(self.plane(float(i), native=hu), padding=padding) for i, hu in enumerate(native)
        )
        z = np.arange(len(planes), dtype=np.float64)
        return Stack(planes, z, (0.0, 0.0, 1.0), (1.0, 0.7, 0.7))

    def accepts(self, **changes: Any) -> Accepts:
        """Nodules of a chest: full to 2.5 mm, limited to 5, at least 100 mm and 10 slices."""
        usual: dict[str, Any] = {
            "modality": ("CT",),
            "body_part": ("CHEST",),
            "spacing_mm": Limits(full=2.5, limited=5.0),
            "cover_mm": 100.0,
        }
        return Accepts(**{**usual, **changes})


def _one(**tags: Any) -> Items:
    item = Dataset()
    for name, value in tags.items():
        setattr(item, name, value)
    return Items([item])


@pytest.fixture(scope="session")
def make() -> Make:
    return Make()
