"""Trains the 3D proposal network at 1.25 mm on implanted nodules.

    python -m training.recipes.lung_nodule.propose [--steps 1000] [--hosts R01-001,C3N-00247] ...
        [--name propose-longer --begin propose]     # another cosine from a finished run's weights

Rules.
1. Patches come from `proposal_patches`: shapes of LIDC patients of train, on the fly. Making one
   costs as much as learning from it, so most are seen again, mirrored anew (data echoing, Choi et
   al., arXiv:1907.05550).
2. There are three CTs only. Turning, bending and painted vessels keep the network from knowing them
   by heart, which it does otherwise: what it never saw would all be nodules.
3. The network outlines nodules too while it learns, at stride 2 (`networks.Outlined`): a centre
   alone is one cell of 4096 and says little about where a large nodule ends and a vessel begins.
4. To judge the recipe, leave a host out (--hosts) and run `calibrate` on that host.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from training.errors import RunError, command
from training.implant.donors import cached_shapes
from training.implant.hosts import Host, load_host
from training.implant.shapes import Shape
from training.implant.synthetic import made_up_hosts
from training.learn.checkpoint import load_checkpoint, restore_state, save_state
from training.learn.knobs import knobs_from_command_line
from training.learn.losses import centernet_focal, centre_l1, soft_dice, weighted_bce
from training.learn.steps import Ema, Progress, cosine_rate, finite_or_stop, seed_all
from training.networks import Outlined, ProposeNet, parameter_count
from training.read.folders import shared_folder, work_folder
from training.recipes.lung_nodule.proposal_patches import Drawing, Patch, mirrored, sample


@dataclass(frozen=True)
class Knobs:
    """Everything that may be varied, with its unit."""

    name: str = "propose"  # folder of checkpoint and log under the training work folder
    seed: int = 3
    threads: int = 1
    hosts: str = "R01-001,C3N-00247,A0001"
    begin: str = ""  # run on the same hosts whose averaged weights are the start; empty: none
    steps: int = 1600
    batch: int = 8
    implants: float = 2.2  # mean number a patch
    made_up: float = 0.12  # share of patches from made-up lungs
    made_up_hosts: int = 12
    echo: float = 0.65  # share of patches that were seen before
    kept: int = 128  # patches that may come again
    rate: float = 2e-3  # AdamW, peak of the cosine
    warmup: int = 50  # steps
    decay: float = 0.02  # AdamW weight decay
    ema: float = 0.993
    size_weight: float = 0.5  # weight of the diameter loss
    body_weight: float = 1.0  # weight of the outline's loss
    body_factor: float = 5.0  # how much more a voxel of a nodule counts in it
    save_every: int = 100  # steps
    bf16: bool = True


SAME = ("begin", "hosts", "seed", "batch", "made_up", "rate", "steps")
"""Knobs that a run cannot change when it is resumed."""


def patches(
    rng: np.random.Generator,
    hosts: Sequence[Host],
    others: Sequence[Host],
    shapes: Sequence[Shape],
    k: Knobs,
) -> Iterator[Patch]:
    """Patches without end: new ones, and some of the last `kept` mirrored anew."""
    drawing, recent = Drawing(implants=k.implants), list[Patch]()
    while True:
        if len(recent) >= k.kept // 2 and rng.random() < k.echo:
            yield mirrored(rng, recent[int(rng.integers(len(recent)))])
            continue
        pool = others if others and rng.random() < k.made_up else hosts
        one = sample(rng, pool[int(rng.integers(len(pool)))], shapes, drawing)
        recent = [*recent[-k.kept + 1 :], one]
        yield one


def resumed(checkpoint: Path, k: Knobs) -> dict[str, Any]:
    """A checkpoint's state; RunError where it is of a run with other knobs of SAME."""
    state = load_checkpoint(checkpoint)
    for name in SAME:
        if state.get("knobs", {}).get(name, "") != getattr(k, name):
            raise RunError(
                f"{checkpoint}: of a run with another --{name}: choose another --name or remove it"
            )
    return state


