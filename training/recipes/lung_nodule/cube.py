"""Trains the 3D branch of the nodule classifier on cubes of our own candidates.

    python -m training.recipes.lung_nodule.cube [--hosts C3N-00247,A0001] [--teacher hybrid] ...

Rules. Candidates come from the module `candidates`: each host's are those of a proposal network
that did not see it (--propose host=run,...). Hosts count alike, however many candidates they have.
To judge the recipe, leave a host out (--hosts) and run `judge_cube` on it. The body starts as the
encoder of a proposal network (--start), which knows nodules at 1.25 mm already: in as many steps it
gets much further than from nothing. A teacher is a finished run of `hybrid`; it looks at the same
varied cube, and at the candidate's patch. Neither saw a host that the student may not see.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from training.errors import RunError, command
from training.learn.augment import Ranges, augment
from training.learn.checkpoint import fill, load_checkpoint
from training.learn.distill import logit_loss
from training.learn.knobs import knobs_from_command_line
from training.learn.loop import Batch, Job, Schedule, device, fit
from training.learn.steps import seed_all
from training.networks import CubeNet, parameter_count
from training.networks.hybrid import HybridNet
from training.read.folders import work_folder
from training.read.left_out import KEY
from training.read.shared_series import NODULE_SERIES, nodule_hosts
from training.read.volume import F32
from training.recipes.lung_nodule.candidates import U8, Candidates, Mining, cached
from training.recipes.lung_nodule.folds import judged_runs
from training.ship import learned

RECIPE = "lung_nodule_cube"
SIDE = 32  # voxels that the network sees of a candidate's cube
TURNED = Ranges(
    share=0.6,
    rotate_deg=15.0,
    scale=(0.8, 1.2),
    shift=1.5,
    elastic=0.0,
    thickness=(1.0, 3.0),
    kernel=(-1.0, 0.8),
    gamma=(0.7, 1.5),
    noise=0.04,
)
"""How far a cube is varied, and its patch by itself."""
PROPOSE = ",".join(f"{host}={run}" for host, run in judged_runs("propose"))
ENCODER = {
    "stem": "body",
    "quarter.0": "body.3",
    "quarter.1": "body.4",
    "eighth.0": "body.5",
    "eighth.1": "body.6",
}
"""Parts of ProposeNet and what they are of CubeNet."""
Array = npt.NDArray[np.floating[Any]]
Teacher = Callable[[Tensor, Tensor], Tensor]
"""Patches [N,1,48,48] and cubes [N,1,32,32,32] in [0, 1] -> logits [N]."""


@dataclass(frozen=True)
class Knobs:
    """Everything that may be varied, with its unit."""

    name: str = "cube"  # folder of checkpoint and log under the training work folder
    seed: int = 5
    threads: int = 1
    hosts: str = ",".join(NODULE_SERIES)
    propose: str = PROPOSE
    seeds: int = 24  # scans mined of each host
    steps: int = 200  # from a proposal network; from nothing more
    batch: int = 32
    positives: float = 0.5  # share of nodules in a batch
    real: float = 0.08  # share of marked lesions among a host's nodules
    rate: float = 1.5e-3  # AdamW, peak of the cosine
    warmup: int = 20  # steps
    decay: float = 0.05  # AdamW weight decay
    ema: float = 0.96
    mixup: float = 0.2  # Beta(a, a); 0 switches it off
    start: str = ""  # run of `propose`; empty: from nothing
    teacher: str = ""  # run of `hybrid`; empty: labels alone
    temperature: float = 2.0
    soft: float = 0.5  # weight of the teacher's answer; the rest is the labels'
    save_every: int = 50  # steps
    bf16: bool = True


def mined(hosts: str, propose: str, seeds: int, threads: int) -> list[Candidates]:
    """The candidates of every host of a list; RunError for one without a proposal run."""
    runs = dict(pair.split("=", 1) for pair in propose.split(",") if "=" in pair)
    if missing := [host for host in nodule_hosts(hosts) if host not in runs]:
        raise RunError(f"--propose names no run for {missing[0]}")
    return [
        cached(Mining(host=host, propose=runs[host], seeds=seeds), threads)
        for host in nodule_hosts(hosts)
    ]


def drawn(
    rng: np.random.Generator,
    pools: Sequence[Candidates],
    count: int,
    positives: float,
    real: float,
) -> tuple[F32, F32, F32]:
    """Patches [count, 48, 48], cubes [count, 40, 40, 40] in [0, 1], labels [count]."""
    patches, cubes, labels = [], [], []
    for _ in range(count):
        pool = pools[int(rng.integers(len(pools)))]
        which = pool.labels == int(rng.random() < positives)
        if rng.random() < real and (which & pool.real).any():
            which = which & pool.real
        index = np.flatnonzero(which)
        i = int(index[rng.integers(len(index))])
        patches.append(pool.patches[i])
        cubes.append(pool.cubes[i])
        labels.append(pool.labels[i])
    return unit(np.stack(patches)), unit(np.stack(cubes)), np.array(labels, np.float32)


def varied(rng: np.random.Generator, patches: F32, cubes: F32) -> tuple[Tensor, Tensor]:
    """Patches [N,1,48,48] and cubes [N,1,32,32,32], each changed by itself."""
    seed, indices = int(rng.integers(2**31)), range(len(cubes))
    flat, deep = torch.from_numpy(patches[:, None]), torch.from_numpy(cubes[:, None])
    return (
        augment(flat, TURNED, seed=seed, epoch=0, indices=indices).images,
        augment(deep, TURNED, seed=seed, epoch=1, indices=indices, size=(SIDE,) * 3).images,
    )


def mixed(rng: np.random.Generator, amount: float, *tensors: Tensor) -> Batch:
    """Every tensor with itself in another order, in parts drawn from Beta(amount, amount)."""
    if not amount:
        return tensors
    mix = float(rng.beta(amount, amount))
    order = torch.from_numpy(rng.permutation(len(tensors[0])))
    return tuple(mix * t + (1 - mix) * t[order] for t in tensors)


def batch_of(rng: np.random.Generator, pools: Sequence[Candidates], k: Knobs) -> Batch:
    """Varied and mixed patches, cubes and labels [N]."""
    flat, deep, labels = drawn(rng, pools, k.batch, k.positives, k.real)
    return mixed(rng, k.mixup, *varied(rng, flat, deep), torch.from_numpy(labels))


def unit(levels: U8) -> F32:
    """0-255 as [0, 1]."""
    return np.asarray(levels / np.float32(255), np.float32)


def middle(cubes: F32) -> F32:
    """The [N,32,32,32] that a device cuts of cubes [N,40,40,40]."""
    low = (cubes.shape[-1] - SIDE) // 2
    part = slice(low, low + SIDE)
    return np.ascontiguousarray(cubes[:, part, part, part])


def logits_of(answer: Teacher, patches: Array, cubes: Array) -> F32:
    """Logits [N] of patches [N,48,48] and cubes [N,32,32,32] in [0, 1]."""
    out = [np.zeros(0, np.float32)]
    with torch.no_grad():
        for i in range(0, len(cubes), 64):
            pair = (np.asarray(v[i : i + 64, None], np.float32) for v in (patches, cubes))
            out.append(answer(*map(torch.from_numpy, pair)).float().cpu().numpy())
    return np.concatenate(out)


def loss_of(
    model: nn.Module,
    patches: Tensor,
    cubes: Tensor,
    labels: Tensor,
    teacher: Teacher | None,
    k: Knobs,
) -> Tensor:
    """Of the labels, and by the share `soft` of the teacher's answer to the same images."""
    logits = model(cubes).float()
    hard = functional.binary_cross_entropy_with_logits(logits, labels)
    if teacher is None:
        return hard
    with torch.no_grad():
        wanted = teacher(patches, cubes).float()
    return (1 - k.soft) * hard + k.soft * logit_loss(logits, wanted, k.temperature)


