"""Two exams of one chest whose field is known exactly.

    chest -> turned, scaled, mirrored -> moving; the same through a field -> fixed; each scanned

Rules.
1. `fixed` is today's exam, `moving` the earlier one: fixed(x) = moving(x + field(x)), in mm from
   the outer edge of the grid, z y x. Both are drawn from the CT once, so neither is smoother.
2. A breath that widens the lungs thins them: density above air is multiplied by the Jacobian.
3. Each exam is scanned anew: thickness of slices, kernel, noise, contrast, cover (`scans`).
4. Lesions are drawn after the field, so that they keep their form: equal, grown, new or gone.
5. What no image shows is AIR_HU and outside of `cover`. Index 0 of z is the lowest.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from appliance.phantom.chest import chest as phantom_chest
from training.errors import DataError
from training.implant.pairs.fields import FIELD_MM, Frame, box_of, frame_of, jacobian
from training.implant.pairs.scans import scanned
from training.read.files import whole
from training.read.folders import shared_folder, work_folder
from training.read.lung_truth import lung_truth
from training.read.shared_series import TRAINING_SERIES, host_lungs
from training.read.volume import AIR_HU, F32, F64, Bool, resample

PHANTOM = "phantom-"
ROOM_MM = 48.0
"""Around the lungs, so that no field reaches outside."""
State = Literal["equal", "grown", "new", "gone"]
STATES: tuple[State, ...] = ("equal", "grown", "new", "gone")
MakeField = Callable[[np.random.Generator, Frame], F32]


@dataclass(frozen=True)
class Chest:
    """One CT around its lungs, on an isotropic grid."""

    name: str
    hu: F32  # [z, y, x]
    lungs: Bool
    grid_mm: float


@dataclass(frozen=True)
class Lesion:
    """A ball with bumps in one exam, in both, or of two sizes."""

    state: State
    center_mm: tuple[float, float, float]  # in fixed, mm from the outer edge, z y x
    prior_center_mm: tuple[float, float, float]  # in moving
    diameter_mm: float  # in fixed; of what is gone, in moving
    prior_diameter_mm: float
    hu: float


@dataclass(frozen=True)
class Pair:
    """Two exams on one canvas, and what is true of them."""

    name: str
    grid_mm: float
    fixed: F32  # HU [z, y, x]
    moving: F32
    fixed_lungs: Bool
    moving_lungs: Bool
    fixed_cover: Bool
    moving_cover: Bool
    field: F32  # [3, z, y, x] mm at FIELD_MM (fields, rule 1)
    points: F64  # [n, 2, 3]: in the lungs of fixed, and the same in moving; mm, z y x
    lesions: tuple[Lesion, ...]


def shared_chest(shared: Path, name: str, cache: Path, grid_mm: float) -> Chest:
    """A training CT around its lungs (kept in `cache`)."""
    kept = cache / f"{Path(name).name}-chest-{grid_mm:g}.npz"
    if kept.exists():
        with np.load(kept) as file:
            return Chest(name, file["hu"].astype(np.float32), file["lungs"] > 0, grid_mm)
    volume, _, truth = host_lungs(shared, name, cache)
    hu = resample(volume.hu, volume.spacing, [grid_mm] * 3)
    chest = _around(name, hu, resample(truth.astype(np.float32), [1.5] * 3, [grid_mm] * 3), grid_mm)
    with whole(kept) as file:
        np.savez_compressed(file, hu=chest.hu.astype(np.int16), lungs=chest.lungs)
    return chest


def made_up_chest(seed: int, grid_mm: float) -> Chest:
    """Our phantom around its lungs."""
    made = phantom_chest(seed, spacing_mm=(2.0, 2.0, 2.0), noise_hu=20.0)
    hu = np.asarray(made.hu, np.float32)
    lungs = resample(lung_truth(hu, 2.0).astype(np.float32), [2.0] * 3, [grid_mm] * 3)
    return _around(f"phantom-{seed}", resample(hu, [2.0] * 3, [grid_mm] * 3), lungs, grid_mm)


def chest_of(host: str, grid_mm: float) -> Chest:
    """A host by its name: a CT of the shared data, or PHANTOM and a seed. DataError for another."""
    seed = host.removeprefix(PHANTOM)
    if host.startswith(PHANTOM) and seed.isdecimal():
        return made_up_chest(int(seed), grid_mm)
    if host not in TRAINING_SERIES:
        known = ", ".join(TRAINING_SERIES)
        raise DataError(f"{host} is no host: name some of {known}, or {PHANTOM}N")
    return shared_chest(shared_folder(), host, work_folder("cache"), grid_mm)


def _around(name: str, hu: F32, share: F32, grid_mm: float) -> Chest:
    lungs = np.zeros(hu.shape, bool)
    part = tuple(slice(0, min(a, b)) for a, b in zip(hu.shape, share.shape, strict=True))
    lungs[part] = share[part] >= 0.5
    if not lungs.any():
        raise DataError(f"{name}: no lungs were found in it")
    low, high = box_of(lungs)
    room = ROOM_MM / grid_mm
    cut = tuple(
        slice(int(max(a - room, 0)), int(b + room) + 1) for a, b in zip(low, high, strict=True)
    )
    return Chest(name, np.ascontiguousarray(hu[cut]), np.ascontiguousarray(lungs[cut]), grid_mm)


def drawn(
    rng: np.random.Generator, chest: Chest, make: MakeField, points: int = 300, lesions: int = 8
) -> Pair:
    """One pair of a chest, with the field that `make` draws."""
    grid = chest.grid_mm
    low, high = box_of(chest.lungs)
    stretch = rng.uniform(0.88, 1.12, 3)
    mirror = np.where(rng.random(3) < (0, 0, 0.5), -1.0, 1.0)
    turn = np.radians(rng.uniform(-4, 4))
    size = (high - low + 1) * grid * stretch + 2 * ROOM_MM
    cells = np.ceil(size / FIELD_MM).astype(int)
    per = round(FIELD_MM / grid)
    at = _centres(cells * per, grid)
    middle = (cells * FIELD_MM / 2)[:, None, None, None]

    def source(places: F32) -> F32:
        """Canvas mm -> voxels of the chest."""
        off = places - middle
        z, y, x = off
        c, s = np.cos(turn), np.sin(turn)
        back = np.stack([z, c * y + s * x, -s * y + c * x])
        back = back * (mirror / stretch)[:, None, None, None]
        return np.asarray(back / grid + ((low + high) / 2)[:, None, None, None], np.float32)

    shown = np.stack([chest.hu - AIR_HU, chest.lungs.astype(np.float32), np.ones_like(chest.hu)])
    moving, share, covered = sampled(shown, source(at))
    moving_lungs, moving_cover = share >= 0.5, covered > 0.99
    cell_lungs = mean_cells(moving_lungs.astype(np.float32), per) >= 0.5
    field = make(rng, frame_of(cell_lungs))
    fixed, share, covered = sampled(shown, source(at + finer(field, per)))
    thinned = np.clip(finer(jacobian(field)[None], per)[0], 0.5, 2.0)
    fixed = fixed * (1 + np.minimum(share, fixed < 900) * (thinned - 1))
    fixed_lungs, fixed_cover = share >= 0.5, covered > 0.99
    images = [moving + np.float32(AIR_HU), fixed + np.float32(AIR_HU)]
    inside = np.argwhere(fixed_lungs)
    if not len(inside):
        raise DataError(f"{chest.name}: the lungs left the canvas")
    placed = _lesions(rng, (inside, grid), field, lesions)
    for one in placed:
        _paint(images[1], grid, one.center_mm, 0 if one.state == "gone" else one.diameter_mm, one)
        old = 0.0 if one.state == "new" else one.prior_diameter_mm
        _paint(images[0], grid, one.prior_center_mm, old, one)
    past, now = (
        scanned(rng, hu, cover, lungs, grid)
        for hu, cover, lungs in (
            (images[0], moving_cover, moving_lungs),
            (images[1], fixed_cover, fixed_lungs),
        )
    )
    fixed_lungs, moving_lungs = fixed_lungs & now.cover, moving_lungs & past.cover
    chosen = np.argwhere(fixed_lungs)
    chosen = chosen[rng.integers(len(chosen), size=points)] if len(chosen) else chosen
    here: F64 = (chosen.astype(np.float64) + 0.5) * grid
    return Pair(
        chest.name, grid, now.hu, past.hu, fixed_lungs, moving_lungs, now.cover, past.cover,
        field, np.stack([here, here + at_points(field, here)], 1), placed,
    )  # fmt: skip


def at_points(field: F32, points_mm: F64) -> F64:
    """Values [n, d] of a field [d, z, y, x] at points [n, 3] in mm from the outer edge."""
    if not len(points_mm):
        return np.zeros((0, len(field)))
    voxels = (points_mm / FIELD_MM - 0.5).astype(np.float32).T[:, :, None, None]
    many = torch.from_numpy(np.ascontiguousarray(field, np.float32))[None]
    got = functional.grid_sample(
        many, _grid(voxels, field.shape[1:]), padding_mode="border", align_corners=False
    )
    return np.asarray(got[0, :, :, 0, 0].numpy().T, np.float64)


def finer(field: F32, per: int) -> F32:
    """A field [d, z, y, x] on a grid that is `per` times finer (fields, rule 1)."""
    many = torch.from_numpy(np.ascontiguousarray(field))[None]
    return functional.interpolate(many, scale_factor=float(per), mode="trilinear")[0].numpy()


def mean_cells(values: F32, per: int) -> F32:
    """[z, y, x] -> means of `per` x `per` x `per` voxels; sizes are multiples of it."""
    z, y, x = (n // per for n in values.shape)
    cells = values.reshape(z, per, y, per, x, per).mean((1, 3, 5))
    return np.asarray(cells, np.float32)


def _centres(shape: F64, grid: float) -> F32:
    axes = [(np.arange(int(n)) + 0.5) * grid for n in shape]
    return np.stack(np.meshgrid(*axes, indexing="ij")).astype(np.float32)


def _grid(voxels: F32, shape: tuple[int, ...]) -> torch.Tensor:
    """Voxels [3, ...] (z y x) as grid_sample takes them."""
    size = np.array(shape, np.float32)[:, None, None, None]
    unit = (2 * voxels + 1) / size - 1
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(unit[::-1], 0, -1)))[None]


def sampled(values: F32, voxels: F32) -> F32:
    """Linear values of [n, ...] at voxels [3, z, y, x] -> [n, z, y, x]; 0 outside."""
    many = torch.from_numpy(np.ascontiguousarray(values))[None]
    got = functional.grid_sample(many, _grid(voxels, values.shape[1:]), align_corners=False)
    return got[0].numpy()


def _lesions(
    rng: np.random.Generator, lungs: tuple[npt.NDArray[np.intp], float], field: F32, count: int
) -> tuple[Lesion, ...]:
    """Lesions of 5 to 30 mm in the lungs of fixed, none nearer than 8 mm to another."""
    inside, grid = lungs
    done: list[Lesion] = []
    for _ in range(count * 4):
        if len(done) == count:
            break
        at: F64 = (inside[int(rng.integers(len(inside)))] + rng.random(3)) * grid
        now = float(np.exp(rng.uniform(np.log(5), np.log(30))))
        if any(
            np.linalg.norm(at - np.array(o.center_mm))
            < 8 + (now + max(o.diameter_mm, o.prior_diameter_mm)) / 2
            for o in done
        ):
            continue
        state = STATES[int(rng.integers(len(STATES)))]
        before = now * float(rng.uniform(0.5, 0.85)) if state == "grown" else now
        there = at + at_points(field, at[None])[0]
        z, y, x = (float(v) for v in at)
        a, b, c = (float(v) for v in there)
        hu = float(rng.uniform(-550, -200) if rng.random() < 0.25 else rng.uniform(-50, 80))
        done.append(Lesion(state, (z, y, x), (a, b, c), now, before, hu))
    return tuple(done)


def _paint(
    hu: F32, grid: float, center_mm: tuple[float, float, float], diameter_mm: float, one: Lesion
) -> None:
    """Puts a lesion into an image, in place; its edge is one voxel soft."""
    radius = diameter_mm / 2
    if radius <= 0:
        return
    centre = np.array(center_mm)
    low = np.maximum(np.floor((centre - radius * 1.3) / grid).astype(int), 0)
    high = np.minimum(np.ceil((centre + radius * 1.3) / grid).astype(int) + 1, hu.shape)
    if (high <= low).any():
        return
    part = tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    axes = [(np.arange(a, b) + 0.5) * grid - c for a, b, c in zip(low, high, centre, strict=True)]
    z, y, x = np.meshgrid(*axes, indexing="ij")
    far = np.sqrt(z**2 + y**2 + x**2)
    bumps = 1 + 0.12 * np.sin(3 * np.arctan2(y, x) + one.hu) * np.cos(2 * np.arctan2(z, x))
    filled = np.clip((radius * bumps - far) / grid + 0.5, 0, 1)
    hu[part] = np.maximum(hu[part], hu[part] * (1 - filled) + one.hu * filled)
