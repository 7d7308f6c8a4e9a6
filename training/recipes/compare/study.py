"""Which lesson teaches the network of displacements best: one table, two folds.

    python -m training.recipes.compare.study [--steps 600] [--out build/study/displace.md]

Rules. ROWS differ in nothing but their losses. A run that is done is not made again, one that was
stopped goes on; so the same command ends a study that was broken off.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from training.errors import command
from training.read.files import whole
from training.read.folders import work_folder
from training.recipes.compare import displace, judge, lessons
from training.recipes.compare.displace import Knobs
from training.recipes.compare.folds import FOLDS, learned_from

NONE: Mapping[str, Any] = {"field": 0.0, "ncc": 0.0, "mi": 0.0, "masks": False, "lungs": 0.0}
ROWS: Mapping[str, Mapping[str, Any]] = {
    "supervised": {"field": 1.0},
    "NCC": {"ncc": 1.0},
    "MI": {"mi": 1.0},
    "NCC + mask": {"ncc": 1.0, "masks": True},
    "all": {"field": 1.0, "ncc": 0.1, "mi": 0.1, "masks": True},
    "all + lungs": {"field": 1.0, "ncc": 0.1, "mi": 0.1, "masks": True, "lungs": 0.2},
}
"""What each row's loss is made of; all else is 0."""


def run_of(row: str, fold: str) -> str:
    """The folder of a run."""
    name = row.lower().replace(" + ", "-with-").replace(" ", "-")
    return f"study-{name}-fold-{fold}"


def knobs_of(row: str, fold: str, steps: int) -> Knobs:
    """The knobs of a row's run."""
    run = run_of(row, fold)
    return replace(
        Knobs(), name=run, hosts=learned_from(fold), steps=steps, **{**NONE, **ROWS[row]}
    )


def learned(row: str, fold: str, steps: int) -> str:
    """Trains a row's run, or what is left of it; its name."""
    k = knobs_of(row, fold, steps)
    folder = work_folder(k.name)
    done = folder / "steps.json"
    if done.exists() and json.loads(done.read_text()) == steps:
        return k.name
    hosts = k.hosts.split(",")
    files = lessons.pool(work_folder("cache"), hosts, k.seed, k.pairs, displace.chest)
    displace.train(k, files, folder)
    with whole(done) as file:
        file.write(json.dumps(steps).encode())
    return k.name


def as_table(found: Mapping[str, Mapping[str, Any]]) -> str:
    """Markdown: a line a row, with what judges it beside."""
    lines = ["| lesson | mean mm | p95 mm | points |", "|---|---|---|---|"]
    for row, of in found.items():
        lines.append(f"| {row} | {of['mean_mm']:.2f} | {of['p95_mm']:.2f} | {of['n']} |")
    return "\n".join(lines) + "\n"


def study(steps: int, pairs: int) -> dict[str, dict[str, Any]]:
    """Every row over both folds; demons and the boxes alone stand first."""
    found: dict[str, dict[str, Any]] = {}
    for row in ROWS:
        folds = [
            f"{host}={learned(row, fold, steps)}" for fold, hosts in FOLDS.items() for host in hosts
        ]
        figures = judge.table(folds, pairs)["all"]
        found |= {name: figures[name] for name in ("boxes", "demons") if name not in found}
        found[row] = figures["network x2"]
        print(as_table(found), flush=True)
    return found


def main() -> None:
    """Runs what is left of the study and writes its table."""
    parser = argparse.ArgumentParser(description="Compare lessons of the displacement network.")
    parser.add_argument("--steps", type=int, default=600, help="of each run (600)")
    parser.add_argument("--pairs", type=int, default=6, help="of each CT and family (6)")
    parser.add_argument("--out", type=Path, default=Path("build/study/displace.md"))
    given = parser.parse_args()
    found = study(given.steps, given.pairs)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(as_table(found))
    print(f"table {given.out}")


if __name__ == "__main__":
    command(main)
