"""Makes a bundle's source folder from the shared data, recipe by recipe.

    python -m training.run lung-nodule [--out build/lung-nodule]
    python -m training.run chest-pneumonia [--out build/chest-pneumonia]

Rules. A task is a list of commands, each a recipe of its own; the first that fails ends the run.
Recipes resume from their checkpoints, so a second call goes on where the first ended and does
nothing where all is done (remove the training work folder to start afresh). A recipe uses the
threads that its knobs say; without OMP_NUM_THREADS the linear algebra under numpy would start as
many as there are cores for each small product, and spend most of them waiting.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterable

from training.loop import work_folder

FOLDS = {
    "R01-001": "C3N-00247,A0001",
    "C3N-00247": "R01-001,A0001",
    "A0001": "R01-001,C3N-00247",
}
RECIPES = "training.recipes.lung_nodule_"


def lung_nodule(out: str) -> list[list[str]]:
    """Modules and arguments. Of every network that learns on our CTs three leave one CT out, to
    judge it, and a fourth ships; measuring is judged on one CT left out."""
    quantize = [f"{RECIPES}quantize", "--network"]
    steps = [
        [
            *(f"{RECIPES}classify", "--name", "student-alone", "--teachers", "", "--start", ""),
            *("--alone", "", "--steps", "3000", "--rate", "3e-3"),
        ],
        [f"{RECIPES}teacher"],
        [f"{RECIPES}classify"],
        [*quantize, "classify", "--name", "student"],
        [f"{RECIPES}segment"],
        [*quantize, "segment"],
    ]
    for role in ("propose", "mass"):
        for name, hosts in {**FOLDS, "": ",".join(FOLDS)}.items():
            run = f"{role}-without-{name}" if name else role
            steps.append([f"{RECIPES}{role}", "--name", run, "--hosts", hosts])
            steps.append([*quantize, role, "--name", run])
    for name in ("R01-001", ""):
        run = f"measure-without-{name}" if name else "measure"
        steps.append(
            [f"{RECIPES}measure", "--name", run, "--hosts", FOLDS.get(name, ",".join(FOLDS))]
        )
        steps.append([*quantize, "measure", "--name", run])
    return [*steps, *judged_and_exported(out)]


def judged_and_exported(out: str) -> list[list[str]]:
    """The commands after the last training: fits out of fold, figures, the source folder."""
    folder = work_folder("lung-nodule")

    def fold(role: str, hosts: Iterable[str]) -> list[str]:
        return [w for host in hosts for w in ("--fold", f"{host}={role}-without-{host}")]

    def files(**options: str) -> list[str]:
        return [w for o, name in options.items() for w in (f"--{o}", str(folder / f"{name}.json"))]

    runs = ["--classify", "student", "--mass", "mass", "--measure", "measure"]
    nodules = files(heads="heads", figures="figures")
    masses = files(mass_heads="mass-heads", mass_figures="mass-figures")
    measures = files(measure_figures="measure-figures")
    compared = ["--compared", "student-alone,teacher"]
    return [
        [
            *("training.calibrate", *fold("propose", FOLDS), "--classify", "student"),
            *files(out="heads", figures="figures"),
        ],
        [
            *("training.calibrate_masses", *fold("mass", FOLDS)),
            *files(out="mass-heads", figures="mass-figures"),
        ],
        [
            *("training.judge_measure", *fold("measure", ["R01-001"])),
            *files(figures="measure-figures"),
        ],
        [f"{RECIPES}export", "--out", out, *runs, *compared, *nodules, *masses, *measures],
    ]


def chest_pneumonia(out: str) -> list[list[str]]:
    """Modules and arguments: teachers, the student, and the same with labels alone to compare."""
    recipes = "training.recipes.chest_pneumonia_"
    return [
        [f"{recipes}teacher"],
        [f"{recipes}student"],
        [f"{recipes}quantize"],
        [f"{recipes}student", "--name", "pneumonia-alone", "--teacher", "", "--final", "false"],
        [f"{recipes}export", "--out", out],
    ]


TASKS = {"lung-nodule": lung_nodule, "chest-pneumonia": chest_pneumonia}


def main() -> None:
    """Runs the named task's commands in order."""
    parser = argparse.ArgumentParser(description="Train a bundle's networks and export them.")
    parser.add_argument("task", choices=list(TASKS))
    parser.add_argument("--out", default="")
    given = parser.parse_args()
    for words in TASKS[given.task](given.out or f"build/{given.task}"):
        print("$ python -m " + " ".join(words), flush=True)
        began = time.monotonic()
        if code := subprocess.run(
            [sys.executable, "-m", *words],
            check=False,
            env={"OMP_NUM_THREADS": "1", **os.environ},
        ).returncode:
            raise SystemExit(code)
        print(f"{words[0]}: {time.monotonic() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main()
