"""Trains the network that outlines a finding and names its density.

    python -m training.recipes.lung_nodule.measure [--steps 500] [--hosts C3N-00247,A0001] ...

Rules. Cubes are cut by the appliance's own op around implants in real CTs, beside their middle as
the detector has it. Truth is what each voxel of the cube holds of the body, between 0 and 1, known
from the shape itself: the network learns where in a voxel the surface runs. Spicules, tails and
vessels are no body; a cavity is. Slices are 1 to 5 mm thick, kernel and noise vary. To judge the
recipe, leave a host out (--hosts) and run `judge_measure` on it.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from appliance.bundle.heads import DENSITIES
from appliance.preprocess import reference
from appliance.preprocess.reference import axis_weights
from appliance.quality.implant import (
    KINDS,
    SHAPE_MM,
    Block,
    Nodule,
    Shape,
    implant,
    on_grid,
    pick_shape,
    turned,
)
from appliance.records import Stack
from training.errors import command
from training.implant.donors import cached_shapes
from training.implant.hosts import Host, load_host
from training.implant.synthetic import made_up_hosts
from training.learn.knobs import knobs_from_command_line
from training.learn.loop import Job, Schedule, fit
from training.learn.losses import class_weights, soft_dice, weighted_bce
from training.learn.steps import seed_all
from training.networks import MeasureNet, parameter_count
from training.read.folders import shared_folder, work_folder
from training.read.left_out import KEY
from training.read.shared_series import NODULE_SERIES, nodule_hosts
from training.read.volume import F32, F64, Volume, stack_of
from training.recipes.lung_nodule.bundle import CUBE_MM, MEASURE, OPS
from training.ship import learned

DENSITY_OF = {
    "solid": "solid",
    "cavity": "solid",
    "part_solid": "part_solid",
    "ground_glass": "ground_glass",
    "calcified": "calcified",
}
SHARES = {"solid": 0.4, "cavity": 0.06, "part_solid": 0.2, "ground_glass": 0.2, "calcified": 0.14}
"""Of KINDS in a batch: rare classes are drawn more often than they are met."""

RECIPE = "lung_nodule_measure"


@dataclass(frozen=True)
class Knobs:
    """Everything that may be varied, with its unit."""

    name: str = "measure"  # folder of checkpoint and log under the training work folder
    seed: int = 7
    threads: int = 1
    hosts: str = ",".join(NODULE_SERIES)
    steps: int = 500
    batch: int = 8
    smallest_mm: float = 3.5
    largest_mm: float = 33.0
    jitter_mm: float = 3.0  # most that a cube's middle lies beside the body's centre
    stretch: float = 1.15  # of a host, either way
    made_up: float = 0.12  # share of cubes from made-up lungs
    made_up_hosts: int = 12
    thin: float = 0.25  # share of cubes from slices of 1 to 1.6 mm
    thick: float = 0.3  # share of cubes from slices of up to 5 mm
    vary: bool = True  # another kernel, noise, gain
    noise_hu: float = 60.0  # upper end of the added noise
    rate: float = 2e-3  # AdamW, peak of the cosine
    warmup: int = 40  # steps
    decay: float = 0.02  # AdamW weight decay
    ema: float = 0.985
    far_weight: float = 0.1  # of voxels away from the body in the cross entropy
    density_weight: float = 0.3  # of the density's loss
    save_every: int = 150  # steps
    bf16: bool = True


@dataclass(frozen=True)
class Example:
    """A cube with an implant, as the appliance would cut it, and what is known of it."""

    image: F32  # [48, 48, 48] in [0, 1]
    body: F32  # 0-1, how much of each voxel is the body
    density: int  # index of DENSITIES
    diameter_mm: float
    kind: str
    stack: Stack
    middle_lps_mm: tuple[float, float, float]
    shape: F32  # occupancy of the body on its own grid
    cell_mm: float
    offset_mm: F64  # z y x, the body's centre of mass from the cube's middle


def draw(
    rng: np.random.Generator, host: Host, shapes: Sequence[Shape], k: Knobs, kind: str = ""
) -> Example:
    """One implant of a random size and kind (or this one) in a host, and the cube around it."""
    stretch = float(np.exp(rng.uniform(-1, 1) * np.log(k.stretch)))
    kind = kind or str(rng.choice(KINDS, p=[SHARES[name] for name in KINDS]))
    least = max(k.smallest_mm, 8.0) if kind in ("part_solid", "cavity") else k.smallest_mm
    while True:
        diameter = float(np.exp(rng.uniform(np.log(least), np.log(k.largest_mm))))
        place, at = host.places.draw(rng, diameter / stretch)
        block, edge = _cut(rng, host, at, stretch, k)
        center = (at + rng.uniform(-0.7, 0.7, 3) - edge) * stretch
        shape = pick_shape(rng, shapes, diameter)
        # the first thing that `implant` draws is the turn of the body
        body = turned(copy.deepcopy(rng), np.asarray(shape.occupancy / 255, np.float32))
        if implant(rng, block, center, Nodule(shape, diameter, kind, place)) is not None:
            break
    if rng.random() < k.thick:
        block = _resliced(block, rng.uniform(min(block.spacing[0] * 1.2, 4.5), 5.0))
    hu = varied(rng, block.hu, k) if k.vary else block.hu
    away = rng.standard_normal(3)
    reach = min(k.jitter_mm, 1 + diameter / 4) * rng.random()
    away *= reach / max(float(np.linalg.norm(away)), 1e-9)
    volume = Volume("piece", np.asarray(hu, np.float32), block.spacing, (0.0, 0.0, 0.0))
    x, y, z = (float(v) for v in volume.lps((center + away) / volume.spacing - 0.5))
    stack = stack_of(volume)
    image = reference.apply_patches(stack, OPS["measure"], [(x, y, z)])[0, 0]
    cell = SHAPE_MM * diameter / shape.diameter_mm
    density = DENSITIES.index(DENSITY_OF[kind])
    return Example(
        image, occupancy(body, cell, -away), density, diameter, kind, stack, (x, y, z), body, cell,
        -away,
    )  # fmt: skip


def occupancy(body: F32, cell_mm: float, offset_mm: F64, spacing_mm: float = CUBE_MM) -> F32:
    """How much of each voxel of the cube is the body, on the cube's grid or a finer one."""
    size = round(MEASURE * CUBE_MM / spacing_mm)
    grid = Block(np.zeros((size,) * 3, np.float32), (spacing_mm,) * 3, 0.0)
    share, part = on_grid(body, cell_mm, np.asarray(offset_mm) + size * spacing_mm / 2, grid)
    grid.hu[part] = share
    return grid.hu