def begun(k: Knobs) -> dict[str, Any]:
    """The averaged weights of the run `k.begin`; RunError where it saw other hosts."""
    path = work_folder(k.begin) / "last.pt"
    state = load_checkpoint(path)
    if state.get("knobs", {}).get("hosts") != k.hosts:
        raise RunError(f"{path}: trained on other hosts than {k.hosts}: what was left out leaks in")
    weights: dict[str, Any] = state["ema"]
    return weights


def train(
    k: Knobs, hosts: Sequence[Host], others: Sequence[Host], shapes: Sequence[Shape], folder: Path
) -> ProposeNet:
    """Trains, writing `last.pt` to `folder` (resumed from there); returns the averaged model."""
    rng = seed_all(k.seed, k.threads)
    shipped = ProposeNet()
    model = Outlined(shipped)
    # a third faster on CPUs; mypy's stubs do not know the layout for modules
    model.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    print(
        f"{parameter_count(shipped)} parameters, hosts {[h.volume.name for h in hosts]}", flush=True
    )
    checkpoint, start = folder / "last.pt", 0
    if k.begin and not checkpoint.exists():
        shipped.load_state_dict(begun(k))
    optimizer = torch.optim.AdamW(model.parameters(), lr=k.rate, weight_decay=k.decay)
    ema = Ema(shipped, k.ema)
    if checkpoint.exists():
        start = restore_state(resumed(checkpoint, k), model, optimizer, ema)
        rng = np.random.default_rng([k.seed, start])
    progress = Progress(k.steps, start)
    source = patches(rng, hosts, others, shapes, k)
    for step in range(start, k.steps):
        model.train()
        for group in optimizer.param_groups:
            group["lr"] = cosine_rate(step, k.steps, k.rate, k.warmup)
        drawn = [next(source) for _ in range(k.batch)]
        x, heat, size, weight = (
            torch.from_numpy(np.stack([getattr(d, name) for d in drawn])[:, None])
            for name in ("image", "heat", "size", "weight")
        )
        body = torch.from_numpy(np.stack([d.body for d in drawn])[:, None])
        with torch.autocast("cpu", torch.bfloat16, enabled=k.bf16):
            heat_logit, log_diameter, outline = model(x.to(memory_format=torch.channels_last_3d))
        focal = centernet_focal(heat_logit, heat, weight)
        sized = centre_l1(log_diameter, size, (heat > 0.35).float() * heat)
        outlined = outline_loss(outline, body, k.body_factor)
        loss = focal + k.size_weight * sized + k.body_weight * outlined
        finite_or_stop(float(loss.detach()), step, checkpoint)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        ema.update(shipped)
        progress(
            step,
            float(loss.detach()),
            f"focal {float(focal.detach()):.3f} size {float(sized.detach()):.3f} "
            f"body {float(outlined.detach()):.3f}",
        )
        if (step + 1) % k.save_every == 0 or step + 1 == k.steps:
            save_state(checkpoint, model, optimizer, ema, step + 1, asdict(k))
    shipped.load_state_dict(ema.shadow)
    return shipped.eval()


def outline_loss(logits: Tensor, body: Tensor, factor: float) -> Tensor:
    """Cross entropy, `factor` times as much inside, and Dice, where somebody knows the outline."""
    known = (body >= 0).float()
    share = body.clamp(min=0)
    return weighted_bce(logits, share, known * (1 + factor * share)) + soft_dice(
        logits, share, weight=known
    )


def main() -> None:
    """Data, model, schedule, loop."""
    k = knobs_from_command_line(Knobs())
    folder, cache = work_folder(k.name), work_folder("cache")
    shapes = cached_shapes(shared_folder(), cache)
    hosts = [load_host(shared_folder(), name, cache) for name in k.hosts.split(",")]
    others = made_up_hosts(k.made_up_hosts, k.seed)
    train(k, hosts, others, shapes, folder)
    (folder / "metrics.json").write_text(json.dumps({"knobs": asdict(k)}, indent=1) + "\n")
    print(f"checkpoint {folder / 'last.pt'}")


if __name__ == "__main__":
    command(main)
