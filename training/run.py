"""Makes a bundle's source folder from the shared data, recipe by recipe.

    python -m training.run lung-nodule [--out build/lung-nodule] [--jobs 2] [--only judge]
    python -m training.run chest-pneumonia [--out build/chest-pneumonia]

Rules.
1. A task is a list of stages, a stage a list of tracks that do not need one another, a track a list
   of commands, each a recipe of its own. Tracks run side by side, as many as there are cores: a
   recipe learns on one core, and two networks on a core each take less than one after the other on
   both. Every line says which track it is of.
2. The first command that fails ends the run, and those beside it. Recipes resume from their
   checkpoints, so a second call goes on where the first ended and does nothing where all is done
   (remove the training work folder to start afresh).
3. A recipe uses the threads that its knobs say; without OMP_NUM_THREADS the linear algebra under
   numpy would start as many as there are cores for each small product, and spend most of them
   waiting.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait

from training.loop import work_folder

FOLDS = {
    "R01-001": "C3N-00247,A0001",
    "C3N-00247": "R01-001,A0001",
    "A0001": "R01-001,C3N-00247",
}
RECIPES = "training.recipes.lung_nodule_"


Command = list[str]
"""A module and its arguments."""
Stage = Mapping[str, list[Command]]
"""Tracks by name, the longest first."""


def lung_nodule(out: str) -> list[Stage]:
    """Of every network that learns on our CTs three leave one CT out, to judge it, and a fourth
    ships."""
    quantize = [f"{RECIPES}quantize", "--network"]
    tracks: dict[str, list[Command]] = {}
    for role in ("propose", "mass", "measure"):
        for name, hosts in {**FOLDS, "": ",".join(FOLDS)}.items():
            run = f"{role}-without-{name}" if name else role
            tracks[run] = [
                [f"{RECIPES}{role}", "--name", run, "--hosts", hosts],
                [*quantize, role, "--name", run],
            ]
        if role == "propose":
            tracks["classify"] = [
                [
                    *(f"{RECIPES}classify", "--name", "student-alone", "--teachers", ""),
                    *("--start", "", "--alone", "", "--steps", "3000", "--rate", "3e-3"),
                ],
                [f"{RECIPES}teacher"],
                [f"{RECIPES}classify"],
                [*quantize, "classify", "--name", "student"],
            ]
            tracks["segment"] = [[f"{RECIPES}segment"], [*quantize, "segment"]]
    return [tracks, {"judge": judged_and_exported(out)}]


def judged_and_exported(out: str) -> list[Command]:
    """The commands after the last training: fits out of fold, figures, the source folder."""
    folder = work_folder("lung-nodule")

    def folds(role: str) -> list[str]:
        return [w for host in FOLDS for w in ("--fold", f"{host}={role}-without-{host}")]

    def files(**options: str) -> list[str]:
        return [w for o, name in options.items() for w in (f"--{o}", str(folder / f"{name}.json"))]

    runs = ["--classify", "student", "--mass", "mass", "--measure", "measure"]
    nodules = files(heads="heads", figures="figures")
    masses = files(mass_heads="mass-heads", mass_figures="mass-figures")
    measures = files(measure_figures="measure-figures")
    compared = ["--compared", "student-alone,teacher"]
    return [
        [
            *("training.calibrate", *folds("propose"), "--classify", "student"),
            *files(out="heads", figures="figures"),
        ],
        [
            *("training.calibrate_masses", *folds("mass")),
            *files(out="mass-heads", figures="mass-figures"),
        ],
        [
            *("training.judge_measure", *folds("measure")),
            *files(figures="measure-figures"),
        ],
        [f"{RECIPES}export", "--out", out, *runs, *compared, *nodules, *masses, *measures],
    ]


def chest_pneumonia(out: str) -> list[Stage]:
    """Teachers, the student, and the same with labels alone to compare."""
    recipes = "training.recipes.chest_pneumonia_"
    alone = ["--name", "pneumonia-alone", "--teacher", "", "--final", "false"]
    return [
        {
            "taught": [[f"{recipes}teacher"], [f"{recipes}student"], [f"{recipes}quantize"]],
            "alone": [[f"{recipes}student", *alone]],
        },
        {"export": [[f"{recipes}export", "--out", out]]},
    ]


TASKS = {"lung-nodule": lung_nodule, "chest-pneumonia": chest_pneumonia}


class Failed(Exception):
    """A command's exit status, beside which the others were ended."""


class _Runner:
    """Tracks side by side."""

    def __init__(self) -> None:
        self.running: set[subprocess.Popen[str]] = set()
        self.lock, self.ended = threading.Lock(), False

    def say(self, track: str, line: str) -> None:
        """One line on stdout, whole."""
        with self.lock:
            print(f"{track}: {line}", flush=True)

    def follow(self, track: str, commands: Iterable[Command]) -> None:
        """The commands of a track in their order; Failed at the first that fails."""
        for words in commands:
            began = time.monotonic()
            with self.lock:
                if self.ended:
                    return
                typed = " ".join(w or "''" for w in words)
                print(f"{track}: $ python -m {typed}", flush=True)
                child = subprocess.Popen(
                    [sys.executable, "-m", *words],
                    env={"OMP_NUM_THREADS": "1", **os.environ},
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                    errors="replace",
                )
                self.running.add(child)
            assert child.stdout is not None
            with child.stdout:
                for line in child.stdout:
                    self.say(track, line.rstrip())
            code = child.wait()
            with self.lock:
                self.running.discard(child)
                if self.ended:
                    return
            if code:
                raise Failed(f"{track}: {words[0]} ended with {code}")
            self.say(track, f"{words[0]}: {time.monotonic() - began:.0f} s")

    def end(self) -> None:
        """Ends what runs; their checkpoints stay."""
        with self.lock:
            self.ended = True
            for child in self.running:
                child.terminate()


def run_stages(stages: Sequence[Stage], jobs: int) -> None:
    """Every stage after the one before; Failed, with nothing left running."""
    for stage in stages:
        runner = _Runner()
        with ThreadPoolExecutor(max_workers=jobs) as pool:
            tracks = [pool.submit(runner.follow, name, list(c)) for name, c in stage.items()]
            try:
                done, _ = wait(tracks, return_when=FIRST_EXCEPTION)
                if any(track.exception() for track in done):
                    runner.end()
            except KeyboardInterrupt:
                runner.end()
                raise Failed("stopped; the same command goes on from the checkpoints") from None
        for track in tracks:
            track.result()


def main() -> None:
    """Runs the named task's stages in order."""
    parser = argparse.ArgumentParser(description="Train a bundle's networks and export them.")
    parser.add_argument("task", choices=list(TASKS))
    parser.add_argument("--out", default="")
    parser.add_argument("--only", default="", help="one track of it, judge say; default: all")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="tracks at once")
    given = parser.parse_args()
    if given.jobs < 1:
        parser.error("--jobs is 1 or more")
    stages = TASKS[given.task](given.out or f"build/{given.task}")
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
    main()