def teacher_of(run: str, hosts: str) -> HybridNet:
    """A finished hybrid; RunError where it is none, or saw other hosts than its student may."""
    path = work_folder(run) / "last.pt"
    state = load_checkpoint(path)
    knobs = state.get("knobs", {})
    if not {"hosts", "scale", "zoom"} <= set(knobs):
        raise RunError(f"{path} was made by {state.get('recipe')}: no hybrid, so no teacher")
    if set(knobs["hosts"].split(",")) != set(hosts.split(",")):
        raise RunError(f"{path} saw {knobs['hosts']}, its student is to see {hosts}")
    model = HybridNet(scale=knobs["scale"], zoom=knobs["zoom"])
    fill(model, state.get("ema", {}), path)
    return model.eval().to(device())


def started(model: CubeNet, run: str, hosts: str) -> None:
    """Fills the body from a proposal network, all but its block at the stem's resolution.

    RunError where it saw a host that is not among `hosts`, or is built otherwise.
    """
    path = work_folder(run) / "last.pt"
    state = load_checkpoint(path)
    seen = set(state.get("knobs", {}).get("hosts", "").split(","))
    if not seen <= set(hosts.split(",")):
        raise RunError(f"{path} saw {','.join(sorted(seen))}, the student is to see {hosts}")
    body = {
        ours + name[len(theirs) :]: value
        for name, value in state.get("ema", {}).items()
        for theirs, ours in ENCODER.items()
        if name.startswith(f"{theirs}.")
    }
    own = model.state_dict()
    wanted = {n: v.shape for n, v in own.items() if n.startswith("body.")}
    if {n: v.shape for n, v in body.items()} != wanted:
        raise RunError(f"{path} is of another network: its encoder does not fit")
    model.load_state_dict({**own, **body})


def train(k: Knobs, pools: Sequence[Candidates], teacher: Teacher | None, folder: Path) -> CubeNet:
    """Trains, writing `last.pt` and `log.csv` to `folder` (resumed from there); the average."""
    seed_all(k.seed, k.threads)
    model = CubeNet()
    if k.start:
        started(model, k.start, k.hosts)
    print(f"{parameter_count(model)} parameters, {sum(map(len, pools))} candidates", flush=True)
    schedule = Schedule.of(k)
    job = Job(
        RECIPE,
        {**asdict(k), "left_out": KEY},
        draw=lambda rng: batch_of(rng, pools, k),
        loss=lambda model, patches, cubes, labels: loss_of(
            model, patches, cubes, labels, teacher, k
        ),
    )
    state = fit(model, schedule, job, folder, k.seed)
    shipped = CubeNet()
    shipped.load_state_dict(state)
    return shipped.eval()


def main() -> None:
    """Data, teacher, model, schedule, loop."""
    k = knobs_from_command_line(Knobs())
    folder = work_folder(k.name)
    pools = mined(k.hosts, k.propose, k.seeds, k.threads)
    teacher = teacher_of(k.teacher, k.hosts) if k.teacher else None
    train(k, pools, teacher, folder)
    own = [*learned.of_series(k.hosts), *learned.of_outlines()]
    sources = learned.union([*own, *learned.of_runs([k.start, k.teacher])])
    metrics = {"knobs": asdict(k), "sources": sources}
    (folder / "metrics.json").write_text(json.dumps(metrics, indent=1) + "\n")
    print(f"checkpoint {folder / 'last.pt'}")


if __name__ == "__main__":
    command(main)
