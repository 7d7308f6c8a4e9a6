"""Makes a bundle's source folder from the shared data, recipe by recipe.

    python -m training.run lung-nodule [--out build/lung-nodule] [--jobs 2] [--only judge]
    python -m training.run chest-pneumonia [--out build/chest-pneumonia]
    python -m training.run lung-compare [--out build/lung-compare]
    python -m training.run lung-nodule --luna16 ROOT [--hosts 32]    # of LUNA16, not of ../shared
    python -m training.run --list

Rules. TASKS is the one table of tasks: a new task is a folder under `recipes` with its `stages`,
and one row here. How stages run: `training.tracks`.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from training.errors import command
from training.recipes.chest_pneumonia import stages as chest_pneumonia
from training.recipes.compare import stages as compare
from training.recipes.lung_nodule import luna16_stages as luna16
from training.recipes.lung_nodule import stages as lung_nodule
from training.tracks import Failed, Stage, run_stages

TASKS: Mapping[str, Callable[[str], list[Stage]]] = {
    "lung-nodule": lung_nodule.stages,
    "chest-pneumonia": chest_pneumonia.stages,
    "lung-compare": compare.stages,
}
"""A task's name, and what makes its stages for a source folder."""


def main() -> None:
    """Runs the named task's stages in order."""
    parser = argparse.ArgumentParser(description="Train a bundle's networks and export them.")
    parser.add_argument("task", choices=list(TASKS), nargs="?")
    parser.add_argument("--list", action="store_true", help="the names of all tasks, no run")
    parser.add_argument("--out", default="")
    parser.add_argument("--only", default="", help="one track of it, judge say; default: all")
    parser.add_argument("--luna16", type=Path, metavar="ROOT", help="learn from LUNA16 in ROOT")
    parser.add_argument("--hosts", type=int, default=luna16.HOSTS, help="its scans in memory (32)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="tracks at once")
    given = parser.parse_args()
    if given.list:
        print("\n".join(TASKS))
        return
    if given.task is None:
        parser.error(f"name a task: {', '.join(TASKS)}")
    if given.jobs < 1:
        parser.error("--jobs is 1 or more")
    if given.luna16 is None:
        stages = TASKS[given.task](given.out or f"build/{given.task}")
    elif given.task != "lung-nodule" or given.hosts < 1:
        parser.error("--luna16 is for lung-nodule, with --hosts 1 or more")
    else:
        stages = luna16.stages(given.luna16, given.out or f"build/{luna16.BUNDLE}", given.hosts)
        os.environ |= luna16.environment()
    if given.only:
        stages = [{given.only: stage[given.only]} for stage in stages if given.only in stage]
        if not stages:
            parser.error(f"no track {given.only!r}")
    began = time.monotonic()
    try:
        run_stages(stages, given.jobs)
    except Failed as e:
        raise SystemExit(str(e)) from None
    print(f"{given.task}: {(time.monotonic() - began) / 60:.1f} minutes")


if __name__ == "__main__":
    command(main)
