"""Shapes of nodules as a bundle carries them for the probe: one npz, written and read here. Pure.

    voxels [n] uint8      the occupancy of all shapes, 0 to 255 for 0 to 1, one behind the other
    sizes [k, 3] uint8    z, y, x cells of 0.6 mm of each
    diameters [k] float32 of the sphere of equal volume, mm, ascending
    spiculation [k] uint8 1 (none) to 5, the reader's rating
    source, licence []    text: the data set, which part of it, and under which licence

Rules.
1. Which patients they are of is not said: a device has no use for it.
2. The same shapes give the same bytes, for one release of zlib.
3. What is read is checked before it is unpacked: number of arrays, their size, their shape. What
   does not fit is a ValueError that says so.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from appliance.quality.implant import Shape

FILE: Final = "shapes.npz"
"""Its name in a bundle."""
MOST_BYTES: Final = 300_000
"""Of the file: what a release may spend on it."""
MOST_UNPACKED: Final = 32_000_000
MOST_CELLS: Final = 100
"""Along an axis: 60 mm."""
_ARRAYS = {"voxels", "sizes", "diameters", "spiculation", "source", "licence"}


@dataclass(frozen=True, slots=True)
class Donated:
    """Shapes, and where they are from."""

    shapes: tuple[Shape, ...]
    """Ascending in diameter."""
    source: str
    licence: str


def said(donated: Donated) -> dict[str, object]:
    """What a manifest says of them (bundle.manifest.Shapes), without the digest."""
    return {
        "file": FILE,
        "count": len(donated.shapes),
        "source": donated.source,
        "licence": donated.licence,
    }


def packed(donated: Donated) -> bytes:
    """The file. ValueError where it would be larger than MOST_BYTES, or holds no shape."""
    shapes = sorted(donated.shapes, key=lambda one: one.diameter_mm)
    if not shapes:
        raise ValueError("there is no shape")
    arrays: dict[str, Any] = {
        "voxels": np.concatenate([one.occupancy.ravel() for one in shapes]),
        "sizes": np.array([one.occupancy.shape for one in shapes], np.uint8),
        "diameters": np.array([one.diameter_mm for one in shapes], np.float32),
        "spiculation": np.array([one.spiculation for one in shapes], np.uint8),
        "source": np.array(donated.source),
        "licence": np.array(donated.licence),
    }
    out = io.BytesIO()
    np.savez_compressed(out, **arrays)
    if len(out.getvalue()) > MOST_BYTES:
        raise ValueError(f"{len(out.getvalue())} bytes of shapes; at most {MOST_BYTES}")
    return out.getvalue()


def read(data: bytes) -> Donated:
    """The shapes of the file (rule 3)."""
    try:
        _refuse_large(data)
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as e:
        raise ValueError(f"the shapes are damaged: {e}") from e
    return Donated(
        _shapes(arrays), str(arrays["source"].item())[:500], str(arrays["licence"].item())[:500]
    )


def _refuse_large(data: bytes) -> None:
    """Before anything is unpacked."""
    if len(data) > MOST_BYTES:
        raise ValueError(f"{len(data)} bytes of shapes; at most {MOST_BYTES} are read")
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        named = {one.filename.removesuffix(".npy"): one.file_size for one in archive.infolist()}
    if set(named) != _ARRAYS:
        raise ValueError(f"the shapes hold the arrays {sorted(named)}")
    if sum(named.values()) > MOST_UNPACKED:
        raise ValueError(f"the shapes unpack to more than {MOST_UNPACKED} bytes")


def _shapes(arrays: dict[str, NDArray[Any]]) -> tuple[Shape, ...]:
    voxels, sizes = arrays["voxels"], arrays["sizes"]
    diameters, spiculation = arrays["diameters"], arrays["spiculation"]
    count = len(sizes) if sizes.ndim == 2 else 0
    whole = sizes.shape == (count, 3) and voxels.ndim == 1 and voxels.dtype == np.uint8
    if not (count and whole and diameters.shape == (count,) and spiculation.shape == (count,)):
        raise ValueError("the shapes do not belong to each other")
    cells = sizes.astype(np.int64)
    if cells.min() < 1 or cells.max() > MOST_CELLS or int(cells.prod(1).sum()) != len(voxels):
        raise ValueError("the shapes are not of the sizes that they say")
    wide = np.asarray(diameters, np.float64)
    if not (np.isfinite(wide).all() and (wide > 0).all() and (np.diff(wide) >= 0).all()):
        raise ValueError("the shapes are not in order of their diameter")
    ends = np.cumsum(cells.prod(1))
    return tuple(
        Shape(
            np.ascontiguousarray(voxels[end - int(size.prod()) : end].reshape(size)),
            float(diameter),
            int(rating),
        )
        for end, size, diameter, rating in zip(ends, cells, wide, spiculation, strict=True)
    )
