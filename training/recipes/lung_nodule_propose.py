"""Trains the 3D proposal network at 1.25 mm on implanted nodules.

    python -m training.recipes.lung_nodule_propose [--steps 1000] [--hosts R01-001,C3N-00247] ...

Rules. Patches of 64^3 are cut from real CTs and get LIDC-shaped nodules on the fly, on the CT's own
grid. Real lesions of a host are positives, its boxed mass is ignored; neither is ever a negative.
Everything else in a host is a negative. Slice thickness is varied from 1 to 5 mm, because the scans
to come have it. To judge the recipe, leave a host out (--hosts) and run training.evaluate on that
host.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage

from appliance.preprocess.reference import axis_weights
from training.data import F32, F64, resample, window
from training.hosts import Host, Target, load_host
from training.implants import Block, Nodule, draw_kind, implant
from training.loop import (
    Ema,
    Progress,
    cosine_rate,
    knobs_from_command_line,
    load_checkpoint,
    save_checkpoint,
    seed_all,
    shared_folder,
    work_folder,
)
from training.losses import centernet_focal, centre_l1
from training.networks import ProposeNet, parameter_count
from training.shapes import Shape, cached_shapes, pick_shape
from training.synthetic import made_up_host

GRID_MM = 1.25
SIDE = 64  # voxels of a patch
STRIDE = 4


@dataclass(frozen=True)
class Knobs:
    """Everything that may be varied, with its unit."""

    name: str = "propose"  # folder of checkpoint and log under the training work folder
    seed: int = 3
    threads: int = 1
    hosts: str = "R01-001,C3N-00247,A0001"
    steps: int = 900  # twice as many gained nothing on a scan left out
    batch: int = 8
    implants: float = 1.6  # mean number a patch
    smallest_mm: float = 3.5
    largest_mm: float = 36.0
    real: float = 0.06  # share of patches around a host's real lesion
    made_up: float = 0.12  # share of patches from made-up lungs
    made_up_hosts: int = 16
    thin: float = 0.3  # share of patches re-sliced to 1-1.6 mm
    thick: float = 0.3  # share of patches averaged to slices of up to 5 mm
    noise_hu: float = 60.0  # upper end of the added noise
    rate: float = 2e-3  # AdamW, peak of the cosine
    warmup: int = 60  # steps
    decay: float = 0.02  # AdamW weight decay
    ema: float = 0.99
    size_weight: float = 0.5  # weight of the diameter loss
    save_every: int = 250  # steps
    bf16: bool = True


def draw_diameter(rng: np.random.Generator, k: Knobs) -> float:
    """Log-uniform with the small sizes drawn more often."""
    low, high = np.log(k.smallest_mm), np.log(k.largest_mm)
    return float(np.exp(low + (high - low) * rng.random() ** 1.5))


def sample(
    rng: np.random.Generator, host: Host, shapes: Sequence[Shape], k: Knobs
) -> tuple[F32, F32, F32, F32]:
    """One patch: image [64,64,64] in [0, 1]; heat, ln diameter and heat weight on the stride-4
    grid."""
    stretch = float(np.exp(rng.uniform(np.log(0.85), np.log(1.2))))
    spacing = np.array(host.volume.spacing)
    if host.lesions and rng.random() < k.real:
        focus = np.array(host.lesions[int(rng.integers(len(host.lesions)))].center_mm)
    else:
        focus = host.places.deep[rng.integers(len(host.places.deep))]
    side = SIDE * GRID_MM / stretch
    low = np.floor((focus - side / 2 + rng.uniform(-22, 22, 3)) / spacing).astype(int)
    size = np.ceil((side + 2) / spacing).astype(int) + 1
    low = np.clip(low, 0, np.maximum(np.array(host.volume.hu.shape) - size, 0))
    high = np.minimum(low + size, host.volume.hu.shape)
    block = host.volume.hu[low[0] : high[0], low[1] : high[1], low[2] : high[2]].copy()
    edge = low * spacing
    extent = np.array(block.shape) * spacing
    roll = rng.random()
    if roll < k.thin:
        spacing = np.array([rng.uniform(1.0, 1.6), spacing[1], spacing[2]])
        block = _reslice(block, host.volume.spacing[0], float(spacing[0]))
        block += rng.standard_normal(block.shape).astype(np.float32) * host.noise_hu * 0.5
    targets = [
        Target((float(c[0]), float(c[1]), float(c[2])), lesion.diameter_mm)
        for lesion in host.lesions
        for c in [np.array(lesion.center_mm) - edge]
        if (c > -8).all() and (c < extent + 8).all()
    ]
    real = len(targets)
    piece = Block(block, as_spacing(spacing), host.noise_hu)
    for _ in range(int(rng.poisson(k.implants))):
        diameter = draw_diameter(rng, k) / stretch
        for _ in range(30):
            place, at = host.places.draw(rng, diameter)
            at = at - edge + rng.uniform(-0.7, 0.7, 3)
            inside = (at > 2).all() and (at < extent - 2).all()
            if inside and all(
                np.linalg.norm(at - t.center_mm) > 0.6 * (diameter + t.diameter_mm) + 3
                for t in targets
            ):
                shape, kind = pick_shape(rng, shapes, diameter), draw_kind(rng, diameter)
                done = implant(rng, piece, at, Nodule(shape, diameter, kind, place))
                if done:
                    targets.append(Target(done.center_mm, diameter))
                    break
    if roll > 1 - k.thick:
        thick = rng.uniform(min(spacing[0] * 1.2, 4.5), 5.0)
        block = _reslice(block, float(spacing[0]), float(thick))
        spacing = np.array([thick, spacing[1], spacing[2]])
    fine = resample(block, as_spacing(spacing * stretch), [GRID_MM] * 3)
    image = np.zeros((SIDE,) * 3, np.float32)
    got = fine[:SIDE, :SIDE, :SIDE]
    got = window(augment(rng, got, k))
    image[: got.shape[0], : got.shape[1], : got.shape[2]] = got
    scaled = [
        Target(tuple(float(c) * stretch for c in t.center_mm), t.diameter_mm * stretch)  # type: ignore[arg-type]
        for t in targets
    ]
    heat, size_map, weight = draw_targets(scaled, real)
    if host.ignored.any():
        weight *= _ignored(host, edge, stretch)
    return _mirror(rng, image, heat, size_map, weight)


def as_spacing(values: F64) -> tuple[float, float, float]:
    """Three figures as a tuple."""
    z, y, x = (float(v) for v in values)
    return z, y, x


def _reslice(block: F32, spacing: float, target: float) -> F32:
    """The same block on slices of another thickness, by the line's own rule for z."""
    weights = axis_weights(block.shape[0], spacing, target)
    flat = weights @ block.reshape(block.shape[0], -1)
    return np.asarray(flat.reshape(-1, *block.shape[1:]), np.float32)


