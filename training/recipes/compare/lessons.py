"""The lessons of the network of displacements: pairs drawn once, kept at 8 mm, and varied.

Rules. A pool is fixed by its hosts, seed and count; it lies in the work folder, one file a lesson,
and is made on where an earlier run stopped. A lesson that is drawn from it is mirrored and its
intensities are varied anew, so that a pool of hundreds serves thousands of steps.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from training.implant.pairs.fields import moved
from training.implant.pairs.pair import Chest, drawn, mean_cells
from training.read.files import whole
from training.read.volume import F32
from training.recipes.compare.seen import MULTIPLE, Seen, seen

FAR_MM = 30.0
"""A pair whose covers differ so much that its boxes mislead by more than this in the mean is left
out: it costs the loss more than all others, and nothing near leads back."""
GRID_MM = 4.0
"""On which lessons are drawn: half of what the network sees."""
Lesson = tuple[F32, F32, F32, F32]
"""fixed, moving, lungs [z, y, x]; truth [3, z, y, x] mm."""


def pool(
    folder: Path, hosts: Sequence[str], seed: int, count: int, chest: Callable[[str], Chest]
) -> list[Path]:
    """The files of a pool, those that are missing made now. `chest`: a host by its name."""
    name = hashlib.sha256("\0".join([*hosts, str(seed)]).encode()).hexdigest()[:12]
    place = folder / f"pairs-{name}"
    place.mkdir(parents=True, exist_ok=True)
    files = [place / f"{i:05d}.npz" for i in range(count)]
    chests: dict[str, Chest] = {}
    for i, path in enumerate(files):
        if path.exists():
            continue
        host = hosts[i % len(hosts)]
        if host not in chests:
            chests[host] = chest(host)
        rng = np.random.default_rng([seed, i])
        one = seen(drawn(rng, chests[host], moved), rng)
        with whole(path) as file:
            np.savez(
                file,
                images=np.stack([one.fixed, one.moving, one.lungs]).astype(np.float16),
                truth=one.truth.astype(np.float16),
            )
        if (i + 1) % 50 == 0:
            print(f"pair {i + 1} of {count}", flush=True)
    return [path for path in files if _far_mm(read(path)) <= FAR_MM]


def _far_mm(lesson: Lesson) -> float:
    """Mean length of the field in the lungs."""
    _, _, lungs, truth = lesson
    return float((np.linalg.norm(truth, axis=0) * lungs).sum() / max(float(lungs.sum()), 1.0))


def read(path: Path) -> Lesson:
    """One lesson of a pool."""
    with np.load(path) as file:
        fixed, moving, lungs = file["images"].astype(np.float32)
        return fixed, moving, lungs, file["truth"].astype(np.float32)


def of(one: Seen) -> Lesson:
    """The arrays of what was seen."""
    return one.fixed, one.moving, one.lungs, one.truth


def varied(rng: np.random.Generator, lesson: Lesson) -> Lesson:
    """Mirrored along x or not; each image brighter or darker, noisier."""
    fixed, moving, lungs, truth = lesson
    if rng.random() < 0.5:
        fixed, moving, lungs = (one[:, :, ::-1] for one in (fixed, moving, lungs))
        truth = truth[..., ::-1] * np.array([1, 1, -1], np.float32)[:, None, None, None]
    images = []
    for image in (fixed, moving):
        gain, power = rng.uniform(0.9, 1.1), np.exp(rng.normal(0, 0.08))
        noise = rng.standard_normal(image.shape, np.float32) * np.float32(rng.uniform(0, 0.012))
        images.append(np.clip(gain * image**power + noise * (image > 0), 0, 1).astype(np.float32))
    return images[0], images[1], lungs, truth


def halved(lesson: Lesson) -> Lesson:
    """The same in cells of twice the size, its field too in cells: an eighth of the work, by which
    a network learns to match before it learns to be exact."""
    fixed, moving, lungs, truth = lesson
    coarse = [mean_cells(np.ascontiguousarray(one), 2) for one in (fixed, moving, lungs)]
    field = np.stack([mean_cells(np.ascontiguousarray(one), 2) for one in truth]) / 2
    return coarse[0], coarse[1], coarse[2], field.astype(np.float32)


def batch_of(lessons: Sequence[Lesson]) -> tuple[Tensor, ...]:
    """prior, current, lungs [B,1,Z,Y,X] and truth [B,3,Z,Y,X], filled up with air to one size."""
    size = np.max([one[0].shape for one in lessons], axis=0)
    size = np.ceil(size / MULTIPLE) * MULTIPLE

    def filled(array: F32) -> F32:
        ends = [(0, int(n - m)) for n, m in zip(size, array.shape[-3:], strict=True)]
        return np.pad(array, [(0, 0)] * (array.ndim - 3) + ends)

    fixed, moving, lungs = (
        torch.from_numpy(np.stack([filled(one[i]) for one in lessons]))[:, None] for i in range(3)
    )
    truth = torch.from_numpy(np.stack([filled(one[3]) for one in lessons]))
    return moving, fixed, lungs, truth
