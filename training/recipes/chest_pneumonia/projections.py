"""CTs as radiographs from every side: what stands in for views that PneumoniaMNIST does not have.

    CT -> Body (3 mm) -> projection at an angle -> framed as a chest -> uint8 [28, 28], bones bright

Rules.
1. A parallel projection of attenuation, as `appliance/phantom/radiograph.py` draws it: sums of
   HU + 1000 along a ray, logarithmic, so bones are bright. No scatter, no magnification.
2. Angles are degrees about the body's long axis: 0 is frontal, 90 lateral. Behind the patient is
   the mirror image of before.
3. A chest is framed by its lungs as they show at that angle, with what `FRAME` draws beside them,
   and the middle square of the short edge is averaged to 28 px, as `preprocess/projection.py` does.
   So no view can be told from another by how it is framed.
4. The abdomen is what lies below the lungs: from where they are at most `LITTLE` of their widest
   slice, or lower. A chest CT has a few centimetres of it. So half of the pictures show these as
   they are, cut narrow, and half the whole width of the body, drawn out along it.
5. A diseased chest is a chest: `filled` takes the air out of the lungs, as large pneumonias do, to
   their very rim: of the lower zones or of the whole height, on one side or on both, up to FULL.
   Of two whole lungs SOME_AIR stays, or nothing would tell them from an abdomen.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch
from torch.nn import functional

from appliance.preprocess.projection import Field, square
from training.errors import DataError
from training.read.shared_series import host_lungs
from training.read.volume import F32, resample
from training.recipes.chest_pneumonia.pneumonia_mnist import SIZE, U8

GRID_MM = 3.0
FRAME = {"top": (0.0, 50.0), "bottom": (-10.0, 70.0), "side": (0.0, 45.0)}
"""Millimetres beyond the lungs."""
LITTLE = 0.25
LEAST_MM = 42.0
"""Of the height of an abdomen that is shown."""
DRAWN_OUT = 0.5
"""Share of abdomens that are (rule 4)."""
STRETCH = (0.5, 99.5)
"""Percentiles of the frame that become black and white."""
FULL = 1.05
"""Density of consolidated lung, as `Body.dense` has it: a little above water."""
SOME_AIR = (0.3, 0.8)
"""How much of two whole lungs is filled."""


@dataclass(frozen=True)
class Body:
    """A CT on a grid of GRID_MM."""

    name: str
    dense: F32  # [z, y, x], head last; (HU + 1000) / 1000, 0 or more
    lungs: F32  # the same grid, 0 to 1


@dataclass(frozen=True)
class Projected:
    """A body at one angle, head first."""

    picture: F32  # [rows, columns]
    lungs: F32  # how deep they are there, in voxels


def body(shared: Path, name: str, cache: Path) -> Body:
    """A training CT; DataError for any other."""
    volume, fine, lungs = host_lungs(shared, name, cache)
    dense = np.maximum(resample(fine, [1.5] * 3, [GRID_MM] * 3) + 1000, 0) / 1000
    inside = resample(lungs.astype(np.float32), [1.5] * 3, [GRID_MM] * 3)
    if not inside.any():
        raise DataError(f"{volume.name}: no lungs in it")
    return Body(Path(name).name, np.asarray(dense, np.float32), inside)


def filled(rng: np.random.Generator, one: Body) -> Body:
    """The body with consolidated lungs (rule 5)."""
    rows = np.flatnonzero(one.lungs.any((1, 2)))
    x = np.arange(one.lungs.shape[2])
    middle = float((one.lungs.sum((0, 1)) * x).sum() / one.lungs.sum())
    share = np.zeros_like(one.lungs)
    sides = [x < middle, x >= middle]
    both, whole = rng.random(2) < 0.5
    for side in sides if both else [sides[rng.integers(2)]]:
        top = rows[-1] + 6 if whole else rows[0] + rng.uniform(0.3, 0.85) * len(rows)
        fades = np.clip((top - np.arange(len(one.lungs))) / 5, 0, 1)
        much = rng.uniform(*SOME_AIR) if both and whole else rng.uniform(0.5, 1.0)
        share += much * fades[:, None, None] * side
    rim = np.minimum(2 * one.lungs, 1)
    more = np.maximum(FULL - one.dense, 0) * rim * share
    return replace(one, dense=np.asarray(one.dense + more, np.float32))


def projected(one: Body, degrees: float) -> Projected:
    """The body from this angle (rules 1 and 2)."""
    angle = np.deg2rad(degrees)
    c, s = float(np.cos(angle)), float(np.sin(angle))
    edge = int(np.ceil(np.hypot(*one.dense.shape[1:])))
    y, x = ((n - edge) // 2 for n in one.dense.shape[1:])
    wide = [
        np.pad(v, ((0, 0), _around(-y, v.shape[1], edge), _around(-x, v.shape[2], edge)))
        for v in (one.dense, one.lungs)
    ]
    turn = torch.tensor([[[c, -s, 0.0], [s, c, 0.0]]])
    both = torch.from_numpy(np.stack(wide).reshape(1, -1, edge, edge))
    grid = functional.affine_grid(turn, list(both.shape), align_corners=False)
    turned = functional.grid_sample(both, grid, align_corners=False).numpy()
    through = turned.reshape(2, -1, edge, edge).sum(axis=2)[:, ::-1]
    return Projected(np.ascontiguousarray(through[0]), np.ascontiguousarray(through[1]))


def _around(before: int, size: int, edge: int) -> tuple[int, int]:
    return before, edge - size - before


def chest(rng: np.random.Generator, seen: Projected) -> U8:
    """It, framed as a chest (rule 3)."""
    top, bottom, left, right = lungs_of(seen)
    rows, columns = seen.picture.shape
    far = {name: rng.uniform(*ends) / GRID_MM for name, ends in FRAME.items()}
    side = rng.uniform(*FRAME["side"]) / GRID_MM
    return framed(
        seen.picture,
        (
            max(0, round(top - far["top"])),
            min(rows, round(bottom + far["bottom"])),
            max(0, round(left - far["side"])),
            min(columns, round(right + side)),
        ),
    )


def abdomen(rng: np.random.Generator, seen: Projected) -> U8 | None:
    """What lies below the lungs (rule 4); None where the CT shows too little of it."""
    rows = seen.lungs.sum(axis=1)
    last = int(np.flatnonzero(rows > LITTLE * rows.max())[-1]) + 1
    room = (len(rows) - last) * GRID_MM - LEAST_MM
    if room < 0:
        return None
    top = last + int(rng.uniform(0, room / 2) / GRID_MM)
    height = int(rng.uniform(LEAST_MM / GRID_MM, len(rows) - top + 0.999))
    _, _, left, right = lungs_of(seen)
    if rng.random() < DRAWN_OUT:
        whole = seen.picture[top : top + height]
        edge = round((right - left) * rng.uniform(0.9, 1.3))
        whole = cv2.resize(whole, (whole.shape[1], edge), interpolation=cv2.INTER_LINEAR)
        return framed(whole, _across(0, edge, (left + right) / 2, edge, whole.shape[1]))
    middle = (left + right) / 2 + rng.uniform(-20, 20) / GRID_MM
    width = height * rng.uniform(1.0, 1.6)
    return framed(seen.picture, _across(top, top + height, middle, width, seen.picture.shape[1]))


def _across(top: int, bottom: int, middle: float, width: float, columns: int) -> Field:
    return top, bottom, max(0, round(middle - width / 2)), min(columns, round(middle + width / 2))


def part(rng: np.random.Generator, seen: Projected) -> U8:
    """A third to half of a chest's edge."""
    top, bottom, left, right = lungs_of(seen)
    edge = round(min(bottom - top, right - left) * rng.uniform(0.3, 0.5))
    y = int(rng.integers(top, max(top + 1, bottom - edge)))
    x = int(rng.integers(left, max(left + 1, right - edge)))
    return framed(seen.picture, (y, y + edge, x, x + edge))


def lungs_of(seen: Projected) -> Field:
    """Where the lungs are: rows and columns, half-open."""
    deep = seen.lungs > 1
    rows, columns = np.flatnonzero(deep.any(1)), np.flatnonzero(deep.any(0))
    return int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1


def framed(picture: F32, field: Field) -> U8:
    """The middle square of a field, stretched by STRETCH."""
    top, bottom, left, right = field
    edge = min(bottom - top, right - left)
    if edge < SIZE:  # fewer voxels than pixels
        picture = cv2.resize(picture, None, fx=4, fy=4, interpolation=cv2.INTER_LINEAR)
        field = (4 * top, 4 * bottom, 4 * left, 4 * right)
    top, bottom, left, right = field
    low, high = np.percentile(picture[top:bottom, left:right], STRETCH)
    grey = np.clip((picture - low) / max(float(high - low), 1e-6), 0, 1)
    seen = square(np.asarray(grey, np.float32), field, 1.0, SIZE).values[0, 0]
    return np.asarray(np.rint(seen * 255), np.uint8)
