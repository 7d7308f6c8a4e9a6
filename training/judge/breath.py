"""Two exams of one person, made of one CT, with the exact place of every point: for who judges how
one exam is laid over another.

    volume, lungs -> Breath -> the same chest in another breath, turned and moved -> scanned

Rules.
1. The motion is of another family than any that a network learns from: the base of the lungs goes
   down or up like a piston whose stroke varies over the diaphragm, the ribs widen, the whole
   chest turns and shifts, and waves of long period go through all of it. It is smooth: nothing
   slides.
2. It is written as a function of places, so its truth is exact; `to_prior` is of the moved exam
   (the current one) and gives the place in the CT as it is (the prior one).
3. Density follows volume: lung that is stretched is darker.
4. Beyond the CT its last voxels go on, and count as not covered. Air there would cut the body by a
   plane that is sharper than any edge a scanner shows, and `prior.spread` would take the moved exam
   for the sharper one.
5. A scan is a mean over slices, then a kernel, then noise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from training.errors import DataError
from training.read.volume import F32, F64, Bool, Volume

GRID_MM = (1.0, 1.4, 1.4)
AROUND_MM = 24.0
WAVES, WAVE_MM = 4, 2.5
FIELD = 5
LUNG_HU = -500.0
AIR_HU = -1000.0


@dataclass(frozen=True)
class Breath:
    """How one exam differs from the other."""

    low_lps: F64
    high_lps: F64
    """The box of the lungs of the CT as it is, LPS mm."""
    origin_lps: F64
    """Of the first voxel of the CT as it is, LPS mm."""
    stroke_mm: float
    """Of the diaphragm: above 0 the moved exam is the deeper breath."""
    degrees: tuple[float, float, float]
    """About x, y and z."""
    shift_mm: tuple[float, float, float]
    seed: int

    def to_prior(self, points: F64) -> F64:
        """Places [n, 3] of the moved exam -> places of the CT as it is, LPS mm."""
        middle = (self.low_lps + self.high_lps) / 2
        size = self.high_lps - self.low_lps
        flat = (points - middle - np.asarray(self.shift_mm)) @ self._turn().T
        x, y, z = (flat / size).T  # -0.5 to 0.5 over the lungs
        depth = np.clip(0.5 - z, 0, 1.15)
        piston = np.sin(np.pi / 2 * np.minimum(depth, 1)) ** 2
        uneven = 0.75 + 0.25 * np.cos(2 * np.pi * x) * (0.6 + 0.4 * np.sin(np.pi * y))
        out = flat.copy()
        out[:, 2] += self.stroke_mm * piston * uneven
        ribs = np.cos(np.pi * np.clip(z, -0.6, 0.6) * 0.8)
        out[:, 1] += 0.2 * self.stroke_mm * ribs * np.clip(0.5 - y, -0.2, 1.3)
        out[:, 0] -= 0.15 * self.stroke_mm * ribs * np.sin(np.pi * np.clip(x, -0.7, 0.7))
        out += self._waves(flat)
        return np.asarray(out + middle, np.float64)

    def to_current(self, points: F64) -> F64:
        """The inverse, by fixed point, to under 0.01 mm."""
        found = np.array(points, np.float64)
        for _ in range(100):
            off = self.to_prior(found) - points
            found -= 0.7 * off
            if np.abs(off).max(initial=0) < 0.01:
                break
        return found

    def stretch(self, points: F64) -> F64:
        """How many times larger the place is in the moved exam."""
        step = 1.0
        rows = [
            (self.to_prior(points + step * axis) - self.to_prior(points - step * axis)) / (2 * step)
            for axis in np.eye(3)
        ]
        return np.asarray(1 / np.linalg.det(np.stack(rows, -1)), np.float64)

    def _turn(self) -> F64:
        a, b, c = np.deg2rad(self.degrees)
        about_x = [[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]]
        about_y = [[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]]
        about_z = [[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]]
        return np.asarray(np.array(about_x) @ about_y @ about_z, np.float64)

    def _waves(self, at: F64) -> F64:
        random = np.random.default_rng(self.seed)
        found = np.zeros_like(at)
        for _ in range(WAVES):
            along = random.normal(size=3)
            along *= 2 * np.pi / random.uniform(110, 180) / np.linalg.norm(along)
            push = random.normal(size=3)
            push *= WAVE_MM / np.sqrt(WAVES) / np.linalg.norm(push) * 1.5
            found += np.sin(at @ along + random.uniform(0, 2 * np.pi))[:, None] * push
        return found


@dataclass(frozen=True)
class Exam:
    """A scan with its lungs."""

    volume: Volume
    lungs: Bool
    covered: Bool


def cropped(exam: Exam, around_mm: float) -> Exam:
    """The lungs and what is about them; DataError without lungs."""
    if not exam.lungs.any():
        raise DataError(f"{exam.volume.name}: no lungs are seen in it")
    box = []
    for axis, spacing in enumerate(exam.volume.spacing):
        hits = np.flatnonzero(exam.lungs.any(axis=tuple(a for a in range(3) if a != axis)))
        margin = round(around_mm / spacing)
        box.append(slice(max(int(hits[0]) - margin, 0), int(hits[-1]) + 1 + margin))
    part = tuple(box)
    x, y, z = (float(v) for v in exam.volume.lps([s.start for s in box]))
    volume = Volume(exam.volume.name, exam.volume.hu[part], exam.volume.spacing, (x, y, z))
    return Exam(volume, exam.lungs[part], exam.covered[part])


def lung_box(exam: Exam) -> tuple[F64, F64]:
    """Lowest and highest LPS mm of the lungs."""
    there = np.argwhere(exam.lungs)
    return exam.volume.lps(there.min(0)), exam.volume.lps(there.max(0))


def moved(exam: Exam, breath: Breath, grid_mm: tuple[float, float, float] = GRID_MM) -> Exam:
    """The chest in this breath, on this grid (mm, z y x) around the place where its lungs then
    lie."""
    corners = np.stack(np.meshgrid(*zip(*lung_box(exam), strict=True), indexing="ij"), -1)
    there = breath.to_current(corners.reshape(-1, 3))
    low, high = there.min(0) - AROUND_MM, there.max(0) + AROUND_MM
    shape = tuple(np.ceil((high - low)[::-1] / grid_mm).astype(int))
    x, y, z = (float(v) for v in low)
    grid = Volume(exam.volume.name, np.empty(shape, np.float32), grid_mm, (x, y, z))
    lungs, covered = np.empty(shape, np.bool_), np.empty(shape, np.bool_)
    field = _coarse(grid, breath)
    rows, columns = (_between(n, field.shape[axis]) for axis, n in ((2, shape[1]), (3, shape[2])))
    source = exam.lungs.astype(np.uint8)
    size = np.array(exam.volume.hu.shape, np.float32)[:, None, None]
    for k in range(shape[0]):
        low, part = divmod(k, FIELD)
        plane = field[:, low] + (part / FIELD) * (field[:, low + 1] - field[:, low])
        here = (rows @ plane @ columns.T).astype(np.float32)
        at = here[:3] / np.array(exam.volume.spacing, np.float32)[:, None, None]
        hu = ndimage.map_coordinates(exam.volume.hu, at, order=1, mode="nearest")
        lung = ndimage.map_coordinates(source, at, order=0) > 0
        air = lung & (hu < LUNG_HU)
        hu[air] = AIR_HU + (hu[air] - AIR_HU) / np.clip(here[3][air], 0.5, 2)
        grid.hu[k], lungs[k] = hu, lung
        covered[k] = np.all((at >= -0.5) & (at <= size - 0.5), axis=0)
    return Exam(grid, lungs, covered)


def _between(count: int, nodes: int) -> F32:
    """Matrix [count, nodes]: linear between nodes at every FIELD voxels, which is under 0.05 mm
    off."""
    away = np.abs(np.arange(count)[:, None] / FIELD - np.arange(nodes))
    return np.asarray(np.clip(1 - away, 0, None), np.float32)


def _coarse(grid: Volume, breath: Breath) -> F32:
    """[4, z, y, x] at every FIELD voxels of the grid: mm along z, y, x from the CT's first voxel to
    the place in it, and how many times larger it is in the moved exam."""
    counts = [-(-n // FIELD) + 1 for n in grid.hu.shape]
    index = np.stack(np.meshgrid(*(np.arange(n) for n in counts), indexing="ij"), -1) * FIELD
    points = grid.lps(index.reshape(-1, 3))
    there = (breath.to_prior(points) - breath.origin_lps)[:, ::-1]
    values = np.column_stack([there, breath.stretch(points)])
    return np.asarray(values.T.reshape(4, *counts), np.float32)


@dataclass(frozen=True)
class Scan:
    """How an exam was scanned."""

    slice_mm: float
    """Thickness and distance of its slices; not below those of the exam."""
    blur_mm: float = 0.0
    """Of the kernel in plane, SD; below 0 it enhances edges."""
    noise_hu: float = 0.0


def scanned(exam: Exam, scan: Scan, seed: int) -> Exam:
    """The exam as this scan shows it."""
    dz, dy, dx = exam.volume.spacing
    every = max(round(scan.slice_mm / dz), 1)
    count = exam.volume.hu.shape[0] // every
    whole = slice(0, count * every)
    hu = exam.volume.hu[whole].reshape(count, every, *exam.volume.hu.shape[1:]).mean(1)
    if scan.blur_mm:
        sigma = (0, abs(scan.blur_mm) / dy, abs(scan.blur_mm) / dx)
        soft = ndimage.gaussian_filter(hu, sigma)
        hu = soft if scan.blur_mm > 0 else 2 * hu - soft
    noise = np.random.default_rng(seed).normal(size=hu.shape).astype(np.float32)
    noise = ndimage.gaussian_filter(noise, (0, 0.6, 0.6))
    hu = np.clip(hu + noise * (scan.noise_hu / noise.std()), -1024, 3000).astype(np.float32)
    x, y, z = exam.volume.origin
    middle = slice(every // 2, count * every, every)
    volume = Volume(exam.volume.name, hu, (every * dz, dy, dx), (x, y, z + (every - 1) * dz / 2))
    return Exam(volume, exam.lungs[middle], exam.covered[middle])
