"""Exports the pneumonia student to ONNX, makes its INT8 version, and says what that costs.

    python -m training.recipes.chest_pneumonia.quantize [--name pneumonia] ...

Writes `float.onnx`, `int8.onnx`, `quantize.json` (method, damage of each method, sensitivity of
each layer, scales, digest of the calibration images), `oof-int8.npz` and `heads.json` (scale, bias,
threshold) into the run's folder, and adds the INT8 figures to its `metrics.json`.

Rules. Calibration images are training views, drawn like a training batch. The damage is the root
mean square change of the logits on other images, as they are and shifted. A layer that alone does
more than `most` stays float. What INT8 costs in AUC is measured out of fold: the five doubles that
left a fold out are quantised in the same way, and the heads are fitted on their INT8 logits.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import onnx

from training.errors import RunError, command
from training.learn.knobs import knobs_from_command_line
from training.learn.steps import seed_all
from training.read.folders import work_folder
from training.read.volume import F32
from training.recipes.chest_pneumonia import bundle
from training.recipes.chest_pneumonia import teacher as taught
from training.recipes.chest_pneumonia.figures import (
    PLAIN,
    against,
    calibrated,
    figures,
    keep,
    table,
)
from training.recipes.chest_pneumonia.pneumonia_mnist import (
    FOLDS,
    I64,
    SIZE,
    U8,
    Exposure,
    Radiographs,
    exposed,
    shifted,
)
from training.recipes.chest_pneumonia.student import finished
from training.ship import quantize
from training.ship.onnx_file import exported, require_parity

OUTPUTS = ["logit", "activation"]


@dataclass(frozen=True)
class Knobs:
    """Everything that may be varied."""

    name: str = "pneumonia"  # the finished run
    seed: int = 21
    view_seed: int = 1  # of the training's views, see `teacher`
    views: int = 12
    images: int = 16  # batches of 64 that calibrate
    judged: int = 512  # images that the damage is judged on, each in every copy
    few: int = 4  # batches for the sensitivity of one layer
    most: float = 0.1  # logits; a layer that alone does more stays float
    most_lost: float = 0.002  # AUC that INT8 may cost out of fold
    threads: int = 1


def batches(
    data: Radiographs, views: U8, rows: I64, count: int, rng: np.random.Generator
) -> list[F32]:
    """Batches of 64 as in training, some of every fold that may be seen."""
    made = []
    for _ in range(count):
        pick = rng.choice(rows, 64)
        some = np.asarray(views[rng.integers(0, len(views), 64), pick])
        made.append(exposed(taught.as_input(some), rng, Exposure()).numpy())
    return made


def runner(model: onnx.ModelProto, threads: int) -> Callable[[F32], F32]:
    """Images [n, 28, 28] in [0, 1] -> logits [n], a few at a time."""
    run = quantize.runner("classify", bundle.network("0" * 64), model, threads)

    def answer(images: F32) -> F32:
        parts = [
            run(np.ascontiguousarray(images[i : i + 256, None])) for i in range(0, len(images), 256)
        ]
        return np.concatenate(parts)

    return answer


def main() -> None:
    """Export, calibrate, choose, measure out of fold, write."""
    k = knobs_from_command_line(Knobs())
    folder = work_folder(k.name)
    rng = seed_all(k.seed, k.threads)
    data, views = taught.read_data(taught.Knobs(view_seed=k.view_seed, views=k.views))
    metrics = folder / "metrics.json"
    if not metrics.exists():
        raise RunError(f"{metrics}: not there; train the run first")
    pick = rng.choice(len(data), min(k.judged, len(data)), replace=False)
    copies = shifted(taught.in_unit(data.images[pick]), data.labels[pick])
    judged = np.concatenate(list(copies.values()))

    model = finished(folder)
    plain = exported(model, (SIZE, SIZE), OUTPUTS)
    gaps = require_parity(model, plain, judged[:64, None])
    wanted = runner(plain, k.threads)(judged)

    def damage(candidate: onnx.ModelProto, every: int = 1) -> float:
        answers = runner(candidate, k.threads)(judged[::every])
        return float(np.sqrt(np.mean((answers - wanted[::every]) ** 2)))

    calibration = batches(data, views, np.arange(len(data)), k.images, rng)
    quick = partial(damage, every=8)
    made, about = quantize.in_int8(plain, calibration, damage, k.few, quick, k.most)
    about |= {
        "calibration": {"images": 64 * len(calibration), "digest": quantize.digest(calibration)},
        **quantize.compared(plain, made),
        "largest_difference_from_torch": gaps,
    }
    print(json.dumps({n: about[n] for n in ("method", "damage", "float_layers", "file_bytes")}))

    judges = []
    for fold in range(FOLDS):
        double = exported(finished(folder / f"fold-{fold}"), (SIZE, SIZE), OUTPUTS)
        seen = batches(data, views, np.flatnonzero(data.folds != fold), k.images, rng)
        judges.append(
            runner(
                quantize.quantized(double, seen, about["method"], about["float_layers"]), k.threads
            )
        )
    found, logits = figures(data, judges)
    keep(folder / "oof-int8.npz", data, logits)
    about["float_above_int8"] = against(folder / "oof.npz", folder / "oof-int8.npz")
    lost = about["float_above_int8"][PLAIN]["difference"]
    print(table(f"{k.name} INT8", found))
    if lost > k.most_lost:
        raise RunError(f"INT8 loses {lost:.4f} AUC, more than {k.most_lost}")
    scale, bias, threshold = calibrated(data.labels, logits)
    heads = {"scale": scale, "bias": bias, "threshold": threshold}

    quantize.save(folder, plain, made)
    both = {**json.loads(metrics.read_text()), "int8": found, "heads": heads}
    for name, content in (("quantize", about), ("heads", heads), ("metrics", both)):
        (folder / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n")
    print(json.dumps(heads))


if __name__ == "__main__":
    command(main)
