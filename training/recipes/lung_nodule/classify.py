"""Trains the 2D student on LUNA16 candidates, with teachers or alone.

    python -m training.recipes.lung_nodule.classify --name student-alone --teachers "" --start "" \\
        --steps 3000 --rate 3e-3
    python -m training.recipes.lung_nodule.classify [--teachers teacher,student-alone] ...

The second goes on from the first, with teachers. Without them, from the same start, it says what
the further steps alone bring.

Rules. Step count and weights of the losses are chosen on the file's own val split; the test split
is never read. Teachers see what the student sees, mixed patches and all, and do not learn. The
student's figure stands beside those of its teachers and of the run `--alone`, each compared on the
same draws of cases.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from training.errors import RunError, command
from training.judge.metrics import auc, auc_estimate, auc_or_nan, paired
from training.learn.checkpoint import load_checkpoint
from training.learn.distill import attention_loss, feature_loss, logit_loss, projection
from training.learn.knobs import knobs_from_command_line
from training.learn.loop import Batch, Job, Schedule, device, fit
from training.learn.steps import seed_all
from training.networks import EfficientNetLite0, PatchNet, parameter_count
from training.read.folders import shared_folder, work_folder
from training.read.left_out import KEY
from training.read.origin import NOT_STATED
from training.recipes.lung_nodule.patches import (
    F32,
    U8,
    Variation,
    drawn,
    load_patches,
    logits_of,
    mixed,
    patch_file,
)
from training.recipes.lung_nodule.teacher import RECIPE as TEACHERS
from training.recipes.lung_nodule.teacher import loaded
from training.ship import learned
from training.ship.provenance import Source, file_source

RECIPE = "lung_nodule_classify"
Teacher = EfficientNetLite0 | PatchNet


@dataclass(frozen=True)
class Knobs:
    """Everything that may be varied, with its unit."""

    name: str = "student"  # folder of checkpoint and log under the training work folder
    teachers: str = "teacher,student-alone"  # finished runs, the first one's maps are followed
    start: str = "student-alone"  # finished run whose weights it starts from; empty: none
    alone: str = "student-alone"  # the run to compare with; empty: none
    soft: float = 0.7  # weight of the teachers' logits; of the labels 1 - soft
    temperature: float = 2.0
    attention: float = 0.1  # weight of where the first teacher looks
    feature: float = 0.0  # weight of what it sees there
    seed: int = 1
    threads: int = 1
    steps: int = 1200  # about 15 passes of 5,247 patches
    batch: int = 64
    positives: float = 0.35  # share of nodules in a batch; 0.18 in the data
    rate: float = 1e-3  # AdamW, peak of the schedule
    schedule: str = "cosine"  # or plateau
    warmup: int = 100  # steps
    decay: float = 0.05  # AdamW weight decay
    ema: float = 0.997
    mixup: float = 0.3  # Beta(a, a); 0 switches it off
    noise_hu: float = 40.0  # upper end of the added noise's standard deviation
    blur_px: float = 0.8  # upper end of the added Gaussian blur
    shift_px: float = 3.0  # candidates are not centred exactly
    extra: str = ""  # npz with patches [N,50,50] uint8 and labels: cut from training CTs
    extra_share: float = 0.25  # share of a batch drawn from `extra`
    save_every: int = 250  # steps
    judge_every: int = 500
    bf16: bool = True


def empty(k: Knobs) -> PatchNet:
    """The student, with a projection to the teacher's maps where they are followed."""
    model = PatchNet()
    if k.feature:
        model.add_module("projection", projection(80, 112))
    return model


def shipped(state: dict[str, Tensor]) -> PatchNet:
    """The student of a moving average, without what only training needs."""
    model = PatchNet()
    model.load_state_dict({n: v for n, v in state.items() if not n.startswith("projection.")})
    return model.eval()


def teacher(run: str) -> Teacher:
    """The network of a finished run of this recipe or of the teacher's."""
    state = load_checkpoint(work_folder(run) / "last.pt")
    if state.get("recipe") == TEACHERS:
        return loaded(state["ema"])
    if state.get("recipe") == RECIPE:
        return shipped(state["ema"])
    raise RunError(f"run {run!r} is of {state.get('recipe')}: no teacher of patches")


def seen(one: Teacher, images: Tensor) -> tuple[Tensor, Tensor]:
    """A teacher's logits [N] and its maps [N,C,6,6]."""
    if isinstance(one, PatchNet):
        maps = one.features(images)
        return one.judged(maps), maps
    both = one.features(images)
    return one.judged(both), both[0]


def loss_with(k: Knobs, teachers: list[Teacher]) -> Any:
    """The loss (model, images, labels) -> scalar of rule 2."""
    for one in teachers:
        one.to(device()).requires_grad_(False)

    def loss_of(model: PatchNet, images: Tensor, labels: Tensor) -> Tensor:
        maps = model.features(images)
        logit = model.judged(maps).float()
        hard = functional.binary_cross_entropy_with_logits(logit, labels)
        if not teachers:
            return hard
        with torch.no_grad():
            logits, followed = seen(teachers[0], images)
            theirs = torch.stack([logits, *[one(images) for one in teachers[1:]]])
        total = (1 - k.soft) * hard
        total = total + k.soft * logit_loss(logit, theirs.float().mean(0), k.temperature)
        if k.attention:
            total = total + k.attention * attention_loss(maps, followed)
        if k.feature:
            projected = model.get_submodule("projection")(maps)
            total = total + k.feature * feature_loss(projected, followed)
        return total

    return loss_of


