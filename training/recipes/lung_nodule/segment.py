"""Trains the lung network at 3 mm: its mask, and where lungs are diseased.

    python -m training.recipes.lung_nodule.segment [--steps 1600] [--hosts R01-001,A0001] ...

Rules. Truth comes from the unaltered CT; disease is painted into the input only, so the mask learns
to include it. Half the lesson is what is no lung: outside air, bowel gas, trachea, slices without a
lung, bodies without lungs. Intensities are varied far beyond the hosts (classes repainted at
random), because a few scanners say little about the next one.

Disease is learned from hosts that are painted anew for each piece, with exact masks (`sick_lungs`).
Such a piece is not repainted, for disease is told from healthy lung by its HU; nor are its classes
known where quick disease or other HU are laid over it. --disease_weight 0 trains the mask alone. It
is the default until a run tells disease from healthy lung on a CT that was left out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from appliance.bundle.heads import DISEASES
from training.errors import DataError, command
from training.implant.disease.chest import Chest, chest_of
from training.implant.disease.paint import paint
from training.learn.knobs import knobs_from_command_line
from training.learn.loop import Job, Schedule, fit
from training.learn.losses import soft_dice, weighted_bce
from training.learn.steps import seed_all
from training.networks import LungNet, SickLungNet, parameter_count
from training.read.folders import shared_folder, work_folder
from training.read.shared_series import NODULE_SERIES, host_lungs, nodule_hosts
from training.read.volume import AIR_HU, F32, resample, window
from training.recipes.lung_nodule import sick_lungs
from training.recipes.lung_nodule.sick_lungs import UNKNOWN

RECIPE = "lung_nodule_segment"
GRID_MM = 3.0
SICKENED = {"mass": 0.45, "consolidation": 0.2, "effusion": 0.2, "glass": 0.15}
"""What is painted quickly, without classes, and how often."""
VARIED = (0.95, 1.05), (-30, 30)
"""Factor of HU, and HU added: far more than a scanner is off."""
CALIBRATED = (0.99, 1.01), (-10, 10)
"""The same where disease is learned: emphysema is a matter of 50 HU."""
MASS_HU = 40.0
"""A mass that changes a voxel by more hides the disease that was there."""


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
    disease: float = 0.6  # share of samples with a mass, consolidation, effusion or ground glass
    painted: float = 0.5  # share of samples of a host with painted disease, its classes known
    disease_weight: float = 0.0  # weight of the classes' loss; 0: the mask alone
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
    chest: Chest | None = None  # at 3 mm, where disease is to be painted
    classes: F32 | None = None  # shares of DISEASES [3, z, y, x] at 3 mm; None: no disease


def load_host(shared: Path, name: str, cache: Path, *, sick: bool = False) -> Host:
    """Reads a training CT, makes its lung truth once (kept in `cache`). `sick`: disease will be
    painted into it."""
    volume, fine, truth = host_lungs(shared, name, cache)
    coarse = resample(volume.hu, volume.spacing, [3.0] * 3)
    small = resample(truth.astype(np.float32), [1.5] * 3, [3.0] * 3)
    small = _same_shape(small, coarse.shape)
    chest = chest_of(volume, truth, GRID_MM) if sick else None
    return Host(name, {1.5: fine, 3.0: coarse}, {1.5: truth.astype(np.float32), 3.0: small}, chest)


def painted(rng: np.random.Generator, host: Host) -> Host:
    """The host with disease, at 3 mm alone."""
    assert host.chest is not None
    ill = paint(rng, host.chest, sick_lungs.drawn(rng, host.chest))
    mask, classes = host.mask[GRID_MM], sick_lungs.shares_of(ill)
    return Host(host.name, {GRID_MM: ill.hu}, {GRID_MM: mask}, host.chest, classes)


def _same_shape(array: F32, shape: tuple[int, ...]) -> F32:
    """Crops or pads the ends by the voxel that two roundings may differ."""
    out = np.zeros(shape, np.float32)
    part = tuple(slice(0, min(a, b)) for a, b in zip(array.shape, shape, strict=True))
    out[part] = array[part]
    return out


def smooth_field(rng: np.random.Generator, shape: tuple[int, ...], cell: int) -> F32:
    """Random field of unit-ish variance whose features are about `cell` voxels wide."""
    small = [max(2, int(np.ceil(n / cell)) + 1) for n in shape]
    seed = torch.from_numpy(rng.standard_normal([1, 1, *small]).astype(np.float32))
    grown = functional.interpolate(seed, size=list(shape), mode="trilinear", align_corners=True)
    return np.asarray(grown[0, 0].numpy() * 1.5, np.float32)


def crop(rng: np.random.Generator, host: Host, k: Knobs) -> tuple[F32, F32, F32]:
    """One randomly turned, scaled, mirrored piece of a host: HU, mask and shares of DISEASES
    [3, z, y, x] at 3 mm."""
    grid_mm = 1.5 if rng.random() < 0.4 and 1.5 in host.hu else GRID_MM
    hu, mask = host.hu[grid_mm], host.mask[grid_mm]
    overall = np.exp(rng.uniform(np.log(0.8), np.log(1.25)))
    scale = overall * np.exp(rng.uniform(-0.1, 0.1, 3))
    az, ay, ax = np.deg2rad(rng.normal(0, [6, 3, 4]))
    turn = np.array([[1, 0, 0], [0, np.cos(az), -np.sin(az)], [0, np.sin(az), np.cos(az)]])
    tilt = np.array([[1, ax, ay], [-ax, 1, 0], [-ay, 0, 1]])
    flip = np.diag([1.0, -1.0 if rng.random() < 0.12 else 1.0, -1.0 if rng.random() < 0.5 else 1.0])
    matrix = np.diag(3.0 / (grid_mm * scale)) @ turn @ tilt @ flip
    size = (k.depth, k.width, k.width)
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
    # to the normalised coordinates of grid_sample (x, y, z order, align_corners=True)
    n = np.array(hu.shape) - 1.0
    out = np.array(size) - 1.0
    theta = np.zeros((3, 4))
    theta[:, :3] = (matrix * (out / 2)[None, :]) * (2 / n)[:, None]
    theta[:, 3] = centre * 2 / n - 1
    theta = theta[::-1][:, [2, 1, 0, 3]]
    where = functional.affine_grid(
        torch.from_numpy(theta.copy()).float()[None], [1, 1, *size], align_corners=True
    )
    classes = [] if host.classes is None else [*host.classes]
    every = torch.from_numpy(np.stack([hu - AIR_HU, mask * 1000, *classes])[None])
    got = functional.grid_sample(every, where, align_corners=True)[0].numpy()
    image, truth = got[0] + AIR_HU, got[1] / 1000
    ill = got[2:] if classes else np.zeros((len(DISEASES), *image.shape), np.float32)
    # what lies above or below the scan is no air but nothing: repeat nothing, end the crop there
    inside = functional.grid_sample(torch.ones_like(every[:, :1]), where, align_corners=True)[
        0, 0
    ].numpy()
    rows = np.flatnonzero(inside.max((1, 2)) > 0.5)
    if len(rows) >= 24:
        part = slice(rows[0], rows[-1] + 1)
        image, truth, ill = image[part], truth[part], ill[:, part]
    return image.astype(np.float32), truth.astype(np.float32), ill


def repaint(rng: np.random.Generator, hu: F32, mask: F32) -> F32:
    """Every tissue class gets a random level, smooth variation and its own grain."""
    out = np.array(hu)
    lung = mask > 0.5
    levels = [
        ((hu < -400) & ~lung, rng.uniform(-1024, -970), 5.0, 0.0),
        ((hu < -400) & lung, rng.uniform(-950, -620), 45.0, rng.uniform(0, 0.7)),
        ((hu >= -400) & (hu < -30), rng.uniform(-130, -40), 15.0, rng.uniform(0, 1)),
        ((hu >= -30) & (hu < 150), rng.uniform(0, 90), 15.0, rng.uniform(0, 1)),
        (hu >= 150, rng.uniform(200, 900), 80.0, rng.uniform(0, 1)),
    ]
    field = smooth_field(rng, hu.shape, 12)
    for where, level, spread, keep in levels:
        if where.any():
            own = hu[where] - hu[where].mean()
            out[where] = level + keep * own + field[where] * rng.uniform(0, spread)
    if rng.random() < 0.5:
        out = ndimage.gaussian_filter(out, rng.uniform(0.2, 0.7)).astype(np.float32)
    return np.asarray(out, np.float32)


def sicken(
    rng: np.random.Generator, hu: F32, mask: F32, odds: Mapping[str, float] = SICKENED
) -> F32:
    """Paints masses, consolidation, effusion or ground glass into the lungs; the mask stays.
    `odds`: how often each is drawn."""
    out = np.array(hu)
    lung = mask > 0.5
    if lung.sum() < 500:
        return out
    places = np.argwhere(lung)
    grid = np.stack(np.meshgrid(*[np.arange(n) for n in hu.shape], indexing="ij")).astype(
        np.float32
    )
    wobble = smooth_field(rng, hu.shape, 6)
    for _ in range(int(rng.integers(1, 4))):
        kind = rng.choice(list(odds), p=list(odds.values()))
        tissue = rng.uniform(-20, 80) + 12 * rng.standard_normal(hu.shape).astype(np.float32)
        centre = places[rng.integers(len(places))]
        if kind == "effusion":
            side = lung & ((grid[2] < hu.shape[2] / 2) == (centre[2] < hu.shape[2] / 2))
            if side.sum() < 200:
                continue
            lean = rng.uniform(0.0, 0.8)
            height = grid[1] - lean * grid[0] + wobble
            level = np.quantile(height[side], 1 - rng.uniform(0.03, 0.35))
            where = side & (height > level)
            tissue = tissue * 0.3
        else:
            reach = {"mass": (3, 13), "consolidation": (6, 22), "glass": (6, 25)}[str(kind)]
            radius = rng.uniform(*reach) * np.exp(rng.uniform(-0.25, 0.25, 3))
            distance = sum(((grid[i] - centre[i]) / radius[i]) ** 2 for i in range(3))
            where = (np.sqrt(np.asarray(distance)) + 0.15 * wobble < 1) & lung
        if kind == "glass":
            out[where] = np.maximum(out[where], out[where] * 0.5 + rng.uniform(-350, -200))
        else:
            soft = ndimage.gaussian_filter(where.astype(np.float32), 0.5)
            out = np.where(
                where | (soft > 0.2) & lung, np.maximum(out, out * (1 - soft) + soft * tissue), out
            )
    return np.asarray(out, np.float32)


def bloat(rng: np.random.Generator, hu: F32, mask: F32) -> F32:
    """Blows gas bubbles with fluid levels into the body outside the lungs: stomach and colon."""
    wall = ndimage.binary_dilation(mask > 0.1, iterations=int(rng.integers(1, 4)))
    body = (hu > -250) & ~wall
    lung = np.flatnonzero((mask > 0.5).any((1, 2)))
    points = np.argwhere(body)
    if len(lung):
        points = points[points[:, 0] < np.quantile(lung, rng.uniform(0.2, 0.7))]
    if not len(points):
        return hu
    out = np.array(hu)
    grid = np.stack(np.meshgrid(*[np.arange(n) for n in hu.shape], indexing="ij")).astype(
        np.float32
    )
    wobble = smooth_field(rng, hu.shape, 6)
    for _ in range(int(rng.integers(1, 5))):
        centre = points[rng.integers(len(points))]
        radius = rng.uniform(3, 17) * np.exp(rng.uniform(-0.4, 0.4, 3))
        squared = sum(((grid[i] - centre[i]) / radius[i]) ** 2 for i in range(3))
        where = (np.sqrt(np.asarray(squared)) + 0.2 * wobble < 1) & ~wall & (out > -600)
        level = centre[1] + radius[1] * rng.uniform(-0.3, 1.2)
        fluid = where & (grid[1] > level)
        out[where] = rng.uniform(-1024, -940) + 6 * rng.standard_normal(int(where.sum()))
        out[fluid] = rng.uniform(-20, 60) + 10 * rng.standard_normal(int(fluid.sum()))
    return np.asarray(ndimage.gaussian_filter(out, 0.35), np.float32)


def without_lungs(rng: np.random.Generator, hu: F32, mask: F32) -> F32:
    """A body that has no lungs: theirs becomes soft tissue, with pockets of gas now and then."""
    grown = ndimage.binary_dilation(mask > 0.1, iterations=2)
    soft = ndimage.gaussian_filter(grown.astype(np.float32), 1.0)
    tissue = rng.uniform(-90, 70) + smooth_field(rng, hu.shape, 5) * rng.uniform(5, 60)
    out = np.where(grown, tissue + 15 * rng.standard_normal(hu.shape), hu)
    out = np.where(~grown & (soft > 0.05), np.maximum(out, -100), out)
    field = smooth_field(rng, hu.shape, int(rng.integers(4, 12)))
    gas = (
        (field > np.quantile(field[grown], rng.uniform(0.85, 0.99))) & grown
        if grown.any()
        else grown
    )
    out[gas] = rng.uniform(-1020, -960) + 15 * rng.standard_normal(int(gas.sum()))
    return np.asarray(ndimage.gaussian_filter(out, 0.4), np.float32)


def made_up_body(rng: np.random.Generator, size: tuple[int, int, int]) -> F32:
    """An ellipsoid of soft tissue with a shell of bone and cavities of gas: a head, a limb, a
    belly."""
    grid = np.stack(np.meshgrid(*[np.arange(n) for n in size], indexing="ij")).astype(np.float32)
    centre = np.array(size) / 2 + rng.normal(0, 4, 3)
    radius = np.array([rng.uniform(20, 90), rng.uniform(18, 52), rng.uniform(18, 52)])
    if rng.random() < 0.4:
        radius[0] = 1000
    wobble = 0.05 * smooth_field(rng, size, 10)
    r = np.sqrt(sum(((grid[i] - centre[i]) / radius[i]) ** 2 for i in range(3))) + wobble
    out = np.full(size, AIR_HU, np.float32)
    out[r < 1] = rng.uniform(-110, 60)
    bone, brain = rng.uniform(0.85, 0.97), rng.uniform(0.6, 0.93)
    if rng.random() < 0.6:
        out[r < bone] = rng.uniform(300, 1200)
        out[r < min(brain, bone - 0.03)] = rng.uniform(0, 60)
    field = smooth_field(rng, size, int(rng.integers(3, 10)))
    inside = r < 0.9
    if inside.any():
        gas = (field > np.quantile(field[inside], rng.uniform(0.85, 1.0))) & inside
        out[gas] = rng.uniform(-1024, -930)
    out += smooth_field(rng, size, 4) * 10
    return np.asarray(ndimage.gaussian_filter(out, 0.5), np.float32)


def lesson(rng: np.random.Generator, host: Host, k: Knobs, *, ill: bool) -> tuple[F32, F32, F32]:
    """HU, mask and shares of DISEASES [3, z, y, x] or UNKNOWN, before what a scanner adds. `ill`:
    of a host whose disease was painted with its masks."""
    hu, mask, classes = crop(rng, host, k)
    if rng.random() < k.empty:
        if rng.random() < 0.5:
            hu = made_up_body(rng, (k.depth, k.width, k.width))
            mask = np.zeros_like(hu)
        else:
            hu, mask = without_lungs(rng, hu, mask), np.zeros_like(mask)
        return hu, mask, np.full((len(DISEASES), *hu.shape), UNKNOWN, np.float32)
    known = True
    if not ill and rng.random() < k.repaint:
        hu, known = repaint(rng, hu, mask), False
    if rng.random() < k.disease:
        if ill:
            hu, before = sicken(rng, hu, mask, {"mass": 1.0}), hu
            classes = np.where(np.abs(hu - before) > MASS_HU, np.float32(0), classes)
        else:
            hu, known = sicken(rng, hu, mask), False
    if rng.random() < k.gas:
        hu = bloat(rng, hu, mask)
    return hu, mask, classes if known else np.full_like(classes, UNKNOWN)


def sample(rng: np.random.Generator, hosts: list[Host], k: Knobs) -> tuple[F32, F32, F32]:
    """One lesson: windowed image and mask [Z,Y,X], padded at the end to the crop size, and shares
    of DISEASES [3,Z,Y,X] or UNKNOWN."""
    host = hosts[int(rng.integers(len(hosts)))]
    ill = k.disease_weight > 0 and rng.random() < k.painted
    hu, mask, classes = lesson(rng, painted(rng, host) if ill else host, k, ill=ill)
    if rng.random() < 0.3:
        hu = ndimage.uniform_filter1d(hu, int(rng.integers(2, 4)), axis=0)
    if rng.random() < 0.2:
        hu = ndimage.gaussian_filter(hu, rng.uniform(0.3, 0.8))
    noise = rng.standard_normal(hu.shape).astype(np.float32)
    if rng.random() < 0.5:
        noise = ndimage.gaussian_filter(noise, 0.7) * 3
    hu = hu + noise * rng.uniform(0, 45) * (rng.random() < 0.6)
    judged = k.disease_weight > 0 and classes.max() > UNKNOWN
    scale, shift = CALIBRATED if judged else VARIED
    hu = hu * rng.uniform(*scale) + rng.uniform(*shift)
    every = np.concatenate([window(hu.astype(np.float32))[None], mask[None], classes])
    if rng.random() < 0.3:
        cut = [int(rng.integers(0, 25)) for _ in range(4)]
        ys, xs = slice(cut[0], every.shape[2] - cut[1]), slice(cut[2], every.shape[3] - cut[3])
        every = every[:, :, ys, xs]
    out = np.zeros((len(every), k.depth, k.width, k.width), np.float32)
    _, z, y, x = every.shape
    out[:, :z, :y, :x] = every
    return out[0], out[1], out[2:]


def batch_of(rng: np.random.Generator, hosts: list[Host], k: Knobs) -> tuple[Tensor, ...]:
    """Images and lung masks, both [B,1,Z,Y,X], and shares of DISEASES [B,3,Z,Y,X] or UNKNOWN."""
    drawn = [sample(rng, hosts, k) for _ in range(k.batch)]
    images, masks, classes = (torch.from_numpy(np.stack(p)) for p in zip(*drawn, strict=True))
    return images[:, None], masks[:, None], classes


def loss_of(outputs: Tensor | tuple[Tensor, Tensor], mask: Tensor, ill: Tensor, k: Knobs) -> Tensor:
    """Cross entropy and Dice of a mask, and the loss of the classes where the network says them."""
    lungs, *classes = (outputs,) if isinstance(outputs, Tensor) else outputs
    loss = weighted_bce(lungs, mask, torch.ones_like(mask)) + soft_dice(lungs, mask)
    for logits in classes:
        loss = loss + k.disease_weight * sick_lungs.loss_of(logits, ill, mask)
    return loss


def network(k: Knobs) -> LungNet:
    """The network that these knobs train, untrained."""
    return SickLungNet() if k.disease_weight else LungNet()


def train(k: Knobs, hosts: list[Host], folder: Path) -> LungNet:
    """Trains, writing `last.pt` and `log.csv` to `folder` (resumed from there); the average."""
    seed_all(k.seed, k.threads)
    model = network(k)
    print(f"{parameter_count(model)} parameters, hosts {[h.name for h in hosts]}", flush=True)
    job = Job(
        RECIPE,
        asdict(k),
        draw=lambda rng: batch_of(rng, hosts, k),
        loss=lambda model, image, mask, ill: loss_of(model(image), mask, ill, k),
    )
    state = fit(model, Schedule.of(k), job, folder, k.seed)
    shipped = network(k)
    shipped.load_state_dict(state)
    return shipped.eval()


def images(hosts: str, count: int, rng: np.random.Generator) -> list[F32]:
    """Inputs [1,1,Z,Y,X] drawn as in training, disease included."""
    shared, cache = shared_folder(), work_folder("cache")
    loaded = [load_host(shared, name, cache, sick=True) for name in nodule_hosts(hosts)]
    return [sample(rng, loaded, Knobs())[0][None, None] for _ in range(count)]


def main() -> None:
    """Data, model, schedule, loop."""
    k = knobs_from_command_line(Knobs())
    folder, cache = work_folder(k.name), work_folder("cache")
    names, sick = nodule_hosts(k.hosts), k.disease_weight > 0
    hosts = [load_host(shared_folder(), name, cache, sick=sick) for name in names]
    train(k, hosts, folder)
    (folder / "metrics.json").write_text(json.dumps({"knobs": asdict(k)}, indent=1) + "\n")
    print(f"checkpoint {folder / 'last.pt'}")


if __name__ == "__main__":
    command(main)
