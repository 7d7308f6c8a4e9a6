"""Trains the pneumonia network that ships, and its five doubles that left a fold out.

    python -m training.recipes.chest_pneumonia.student [--name pneumonia] [--teacher ""] ...

Writes `last.pt` (trained on all images), `fold-K/last.pt`, `oof.npz` and `metrics.json` to the
run's folder. `--teacher ""` learns from the labels alone; `--final false` leaves out `last.pt`.

Rules. The network that is judged on a fold learns from the teacher that left the same fold out, so
that nothing of the fold reaches it. In the network that ships each view is judged by the teacher
that never saw its image. What ships is the moving average at the last step; no step is chosen.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from training.errors import RunError, command
from training.learn.checkpoint import fill, load_checkpoint
from training.learn.knobs import knobs_from_command_line
from training.networks import parameter_count
from training.networks.radiograph import RadiographNet
from training.read.folders import work_folder
from training.recipes.chest_pneumonia import teacher as taught
from training.recipes.chest_pneumonia.pneumonia_mnist import FOLDS, I64
from training.recipes.chest_pneumonia.teacher import Owner

MOST_PARAMETERS = 600_000


@dataclass(frozen=True)
class Knobs(taught.Knobs):
    """Everything that may be varied, with its unit."""

    name: str = "pneumonia"
    seed: int = 11
    widths: str = "16,32,64"
    steps: int = 260
    teacher: str = "pneumonia-teacher"  # a finished run of it; empty: labels alone
    final: bool = True  # train on all images too
    final_steps: int = 520  # of the one that ships


def finished(folder: Path) -> RadiographNet:
    """The moving average of a run; RunError where there is none."""
    path = folder / "last.pt"
    if not path.exists():
        raise RunError(f"{path}: not there; train it first")
    state = load_checkpoint(path)
    knobs = state.get("knobs", {})
    if not {"steps", "widths", "depth"} <= set(knobs):
        raise RunError(f"{path} was made by {state.get('recipe')}: no teacher of radiographs")
    if state["step"] < knobs["steps"]:
        raise RunError(f"{path}: stopped at step {state['step']} of {knobs['steps']}")
    model = taught.network(knobs["widths"], knobs["depth"])
    fill(model, state.get("ema", {}), path)
    return model.eval()


def owners(nets: list[RadiographNet], folds: I64, *, bf16: bool = True) -> Owner:
    """Each view judged by the network that left its image's fold out; bf16: in bfloat16."""

    def judge(views: Tensor, which: I64) -> Tensor:
        out = torch.zeros(len(which))
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            for fold, net in enumerate(nets):
                some = torch.from_numpy(np.flatnonzero(folds[which] == fold))
                if len(some):
                    out[some] = net(views[some])[0].float()
        return out

    return judge


def one_owner(net: nn.Module, *, bf16: bool = True) -> Owner:
    """Every view judged by one network; bf16: in bfloat16."""

    def judge(views: Tensor, which: I64) -> Tensor:
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            logits: Tensor = net(views)[0].float()
        return logits

    return judge


def main() -> None:
    """Data, teachers, a network a fold, the one that ships, figures."""
    k = knobs_from_command_line(Knobs())
    count = parameter_count(taught.network(k.widths, k.depth))
    if count > MOST_PARAMETERS:
        raise RunError(f"{count} parameters; the student has at most {MOST_PARAMETERS}")
    data, views = taught.read_data(k)
    folder = work_folder(k.name)
    folders = [f"fold-{fold}" for fold in range(FOLDS)]
    teachers = [finished(work_folder(k.teacher) / f) for f in folders] if k.teacher else []
    print(f"{count} parameters, {len(data)} images", flush=True)
    nets = [
        taught.train(
            replace(k, seed=k.seed + fold),
            data,
            views,
            np.flatnonzero(data.folds != fold),
            folder / folders[fold],
            one_owner(teachers[fold], bf16=k.bf16) if teachers else None,
        )
        for fold in range(FOLDS)
    ]
    if k.final:
        teacher = owners(teachers, data.folds, bf16=k.bf16) if teachers else None
        last = replace(k, steps=k.final_steps)
        taught.train(last, data, views, np.arange(len(data)), folder, teacher)
    taught.write_figures(k, data, nets, folder)


if __name__ == "__main__":
    command(main)
