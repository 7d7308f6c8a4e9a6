"""Trains the lung mask at 3 mm.

    python -m training.recipes.lung_nodule.segment [--steps 1600] [--hosts R01-001,A0001] ...

Rules. Truth comes from the unaltered CT; disease is painted into the input only (`sick_lungs`), so
the mask learns to include it. What looks like tissue and is lung weighs DENSE: it is one voxel in
a hundred, and masks without it left out 60 to 90 % of a consolidated lobe (2026-11-29, R01-001).
Half the lesson is what is no lung: outside air, bowel gas, trachea, slices without a lung, bodies
without lungs. Intensities are varied far beyond the hosts (classes repainted at random), because a
few scanners say little about the next one. Where lungs are diseased: `disease`.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from training.errors import DataError, command
from training.implant.disease.chest import Chest, chest_of
from training.learn.knobs import knobs_from_command_line
from training.learn.loop import Job, Schedule, fit
from training.learn.losses import soft_dice, weighted_bce
from training.learn.steps import seed_all
from training.networks import LungNet, parameter_count
from training.read.folders import shared_folder, work_folder
from training.read.shared_series import NODULE_SERIES, host_lungs, nodule_hosts
from training.read.volume import AIR_HU, F32, resample, window
from training.recipes.lung_nodule import sick_lungs
from training.recipes.lung_nodule.altered import (
    VARIED,
    bloat,
    made_up_body,
    repaint,
    scanned,
    with_masses,
    without_lungs,
)
from training.recipes.lung_nodule.turned import cut, drawn_turn
from training.ship import learned

RECIPE = "lung_nodule_segment"
GRID_MM = 3.0
DENSE = 6.0
DENSE_FROM = 0.5
"""Of the window: -300 HU."""


@dataclass(frozen=True)
class Knobs:
    """Everything that may be varied, with its unit."""

    name: str = "segment"  # folder of checkpoint and log under the training work folder
    seed: int = 2
    threads: int = 1
    hosts: str = ",".join(NODULE_SERIES)
    steps: int = 1500
    batch: int = 2
    depth: int = 64  # voxels of 3 mm
    width: int = 112  # voxels of 3 mm
    rate: float = 3e-3  # AdamW, peak of the cosine
    warmup: int = 50  # steps
    decay: float = 0.01  # AdamW weight decay
    ema: float = 0.99
    repaint: float = 0.4  # share of samples whose tissue classes get random values
    disease: float = 0.6  # share of samples with painted disease
    masses: float = 0.3  # share of samples with masses
    gas: float = 0.45  # share of samples with big gas bubbles in stomach and bowel
    empty: float = 0.13  # share of samples that hold no lung at all
    save_every: int = 300  # steps
    bf16: bool = True


@dataclass(frozen=True)
class Host:
    """One CT at 3 mm and at 1.5 mm with its lung truth."""

    name: str
    hu: dict[float, F32]
    mask: dict[float, F32]
    chest: Chest  # at 3 mm, to paint disease into


def load_host(shared: Path, name: str, cache: Path) -> Host:
    """Reads a training CT, makes its lung truth once (kept in `cache`)."""
    volume, fine, truth = host_lungs(shared, name, cache)
    coarse = resample(volume.hu, volume.spacing, [3.0] * 3)
    small = resample(truth.astype(np.float32), [1.5] * 3, [3.0] * 3)
    small = _same_shape(small, coarse.shape)
    chest = chest_of(volume, truth, GRID_MM)
    return Host(name, {1.5: fine, 3.0: coarse}, {1.5: truth.astype(np.float32), 3.0: small}, chest)


def painted(rng: np.random.Generator, host: Host) -> Host:
    """The host with disease, at 3 mm alone."""
    hu = sick_lungs.painted(rng, host.chest).hu
    return replace(host, hu={GRID_MM: hu}, mask={GRID_MM: host.mask[GRID_MM]})


def _same_shape(array: F32, shape: tuple[int, ...]) -> F32:
    """Crops or pads the ends by the voxel that two roundings may differ."""
    out = np.zeros(shape, np.float32)
    part = tuple(slice(0, min(a, b)) for a, b in zip(array.shape, shape, strict=True))
    out[part] = array[part]
    return out


def crop(rng: np.random.Generator, host: Host, k: Knobs) -> tuple[F32, F32]:
    """One randomly turned, scaled, mirrored piece of a host: HU and mask at 3 mm."""
    grid_mm = 1.5 if rng.random() < 0.4 and 1.5 in host.hu else GRID_MM
    hu, mask = host.hu[grid_mm], host.mask[grid_mm]
    turn = drawn_turn(rng, GRID_MM / grid_mm)
    lung = np.flatnonzero(mask.any((1, 2)))
    if rng.random() < 0.15:
        centre_z = float(
            rng.choice([lung[0] * rng.random(), lung[-1] + (len(mask) - lung[-1]) * rng.random()])
        )
    else:
        centre_z = rng.uniform(lung[0], lung[-1])
    body = np.argwhere(hu[len(hu) // 2] > -300)
    if not len(body):
        raise DataError(f"{host.name}: no body in its middle slice")
    middle = (body.min(0) + body.max(0)) / 2
    jitter = rng.normal(0, 12.0 / grid_mm, 2)
    centre = np.array([centre_z, middle[0] + jitter[0], middle[1] + jitter[1]])
    every = np.stack([hu - AIR_HU, mask, np.ones_like(hu)])
    above_air, truth, inside = cut(every, turn, centre, (k.depth, k.width, k.width))
    image = above_air + np.float32(AIR_HU)
    # what lies above or below the scan is no air but nothing: repeat nothing, end the crop there
    rows = np.flatnonzero(inside.max((1, 2)) > 0.5)
    if len(rows) >= 24:
        part = slice(rows[0], rows[-1] + 1)
        image, truth = image[part], truth[part]
    return image, truth


def lesson(rng: np.random.Generator, host: Host, k: Knobs) -> tuple[F32, F32]:
    """HU and mask, before what a scanner adds."""
    hu, mask = crop(rng, painted(rng, host) if rng.random() < k.disease else host, k)
    if rng.random() < k.empty:
        if rng.random() < 0.5:
            hu = made_up_body(rng, (k.depth, k.width, k.width))
            return hu, np.zeros_like(hu)
        return without_lungs(rng, hu, mask), np.zeros_like(mask)
    if rng.random() < k.repaint:
        hu = repaint(rng, hu, mask)
    if rng.random() < k.masses:
        hu = with_masses(rng, hu, mask)
    if rng.random() < k.gas:
        hu = bloat(rng, hu, mask)
    return hu, mask


def sample(rng: np.random.Generator, hosts: list[Host], k: Knobs) -> tuple[F32, F32]:
    """One lesson: windowed image and mask [Z,Y,X], padded at the end to the crop size."""
    hu, mask = lesson(rng, hosts[int(rng.integers(len(hosts)))], k)
    image = window(scanned(rng, hu, VARIED))
    if rng.random() < 0.3:
        off = [int(rng.integers(0, 25)) for _ in range(4)]
        ys, xs = slice(off[0], image.shape[1] - off[1]), slice(off[2], image.shape[2] - off[3])
        image, mask = image[:, ys, xs], mask[:, ys, xs]
    out = np.zeros((2, k.depth, k.width, k.width), np.float32)
    z, y, x = image.shape
    out[0, :z, :y, :x], out[1, :z, :y, :x] = image, mask
    return out[0], out[1]


def batch_of(rng: np.random.Generator, hosts: list[Host], k: Knobs) -> tuple[Tensor, Tensor]:
    """Images and lung masks, both [B,1,Z,Y,X]."""
    drawn = [sample(rng, hosts, k) for _ in range(k.batch)]
    images, masks = (torch.from_numpy(np.stack(part)) for part in zip(*drawn, strict=True))
    return images[:, None], masks[:, None]


def loss_of(logits: Tensor, mask: Tensor, image: Tensor) -> Tensor:
    """Cross entropy and Dice, what is dense in the lungs weighing DENSE."""
    weight = 1 + (DENSE - 1) * mask * (image > DENSE_FROM)
    return weighted_bce(logits, mask, weight) + soft_dice(logits, mask, weight=weight)


def train(k: Knobs, hosts: list[Host], folder: Path) -> LungNet:
    """Trains, writing `last.pt` and `log.csv` to `folder` (resumed from there); the average."""
    seed_all(k.seed, k.threads)
    model = LungNet()
    print(f"{parameter_count(model)} parameters, hosts {[h.name for h in hosts]}", flush=True)
    job = Job(
        RECIPE,
        asdict(k),
        draw=lambda rng: batch_of(rng, hosts, k),
        loss=lambda model, image, mask: loss_of(model(image), mask, image),
    )
    state = fit(model, Schedule.of(k), job, folder, k.seed)
    shipped = LungNet()
    shipped.load_state_dict(state)
    return shipped.eval()


def main() -> None:
    """Data, model, schedule, loop."""
    k = knobs_from_command_line(Knobs())
    folder, cache = work_folder(k.name), work_folder("cache")
    hosts = [load_host(shared_folder(), name, cache) for name in nodule_hosts(k.hosts)]
    train(k, hosts, folder)
    metrics = {"knobs": asdict(k), "sources": learned.of_series(k.hosts)}
    (folder / "metrics.json").write_text(json.dumps(metrics, indent=1) + "\n")
    print(f"checkpoint {folder / 'last.pt'}")


if __name__ == "__main__":
    command(main)
