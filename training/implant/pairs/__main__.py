"""Writes exact pairs of chest CTs: two exams of one chest, and the field between them.

    python -m training.implant.pairs OUT [--hosts R01-001,phantom-1] [--each 4] [--seed 1]

    OUT/<split>/<host>-<n>.npz   fixed, moving (HU), fixed_lungs, moving_lungs, fixed_cover,
                                 moving_cover [z, y, x]; field [3, z, y, x]; points [n, 2, 3]
    OUT/pairs.json               grids, seed, and of each pair its file, split, and lesions

Rules.
1. fixed(x) = moving(x + field(x)): mm, z y x, from the outer edge of voxel 0; index 0 of z is the
   lowest. The field lies at the cell centres of a grid of 8 mm on the same canvas, linear between.
2. A host's split is that of its patient (`study_index.split_of`); phantoms are of train.
3. The same call makes the same arrays again. A folder that is there is not touched.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from training.errors import command
from training.implant.pairs.fields import FIELD_MM, moved
from training.implant.pairs.pair import PHANTOM, Pair, chest_of, drawn
from training.read.datasets import SPLITS
from training.read.files import whole_folder
from training.read.shared_series import NODULE_SERIES
from training.read.study_index import split_of

HOSTS = ",".join([*NODULE_SERIES, "phantom-1"])


def write_pair(pair: Pair, path: Path) -> dict[str, Any]:
    """One pair as an .npz; what pairs.json says of it."""
    np.savez_compressed(
        path,
        fixed=np.rint(pair.fixed).astype(np.int16),
        moving=np.rint(pair.moving).astype(np.int16),
        fixed_lungs=pair.fixed_lungs,
        moving_lungs=pair.moving_lungs,
        fixed_cover=pair.fixed_cover,
        moving_cover=pair.moving_cover,
        field=pair.field,
        points=pair.points.astype(np.float32),
    )
    return {"host": pair.name, "lesions": [asdict(one) for one in pair.lesions]}


def write_pairs(out: Path, hosts: list[str], each: int, seed: int, grid_mm: float) -> int:
    """The whole data set, or nothing; how many pairs."""
    rows = []
    with whole_folder(out, "OUT") as folder:
        for number, host in enumerate(hosts):
            chest = chest_of(host, grid_mm)
            split = SPLITS[0] if host.startswith(PHANTOM) else split_of(host)
            (folder / split).mkdir(exist_ok=True)
            for i in range(each):
                pair = drawn(np.random.default_rng([seed, number, i]), chest, moved)
                file = f"{split}/{host}-{i:03d}.npz"
                rows.append({"file": file, "split": split, **write_pair(pair, folder / file)})
            print(f"{host}: {each} pairs of {split}", flush=True)
        said = {"grid_mm": grid_mm, "field_mm": FIELD_MM, "seed": seed, "pairs": rows}
        (folder / "pairs.json").write_text(json.dumps(said, indent=1) + "\n")
    return len(rows)


def main() -> None:
    """Writes the data set, or says in one line why not."""
    parser = argparse.ArgumentParser(description="Write exact pairs of chest CTs.")
    parser.add_argument("out", type=Path)
    parser.add_argument("--hosts", default=HOSTS, help="separated by commas")
    parser.add_argument("--each", type=int, default=4, help="pairs of each host (4)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--grid-mm", type=float, default=2.0, choices=(1.0, 2.0, 4.0))
    given = parser.parse_args()
    if given.each < 1 or given.seed < 0:
        parser.error("--each is 1 or more, --seed is 0 or more")
    count = write_pairs(given.out, given.hosts.split(","), given.each, given.seed, given.grid_mm)
    print(f"{given.out}: {count} pairs")


if __name__ == "__main__":
    command(main)
