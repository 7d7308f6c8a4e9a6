"""Makes a bundle's source folder from the shared data, recipe by recipe.

    python -m training.run lung-nodule [--out build/lung-nodule]

Rules. A task is a list of commands, each a recipe of its own; the first that fails ends the run.
Recipes resume from their checkpoints, so a second call goes on where the first ended and does
nothing where all is done (remove the training work folder to start afresh).
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time

from training.loop import work_folder

FOLDS = {"R01-001": "C3N-00247,A0001", "C3N-00247": "R01-001,A0001"}


def lung_nodule(out: str) -> list[list[str]]:
    """Modules and arguments: two leave-one-out proposal networks judge, the third ships."""
    recipes = "training.recipes.lung_nodule_"
    folder = work_folder("lung-nodule")
    heads, figures = str(folder / "heads.json"), str(folder / "figures.json")
    quantize = [f"{recipes}quantize", "--network"]
    steps = [[f"{recipes}classify"], [*quantize, "classify"]]
    steps += [[f"{recipes}segment"], [*quantize, "segment"]]
    folds = []
    for left_out, hosts in FOLDS.items():
        name = f"propose-without-{left_out}"
        steps.append([f"{recipes}propose", "--name", name, "--hosts", hosts])
        steps.append([*quantize, "propose", "--name", name])
        folds += ["--fold", f"{left_out}={name}"]
    return [
        *steps,
        [f"{recipes}propose"],
        [*quantize, "propose"],
        ["training.calibrate", *folds, "--out", heads, "--figures", figures],
        [f"{recipes}export", "--out", out, "--heads", heads, "--figures", figures],
    ]


def main() -> None:
    """Runs the named task's commands in order."""
    parser = argparse.ArgumentParser(description="Train a bundle's networks and export them.")
    parser.add_argument("task", choices=["lung-nodule"])
    parser.add_argument("--out", default="")
    given = parser.parse_args()
    for words in lung_nodule(given.out or f"build/{given.task}"):
        print("$ python -m " + " ".join(words), flush=True)
        began = time.monotonic()
        if code := subprocess.run([sys.executable, "-m", *words], check=False).returncode:
            raise SystemExit(code)
        print(f"{words[0]}: {time.monotonic() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main()
