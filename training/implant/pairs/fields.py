"""How a chest moves from one exam to the next: displacement fields in millimetres.

    lungs [z, y, x] at FIELD_MM -> field [3, z, y, x]: fixed(x) = moving(x + field(x))

Rules.
1. A field is its values at the cell centres of a grid of FIELD_MM, linear between them and constant
   beyond: so it is exact at every point, whatever grid the images have. Components are z, y, x.
2. Breath moves the diaphragm most and the apex least, and what lies below the lungs with them; the
   wall beside the lungs stays where it is (Seppenwoolde et al., doi:10.1016/S0360-3016(02)02803-1,
   measured up to 25 mm near the diaphragm). The front of the chest rises a few millimetres.
3. Posture turns and shifts the whole, and bends it a little over 50 to 120 mm.
4. `bumped` is of another family, of which no lesson is made: who judges a network takes it.
5. No field folds: its Jacobian determinant stays above LEAST_JACOBIAN, or it is drawn again.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from training.errors import DataError
from training.read.volume import F32, F64, Bool

FIELD_MM = 8.0
BREATH_MM = 25.0
"""Most that the diaphragm moves."""
RISE_MM = 6.0
TURN_DEG = 5.0
SHIFT_MM = 10.0
BEND_MM = 5.0
"""Standard deviation of the bending, most."""
LEAST_JACOBIAN = 0.25
TRIES = 50


@dataclass(frozen=True)
class Frame:
    """Places in a chest, from its lungs at FIELD_MM: each [z, y, x] but `middle`."""

    height: F32
    """0 at the apex, 1 at the base, on to 1.3 below."""
    free: F32
    """1 in the lungs and below them, 0 from 24 mm beside them on."""
    front: F32
    """1 at the front of the lungs, 0 at the back."""
    at_mm: F32
    """[3, z, y, x]: mm from the middle of the lungs' box."""


def frame_of(lungs: Bool) -> Frame:
    """The frame of a chest; DataError where there are no lungs. Index 0 of z is the lowest."""
    if not lungs.any():
        raise DataError("a chest without lungs does not move")
    low, high = box_of(lungs)
    z, y, x = (np.arange(n, dtype=np.float32) for n in lungs.shape)
    reach = np.maximum(high - low, 1)
    height = np.clip((high[0] - z) / reach[0], 0, 1.3)[:, None, None]
    front = np.clip((high[1] - y) / reach[1], 0, 1)[None, :, None]
    from_above = np.logical_or.accumulate(lungs[::-1], 0)[::-1]
    beside = np.stack(
        [
            ndimage.distance_transform_edt(~plane) if plane.any() else np.full(plane.shape, 99.0)
            for plane in from_above
        ]
    )
    free = np.clip(1 - beside * FIELD_MM / 24.0, 0, 1)
    above = z > high[0]
    free[above] = free[~above][-1]
    free = ndimage.gaussian_filter(free, 1.0)
    middle = (low + high) / 2
    at = np.stack(np.meshgrid(z, y, x, indexing="ij")) - middle[:, None, None, None]
    shape = lungs.shape
    return Frame(
        np.broadcast_to(height, shape).astype(np.float32),
        free.astype(np.float32),
        np.broadcast_to(front, shape).astype(np.float32),
        (at * FIELD_MM).astype(np.float32),
    )


def box_of(mask: Bool) -> tuple[F64, F64]:
    """First and last voxel of a mask along each axis."""
    found = np.argwhere(mask)
    return found.min(0).astype(np.float64), found.max(0).astype(np.float64)


def moved(rng: np.random.Generator, frame: Frame) -> F32:
    """One field of rules 2, 3 and 5: [3, z, y, x] mm."""
    for _ in range(TRIES):
        field = _breath(rng, frame) + _posture(rng, frame) + _bent(rng, frame)
        if jacobian(field).min() > LEAST_JACOBIAN:
            return field.astype(np.float32)
    raise DataError(f"no field without a fold in {TRIES} tries")


def bumped(rng: np.random.Generator, frame: Frame) -> F32:
    """One field of rules 4 and 5: a stretch along z, and pushes of Gaussian form."""
    size = np.ptp(frame.at_mm.reshape(3, -1), 1)
    for _ in range(TRIES):
        field = np.zeros_like(frame.at_mm)
        top = frame.at_mm[0].max()
        field[0] = (top - frame.at_mm[0]) / size[0] * rng.uniform(-20, 20)
        for _ in range(int(rng.integers(8, 16))):
            centre = (rng.uniform(-0.4, 0.4, 3) * size)[:, None, None, None]
            wide = rng.uniform(30, 70)
            far2 = ((frame.at_mm - centre) ** 2).sum(0)
            push = rng.normal(0, 0.13 * wide, 3)[:, None, None, None]
            field = field + push * np.exp(-far2 / (2 * wide**2))
        if jacobian(field).min() > LEAST_JACOBIAN:
            return field.astype(np.float32)
    raise DataError(f"no field without a fold in {TRIES} tries")


def jacobian(field: F32) -> F32:
    """Determinant of d(x + field)/dx at the cell centres: how much larger a volume of fixed is in
    moving."""
    grad = [np.stack(np.gradient(component, FIELD_MM)) for component in field]
    for axis, row in enumerate(grad):
        row[axis] += 1
    a, b, c = grad
    return np.asarray((a * np.cross(b, c, axis=0)).sum(0), np.float32)


def _breath(rng: np.random.Generator, frame: Frame) -> F32:
    amount = rng.uniform(-BREATH_MM, BREATH_MM)
    power = rng.uniform(1.0, 2.2)
    back = 1 - rng.uniform(0, 0.4) * frame.front
    field = np.zeros_like(frame.at_mm)
    field[0] = amount * frame.height**power * back * frame.free
    rise = rng.uniform(-RISE_MM, RISE_MM) * np.sign(amount)
    field[1] = rise * frame.front * np.sin(np.pi * np.clip(frame.height, 0, 1)) ** 2
    return field


def _posture(rng: np.random.Generator, frame: Frame) -> F32:
    turn = np.radians(rng.uniform(-TURN_DEG, TURN_DEG, 3) * rng.random())
    a, b, c = turn
    cross = np.array([[0, -c, b], [c, 0, -a], [-b, a, 0]])
    shift = rng.normal(0, SHIFT_MM / 2, 3)
    turned = np.einsum("ij,jzyx->izyx", cross + cross @ cross / 2, frame.at_mm)
    return np.asarray(turned + shift[:, None, None, None], np.float32)


def _bent(rng: np.random.Generator, frame: Frame) -> F32:
    wide = rng.uniform(50, 120) / FIELD_MM / 2.5
    noise = rng.standard_normal(frame.at_mm.shape)
    smooth = np.stack([ndimage.gaussian_filter(n, wide, mode="reflect") for n in noise])
    each = smooth.std() or 1.0
    return np.asarray(smooth / each * BEND_MM * rng.random(), np.float32)
