"""Trains the hybrid teacher: an axial patch and a cube of each candidate, weighed by attention.

    python -m training.recipes.lung_nodule.hybrid [--hosts C3N-00247,A0001] [--scale 0.25] ...

Rules. Pairs are our own candidates (`candidates`); LUNA16's patches, which have no cube, teach the
2D branch beside them, as cases of one branch: the two sets share no patient. Of a pair a branch is
hidden now and then, so that neither leans on the other. It is judged on LUNA16's val patches by its
2D branch, and on a host left out by `judge_cube`. It never ships.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from training.errors import command
from training.judge.metrics import auc
from training.learn.knobs import knobs_from_command_line
from training.learn.loop import Batch, Job, Schedule, fit
from training.learn.steps import seed_all
from training.networks import parameter_count
from training.networks.hybrid import HybridNet
from training.read.folders import shared_folder, work_folder
from training.read.left_out import KEY
from training.read.shared_series import NODULE_SERIES
from training.recipes.lung_nodule import patches as luna
from training.recipes.lung_nodule.candidates import U8, Candidates
from training.recipes.lung_nodule.cube import PROPOSE, SIDE, drawn, mined, mixed, varied
from training.ship import learned

RECIPE = "lung_nodule_hybrid"


@dataclass(frozen=True)
class Knobs:
    """Everything that may be varied, with its unit."""

    name: str = "hybrid"  # folder of checkpoint and log under the training work folder
    seed: int = 7
    threads: int = 1
    hosts: str = ",".join(NODULE_SERIES)
    propose: str = PROPOSE
    seeds: int = 24  # scans mined of each host
    scale: float = 0.25  # of all widths; 1 is for a GPU
    zoom: int = 1  # of the patches
    steps: int = 400
    pairs: int = 24  # candidates of our own in a batch
    alone: int = 32  # patches of LUNA16 in a batch
    positives: float = 0.5  # share of nodules among either
    real: float = 0.08  # share of marked lesions among a host's nodules
    hidden: float = 0.15  # chance of either branch of a pair to be hidden
    rate: float = 1.5e-3  # AdamW, peak of the cosine
    warmup: int = 40  # steps
    decay: float = 0.05  # AdamW weight decay
    ema: float = 0.98
    mixup: float = 0.2  # Beta(a, a), among pairs and among patches; 0 switches it off
    save_every: int = 100  # steps
    judge_every: int = 200
    bf16: bool = True


def batch_of(
    rng: np.random.Generator, pools: Sequence[Candidates], patches: dict[str, U8], k: Knobs
) -> Batch:
    """Patches, cubes, which of them are there [N,2], labels [N]: pairs, then patches alone."""
    flat, deep, labels = drawn(rng, pools, k.pairs, k.positives, k.real)
    pair = mixed(rng, k.mixup, *varied(rng, flat, deep), torch.from_numpy(labels))
    roll = rng.random(k.pairs)
    both = np.stack([roll >= k.hidden, roll < 1 - k.hidden], 1)
    few = luna.drawn(rng, patches["train_images"], patches["train_labels"], k.alone, k.positives)
    images, answers = luna.mixed(rng, *few, luna.Variation(mixup=k.mixup))
    nothing = torch.zeros((k.alone, 1, SIDE, SIDE, SIDE))
    return (
        torch.cat([pair[0], images]),
        torch.cat([pair[1], nothing]),
        torch.cat([torch.from_numpy(both).float(), torch.tensor([[1.0, 0.0]] * k.alone)]),
        torch.cat([pair[2], answers]),
    )


def loss_of(
    model: nn.Module, patches: Tensor, cubes: Tensor, present: Tensor, labels: Tensor
) -> Tensor:
    """Binary cross-entropy; a case counts the same whatever it has."""
    logits = model(patches, cubes, present).float()
    return functional.binary_cross_entropy_with_logits(logits, labels)


def train(k: Knobs, pools: Sequence[Candidates], patches: dict[str, U8], folder: Path) -> HybridNet:
    """Trains, writing `last.pt` and `log.csv` to `folder` (resumed from there); the average."""
    seed_all(k.seed, k.threads)
    model = HybridNet(scale=k.scale, zoom=k.zoom)
    count = sum(map(len, pools))
    print(f"{parameter_count(model)} parameters, {count} candidates", flush=True)

    def judged(averaged: nn.Module) -> dict[str, float]:
        logits = luna.logits_of(averaged, patches["val_images"], views=1)
        return {"val auc of patches alone": auc(patches["val_labels"], logits)}

    schedule = Schedule.of(k, judge_every=k.judge_every)
    job = Job(
        RECIPE,
        {**asdict(k), "left_out": KEY},
        draw=lambda rng: batch_of(rng, pools, patches, k),
        loss=loss_of,
        judge=judged,
    )
    state = fit(model, schedule, job, folder, k.seed)
    finished = HybridNet(scale=k.scale, zoom=k.zoom)
    finished.load_state_dict(state)
    return finished.eval()


def main() -> None:
    """Data, model, schedule, loop, and the val figure beside the checkpoint."""
    k = knobs_from_command_line(Knobs())
    folder = work_folder(k.name)
    pools = mined(k.hosts, k.propose, k.seeds, k.threads)
    patches = luna.load_patches(luna.patch_file(shared_folder()))
    model = train(k, pools, patches, folder)
    score = auc(patches["val_labels"], luna.logits_of(model, patches["val_images"]))
    sources = [
        *learned.of_series(k.hosts),
        *learned.of_outlines(),
        *learned.of_patches(luna.patch_file(shared_folder())),
    ]
    figures = {
        "val_auc_of_patches_alone": round(score, 4),
        "knobs": asdict(k),
        "sources": sources,
    }
    (folder / "metrics.json").write_text(json.dumps(figures, indent=1) + "\n")
    print(f"val auc of patches alone {score:.4f}, checkpoint {folder / 'last.pt'}")


if __name__ == "__main__":
    command(main)
