"""Smooth random fields and shapes in millimetres, and the threshold that gives a wanted volume.

Rules.
1. A disease is a field over a lung, larger where it is more likely; it is where the field is above
   a threshold. The threshold is a rank, so the volume is met to a voxel on every grid.
2. Features have sizes in mm, whatever the grid. Fields are sums of smooth bumps (cubic B-splines
   on a random lattice), which have no corners and no axes that an eye could find.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from training.errors import DataError
from training.implant.disease.chest import Lung
from training.read.volume import F32, F64, Bool

NEVER = np.float32(-1e6)
"""A field's value where no shape reaches."""
BATCH = 64
MARGIN_MM = 8.0


def cloud(
    rng: np.random.Generator, shape: Sequence[int], spacing: Sequence[float], size_mm: float
) -> F32:
    """A random field [z, y, x] of mean 0 and variance 1 with features of about `size_mm`."""
    weights = [_splines(rng, n, s, size_mm) for n, s in zip(shape, spacing, strict=True)]
    out = rng.standard_normal([w.shape[1] for w in weights], dtype=np.float32)
    for axis, w in enumerate(weights):
        out = np.moveaxis(np.tensordot(w, out, axes=(1, axis)), 0, axis)
    return np.ascontiguousarray(out / max(float(out.std()), 1e-6), np.float32)


def _splines(rng: np.random.Generator, count: int, spacing: float, size_mm: float) -> F32:
    """Weights [count, knots] of cubic B-splines `size_mm` apart, the lattice laid at random."""
    at = (np.arange(count) + 0.5) * spacing / size_mm + rng.random()
    knots = int(at[-1]) + 4
    far = np.abs(at[:, None] + 1 - np.arange(knots)[None, :])
    near = 2 / 3 - far**2 + far**3 / 2
    return np.asarray(np.where(far < 1, near, np.where(far < 2, (2 - far) ** 3 / 6, 0)), np.float32)


def require(free: Bool, count: int) -> None:
    """DataError where fewer than `count` voxels are free."""
    if (there := int(free.sum())) < count:
        raise DataError(f"a disease of {count} voxels has {there} to lie in; ask for less of it")


def threshold(field: F32, free: Bool, count: int) -> float:
    """The value that `count` voxels of `free` reach or exceed; DataError where there are fewer."""
    require(free, count)
    values = field[free]
    return float(np.partition(values, len(values) - count)[len(values) - count])


def ramp(field: F32, at: float, width: float, share: float = 0.5) -> F32:
    """From 0 to 1 over `width`, with `share` where the field is `at`."""
    return np.asarray(np.clip((field - at) / width + share, 0, 1), np.float32)


def radius_of(ml: float) -> float:
    """Radius in mm of the ball of so many ml."""
    return float((3000 * ml / (4 * np.pi)) ** (1 / 3))


def drawn(rng: np.random.Generator, weight: F32, count: int) -> F64:
    """`count` voxels [count, 3] drawn with chances proportional to `weight` [z, y, x]; DataError
    where that is 0 everywhere."""
    total = np.cumsum(weight.ravel(), dtype=np.float64)
    if not total[-1] > 0:
        raise DataError("no place of the lung is left where this disease lies; ask for less")
    found = np.searchsorted(total, rng.random(count) * total[-1], side="right")
    return np.stack(np.unravel_index(found, weight.shape), 1).astype(np.float64)


def places(rng: np.random.Generator, lung: Lung, weight: F32) -> Iterator[F64]:
    """Points in mm (z y x, from the box's edge) without end, each in a voxel drawn by `weight`."""
    while True:
        for at in drawn(rng, weight, BATCH):
            yield np.array(
                [float(axis.ravel()[int(i)]) for axis, i in zip(lung.zyx_mm, at, strict=True)]
            )


def distance(lung: Lung, centre: F64, stretch: Sequence[float] = (1.0, 1.0, 1.0)) -> F32:
    """Distance in mm [z, y, x] to a point, each axis divided by its `stretch`."""
    z, y, x = (
        (axis - np.float32(c)) / np.float32(s)
        for axis, c, s in zip(lung.zyx_mm, centre, stretch, strict=True)
    )
    return np.asarray(np.sqrt(z * z + y * y + x * x), np.float32)


@dataclass(frozen=True)
class Sizes:
    """Of many balls: least and most radius in mm, and the most that an axis is stretched."""

    least: float
    most: float
    oval: float


@dataclass(frozen=True)
class Ball:
    """One ball, a little longer along some axes: middle in mm (z y x) of the box, radius in mm."""

    centre: F64
    radius: float
    stretch: tuple[float, float, float] = (1.0, 1.0, 1.0)


@dataclass(frozen=True)
class Balls:
    """Many balls in a lung: for each voxel how deep it lies in the ball that it is deepest in (mm,
    negative outside), how deep in the next, and which ball that is (-1: in none's reach)."""

    deepest: F32
    second: F32
    owner: np.ndarray[tuple[int, ...], np.dtype[np.int16]]
    made: list[Ball]

    @staticmethod
    def filling(
        rng: np.random.Generator, lung: Lung, free: Bool, weight: F32, count: int, sizes: Sizes
    ) -> Balls:
        """As many balls as cover `count` voxels of `free`, their middles drawn by `weight`."""
        require(free, count)
        shape = lung.inside.shape
        none = np.full(shape, -1, np.int16)
        balls = Balls(np.full(shape, NEVER), np.full(shape, NEVER), none, [])
        points, covered = places(rng, lung, weight), 0
        while covered < count:
            radius = log_uniform(rng, sizes.least, sizes.most)
            covered += balls.add(lung, free, Ball(next(points), radius, stretched(rng, sizes.oval)))
        return balls

    def add(self, lung: Lung, free: Bool, ball: Ball) -> int:
        """Puts one more ball in, in place, seen up to MARGIN_MM outside of it; how many more
        voxels of `free` are covered."""
        reach = (ball.radius + MARGIN_MM) * max(ball.stretch)
        cut = []
        for axis, c in zip(lung.zyx_mm, ball.centre, strict=True):
            flat = axis.ravel()
            low, high = np.searchsorted(flat, [c - reach, c + reach])
            cut.append(slice(int(low), int(high)))
        part = (cut[0], cut[1], cut[2])
        z, y, x = (
            (axis.ravel()[p] - np.float32(c)) / np.float32(s)
            for axis, p, c, s in zip(lung.zyx_mm, part, ball.centre, ball.stretch, strict=True)
        )
        far = np.sqrt((z * z)[:, None, None] + (y * y)[None, :, None] + (x * x)[None, None, :])
        deep = np.float32(ball.radius) - far
        first, second, owner = self.deepest[part], self.second[part], self.owner[part]
        more = int((free[part] & (deep > 0) & (first <= 0)).sum())
        np.maximum(second, np.minimum(first, deep), out=second)
        np.copyto(owner, np.int16(len(self.made)), where=deep > first)
        np.maximum(first, deep, out=first)
        self.made.append(ball)
        return more


def stretched(rng: np.random.Generator, most: float) -> tuple[float, float, float]:
    """Factors for the axes of an oval, each up to `most` or down to its inverse."""
    z, y, x = (log_uniform(rng, 1 / most, most) for _ in range(3))
    return z, y, x


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """A number between two, each factor as likely."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))
