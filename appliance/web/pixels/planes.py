"""A cube of a place in an exam -> its three planes through the middle, as one picture.

    npz of cubes (store/kept.cubes) -> axial | coronal | sagittal, 8 bits of grey

Rules
- Each plane is shown as radiologists look at it: the patient's right is left, front and head are
  up; sagittal, the front is left. Axes of the cube that run the other way are turned round by its
  grid; a tilt is not straightened.
- A window of the lungs. Both exams of a pair have the same one, so that grey can be compared.
- What is no such file, or has not this pair, is a ValueError in words of ours.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from typing import Final

import numpy as np
from numpy.typing import NDArray

from appliance.web.pixels.asked import When

U8 = NDArray[np.uint8]
F64 = NDArray[np.float64]
CUBE: Final = 48
"""Voxels along each side, as in prior/entry.py."""
GAP: Final = 2
"""Black columns between planes."""
CENTER_HU, WIDTH_HU = -600, 1500
_ROWS: Final = (2, 1, 0)
"""Of index z, y, x: the row of `to_lps` that it follows: to head, back, left."""


class NoCubes(ValueError):
    """There is nothing to show of this pair."""


def of_pair(data: bytes, pair: int, when: When) -> U8:
    """[CUBE, 3 CUBE + 2 GAP] of the cube of this pair in one exam. NoCubes."""
    name = f"{when}_{pair}"
    damaged = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error)
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            hu, grid = arrays[name], arrays[f"{name}_lps"]
    except damaged as e:
        raise NoCubes("there is no cube of this pair") from e
    if hu.shape != (CUBE,) * 3 or hu.dtype != np.int16 or grid.shape != (4, 4):
        raise NoCubes("the cube of this pair is damaged")
    return _grey(_three(_upright(hu, grid)))


def like() -> bytes:
    """A file of one empty cube: whoever has read it has loaded all that reads one."""
    data = io.BytesIO()
    empty = np.zeros((CUBE,) * 3, np.int16)
    np.savez_compressed(data, now_0=empty, now_0_lps=np.eye(4))
    return data.getvalue()


def _upright(hu: NDArray[np.int16], to_lps: F64) -> NDArray[np.int16]:
    """With indices that rise to the head, to the back and to the left."""
    turned = tuple(axis for axis, row in enumerate(_ROWS) if to_lps[row, axis] < 0)
    return np.flip(hu, turned)


def _three(hu: NDArray[np.int16]) -> NDArray[np.int16]:
    middle = CUBE // 2
    black = np.full((CUBE, GAP), CENTER_HU - WIDTH_HU // 2, np.int16)
    axial, coronal, sagittal = hu[middle], hu[::-1, middle], hu[::-1, :, middle]
    return np.hstack([axial, black, coronal, black, sagittal])


def _grey(hu: NDArray[np.int16]) -> U8:
    share = (hu.astype(np.float32) - (CENTER_HU - WIDTH_HU / 2)) / WIDTH_HU
    return np.rint(np.clip(share, 0, 1) * 255).astype(np.uint8)
