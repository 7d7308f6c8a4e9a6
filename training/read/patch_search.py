"""Finds axial patches in the slices of a CT: was a patch cut from it?

Rules.
1. Patches are in the scan's own pixels, HU -1000..400 as 0-255, as those of LUNA16 are; a scan
   may lie with its rows upside down against the CT, or mirrored, or both (`VIEWS`).
2. First both are shrunk by COARSE, where every place of every slice is compared with every patch;
   then the best BEST slices of each patch are searched pixel by pixel. Similarity is the normalised
   correlation, 1 for the same. What is flat resembles nothing.
3. A patch from another reconstruction, or stretched, is not found.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from training.read.volume import F32, Volume, window

COARSE = 4
BEST = 2
FLAT = 4.0
"""Grey levels: what has a smaller standard deviation is flat."""
SAME = 0.992
"""Least similarity of a patch with the place that it was cut from. Of the shared LUNA16 patches
those of LIDC-IDRI-0003 reach .994 and more in its CT; of 1,193 of other patients that were searched
in LIDC-IDRI-0021 the most alike, smooth ones at the pleura, reach .988 (2026-11-29)."""
VIEWS = {"": (1, 1), "upside down": (-1, 1), "mirrored": (1, -1), "turned by 180 degrees": (-1, -1)}
"""How the rows and columns of a patch are read."""


@dataclass(frozen=True)
class Place:
    """Where a patch was found."""

    patch: int
    slice: int  # from the feet
    similarity: float
    how: str  # one of VIEWS


def places_of(patches: npt.NDArray[np.uint8], volume: Volume, least: float = SAME) -> list[Place]:
    """The best place in a CT of each patch [n, y, x] that reaches `least`, in their order."""
    slices = np.asarray(window(volume.hu) * 255, np.float32)
    found: dict[int, Place] = {}
    for how, (down, right) in VIEWS.items():
        turned = np.ascontiguousarray(patches[:, ::down, ::right]).astype(np.float32)
        for index, numbers in enumerate(_likely(turned, slices)):
            if turned[index].std() < FLAT:
                continue
            for number in numbers:
                alike = _similarity(slices[number], turned[index], least)
                known = found.get(index)
                if alike >= least and (known is None or alike > known.similarity):
                    found[index] = Place(index, int(number), round(alike, 3), how)
    return [found[index] for index in sorted(found)]


def _likely(patches: F32, slices: F32) -> npt.NDArray[np.int64]:
    """The BEST slices of each patch [n, BEST] by what is seen at a COARSE-th of the pixels."""
    side = patches.shape[1] // COARSE
    size = side * COARSE
    small = np.stack([_shrunk(p[:size, :size]) for p in patches]).reshape(len(patches), -1)
    small -= small.mean(1, keepdims=True)
    small /= np.maximum(np.linalg.norm(small, axis=1, keepdims=True), 1e-6)
    best = np.empty((len(patches), len(slices)), np.float32)
    for number, plane in enumerate(slices):
        windows = np.lib.stride_tricks.sliding_window_view(_shrunk(plane), (side, side))
        flat = windows.reshape(-1, side * side)
        flat = flat - flat.mean(1, keepdims=True)
        length = np.linalg.norm(flat, axis=1)
        flat = flat[length > FLAT * side] / length[length > FLAT * side, None]
        best[:, number] = (small @ flat.T).max(1, initial=-1.0)
    return np.asarray(np.argsort(-best, axis=1)[:, :BEST], np.int64)


def _shrunk(plane: F32) -> F32:
    small = cv2.resize(
        plane, (plane.shape[1] // COARSE, plane.shape[0] // COARSE), interpolation=cv2.INTER_AREA
    )
    return np.asarray(small, np.float32)


def _similarity(plane: F32, patch: F32, least: float) -> float:
    """The highest correlation of a patch with a place of a slice that is not flat; of which one is
    looked at where `least` is reached, since only flat ones give 1 by chance."""
    alike = cv2.matchTemplate(plane, patch, cv2.TM_CCOEFF_NORMED)
    if alike.max() < least:
        return float(alike.max())
    box = tuple(reversed(patch.shape))
    mean, square = (
        cv2.boxFilter(p, cv2.CV_64F, box, anchor=(0, 0), borderType=cv2.BORDER_CONSTANT)
        for p in (plane, plane * plane)
    )
    rows, columns = alike.shape
    spread = np.sqrt(np.maximum(square - mean * mean, 0))[:rows, :columns]
    return float(np.where(spread >= FLAT, alike, -1).max())
