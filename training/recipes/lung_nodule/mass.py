"""Trains the mass network at 3 mm on implanted masses.

    python -m training.recipes.lung_nodule.mass [--steps 320] [--hosts R01-001,A0002] ...

Rules. Pieces of 192 x 240 x 240 mm are cut from real CTs, turned, scaled and mirrored, and get
LIDC-shaped masses on the fly (`implant.masses`); a boxed mass of a host is a positive. Nodules far
below a mass and fluid are implanted as what is no mass; a lesion or implant between the two counts
neither way. Slices of up to 6 mm are imitated. To judge the recipe, leave a host out (--hosts) and
run `calibrate_masses`.

Outlines are learnt at 3 mm from implants, whose share of each voxel is known, by Dice and focal
loss. Of a boxed mass only the middle half of its radius is sure to be mass; further out, as far as
half a radius beyond it, and around lesions that count neither way, nothing is learned.
--body_weight 0 trains the network without outlines, as before.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from appliance.quality.implant import Block, Shape, pick_shape
from training.errors import command
from training.implant.donors import cached_shapes
from training.implant.hosts import Target
from training.implant.masses import (
    GRID_MM,
    LARGEST_MM,
    SMALLEST_MM,
    UNKNOWN,
    Chest,
    Mass,
    MassHost,
    draw_place,
    large,
    load_host,
    put_fluid,
    put_mass,
    put_nodule,
)
from training.learn.knobs import knobs_from_command_line
from training.learn.loop import Job, Schedule, fit
from training.learn.losses import centernet_focal, centre_l1, focal, soft_dice
from training.learn.steps import seed_all
from training.learn.warp import Move, moved, warped, way_back
from training.networks import DrawnMassNet, MassNet, parameter_count
from training.read.folders import shared_folder, work_folder
from training.read.left_out import KEY
from training.read.shared_series import TRAINING_SERIES
from training.read.volume import AIR_HU, F32, F64, window
from training.ship import learned

STRIDE = 4
SURE_MM = 20.0
"""A mass of which less can be seen counts neither way."""
CORE, AROUND = 0.5, 1.5
"""Radii of a boxed mass: what is mass for sure, and from where on it is none for sure."""
LESION_MM = 20.0
"""Around the middle of a lesion that counts neither way nothing is learned."""

RECIPE = "lung_nodule_mass"


@dataclass(frozen=True)
class Knobs:
    """Everything that may be varied, with its unit."""

    name: str = "mass"  # folder of checkpoint and log under the training work folder
    seed: int = 5
    threads: int = 1
    hosts: str = ",".join(TRAINING_SERIES)
    steps: int = 320
    batch: int = 4
    depth: int = 64  # voxels of 3 mm
    width: int = 80  # voxels of 3 mm
    masses: float = 1.1  # mean number a piece
    nodules: float = 2.0  # mean number of distractors of 5-14 mm a piece
    fluid: float = 0.25  # share of pieces with fluid along the back
    real: float = 0.3  # share of a boxed host's pieces around its mass
    thick: float = 0.4  # share of pieces averaged to slices of up to 6 mm
    noise_hu: float = 30.0  # upper end of the added noise
    rate: float = 2e-3  # AdamW, peak of the cosine
    warmup: int = 40  # steps
    decay: float = 0.02  # AdamW weight decay
    ema: float = 0.98
    size_weight: float = 0.5  # weight of the diameter loss
    body_weight: float = 0.5  # weight of the outlines' loss; 0: a network without outlines
    body_focal: float = 5.0  # weight of the focal loss beside Dice in it; focal is a small figure
    save_every: int = 100  # steps
    bf16: bool = True


@dataclass(frozen=True)
class Piece:
    """What one step learns from: image, targets on the stride-4 grid, and outlines on the image's:
    share of each voxel, or UNKNOWN."""

    image: F32
    heat: F32
    log_mm: F32
    weight: F32
    body: F32


def cut(rng: np.random.Generator, host: MassHost, k: Knobs) -> tuple[Chest, list[Target], F64]:
    """A piece of a host, turned, scaled and mirrored: the chest, its boxed masses, and the centres
    of its other lesions that a reader might call masses [n, 3] mm."""
    size = (k.depth, k.width, k.width)
    scale = float(np.exp(rng.uniform(np.log(0.82), np.log(1.2))))
    mirror = np.where(rng.random(3) < [0.1, 0.1, 0.5], -1.0, 1.0)
    about = np.array([1.0, *rng.normal(0, 0.4, 2)])
    matrix = way_back(float(np.deg2rad(rng.normal(0, 8))), about, scale, mirror)
    if host.masses and rng.random() < k.real:
        focus = np.array(host.masses[0].center_mm) / GRID_MM - 0.5 + rng.uniform(-14, 14, 3)
    else:
        lungs = np.flatnonzero(host.depth_mm > 0)
        at = np.unravel_index(lungs[rng.integers(len(lungs))], host.depth_mm.shape)
        focus = np.array(at) + rng.uniform(-10, 10, 3)
    middle = (np.array(host.hu.shape) - 1) / 2
    move = Move(matrix, -np.linalg.inv(matrix) @ (focus - middle), scale)
    both = torch.from_numpy(np.stack([host.hu - AIR_HU, host.depth_mm])[None])
    hu, depth = warped(both, [move], size, outside="zeros").numpy()[0]
    found = [
        (moved(np.array(t.center_mm) / GRID_MM - 0.5, move, host.hu.shape, size)[0], t.diameter_mm)
        for t in (*host.masses, *host.lesions)
    ]
    here = [((at + 0.5) * GRID_MM, mm * scale) for at, mm in found]
    count = len(host.masses)
    masses = [Target((float(c[0]), float(c[1]), float(c[2])), mm) for c, mm in here[:count]]
    unsure = np.array([c for c, mm in here[count:] if mm > 15]).reshape(-1, 3)
    block = Block(np.asarray(hu + AIR_HU, np.float32), (GRID_MM,) * 3, host.noise_hu)
    return Chest(block, np.asarray(depth * scale, np.float32)), masses, unsure


def sample(rng: np.random.Generator, host: MassHost, shapes: Sequence[Shape], k: Knobs) -> Piece:
    """One piece with its implants."""
    chest, targets, unsure = cut(rng, host, k)
    real, pool = len(targets), large(shapes)
    body = np.zeros(chest.block.hu.shape, np.float32)
    for boxed in targets:
        draw_boxed(body, boxed)
    for centre in unsure:
        body[np.linalg.norm(middles(body.shape) - centre, axis=-1) < LESION_MM] = UNKNOWN
    if rng.random() < k.fluid:
        put_fluid(rng, chest)
    for _ in range(int(rng.poisson(k.nodules))):
        small = float(np.exp(rng.uniform(np.log(5), np.log(14))))
        lungs = np.flatnonzero(chest.depth_mm > 0)
        if len(lungs):
            at = np.unravel_index(lungs[rng.integers(len(lungs))], chest.depth_mm.shape)
            where = (np.array(at) + rng.random(3)) * GRID_MM
            put_nodule(rng, chest, where, pick_shape(rng, shapes, small), small)
    for _ in range(int(rng.poisson(k.masses))):
        diameter = float(np.exp(rng.uniform(np.log(SMALLEST_MM), np.log(LARGEST_MM))))
        shape = pool[int(rng.integers(len(pool)))]
        for _ in range(12):
            where_or_none = draw_place(rng, chest, diameter)
            if where_or_none is None or any(
                np.linalg.norm(where_or_none - t.center_mm) < (diameter + t.diameter_mm) / 2 + 9
                for t in targets
            ):
                continue
            mass = put_mass(rng, chest, where_or_none, shape, diameter)
            if mass is not None:
                targets.append(Target(mass.center_mm, mass.diameter_mm))
                draw(body, mass)
                break
    heat, log_mm, weight = draw_targets(targets, chest.block.hu.shape, real)
    cells = (np.indices(heat.shape).reshape(3, -1).T + 0.5) * STRIDE * GRID_MM
    for centre in unsure:
        near = np.linalg.norm(cells - centre, axis=1).reshape(heat.shape) < LESION_MM
        weight[near & (heat < 1)] = 0
    return Piece(window(augment(rng, chest.block.hu, k)), heat, log_mm, weight, body)


def middles(shape: Sequence[int]) -> F64:
    """Middle of every voxel of a piece [z, y, x, 3] in mm from its outer edge."""
    return np.asarray((np.moveaxis(np.indices(tuple(shape)), 0, -1) + 0.5) * GRID_MM, np.float64)


def draw(body: F32, mass: Mass) -> None:
    """Puts an implant's outline into that of the piece; what is mass for sure stays so. The outline
    of one of which too little can be seen is UNKNOWN."""
    own, outline = body[mass.part], mass.outline
    if mass.diameter_mm < SURE_MM:
        outline = np.where(outline > 0, np.float32(UNKNOWN), outline)
    unknown = (outline < 0) & (own <= 0)
    own[:] = np.where(unknown, np.float32(UNKNOWN), np.where(outline > own, outline, own))


def draw_boxed(body: F32, target: Target) -> None:
    """Puts what is known of a boxed mass into the outline of a piece."""
    away = np.linalg.norm(middles(body.shape) - target.center_mm, axis=-1) / target.diameter_mm * 2
    body[away < AROUND] = UNKNOWN
    body[away < CORE] = 1


def augment(rng: np.random.Generator, hu: F32, k: Knobs) -> F32:
    """Thicker slices, a smoother or sharper image, noise, another level of air or contrast."""
    if rng.random() < k.thick:
        blurred = ndimage.uniform_filter1d(hu, 3, axis=0)
        mix = rng.random()
        hu = hu * (1 - mix) + blurred * mix
    roll = rng.random()
    if roll < 0.25:
        hu = ndimage.gaussian_filter(hu, (0, *[rng.uniform(0.2, 0.6)] * 2))
    elif roll < 0.4:
        hu = hu + rng.uniform(0.2, 0.6) * (hu - ndimage.gaussian_filter(hu, 0.8))
    noise = rng.standard_normal(hu.shape).astype(np.float32)
    hu = hu + noise * rng.uniform(0, k.noise_hu) * rng.random()
    if rng.random() < 0.5:  # vessels and heart with less contrast, or more
        bright = np.clip(hu - 60, 0, 250)
        hu = hu + bright * rng.uniform(-0.8, 0.6)
    return np.asarray(hu * rng.uniform(0.95, 1.05) + rng.uniform(-30, 30), np.float32)


def draw_targets(
    targets: Sequence[Target], shape: Sequence[int], real: int = 0
) -> tuple[F32, F32, F32]:
    """Heat, ln diameter and heat weight on the stride-4 grid of a piece of `shape` voxels.

    The first `real` targets are boxed by eye: around their centres nothing is learned.
    """
    size = [n // STRIDE for n in shape]
    heat, log_mm, weight = (np.full(size, v, np.float32) for v in (0, 0, 1))
    grid = np.indices(size).astype(np.float32)
    cell = GRID_MM * STRIDE
    for i, target in enumerate(targets):
        at = np.array(target.center_mm) / cell - 0.5
        squared = ((grid - at[:, None, None, None]) ** 2).sum(0)
        if target.diameter_mm < SURE_MM:
            weight[(squared < (target.diameter_mm / 2 / cell + 1) ** 2) & (heat < 1)] = 0
            continue
        sigma = float(np.clip(target.diameter_mm / 2 / cell * 0.5, 0.6, 1.5))
        blob = np.exp(-squared / (2 * sigma**2)).astype(np.float32)
        nearest = np.round(at).astype(int)
        if (nearest >= 0).all() and (nearest < size).all():
            blob[tuple(nearest)] = 1.0
        log_mm = np.where(blob > heat, np.float32(np.log(target.diameter_mm)), log_mm)
        heat = np.maximum(heat, blob)
        if i < real:
            weight[(squared < (target.diameter_mm / 2 / cell + 1) ** 2) & (blob < 1)] = 0
    return heat, log_mm, weight


def batch_of(
    rng: np.random.Generator, hosts: Sequence[MassHost], shapes: Sequence[Shape], k: Knobs
) -> tuple[Tensor, ...]:
    """Images [B,1,Z,Y,X], on the stride-4 grid heat, ln diameter and heat weight, and outlines."""
    drawn = [sample(rng, hosts[int(rng.integers(len(hosts)))], shapes, k) for _ in range(k.batch)]
    parts = ("image", "heat", "log_mm", "weight", "body")
    return tuple(
        torch.from_numpy(np.stack([getattr(d, part) for d in drawn])[:, None]) for part in parts
    )


def loss_of(
    outputs: Sequence[Tensor],
    heat: Tensor,
    log_mm: Tensor,
    weight: Tensor,
    body: Tensor,
    k: Knobs,
) -> Tensor:
    """CenterNet focal of the heat, the diameter's error where there is heat, and the loss of the
    outlines where the network draws them."""
    found = centernet_focal(outputs[0], heat, weight)
    sized = centre_l1(outputs[1], log_mm, (heat > 0.35).float() * heat)
    loss = found + k.size_weight * sized
    for logits in outputs[2:]:
        loss = loss + k.body_weight * outline_loss(logits, body, k.body_focal)
    return loss


def outline_loss(logits: Tensor, body: Tensor, factor: float) -> Tensor:
    """Dice and `factor` times focal loss, both classes alike, where the outline is known: a mass is
    too rare for Dice alone to say where none is, and its surface too small a share for focal alone.
    """
    known, share = (body >= 0).float(), body.clamp(min=0)
    return soft_dice(logits, share, weight=known) + factor * focal(
        logits, share, weight=known, alpha=None
    )


def network(k: Knobs) -> MassNet | DrawnMassNet:
    """The network that these knobs train, untrained."""
    return DrawnMassNet() if k.body_weight else MassNet()


def train(
    k: Knobs, hosts: Sequence[MassHost], shapes: Sequence[Shape], folder: Path
) -> MassNet | DrawnMassNet:
    """Trains, writing `last.pt` and `log.csv` to `folder` (resumed from there); the average."""
    seed_all(k.seed, k.threads)
    # channels last: a third less time on a CPU
    model = network(k).to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    print(
        f"{parameter_count(model)} parameters, hosts {[h.volume.name for h in hosts]}", flush=True
    )
    job = Job(
        RECIPE,
        {**asdict(k), "left_out": KEY},
        draw=lambda rng: batch_of(rng, hosts, shapes, k),
        loss=lambda model, image, heat, log_mm, weight, body: loss_of(
            model(image), heat, log_mm, weight, body, k
        ),
    )
    state = fit(model, Schedule.of(k, clip=5.0), job, folder, k.seed)
    shipped = network(k)
    shipped.load_state_dict(state)
    return shipped.eval()


def images(hosts: str, count: int, rng: np.random.Generator, split: str) -> list[F32]:
    """Inputs [1,1,Z,Y,X] drawn as in training, with shapes of one split's LIDC patients."""
    shared, cache = shared_folder(), work_folder("cache")
    shapes = cached_shapes(shared, cache, split)
    loaded = [load_host(shared, name, cache) for name in hosts.split(",")]
    drawn = (sample(rng, loaded[i % len(loaded)], shapes, Knobs()) for i in range(count))
    return [d.image[None, None] for d in drawn]


def main() -> None:
    """Data, model, schedule, loop."""
    k = knobs_from_command_line(Knobs())
    folder, cache = work_folder(k.name), work_folder("cache")
    shapes = cached_shapes(shared_folder(), cache)
    hosts = [load_host(shared_folder(), name, cache) for name in k.hosts.split(",")]
    train(k, hosts, shapes, folder)
    sources = [*learned.of_series(k.hosts), *learned.of_outlines()]
    metrics = {"knobs": asdict(k), "sources": sources}
    (folder / "metrics.json").write_text(json.dumps(metrics, indent=1) + "\n")
    print(f"checkpoint {folder / 'last.pt'}")


if __name__ == "__main__":
    command(main)
