"""Exports the network of a finished run to ONNX and makes its INT8 version.

    python -m training.recipes.lung_nodule.quantize --network propose [--name propose] ...

Writes `float.onnx`, `int8.onnx` and `quantize.json` (method, damage of each method, sensitivity of
each layer, scales, digest of the calibration images) into the run's folder.

Rules. Calibration images come from what the network trained on, drawn like a training batch; the
damage is judged on others: the val split for patches, other draws from the same scans for volumes.
Damage is the root mean square change of the logits where they decide something, so that it tells
methods apart long before an AUC does; of a network that draws (bundle.DRAWN) the larger one of its
two maps of logits counts. A layer that alone does more than `most` stays float.
What was made of the same checkpoint with the same knobs is not made again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import nn

from training.errors import command
from training.implant.donors import cached_shapes
from training.implant.hosts import load_host
from training.judge.metrics import auc
from training.learn.checkpoint import fill, load_checkpoint
from training.learn.knobs import knobs_from_command_line
from training.networks import (
    CubeNet,
    DrawnMassNet,
    LungNet,
    MassNet,
    MeasureNet,
    PatchNet,
    ProposeNet,
    SickLungNet,
)
from training.read.files import file_digest
from training.read.folders import shared_folder, work_folder
from training.read.shared_series import NODULE_SERIES, training_series
from training.read.volume import F32, resample, window
from training.recipes.lung_nodule import bundle, cube, disease, mass, measure
from training.recipes.lung_nodule.candidates import joined
from training.recipes.lung_nodule.patches import load_patches, patch_file
from training.recipes.lung_nodule.proposal_patches import Drawing, sample
from training.recipes.lung_nodule.propose import drawing
from training.ship import quantize
from training.ship.onnx_file import exported, require_parity
from training.ship.source_folder import FILES


@dataclass(frozen=True)
class Knobs:
    """Everything that may be varied."""

    network: str = "propose"  # a role of the line: segment, propose ...
    name: str = ""  # of the finished run; empty: the network's
    seed: int = 11
    images: int = 16  # of the calibration set (batches of 64 for patches, of 24 for cubes)
    judged: int = 16  # images that the damage is judged on
    few: int = 3  # images of either kind for the sensitivity of one layer
    most: float = 0.1  # logits; a layer that alone does more stays float
    near: float = 6.0  # logits; cells further from a decision do not count
    threads: int = 2


EMPTY: dict[str, Callable[[], nn.Module]] = {
    "segment": LungNet,
    "propose": ProposeNet,
    "classify": PatchNet,
    "cube": CubeNet,
    "mass": MassNet,
    "measure": MeasureNet,
}
SIDES = {
    "segment": (48, 64, 80),
    "propose": (48, 64, 80),
    "classify": (48, 48),
    "cube": (32, 32, 32),
    "mass": (48, 64, 80),
    "measure": (48, 48, 48),
}
SHOWN = (
    "method",
    "damage_of_int8",
    "float_layers",
    "weight_bytes",
    "file_bytes",
    "val_auc",
    "auc",
)
DRAWN = {"mass": mass.images, "measure": measure.images}
DRAWS: dict[str, tuple[str, Callable[[], nn.Module]]] = {
    "mass": ("body_weight", DrawnMassNet),
    "segment": ("lungs", SickLungNet),
}
"""By role: the knob that tells that a run's network draws (bundle.DRAWN), and that network."""


def empty(network: bundle.Role, knobs: Mapping[str, Any]) -> nn.Module:
    """The untrained network of a run with these knobs; no run of before has one that draws."""
    knob, drawing = DRAWS.get(network, ("", EMPTY[network]))
    return drawing() if knobs.get(knob) else EMPTY[network]()


def averaged(network: bundle.Role, run: str) -> tuple[nn.Module, dict[str, Any]]:
    """The network with a run's moving average, ready to infer, and the run's knobs."""
    path = work_folder(run) / "last.pt"
    state = load_checkpoint(path)
    model = empty(network, state.get("knobs", {}))
    fill(model, state.get("ema", {}), path)
    return model.eval(), {"step": state["step"], **state["knobs"]}


