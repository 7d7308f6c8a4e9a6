"""Trains the network that lays one exam over another.

    python -m training.recipes.compare.displace [--name displace] [--hosts R01-001,...] ...

Rules.
1. A lesson is an exact pair (`lessons`). In half of the steps the network is asked a second time,
   with prior warped by its first answer, as the appliance asks it (`passes` of the head).
2. The loss is the distance from the exact field in the lungs, the likeness of the warped images
   (NCC or MI), and smoothness; each has its weight, and `make study` compares them.
3. A first run on lessons of 16 mm takes an eighth of the time a step (`--coarse true`); the one
   that ships begins with its network (`--start`).
4. With `masks`, images outside of the lungs are hidden from the likeness; with `lungs`, a further
   output draws the lungs of current (multi-task), which is dropped when the network is exported.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from training.errors import command
from training.implant.pairs.pair import Chest, chest_of
from training.learn.checkpoint import fill, load_checkpoint
from training.learn.knobs import knobs_from_command_line
from training.learn.loop import Job, Schedule, fit
from training.learn.registration import (
    CELL_MM,
    apart,
    composed,
    roughness,
    unlike,
    unshared,
    warped,
)
from training.learn.steps import seed_all
from training.networks.blocks import parameter_count
from training.networks.displace import DisplaceNet
from training.read.folders import work_folder
from training.read.shared_series import TRAINING_SERIES
from training.recipes.compare import lessons

RECIPE = "compare_displace"
LEVELS = (0.3, 0.5, 1.0)
"""Weights of the fields of 64, 32 and 16 mm."""


@dataclass(frozen=True)
class Knobs:
    """Everything that may be varied, with its unit."""

    name: str = "displace"  # folder of checkpoint and log under the training work folder
    seed: int = 7
    threads: int = 1
    hosts: str = ",".join([*TRAINING_SERIES, "phantom-1", "phantom-2"])
    pairs: int = 320  # of the pool
    coarse: bool = False  # lessons of 16 mm (`lessons.halved`)
    start: str = ""  # run whose network it begins with
    steps: int = 800
    batch: int = 2  # torch is four times as slow with one
    rate: float = 3e-3  # AdamW, peak of the cosine
    warmup: int = 40  # steps
    decay: float = 1e-4  # AdamW weight decay
    ema: float = 0.99
    field: float = 1.0  # weight of the distance from the exact field
    ncc: float = 0.1
    mi: float = 0.0
    smooth: float = 0.2
    masks: bool = True
    lungs: float = 0.0  # weight of the drawn lungs
    twice: float = 0.5  # share of steps in which the network is asked twice
    save_every: int = 50  # steps
    bf16: bool = False


class WithLungs(nn.Module):
    """The network and, for a lesson of two tasks, a head that draws the lungs of current."""

    def __init__(self) -> None:
        super().__init__()
        self.displace = DisplaceNet()
        self.draw = nn.Conv3d(self.displace.finest, 1, 3, 1, 1)

    def drawn(self, current: Tensor) -> Tensor:
        """Logits of the lungs, [B,1,Z/2,Y/2,X/2]."""
        found: Tensor = self.draw(self.displace.encoded(current)[0])
        return found


def loss_of(
    k: Knobs, model: nn.Module, prior: Tensor, current: Tensor, lungs: Tensor, truth: Tensor,
    twice: Tensor,
) -> Tensor:  # fmt: skip
    """Rule 2, of one batch; `twice` [B] is above 0 where the network is asked again."""
    assert isinstance(model, WithLungs)
    net, first = model.displace, torch.zeros_like(truth)
    moving = prior
    if bool(twice.max() > 0):
        with torch.no_grad():
            first = net(prior, current)
            moving = warped(prior, first)
    fields, weight = net.pyramid(moving, current), lungs + 0.05
    loss = k.smooth * roughness(fields[-1])
    for share, field in zip(LEVELS, fields, strict=True):
        times = truth.shape[2] // field.shape[2]
        start, goal, part = (functional.avg_pool3d(one, times) for one in (first, truth, weight))
        found = composed(start, field, CELL_MM * times)
        loss = loss + k.field * share * apart(found, goal, part)
    if k.ncc or k.mi:
        seen = lungs if k.masks else torch.ones_like(lungs)
        moved = warped(moving, net.doubled(fields[-1]))
        loss = loss + (k.ncc * unlike(current, moved, seen) if k.ncc else 0)
        loss = loss + (k.mi * unshared(current, moved, seen) if k.mi else 0)
    if k.lungs:
        drawn = functional.avg_pool3d(lungs, 2)
        logits = model.drawn(current)
        loss = loss + k.lungs * functional.binary_cross_entropy_with_logits(logits, drawn)
    return loss


def draw(rng: np.random.Generator, files: list[Path], k: Knobs) -> tuple[Tensor, ...]:
    """A batch and whether it is asked twice."""
    chosen = [files[int(rng.integers(len(files)))] for _ in range(k.batch)]
    varied = [lessons.varied(rng, lessons.read(path)) for path in chosen]
    if k.coarse:
        varied = [lessons.halved(one) for one in varied]
    twice = torch.full((k.batch,), float(rng.random() < k.twice))
    return (*lessons.batch_of(varied), twice)


def train(k: Knobs, files: list[Path], folder: Path) -> DisplaceNet:
    """Trains, writing `last.pt` and `log.csv` to `folder` (resumed from there); the average."""
    seed_all(k.seed, k.threads)
    model = WithLungs()
    if k.start:
        path = work_folder(k.start) / "last.pt"
        fill(model, load_checkpoint(path).get("ema", {}), path)
    print(f"{parameter_count(model.displace)} parameters, hosts {k.hosts}", flush=True)
    job = Job(
        RECIPE,
        asdict(k),
        draw=lambda rng: draw(rng, files, k),
        loss=lambda model, *batch: loss_of(k, model, *batch),
    )
    shipped = WithLungs()
    shipped.load_state_dict(fit(model, Schedule.of(k), job, folder, k.seed))
    return shipped.displace.eval()


def chest(name: str) -> Chest:
    """A host on the grid of the lessons."""
    return chest_of(name, lessons.GRID_MM)


def main() -> None:
    """Data, model, schedule, loop."""
    k = knobs_from_command_line(Knobs())
    folder = work_folder(k.name)
    files = lessons.pool(work_folder("cache"), k.hosts.split(","), k.seed, k.pairs, chest)
    train(k, files, folder)
    (folder / "metrics.json").write_text(json.dumps({"knobs": asdict(k)}, indent=1) + "\n")
    print(f"checkpoint {folder / 'last.pt'}")


if __name__ == "__main__":
    command(main)
