"""Trains the 2D teacher on LUNA16 candidates, from the weights of natural images.

    python -m training.recipes.lung_nodule.teacher [--steps 900] [--name teacher] ...

Rules. First only the head learns, on what natural images taught; then all of it, at small rates.
Step count and rates are chosen on the file's own val split; the test split is never read.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from training.errors import RunError, command
from training.judge.metrics import auc, auc_estimate
from training.learn.checkpoint import load_checkpoint
from training.learn.knobs import knobs_from_command_line
from training.learn.loop import Batch, Job, Schedule, fit
from training.learn.steps import seed_all
from training.networks import EfficientNetLite0, parameter_count
from training.networks.efficientnet import load_pretrained, pretrained_file
from training.read.folders import shared_folder, work_folder
from training.read.left_out import KEY
from training.recipes.lung_nodule.patches import (
    U8,
    Variation,
    drawn,
    load_patches,
    logits_of,
    mixed,
    patch_file,
)
from training.ship import learned

RECIPE = "lung_nodule_teacher"


@dataclass(frozen=True)
class Knobs:
    """Everything that may be varied, with its unit."""

    name: str = "teacher"  # folder of checkpoint and log under the training work folder
    seed: int = 1
    threads: int = 1
    pretrained: bool = True  # start from natural images
    steps: int = 900  # about 8 passes of 5,247 patches
    batch: int = 48
    positives: float = 0.35  # share of nodules in a batch; 0.18 in the data
    rate: float = 2e-3  # AdamW, of the head
    gentle: float = 0.35  # of all the rest, times the head's
    warmup: int = 50  # steps, of either
    frozen_steps: int = 60
    decay: float = 0.05
    ema: float = 0.99
    mixup: float = 0.2  # Beta(a, a); 0 switches it off
    save_every: int = 100  # steps
    judge_every: int = 300
    bf16: bool = False  # channels last in float32 is faster on CPUs


def loss_of(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Binary cross-entropy."""
    return functional.binary_cross_entropy_with_logits(model(images).float(), labels)


def frozen_part(model: nn.Module) -> list[nn.Module]:
    """What natural images taught."""
    assert isinstance(model, EfficientNetLite0)
    return model.frozen_part()


def train(k: Knobs, data: dict[str, U8], folder: Path) -> EfficientNetLite0:
    """Trains, writing `last.pt` and `log.csv` to `folder` (resumed from there); the average."""
    seed_all(k.seed, k.threads)
    model = EfficientNetLite0()
    if k.pretrained:
        try:
            load_pretrained(model, pretrained_file())
        except (FileNotFoundError, ValueError) as e:
            raise RunError(str(e)) from e
    model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    print(f"{parameter_count(model)} parameters, {len(data['train_labels'])} patches", flush=True)

    variation = Variation(mixup=k.mixup)

    def draw(rng: np.random.Generator) -> Batch:
        images, labels = data["train_images"], data["train_labels"]
        return mixed(rng, *drawn(rng, images, labels, k.batch, k.positives), variation)

    def judge(averaged: nn.Module) -> dict[str, float]:
        scores = logits_of(averaged, data["val_images"], views=1)
        return {"val_auc_of_one_view": auc(data["val_labels"], scores)}

    schedule = Schedule.of(
        k, frozen_steps=k.frozen_steps, gentle=k.gentle, judge_every=k.judge_every
    )
    job = Job(RECIPE, {**asdict(k), "left_out": KEY}, draw, loss_of, judge, frozen_part)
    state = fit(model, schedule, job, folder, k.seed)
    return loaded(state)


def loaded(state: dict[str, Tensor]) -> EfficientNetLite0:
    """The teacher with a moving average, ready to infer."""
    model = EfficientNetLite0()
    model.load_state_dict(state)
    ready = model.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    assert isinstance(ready, EfficientNetLite0)
    return ready


def teacher(run: str) -> EfficientNetLite0:
    """The teacher of a finished run."""
    return loaded(load_checkpoint(work_folder(run) / "last.pt")["ema"])


def main() -> None:
    """Data, model, schedule, loop, and the val figure beside the checkpoint."""
    k = knobs_from_command_line(Knobs())
    data = load_patches(patch_file(shared_folder()))
    folder = work_folder(k.name)
    model = train(k, data, folder)
    scores = logits_of(model, data["val_images"])
    found = auc_estimate(data["val_labels"], scores)
    figures = {
        "val_auc": round(found.value, 4),
        "val_auc_interval": [round(found.low, 4), round(found.high, 4)],
        "val_n": len(scores),
        "knobs": asdict(k),
        "sources": [
            *learned.of_patches(patch_file(shared_folder())),
            *(learned.of_natural_images() if k.pretrained else []),
        ],
    }
    (folder / "metrics.json").write_text(json.dumps(figures, indent=1) + "\n")
    print(f"val auc {found.value:.4f} ({found.low:.4f}-{found.high:.4f}), n {len(scores)}")


if __name__ == "__main__":
    command(main)