def train(
    k: Knobs,
    data: dict[str, U8],
    extra: tuple[U8, U8] | None,
    folder: Path,
    teachers: list[Teacher] | None = None,
    start: dict[str, Tensor] | None = None,
) -> PatchNet:
    """Trains, writing `last.pt` and `log.csv` to `folder` (resumed from there); the average.

    `start`: weights of a student to begin with.
    """
    seed_all(k.seed, k.threads)
    model = empty(k)
    if start is not None:
        model.load_state_dict(start, strict=False)  # a projection has no start
    print(f"{parameter_count(model)} parameters, {len(data['train_labels'])} patches", flush=True)
    variation = Variation(k.noise_hu, k.blur_px, k.shift_px, k.mixup)

    def draw(rng: np.random.Generator) -> Batch:
        few = 0 if extra is None else round(k.batch * k.extra_share)
        train = data["train_images"], data["train_labels"]
        images, labels = drawn(rng, *train, k.batch - few, k.positives)
        if extra is not None:
            more, more_labels = drawn(rng, *extra, few, k.positives)
            images, labels = np.concatenate([images, more]), np.concatenate([labels, more_labels])
        return mixed(rng, images, labels, variation)

    def judge(averaged: nn.Module) -> dict[str, float]:
        scores = logits_of(averaged, data["val_images"], views=1)
        return {"val_auc_of_one_view": auc(data["val_labels"], scores)}

    if k.schedule not in {"cosine", "plateau"}:
        raise RunError(f"--schedule is cosine or plateau, not {k.schedule!r}")
    schedule = Schedule.of(
        k,
        kind="plateau" if k.schedule == "plateau" else "cosine",
        judge_every=k.judge_every,
    )
    job = Job(RECIPE, {**asdict(k), "left_out": KEY}, draw, loss_with(k, teachers or []), judge)
    return shipped(fit(model, schedule, job, folder, k.seed))


def compared(k: Knobs, model: PatchNet, teachers: list[Teacher], data: dict[str, U8]) -> Any:
    """AUC on val with intervals, and the student's gain over its teachers and over the student
    alone (paired bootstrap)."""
    labels, images = data["val_labels"], data["val_images"]
    scores: dict[str, F32] = {"student": logits_of(model, images)}
    if teachers:
        scores["teacher"] = np.asarray(
            np.mean([logits_of(one, images) for one in teachers], 0), np.float32
        )
        if k.alone and k.alone != k.name:
            scores["alone"] = logits_of(teacher(k.alone), images)
    figures: dict[str, Any] = {}
    for name, found in scores.items():
        area = auc_estimate(labels, found)
        figures[name] = [round(v, 4) for v in (area.value, area.low, area.high)]
    for first, second in (("alone", "student"), ("alone", "teacher"), ("teacher", "student")):
        if first in scores and second in scores:
            gain = paired(auc_or_nan, labels, scores[first], scores[second])
            row = [round(v, 4) for v in (gain.value, gain.low, gain.high, gain.p)]
            figures[f"{second} minus {first}"] = row
    return figures


def sources_of(k: Knobs) -> list[Source]:
    """What the student learned from, by itself and by the runs that taught it."""
    found = learned.of_patches(patch_file(shared_folder()))
    if k.extra:
        found.append(file_source(f"patches {Path(k.extra).name}", NOT_STATED, Path(k.extra)))
    return learned.union([*found, *learned.of_runs([*k.teachers.split(","), k.start])])


def main() -> None:
    """Data, teachers, loop, and the val figures beside the checkpoint."""
    k = knobs_from_command_line(Knobs())
    data = load_patches(patch_file(shared_folder()))
    extra = None
    if k.extra:
        with np.load(k.extra) as file:
            extra = (np.asarray(file["images"], np.uint8), np.asarray(file["labels"], np.uint8))
    teachers = [teacher(run) for run in k.teachers.split(",") if run]
    folder = work_folder(k.name)
    start = teacher(k.start).state_dict() if k.start else None
    model = train(k, data, extra, folder, teachers, start)
    figures = compared(k, model, teachers, data)
    metrics = {
        "val_auc": figures["student"][0],
        "val_auc_interval": figures["student"][1:],
        "val_n": len(data["val_labels"]),
        "compared": figures,
        "knobs": asdict(k),
        "sources": sources_of(k),
    }
    (folder / "metrics.json").write_text(json.dumps(metrics, indent=1) + "\n")
    for name, row in figures.items():
        print(f"{name}: {' '.join(f'{value:.4f}' for value in row)}")


if __name__ == "__main__":
    command(main)
