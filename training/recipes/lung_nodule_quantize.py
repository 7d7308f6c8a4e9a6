"""Exports the network of a finished run to ONNX and makes its INT8 version.

    python -m training.recipes.lung_nodule_quantize --network propose [--name propose] ...

Writes `float.onnx`, `int8.onnx` and `quantize.json` (method, damage of each method, sensitivity of
each layer, scales, digest of the calibration images) into the run's folder.

Rules. Calibration images come from what the network trained on, drawn like a training batch; the
damage is judged on others: the val split for patches, other draws from the same scans for volumes.
Damage is the root mean square change of the logits where they decide something, so that it tells
methods apart long before an AUC does. A layer that alone does more than `most` stays float.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import onnx
import torch
from torch import nn

from appliance.backend.choose import choose as choose_backend
from appliance.backend.open import LOADERS
from training import quantize, source
from training.data import F32, TRAINING_SERIES, resample, training_series, window
from training.hosts import load_host
from training.loop import (
    knobs_from_command_line,
    load_checkpoint,
    shared_folder,
    work_folder,
)
from training.metrics import auc
from training.networks import LungNet, PatchNet, ProposeNet
from training.onnx_file import exported, parity
from training.recipes import lung_nodule_classify, lung_nodule_propose
from training.shapes import cached_shapes


@dataclass(frozen=True)
class Knobs:
    """Everything that may be varied."""

    network: str = "propose"  # segment, propose or classify
    name: str = ""  # of the finished run; empty: the network's
    seed: int = 11
    images: int = 16  # of the calibration set (batches of 64 for patches)
    judged: int = 16  # images that the damage is judged on
    few: int = 3  # images of either kind for the sensitivity of one layer
    most: float = 0.1  # logits; a layer that alone does more stays float
    near: float = 6.0  # logits; cells further from a decision do not count
    threads: int = 2


EMPTY: dict[str, Callable[[], nn.Module]] = {
    "segment": LungNet,
    "propose": ProposeNet,
    "classify": PatchNet,
}
SIDES = {"segment": (48, 64, 80), "propose": (48, 64, 80), "classify": (48, 48)}


def averaged(network: source.Role, run: str) -> tuple[nn.Module, dict[str, Any]]:
    """The network with a run's moving average, ready to infer, and the run's knobs."""
    state = load_checkpoint(work_folder(run) / "last.pt")
    model = EMPTY[network]()
    model.load_state_dict(state["ema"])
    return model.eval(), {"step": state["step"], **state["knobs"]}


def runner(role: source.Role, model: onnx.ModelProto, threads: int) -> Callable[[F32], F32]:
    """The first output of a network, run by the backend the appliance would choose."""
    entry = source.network(role, "0" * 64)
    loader = LOADERS[choose_backend("auto")]
    run = loader({role: entry}, {role: model.SerializeToString()}, threads)[role]
    first = entry.outputs[0].name
    return lambda image: np.array(run(image)[first], np.float32)


def blocks(role: source.Role, hosts: list[str], count: int, rng: np.random.Generator) -> list[F32]:
    """Inputs of a 3D network from training CTs: implanted patches, or whole scans at 3 mm."""
    shared = shared_folder()
    if role == "propose":
        cache = work_folder("cache")
        shapes = cached_shapes(shared, cache)
        loaded = [load_host(shared, name, cache) for name in hosts]
        k = lung_nodule_propose.Knobs()
        return [
            np.asarray(
                lung_nodule_propose.sample(rng, loaded[i % len(loaded)], shapes, k)[0][None, None],
                np.float32,
            )
            for i in range(count)
        ]
    found: list[F32] = []
    scans = [training_series(shared, name) for name in hosts]
    coarse = [window(resample(v.hu, v.spacing, [source.SEGMENT_MM] * 3)) for v in scans]
    for i in range(count):
        one = coarse[i % len(coarse)]
        size = [min(96, n // source.MULTIPLE * source.MULTIPLE) for n in one.shape]
        at = [int(rng.integers(0, n - s + 1)) for n, s in zip(one.shape, size, strict=True)]
        z, y, x = (slice(a, a + s) for a, s in zip(at, size, strict=True))
        noisy = one[z, y, x] + rng.normal(0, rng.uniform(0, 0.02), size)
        found.append(np.asarray(np.clip(noisy, 0, 1)[None, None], np.float32))
    return found


def patches(split: str, count: int, rng: np.random.Generator) -> tuple[list[F32], F32]:
    """Batches of 64 patches of a split, and their labels."""
    path = shared_folder() / "data" / "patches" / "luna16_patches50.npz"
    data = lung_nodule_classify.load_patches(path)
    images, labels = data[f"{split}_images"], data[f"{split}_labels"]
    pick = rng.permutation(len(labels))[: count * 64]
    scaled: F32 = np.asarray(images[pick, None, 1:49, 1:49] / 255, np.float32)
    batches = [scaled[i : i + 64] for i in range(0, len(pick), 64)]
    return batches, np.asarray(labels[pick], np.float32)


def main() -> None:
    """Export, calibrate, choose, write."""
    k = knobs_from_command_line(Knobs())
    if k.network not in EMPTY:
        raise SystemExit(f"error: --network is one of {', '.join(EMPTY)}, not {k.network!r}")
    role: source.Role = k.network  # type: ignore[assignment] # checked above
    folder = work_folder(k.name or k.network)
    model, run = averaged(role, k.name or k.network)
    names = [port.name for port in source.network(role, "0" * 64).outputs]
    plain = exported(model, SIDES[role], names)
    rng = np.random.default_rng(k.seed)
    labels = None
    if role == "classify":
        calibration, _ = patches("train", k.images, rng)
        judged, labels = patches("val", 1000, rng)
    else:
        hosts = [h for h in str(run.get("hosts", "")).split(",") if h] or list(TRAINING_SERIES)
        calibration = blocks(role, hosts, k.images, rng)
        judged = blocks(role, hosts, k.judged, rng)
    torch.set_num_threads(k.threads)
    gaps = parity(model, plain, judged[0])
    if max(gaps.values()) > 1e-3:
        raise SystemExit(f"error: the exported network differs from torch: {gaps}")
    float_run = runner(role, plain, k.threads)
    wanted = [float_run(image) for image in judged]

    def damage(candidate: onnx.ModelProto, most: int = len(judged)) -> float:
        run_it = runner(role, candidate, k.threads)
        changes = [
            (run_it(image) - before)[np.abs(before) < k.near]
            for image, before in zip(judged[:most], wanted[:most], strict=True)
        ]
        return float(np.sqrt(np.mean(np.concatenate(changes) ** 2)))

    chosen = quantize.choose(plain, calibration, damage)
    print(f"{role}: {chosen.method}, damage {dict(chosen.damage)}", flush=True)
    layers = quantize.sensitivity(
        plain, calibration[: k.few], chosen.method, partial(damage, most=k.few)
    )
    sensitive = [layer.name for layer in layers if layer.damage > k.most]
    made = chosen.model
    if sensitive:
        made = quantize.quantized(plain, calibration, chosen.method, sensitive)
    about: dict[str, Any] = {
        "network": role,
        "run": run,
        "method": chosen.method,
        "damage": dict(chosen.damage),
        "damage_of_int8": damage(made),
        "float_layers": sensitive,
        "sensitivity": [asdict(layer) for layer in layers],
        "calibration": {"images": len(calibration), "digest": quantize.digest(calibration)},
        "scales": quantize.scales(made),
        "weight_bytes": [quantize.weight_bytes(made), quantize.weight_bytes(plain)],
        "file_bytes": [len(made.SerializeToString()), len(plain.SerializeToString())],
        "largest_difference_from_torch": gaps,
    }
    if labels is not None:
        run_it = runner(role, made, k.threads)
        scores = {"float": wanted, "int8": [run_it(image) for image in judged]}
        about["val_auc"] = {n: round(auc(labels, np.concatenate(s)), 5) for n, s in scores.items()}
    onnx.save_model(plain, str(folder / "float.onnx"))
    onnx.save_model(made, str(folder / "int8.onnx"))
    (folder / "quantize.json").write_text(json.dumps(about, indent=1) + "\n")
    shown = ("method", "damage_of_int8", "float_layers", "weight_bytes", "file_bytes", "val_auc")
    print(json.dumps({name: about[name] for name in shown if name in about}))


if __name__ == "__main__":
    main()
