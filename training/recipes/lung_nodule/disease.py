"""Trains where lungs are diseased, beside a finished lung mask that stays as it is.

    python -m training.recipes.lung_nodule.disease [--name disease] [--lungs segment] ...

Rules. A step looks at small pieces of hosts that are painted anew, with exact masks (`sick_lungs`).
The checkpoint holds both networks, and is quantised and judged as a network of role `segment`. The
mask's run must have learned from the same hosts: what a fold leaves out is left out of both.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from training.errors import RunError, command
from training.learn.checkpoint import fill, load_checkpoint
from training.learn.knobs import knobs_from_command_line
from training.learn.loop import Job, Schedule, fit
from training.learn.steps import seed_all
from training.networks import SickLungNet, parameter_count
from training.read.folders import shared_folder, work_folder
from training.read.shared_series import NODULE_SERIES, nodule_hosts
from training.read.volume import F32
from training.recipes.lung_nodule import segment, sick_lungs
from training.recipes.lung_nodule.segment import GRID_MM, Host
from training.ship import learned

RECIPE = "lung_nodule_disease"


@dataclass(frozen=True)
class Knobs:
    """Everything that may be varied, with its unit."""

    name: str = "disease"  # folder of checkpoint and log under the training work folder
    lungs: str = "segment"  # run whose lung mask it is
    seed: int = 5
    threads: int = 1
    hosts: str = ",".join(NODULE_SERIES)
    steps: int = 1600
    chests: int = 2  # painted for each step
    pieces: int = 4  # of each chest
    depth: int = 32  # of a piece, voxels of 3 mm
    width: int = 48  # of a piece, voxels of 3 mm
    rate: float = 6e-3  # AdamW, peak of the cosine
    warmup: int = 30  # steps
    decay: float = 0.01  # AdamW weight decay
    ema: float = 0.98
    save_every: int = 50  # steps
    bf16: bool = True


def batch_of(rng: np.random.Generator, hosts: list[Host], k: Knobs) -> tuple[Tensor, ...]:
    """Images [B,1,Z,Y,X], their lungs [B,1,Z,Y,X] and shares of DISEASES [B,3,Z,Y,X]."""
    drawn = []
    for _ in range(k.chests):
        host = hosts[int(rng.integers(len(hosts)))]
        size = (k.depth, k.width, k.width)
        sick = sick_lungs.painted(rng, host.chest)
        drawn.append(sick_lungs.pieces(rng, sick, host.mask[GRID_MM], k.pieces, size))
    return tuple(torch.from_numpy(np.concatenate(part)) for part in zip(*drawn, strict=True))


def loss_of(model: nn.Module, image: Tensor, lungs: Tensor, shares: Tensor) -> Tensor:
    """The loss of the classes alone: the mask's network is not touched."""
    assert isinstance(model, SickLungNet)
    return sick_lungs.loss_of(model.disease(image), shares, lungs)


def beside(lungs: Path, hosts: str) -> SickLungNet:
    """A new network with the mask of the run in folder `lungs`.

    RunError where that run learned from other CTs than `hosts`.
    """
    path = lungs / "last.pt"
    state = load_checkpoint(path)
    theirs = str(state.get("knobs", {}).get("hosts", ""))
    if set(theirs.split(",")) != set(hosts.split(",")):
        raise RunError(f"{path} learned from {theirs}, not from {hosts}: give --lungs another run")
    model = SickLungNet()
    fill(model.lungs, state.get("ema", {}), path)
    return model


def train(k: Knobs, hosts: list[Host], folder: Path, lungs: Path) -> SickLungNet:
    """Trains, writing `last.pt` and `log.csv` to `folder` (resumed from there); the average."""
    seed_all(k.seed, k.threads)
    model = beside(lungs, k.hosts)
    print(f"{parameter_count(model.disease)} parameters, hosts {k.hosts}", flush=True)
    job = Job(RECIPE, asdict(k), draw=lambda rng: batch_of(rng, hosts, k), loss=loss_of)
    state = fit(model, Schedule.of(k), job, folder, k.seed)
    shipped = SickLungNet()
    shipped.load_state_dict(state)
    return shipped.eval()


def images(hosts: str, count: int, rng: np.random.Generator) -> list[F32]:
    """Inputs [1,1,Z,Y,X] as the mask learned from, disease included."""
    loaded = _loaded(hosts)
    return [segment.sample(rng, loaded, segment.Knobs())[0][None, None] for _ in range(count)]


def _loaded(hosts: str) -> list[Host]:
    shared, cache = shared_folder(), work_folder("cache")
    return [segment.load_host(shared, name, cache) for name in nodule_hosts(hosts)]


def main() -> None:
    """Data, model, schedule, loop."""
    k = knobs_from_command_line(Knobs())
    folder = work_folder(k.name)
    train(k, _loaded(k.hosts), folder, work_folder(k.lungs))
    sources = learned.union([*learned.of_series(k.hosts), *learned.of_runs([k.lungs])])
    metrics = {"knobs": asdict(k), "sources": sources}
    (folder / "metrics.json").write_text(json.dumps(metrics, indent=1) + "\n")
    print(f"checkpoint {folder / 'last.pt'}")


if __name__ == "__main__":
    command(main)
