"""Small chests as data sets, and how they are written."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from copy import copy, deepcopy
from pathlib import Path

import numpy as np
from pydicom import Dataset
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian

from appliance.phantom.chest import Phantom
from appliance.phantom.instances import series

Slices = list[Dataset]
STEP_MM, PIXEL_MM, COUNT, SIDE = 5.0, 4.0, 24, 80


class Dicom:
    """Datasets of small chests, and how they are written."""

    def chest(
        self,
        *,
        lungs: bool = True,
        shift_hu: int = 0,
        step_mm: float = STEP_MM,
        finer: int = 1,
        study_uid: str = "1.2.826.0.1.3680043.10.1",
        series_uid: str = "1.2.826.0.1.3680043.10.1.2",
        **tags: object,
    ) -> Slices:
        """24 images of 80 x 80: an oval body, two lungs, five balls of tissue in them. finer: so
        many times as many voxels along each axis."""
        spacing = (step_mm / finer, PIXEL_MM / finer, PIXEL_MM / finer)
        z, y, x = np.meshgrid(
            *(
                (np.arange(n * finer) - (n * finer - 1) / 2) * step
                for n, step in zip((COUNT, SIDE, SIDE), spacing, strict=True)
            ),
            indexing="ij",
        )
        hu = np.full(z.shape, -1000, np.int16)
        hu[(x / 150) ** 2 + (y / 110) ** 2 < 1] = 40
        if lungs:
            for side in (-1, 1):
                hu[((x - 70 * side) / 55) ** 2 + (y / 80) ** 2 + (z / 48) ** 2 < 1] = -800
            for at in ((0, 0, 60), (10, 20, -60), (-20, -30, 80), (20, 10, 50), (-10, 5, -85)):
                dz, dy, dx = at
                hu[(x - dx) ** 2 + (y - dy) ** 2 + (z - dz) ** 2 < 9**2] = 40
        noise = np.random.default_rng(5).integers(-10, 10, hu.shape).astype(np.int16)
        origin = (float(x[0, 0, 0]), float(y[0, 0, 0]), float(z[0, 0, 0]))
        phantom = Phantom(hu + noise + np.int16(shift_hu), spacing, origin, ())
        return self.series(phantom, study_uid=study_uid, series_uid=series_uid, **tags)

    def series(
        self, phantom: Phantom, *, study_uid: str, series_uid: str, **tags: object
    ) -> Slices:
        made = series(phantom, study_uid=study_uid, series_uid=series_uid)
        slices = [self._own(ds) for ds in made]
        for ds in slices:
            self.say(ds, **tags)
        return slices

    def _own(self, ds: Dataset) -> Dataset:
        """Elements of its own: those of one series share them."""
        own = Dataset({element.tag: copy(element) for element in ds})
        own.file_meta = ds.file_meta
        return own

    def say(self, ds: Dataset, **tags: object) -> Dataset:
        """Change tags in place; None takes one out. Nothing is checked."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for name, value in tags.items():
                if value is None:
                    del ds[name]
                else:
                    setattr(ds, name, value)
        return ds

    def bytes(self, ds: Dataset, syntax: str | None = None) -> bytes:
        """Part 10, in the data set's own or another transfer syntax; UIDs stay as they are."""
        if syntax is not None:
            ds = self._in(deepcopy(ds), UID(syntax))
        out = io.BytesIO()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # bad values are wanted here
            ds.save_as(out, enforce_file_format=True)
        return out.getvalue()

    def _in(self, ds: Dataset, syntax: UID) -> Dataset:
        if syntax.is_encapsulated and syntax != DeflatedExplicitVRLittleEndian:
            ds.compress(syntax, generate_instance_uid=False)
            return ds
        if syntax == ExplicitVRBigEndian:
            ds.PixelData = np.frombuffer(ds.PixelData, "<i2").byteswap().tobytes()
        ds.file_meta.TransferSyntaxUID = syntax
        return ds

    def all(self, slices: Sequence[Dataset], syntax: str | None = None) -> list[bytes]:
        return [self.bytes(ds, syntax) for ds in slices]

    def write(self, slices: Sequence[Dataset], folder: Path) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        for i, ds in enumerate(slices):
            (folder / f"{i:04d}.dcm").write_bytes(self.bytes(ds))
        return folder
