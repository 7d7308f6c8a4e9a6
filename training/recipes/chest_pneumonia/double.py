"""Trains a double of the network that ships that never saw val, and judges val by it.

    python -m training.recipes.chest_pneumonia.double [--name pneumonia-double] ...

Writes `last.pt` and `val.npz` (labels, folds, groups, and the logit of every val image, as it is
and shifted) to the run's folder: `certainty` fits the bounds of certainty on them.

Rules. The bounds of split conformal prediction are fitted on images that the network has not
learned from, and the one that ships has learned from all. So its double has the same widths, steps
and variation, and learns from train alone, without pictures that are like one of val. It learns
from the labels: the teachers have seen val. The test split is never read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from training.errors import command
from training.learn.knobs import knobs_from_command_line
from training.read.datasets import read_medmnist
from training.read.folders import shared_folder, work_folder
from training.recipes.chest_pneumonia import teacher as taught
from training.recipes.chest_pneumonia.pneumonia_mnist import FILE, I64, Radiographs, shifted

LOGITS = "val.npz"


@dataclass(frozen=True)
class Knobs(taught.Knobs):
    """Everything that may be varied, with its unit; as `student` has it for what ships."""

    name: str = "pneumonia-double"
    seed: int = 11
    widths: str = "16,32,64"
    steps: int = 520


def apart(data: Radiographs, first: int) -> tuple[I64, I64]:
    """Rows to learn from, and those of val, which begin at `first`: none of the former is like one
    of the latter."""
    rows = np.arange(len(data))
    val = rows[first:]
    return rows[:first][~np.isin(data.groups[:first], data.groups[val])], val


def main() -> None:
    """Data, the double, what it says of val."""
    k = knobs_from_command_line(Knobs())
    data, views = taught.read_data(k)
    rows, val = apart(data, len(read_medmnist(shared_folder() / FILE)["train"].labels))
    print(f"{len(rows)} images to learn from, {len(val)} of val", flush=True)
    folder = work_folder(k.name)
    model = taught.train(k, data, views, rows, folder)
    copies = shifted(taught.in_unit(data.images[val]), data.labels[val])
    arrays: dict[str, Any] = {
        "labels": data.labels[val],
        "folds": data.folds[val],
        "groups": data.groups[val],
        **{name: taught.logits_of(model, copy) for name, copy in copies.items()},
    }
    np.savez(folder / LOGITS, **arrays)


if __name__ == "__main__":
    command(main)