def _cut(
    rng: np.random.Generator, host: Host, at: F64, stretch: float, k: Knobs
) -> tuple[Block, F64]:
    """The piece of a host around a point, stretched, and its edge in the host's millimetres."""
    spacing = np.array(host.volume.spacing)
    reach = (MEASURE * CUBE_MM / 2 + k.jitter_mm + 4) / stretch
    low = np.maximum(np.floor((at - reach) / spacing).astype(int), 0)
    high = np.minimum(np.ceil((at + reach) / spacing).astype(int), host.volume.hu.shape)
    hu = host.volume.hu[low[0] : high[0], low[1] : high[1], low[2] : high[2]].copy()
    z, y, x = (float(v) for v in spacing * stretch)
    block = Block(hu, (z, y, x), host.noise_hu)
    if rng.random() < k.thin:
        block = _resliced(block, rng.uniform(1.0, 1.6))
        grain = rng.standard_normal(block.hu.shape).astype(np.float32)
        block.hu[:] += grain * np.float32(host.noise_hu * 0.5)
    return block, low * spacing


def _resliced(block: Block, thick_mm: float) -> Block:
    """The same block on slices of another thickness, by the line's own rule for z."""
    weights = axis_weights(block.hu.shape[0], block.spacing[0], thick_mm)
    hu = (weights @ block.hu.reshape(block.hu.shape[0], -1)).reshape(-1, *block.hu.shape[1:])
    # ends meet: the grid of whole slices is a little longer or shorter than the block
    return Block(np.asarray(hu, np.float32), (thick_mm, *block.spacing[1:]), block.noise_hu)


def varied(rng: np.random.Generator, hu: F32, k: Knobs) -> F32:
    """Another kernel, more noise, a little gain and offset, on the scan's own pixels."""
    roll = rng.random()
    if roll < 0.35:
        hu = ndimage.gaussian_filter(hu, (0, *[rng.uniform(0.3, 1.0)] * 2))
    elif roll < 0.5:
        hu = hu + rng.uniform(0.2, 0.8) * (hu - ndimage.gaussian_filter(hu, (0, 0.8, 0.8)))
    if rng.random() < 0.5:
        noise = rng.standard_normal(hu.shape).astype(np.float32)
        if rng.random() < 0.5:
            noise = ndimage.gaussian_filter(noise, (0, 0.6, 0.6)) * 2
        hu = hu + noise * rng.uniform(0, k.noise_hu) * rng.random()
    return np.asarray(hu * rng.uniform(0.97, 1.03) + rng.uniform(-20, 20), np.float32)