def augment(rng: np.random.Generator, hu: F32, k: Knobs) -> F32:
    """Another kernel, more noise, a little gain and offset."""
    roll = rng.random()
    if roll < 0.3:
        hu = ndimage.gaussian_filter(hu, (0, *[rng.uniform(0.2, 0.75)] * 2))
    elif roll < 0.5:
        hu = hu + rng.uniform(0.2, 0.8) * (hu - ndimage.gaussian_filter(hu, 0.8))
    if rng.random() < 0.6:
        noise = rng.standard_normal(hu.shape).astype(np.float32)
        if rng.random() < 0.5:
            noise = ndimage.gaussian_filter(noise, 0.6) * 2.4
        hu = hu + noise * rng.uniform(0, k.noise_hu) * rng.random()
    return np.asarray(hu * rng.uniform(0.96, 1.04) + rng.uniform(-25, 25), np.float32)


def draw_targets(targets: Sequence[Target], real: int = 0) -> tuple[F32, F32, F32]:
    """Heat, ln diameter and heat weight [16,16,16] for nodules given in mm from the patch's edge.

    The first `real` targets are lesions marked by eye: their place and size are trusted less.
    """
    n = SIDE // STRIDE
    heat, size = np.zeros((n, n, n), np.float32), np.zeros((n, n, n), np.float32)
    weight = np.ones((n, n, n), np.float32)
    grid = np.stack(np.meshgrid(*[np.arange(n)] * 3, indexing="ij")).astype(np.float32)
    cell = GRID_MM * STRIDE
    for i, target in enumerate(targets):
        at = np.array(target.center_mm) / cell - 0.5
        sigma = float(np.clip(target.diameter_mm / 2 / cell * 0.5, 0.55, 1.3))
        squared = ((grid - at[:, None, None, None]) ** 2).sum(0)
        blob = np.exp(-squared / (2 * sigma**2)).astype(np.float32)
        nearest = np.round(at).astype(int)
        if (nearest >= 0).all() and (nearest < n).all():
            blob[tuple(nearest)] = 1.0
        size = np.where(blob > heat, np.float32(np.log(target.diameter_mm)), size)
        heat = np.maximum(heat, blob)
        if i < real:
            weight = np.where(
                (squared < (target.diameter_mm / 2 / cell + 1) ** 2) & (blob < 1), 0, weight
            )
    return heat, size.astype(np.float32), weight.astype(np.float32)


