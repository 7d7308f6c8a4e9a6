"""Chest radiographs of made-up children as data sets."""

from __future__ import annotations

import io
import warnings
from copy import deepcopy
from typing import Any

import numpy as np
from pydicom import Dataset
from pydicom.uid import UID

from appliance.phantom import radiograph


class Xray:
    """Makes chest radiographs, good and bad ones, in memory."""

    def pixels(self, size: tuple[int, int] = (96, 80), seed: int = 0) -> Any:
        """12 bits: a bright ramp with noise, so that no line is flat and no corner like another."""
        y, x = np.mgrid[: size[0], : size[1]]
        noise = np.random.default_rng(seed).integers(0, 60, size)
        ramp = 600 + 2400 * (0.7 * y / size[0] + 0.3 * x / size[1])
        return (ramp + noise + 400 * ((x // 8 + y // 8) % 2)).astype(np.uint16)

    def image(self, pixels: Any = None, *, number: int = 1, **tags: Any) -> Any:
        """One DX image; a tag given as None is left out. Sequences are lists of dicts."""
        values = self.pixels() if pixels is None else pixels
        ds = radiograph.instance(
            values.astype(np.uint16), study_uid="1.2.3", series_uid="1.2.3.4", number=number
        )
        ds.BitsAllocated = 8 * values.dtype.itemsize
        if values.dtype != np.uint16:
            ds.BitsStored = ds.BitsAllocated
            ds.HighBit = ds.BitsStored - 1
        ds.PixelRepresentation = int(values.dtype.kind == "i")
        ds.PixelData = values.tobytes() + b"\0" * (values.nbytes % 2)
        ds["PixelData"].VR = "OW"
        return self.say(ds, **tags)

    def say(self, ds: Any, **tags: Any) -> Any:
        for name, value in tags.items():
            if value is None:
                del ds[name]
            elif name == "LUTData":
                ds.add_new(0x00283006, "OW", np.asarray(value, "<u2").tobytes())
            elif isinstance(value, list) and value and isinstance(value[0], dict):
                setattr(ds, name, [self.say(Dataset(), **item) for item in value])
            else:
                setattr(ds, name, value)
        return ds

    def bytes(self, ds: Any, syntax: str | None = None, **how: Any) -> bytes:
        """Part 10, in its own or another transfer syntax; UIDs stay as they are."""
        if syntax is not None:
            ds = deepcopy(ds)
            ds.compress(UID(syntax), generate_instance_uid=False, **how)
        ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
        out = io.BytesIO()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # bad values are wanted here
            ds.save_as(out, enforce_file_format=True)
        return out.getvalue()
