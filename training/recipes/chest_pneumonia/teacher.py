"""Trains the pneumonia teachers: one a fold, on all images but that fold's.

    python -m training.recipes.chest_pneumonia.teacher [--name pneumonia-teacher] [--steps 300] ...

Writes `fold-K/last.pt`, `oof.npz` (logit of every image by the network that left its fold out) and
`metrics.json` (figures as in figures) to the run's folder. `--probe true --name
NAME` writes `probe.json` instead: what is left where the shortcut of these data fails.

Rules. Train and val are one set, cut into folds by groups of pictures that are alike; the test
split is never read. Both classes come alike often, whatever their share. What ships is not trained
here: a student learns from these networks (`student`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from training.errors import RunError, command
from training.judge.metrics import auc
from training.learn.distill import logit_loss
from training.learn.knobs import knobs_from_command_line
from training.learn.loop import Batch, Job, Schedule, fit
from training.learn.steps import seed_all
from training.networks import parameter_count
from training.networks.radiograph import RadiographNet
from training.read.files import whole
from training.read.folders import shared_folder, work_folder
from training.read.volume import F32
from training.recipes.chest_pneumonia.figures import figures, keep, table
from training.recipes.chest_pneumonia.pneumonia_mnist import (
    FILE,
    FOLDS,
    I64,
    RANGES,
    SIZE,
    U8,
    Exposure,
    Radiographs,
    against_the_rule,
    exposed,
    load,
    shifted,
    steepness,
    varied,
)

BATCH = 512
"""Images in one go where nothing is learned."""


@dataclass(frozen=True)
class Knobs:
    """Everything that may be varied, with its unit."""

    name: str = "pneumonia-teacher"  # folder of the run under the training work folder
    seed: int = 1
    threads: int = 1
    widths: str = "24,48,96"  # channels at strides 1, 2 and 4
    depth: int = 1  # residual blocks that keep a stride, at strides 2 and 4
    drop: float = 0.1  # share of feature maps left out
    steps: int = 300
    batch: int = 128
    rate: float = 4e-3  # AdamW, peak of the cosine
    warmup: int = 40  # steps
    decay: float = 0.05  # AdamW weight decay
    ema: float = 0.99
    smooth: float = 0.05  # label smoothing
    mixup: float = 0.0  # Beta(a, a); 0 switches it off
    view_seed: int = 1
    views: int = 12  # varied views of every image that batches are drawn from
    temperature: float = 2.0  # of a teacher
    soft: float = 0.7  # weight of a teacher's logits, 1 - soft of the labels
    probe: bool = False  # instead: train where the shortcut holds, judge where it does not
    save_every: int = 250  # steps
    bf16: bool = True


Owner = Callable[[Tensor, I64], Tensor]
"""A teacher: (views [n, 1, 28, 28], which images they are of [n]) -> logits [n]."""


def network(widths: str, depth: int = 1, drop: float = 0.0) -> RadiographNet:
    """The network that the knobs describe; RunError for widths that are no three numbers."""
    try:
        a, b, c = (int(w) for w in widths.split(","))
    except ValueError:
        raise RunError(f"--widths wants three whole numbers, not {widths!r}") from None
    return RadiographNet((a, b, c), depth, drop)


def views_of(images: U8, k: Knobs, cache: Path) -> npt.NDArray[np.uint8]:
    """[views, n, 28, 28], varied once for all folds; what moves least is drawn with the batch."""
    what = hashlib.sha256(
        f"{RANGES}{k.view_seed}{k.views}{images.shape}".encode() + images.tobytes()
    )
    kept = cache / f"radiographs-{what.hexdigest()[:16]}.npy"
    if kept.exists():
        made: U8 = np.load(kept, mmap_mode="r")
        return made
    made = np.stack([varied(images, RANGES, k.view_seed, epoch) for epoch in range(k.views)])
    with whole(kept) as file:
        np.save(file, made)
    return made


def drawer(
    data: Radiographs, views: U8, rows: I64, k: Knobs, teacher: Owner | None
) -> Callable[[np.random.Generator], Batch]:
    """Draws batches of (image, label, teacher's logit) from the views of `rows`, half of a class
    each."""
    of_class = [rows[data.labels[rows] == label] for label in (0, 1)]
    exposure = Exposure()

    def draw(rng: np.random.Generator) -> Batch:
        pick = np.concatenate([rng.choice(some, k.batch // 2) for some in of_class])
        some = np.asarray(views[rng.integers(0, len(views), len(pick)), pick])
        x = exposed(as_input(some), rng, exposure)
        y = torch.from_numpy(data.labels[pick]).float()
        soft = torch.zeros_like(y) if teacher is None else teacher(x, pick)
        y = y * (1 - k.smooth) + k.smooth / 2
        if k.mixup > 0:
            part = float(rng.beta(k.mixup, k.mixup))
            other = torch.from_numpy(rng.permutation(len(y)))
            x, y, soft = (part * v + (1 - part) * v[other] for v in (x, y, soft))
        return x.contiguous(memory_format=torch.channels_last), y, soft

    return draw


def train(
    k: Knobs, data: Radiographs, views: U8, rows: I64, folder: Path, teacher: Owner | None = None
) -> RadiographNet:
    """A network from the images `rows`, resumed from `folder`; the moving average, ready to
    infer."""
    seed_all(k.seed, k.threads)
    folder.mkdir(parents=True, exist_ok=True)
    model = network(k.widths, k.depth, k.drop)

    def loss(model: nn.Module, x: Tensor, y: Tensor, soft: Tensor) -> Tensor:
        logit = model(x)[0].float()
        hard = functional.binary_cross_entropy_with_logits(logit, y)
        if teacher is None:
            return hard
        return (1 - k.soft) * hard + k.soft * logit_loss(logit, soft, k.temperature)

    schedule = Schedule.of(k)
    job = Job(
        "chest_pneumonia",
        {**asdict(k), "images": len(rows), "taught": teacher is not None},
        drawer(data, views, rows, k, teacher),
        loss,
    )
    state = fit(model.to(memory_format=torch.channels_last), schedule, job, folder, k.seed)  # type: ignore[call-overload]
    shipped = network(k.widths, k.depth, k.drop)
    shipped.load_state_dict(state)
    return shipped.eval()


def logits_of(model: nn.Module, images: F32) -> F32:
    """Logits [n] of images [n, 28, 28] in [0, 1]."""
    out = [np.zeros(0, np.float32)]
    with torch.no_grad():
        for start in range(0, len(images), BATCH):
            x = torch.from_numpy(np.ascontiguousarray(images[start : start + BATCH, None]))
            out.append(model(x.contiguous(memory_format=torch.channels_last))[0].numpy())
    return np.concatenate(out)


def as_input(images: U8) -> Tensor:
    """[n, 28, 28], 0-255, as [n, 1, 28, 28] in [0, 1]."""
    return torch.from_numpy(in_unit(images)[:, None])


def in_unit(images: U8) -> F32:
    """0-255 as [0, 1]."""
    return np.asarray(images / np.float32(255), np.float32)


def read_data(k: Knobs) -> tuple[Radiographs, U8]:
    """The shared radiographs and their varied views."""
    data = load(shared_folder() / FILE)
    return data, views_of(data.images, k, work_folder("cache"))


def main() -> None:
    """Data, one network a fold, the figures of what each left out."""
    k = knobs_from_command_line(Knobs())
    data, views = read_data(k)
    folder = work_folder(k.name)
    count = parameter_count(network(k.widths, k.depth))
    print(f"{count} parameters, {len(data)} images of {SIZE} px", flush=True)
    if k.probe:
        probe(k, data, views, folder)
        return
    nets = [
        train(
            replace(k, seed=k.seed + fold),
            data,
            views,
            np.flatnonzero(data.folds != fold),
            folder / f"fold-{fold}",
        )
        for fold in range(FOLDS)
    ]
    write_figures(k, data, nets, folder)


def probe(k: Knobs, data: Radiographs, views: U8, folder: Path) -> None:
    """`probe.json`: AUC of each copy of the third against the rule, by a network that never saw a
    picture of that kind. The shortcut alone is below one half there; a variation is worth what it
    adds."""
    hard = against_the_rule(data)
    hard |= np.isin(data.groups, data.groups[hard])
    model = train(k, data, views, np.flatnonzero(~hard), folder / "probe")
    labels = data.labels[hard]
    copies = shifted(in_unit(data.images[hard]), labels)
    found = {name: round(auc(labels, logits_of(model, c)), 5) for name, c in copies.items()}
    shortcut = round(auc(labels, -steepness(data.images[hard])), 5)
    about = {"n": len(labels), "shortcut": shortcut, "auc": found, "knobs": asdict(k)}
    (folder / "probe.json").write_text(json.dumps(about, indent=1) + "\n")
    print(f"shortcut alone {shortcut:.4f}, " + ", ".join(f"{n} {v:.4f}" for n, v in found.items()))


def write_figures(k: Knobs, data: Radiographs, nets: list[RadiographNet], folder: Path) -> None:
    """`oof.npz` and `metrics.json` of the networks that left out fold 0, 1, ..."""
    found, logits = figures(data, [lambda x, n=n: logits_of(n, x) for n in nets])  # type: ignore[misc]
    keep(folder / "oof.npz", data, logits)
    about = {"parameters": parameter_count(nets[0]), **found, "knobs": asdict(k)}
    (folder / "metrics.json").write_text(json.dumps(about, indent=1) + "\n")
    print(table(k.name, found))


if __name__ == "__main__":
    command(main)