def mirrored(rng: np.random.Generator, image: F32, body: F32) -> tuple[F32, F32]:
    """The same mirrorings and swap of rows and columns on both."""
    flips = tuple(axis for axis in range(3) if rng.random() < 0.5)
    both = np.flip(np.stack([image, body]), tuple(axis + 1 for axis in flips))
    both = np.swapaxes(both, 2, 3) if rng.random() < 0.5 else both
    return np.ascontiguousarray(both[0]), np.ascontiguousarray(both[1])


def loss_of(outputs: tuple[Tensor, Tensor], body: Tensor, density: Tensor, k: Knobs) -> Tensor:
    """Dice and cross entropy of the body, class-weighted cross entropy of the density."""
    logits, classes = (part.float() for part in outputs)
    near = functional.max_pool3d((body > 0).float(), 7, 1, 3)
    weight = near + k.far_weight * (1 - near)
    weight = weight / weight.mean((2, 3, 4), keepdim=True)  # a small finding counts like a large
    outlined = soft_dice(logits, body, smooth=10.0) + weighted_bce(logits, body, weight)
    counts = [0.0] * len(DENSITIES)
    for kind, share in SHARES.items():
        counts[DENSITIES.index(DENSITY_OF[kind])] += share
    weights = class_weights([round(1000 * c) for c in counts]).to(classes.device)
    return outlined + k.density_weight * functional.cross_entropy(classes, density, weights)


def batch_of(
    rng: np.random.Generator,
    hosts: Sequence[Host],
    others: Sequence[Host],
    shapes: Sequence[Shape],
    k: Knobs,
) -> tuple[Tensor, ...]:
    """Images [B,1,48,48,48], bodies of the same shape, densities [B]."""
    images, bodies, densities = [], [], []
    for _ in range(k.batch):
        pool = others if others and rng.random() < k.made_up else hosts
        one = draw(rng, pool[int(rng.integers(len(pool)))], shapes, k)
        image, body = mirrored(rng, one.image, one.body)
        images.append(image)
        bodies.append(body)
        densities.append(one.density)
    x, y = (torch.from_numpy(np.stack(each)[:, None]) for each in (images, bodies))
    return x, y, torch.tensor(densities)


def train(
    k: Knobs, hosts: Sequence[Host], others: Sequence[Host], shapes: Sequence[Shape], folder: Path
) -> MeasureNet:
    """Trains, writing `last.pt` and `log.csv` to `folder` (resumed from there); the average."""
    seed_all(k.seed, k.threads)
    model = MeasureNet()
    print(
        f"{parameter_count(model)} parameters, hosts {[h.volume.name for h in hosts]}", flush=True
    )
    job = Job(
        RECIPE,
        {**asdict(k), "left_out": KEY},
        draw=lambda rng: batch_of(rng, hosts, others, shapes, k),
        loss=lambda model, image, body, density: loss_of(model(image), body, density, k),
    )
    state = fit(model, Schedule.of(k, clip=5.0), job, folder, k.seed)
    shipped = MeasureNet()
    shipped.load_state_dict(state)
    return shipped.eval()


def images(hosts: str, count: int, rng: np.random.Generator, split: str) -> list[F32]:
    """Batches [4,1,48,48,48] drawn as in training, with shapes of one split's LIDC patients."""
    shared, cache = shared_folder(), work_folder("cache")
    shapes = cached_shapes(shared, cache, split)
    loaded = [load_host(shared, name, cache) for name in hosts.split(",")]
    return [
        np.stack([draw(rng, loaded[i % len(loaded)], shapes, Knobs()).image for _ in range(4)])[
            :, None
        ]
        for i in range(count)
    ]


def main() -> None:
    """Data, model, schedule, loop."""
    k = knobs_from_command_line(Knobs())
    folder, cache = work_folder(k.name), work_folder("cache")
    shapes = cached_shapes(shared_folder(), cache)
    hosts = [load_host(shared_folder(), name, cache) for name in nodule_hosts(k.hosts)]
    others = made_up_hosts(k.made_up_hosts, k.seed)
    train(k, hosts, others, shapes, folder)
    sources = [*learned.of_series(k.hosts), *learned.of_outlines()]
    metrics = {"knobs": asdict(k), "sources": sources}
    (folder / "metrics.json").write_text(json.dumps(metrics, indent=1) + "\n")
    print(f"checkpoint {folder / 'last.pt'}")


if __name__ == "__main__":
    command(main)