def _ignored(host: Host, edge_mm: F32, stretch: float) -> F32:
    """0 at the stride-4 cells near the host's boxed mass, else 1."""
    n = SIDE // STRIDE
    reach = GRID_MM * STRIDE / stretch
    index = [
        np.clip(
            ((edge_mm[a] + (np.arange(n) + 0.5) * reach) / 1.5).astype(int),
            0,
            host.ignored.shape[a] - 1,
        )
        for a in range(3)
    ]
    near = ndimage.binary_dilation(host.ignored[np.ix_(*index)], iterations=2)
    return np.asarray(~near, np.float32)


def _mirror(rng: np.random.Generator, *arrays: F32) -> tuple[F32, F32, F32, F32]:
    """The same mirrorings and axis swap on all arrays (cells lie symmetrically in a patch)."""
    flips = [axis for axis in range(3) if rng.random() < 0.5]
    swap = rng.random() < 0.5
    out = []
    for a in arrays:
        b = np.flip(a, tuple(flips)) if flips else a
        out.append(np.ascontiguousarray(np.swapaxes(b, 1, 2) if swap else b))
    return out[0], out[1], out[2], out[3]


def train(
    k: Knobs, hosts: Sequence[Host], others: Sequence[Host], shapes: Sequence[Shape], folder: Path
) -> ProposeNet:
    """Trains, writing `last.pt` to `folder` (resumed from there); returns the averaged model."""
    rng = seed_all(k.seed, k.threads)
    model = ProposeNet()
    print(
        f"{parameter_count(model)} parameters, hosts {[h.volume.name for h in hosts]}", flush=True
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=k.rate, weight_decay=k.decay)
    ema = Ema(model, k.ema)
    checkpoint, start = folder / "last.pt", 0
    if checkpoint.exists():
        state = load_checkpoint(checkpoint)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        ema.shadow, ema.updates, start = state["ema"], state["step"], state["step"]
        rng = np.random.default_rng([k.seed, start])
    progress = Progress(k.steps, start)
    for step in range(start, k.steps):
        model.train()
        for group in optimizer.param_groups:
            group["lr"] = cosine_rate(step, k.steps, k.rate, k.warmup)
        drawn = []
        for _ in range(k.batch):
            pool = others if others and rng.random() < k.made_up else hosts
            drawn.append(sample(rng, pool[int(rng.integers(len(pool)))], shapes, k))
        x, heat, size, weight = (
            torch.from_numpy(np.stack([d[i] for d in drawn])[:, None]) for i in range(4)
        )
        with torch.autocast("cpu", torch.bfloat16, enabled=k.bf16):
            heat_logit, log_diameter = model(x)
        focal = centernet_focal(heat_logit, heat, weight)
        sized = centre_l1(log_diameter, size, (heat > 0.35).float() * heat)
        loss = focal + k.size_weight * sized
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        ema.update(model)
        progress(
            step,
            float(loss.detach()),
            f"focal {float(focal.detach()):.3f} size {float(sized.detach()):.3f}",
        )
        if (step + 1) % k.save_every == 0 or step + 1 == k.steps:
            save_checkpoint(
                checkpoint,
                {
                    "model": model.state_dict(),
                    "ema": ema.shadow,
                    "optimizer": optimizer.state_dict(),
                    "step": step + 1,
                    "knobs": asdict(k),
                },
            )
    shipped = ProposeNet()
    shipped.load_state_dict(ema.shadow)
    return shipped.eval()


def main() -> None:
    """Data, model, schedule, loop."""
    k = knobs_from_command_line(Knobs())
    folder, cache = work_folder(k.name), work_folder("cache")
    shapes = cached_shapes(shared_folder(), cache)
    hosts = [load_host(shared_folder(), name, cache) for name in k.hosts.split(",")]
    maker = np.random.default_rng([k.seed, 1])
    others = [made_up_host(maker) for _ in range(k.made_up_hosts)]
    train(k, hosts, others, shapes, folder)
    (folder / "metrics.json").write_text(json.dumps({"knobs": asdict(k)}, indent=1) + "\n")
    print(f"checkpoint {folder / 'last.pt'}")


if __name__ == "__main__":
    main()