def runner(role: bundle.Role, model: onnx.ModelProto, threads: int) -> Callable[[F32], list[F32]]:
    """The maps of logits of a network of the line that its damage is judged on: the first output,
    and what it draws besides."""
    entry = bundle.network_of(role, model.SerializeToString())
    run = quantize.outputs_runner(role, entry, model, threads)
    names = [
        port.name for port in entry.outputs if port in (entry.outputs[0], bundle.DRAWN.get(role))
    ]

    def maps(image: F32) -> list[F32]:
        found = run(image)
        return [found[name] for name in names]

    return maps


def change(after: list[list[F32]], before: list[list[F32]], near: float) -> float:
    """Root mean square change of the logits of images, map by map, where `before` lies nearer to 0
    than `near`; of several maps the largest."""
    harms = []
    for new, old in zip(zip(*after, strict=True), zip(*before, strict=True), strict=True):
        moved = [(a - b)[np.abs(b) < near] for a, b in zip(new, old, strict=True)]
        harms.append(float(np.sqrt(np.mean(np.concatenate(moved) ** 2))))
    return max(harms)


def blocks(
    role: bundle.Role, hosts: list[str], implants: float, count: int, rng: np.random.Generator
) -> list[F32]:
    """Inputs of a 3D network from training CTs: patches as the run drew them, or whole scans at
    3 mm."""
    shared = shared_folder()
    if role == "propose":
        cache = work_folder("cache")
        shapes = cached_shapes(shared, cache) if implants else []
        how = drawing(implants)
        loaded = [load_host(shared, name, cache) for name in hosts]
        drawn = [sample(rng, loaded[i % len(loaded)], shapes, how) for i in range(count)]
        return [one.image[None, None] for one in drawn]
    found: list[F32] = []
    scans = [training_series(shared, name) for name in hosts]
    coarse = [window(resample(v.hu, v.spacing, [bundle.SEGMENT_MM] * 3)) for v in scans]
    for i in range(count):
        one = coarse[i % len(coarse)]
        size = [min(96, n // bundle.MULTIPLE * bundle.MULTIPLE) for n in one.shape]
        at = [int(rng.integers(0, n - s + 1)) for n, s in zip(one.shape, size, strict=True)]
        z, y, x = (slice(a, a + s) for a, s in zip(at, size, strict=True))
        noisy = one[z, y, x] + rng.normal(0, rng.uniform(0, 0.02), size)
        found.append(np.asarray(np.clip(noisy, 0, 1)[None, None], np.float32))
    return found


def patches(split: str, count: int, rng: np.random.Generator) -> tuple[list[F32], F32]:
    """Batches of 64 patches of a split, and their labels."""
    data = load_patches(patch_file(shared_folder()))
    images, labels = data[f"{split}_images"], data[f"{split}_labels"]
    pick = rng.permutation(len(labels))[: count * 64]
    scaled: F32 = np.asarray(images[pick, None, 1:49, 1:49] / 255, np.float32)
    batches = [scaled[i : i + 64] for i in range(0, len(pick), 64)]
    return batches, np.asarray(labels[pick], np.float32)


def cubes(
    run: dict[str, Any], count: int, rng: np.random.Generator, threads: int
) -> tuple[list[F32], list[F32], F32]:
    """`count` batches of 24 candidates' cubes to calibrate on, as many others to judge on, and
    their labels: of the scans that the run learnt from, as they were mined."""
    pools = cube.mined(run["hosts"], run["propose"], run["seeds"], threads)
    every = joined([pool.pick(rng.permutation(len(pool))) for pool in pools])
    every = every.pick(rng.permutation(len(every))[: 2 * 24 * count])
    images = cube.middle(cube.unit(every.cubes))[:, None]
    batches = [images[i : i + 24] for i in range(0, len(images), 24)]
    half = len(batches) // 2
    return batches[:half], batches[half:], every.labels[24 * half :].astype(np.float32)


def area_of(
    role: bundle.Role, judged: list[F32], labels: F32, threads: int, model: onnx.ModelProto
) -> float:
    """AUC of a network's first output."""
    run_it = runner(role, model, threads)
    return round(auc(labels, np.concatenate([run_it(image)[0] for image in judged])), 5)


def drawn(
    role: bundle.Role, run: dict[str, Any], k: Knobs
) -> tuple[list[F32], list[F32], F32 | None]:
    """Images that calibrate, others that the damage is judged on, and labels of those where an AUC
    tells more."""
    rng = np.random.default_rng(k.seed)
    if role == "classify":
        calibration, _ = patches("train", k.images, rng)
        return calibration, *patches("val", 1000, rng)
    if role == "cube":
        return cubes(run, k.images, rng, k.threads)
    if role == "segment" and run.get("lungs"):
        images = disease.images(run["hosts"], k.images + k.judged, rng)
        return images[: k.images], images[k.images :], None
    if role in DRAWN:
        draw = partial(DRAWN[role], run["hosts"])
        return draw(k.images, rng, "train"), draw(k.judged, rng, "val"), None
    hosts = [h for h in str(run.get("hosts", "")).split(",") if h] or list(NODULE_SERIES)
    draw = partial(blocks, role, hosts, float(run.get("implants", Drawing().implants)))
    return draw(k.images, rng), draw(k.judged, rng), None


def made_of(folder: Path, k: Knobs) -> dict[str, Any]:
    """What an INT8 network is made of, for quantize.json."""
    return {"knobs": asdict(k), "checkpoint": file_digest(folder / "last.pt")}


def done(folder: Path, made: dict[str, Any]) -> bool:
    """Whether quantize.json tells of this checkpoint and these knobs, and of the file beside it."""
    try:
        measured = json.loads((folder / "quantize.json").read_text())
        return bool(
            measured["made_of"] == made
            and measured["sha256"] == file_digest(folder / FILES["int8"])
        )
    except (OSError, ValueError, KeyError):
        return False


def main() -> None:
    """Export, calibrate, choose, write."""
    k = knobs_from_command_line(Knobs())
    if k.network not in EMPTY:
        raise SystemExit(f"error: --network is one of {', '.join(EMPTY)}, not {k.network!r}")
    role: bundle.Role = k.network  # type: ignore[assignment] # checked above
    folder = work_folder(k.name or k.network)
    model, run = averaged(role, k.name or k.network)
    made_from = made_of(folder, k)
    if done(folder, made_from):
        print(f"{folder / FILES['int8']} is of this checkpoint already")
        return
    entry = bundle.network(role, "0" * 64, drawn=isinstance(model, DrawnMassNet | SickLungNet))
    names = [port.name for port in entry.outputs]
    plain = exported(model, SIDES[role], names, many=role in ("cube", "measure"))
    calibration, judged, labels = drawn(role, run, k)
    torch.set_num_threads(k.threads)
    gaps = require_parity(model, plain, judged[0])
    float_run = runner(role, plain, k.threads)
    wanted = [float_run(image) for image in judged]

    def damage(candidate: onnx.ModelProto, most: int = len(judged)) -> float:
        run_it = runner(role, candidate, k.threads)
        return change([run_it(image) for image in judged[:most]], wanted[:most], k.near)

    few = partial(damage, most=k.few)
    made, found = quantize.in_int8(plain, calibration, damage, k.few, few, k.most)
    print(f"{role}: {found['method']}, damage {found['damage']}", flush=True)
    about: dict[str, Any] = {
        "network": role,
        "run": run,
        **found,
        "calibration": {
            "images": sum(map(len, calibration)),
            "digest": quantize.digest(calibration),
        },
        **quantize.compared(plain, made),
        "largest_difference_from_torch": gaps,
    }
    if labels is not None:
        area = partial(area_of, role, judged, labels, k.threads)
        about["auc" if role == "cube" else "val_auc"] = {"float": area(plain), "int8": area(made)}
    quantize.save(folder, plain, made)
    about |= {"made_of": made_from, "sha256": file_digest(folder / FILES["int8"])}
    (folder / "quantize.json").write_text(json.dumps(about, indent=1) + "\n")
    print(json.dumps({name: about[name] for name in SHOWN if name in about}))


if __name__ == "__main__":
    command(main)
