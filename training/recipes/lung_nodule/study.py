"""Rows of the study (`training.study`) of lung-nodule: losses, branches, teachers, students.

Rules.
1. Two folds of four judge a row: 2 and 4 (nodules), 1 and 3 (masses). A row begins with runs of
   `make bundles` (proposals of the folds, lungs, `student-alone`, `teacher`); a judge names the one
   that is not there.
2. 2D alone is the sum of heat and patch; 3D alone and the hybrid are ranked by themselves and as
   one term more of the sum, by `judge_cube`. ResNeSt-50 starts from nothing.
3. Full width is for a GPU: on a CPU a row of it takes days. Nothing limits its time.
4. Proposals at 1.0 mm are no row: the grid of 1.25 mm is no knob of any recipe yet.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from training.read.folders import work_folder
from training.recipes.lung_nodule.cube import PROPOSE
from training.recipes.lung_nodule.folds import FOLDS, learned_from, left_out, run_of
from training.tracks import Command, Row

STEPS = "training.recipes.lung_nodule"
NODULES, MASSES = ("2", "4"), ("1", "3")


def _at(rate: str) -> tuple[str, ...]:
    return "top 24", "all", "froc", rate


def _of(host: str) -> tuple[str, ...]:
    return "top 24", host, "cube", "auc"


OUTLINES: Mapping[str, tuple[str, str]] = {
    "no outlines": ("0", "5"),
    "Dice alone": ("0.5", "0"),
    "Dice + 5 focal (ships)": ("0.5", "5"),
    "Dice + 20 focal": ("0.5", "20"),
    "Dice + 5 focal, twice the weight": ("1", "5"),
}
"""Of `mass`: --body_weight and --body_focal."""
PROPOSALS: Mapping[str, tuple[str, str]] = {
    "heat alone": ("0", "0"),
    "heat + size": ("0.5", "0"),
    "heat + size + outline (ships)": ("0.5", "1"),
    "heat + size + outline, three times the weight": ("0.5", "3"),
}
"""Of `propose`: --size_weight and --body_weight."""
CPM = {"CPM": ("cpm",), "interval": ("cpm_interval",)}
AUC = {"AUC on val patches": ("val_auc_of_patches_alone",)}
GAIN = {
    "2D alone, with it, interval of the gain at 1 false a scan": _at("1 a scan"),
    "at 2": _at("2 a scan"),
    **{f"AUC by itself in {host}": _of(host) for fold in NODULES for host in FOLDS[fold]},
}


def rows() -> list[Row]:
    """Every row of the task."""
    return [
        *(masses(name, *weights) for name, weights in OUTLINES.items()),
        *(proposals(name, *weights) for name, weights in PROPOSALS.items()),
        flat(),
        branch("3D alone", "cube", []),
        branch("hybrid, a quarter of the width", "hybrid", []),
        branch("hybrid, full width (the teacher)", "hybrid", ["--scale", "1"]),
        student(),
        ensemble(),
        resnest("a quarter of the width", "0.25"),
        resnest("full width", "1"),
    ]


def _figures(name: str) -> Path:
    return work_folder("study") / f"{name}.json"


def _slug(name: str) -> str:
    kept = "".join(c if c.isalnum() else "-" for c in name.lower())
    return "-".join(part for part in kept.split("-") if part)


def masses(name: str, weight: str, focal: str) -> Row:
    """The weights of the outlines' losses, where masks are learnt."""
    run, commands, folds = f"study-mass-{_slug(name)}", list[Command](), list[str]()
    for fold in MASSES:
        one = run_of(run, fold)
        commands += [
            [
                *(f"{STEPS}.mass", "--name", one, "--hosts", learned_from("mass", fold)),
                *("--body_weight", weight, "--body_focal", focal),
            ],
            [f"{STEPS}.quantize", "--network", "mass", "--name", one],
        ]
        folds += [word for host in left_out("mass", fold) for word in ("--fold", f"{host}={one}")]
    figures = _figures(run)
    judge = [f"{STEPS}.calibrate_masses", *folds, "--segment", "disease"]
    commands.append([*judge, "--figures", str(figures)])
    return Row(f"masses: {name}", tuple(commands), figures, {"found": ("found", "all")})


def proposals(name: str, size: str, body: str) -> Row:
    """The weights of the losses of proposals."""
    run, commands, folds = f"study-propose-{_slug(name)}", list[Command](), list[str]()
    for fold in NODULES:
        one = run_of(run, fold)
        commands += [
            [
                *(f"{STEPS}.propose", "--name", one, "--hosts", learned_from("propose", fold)),
                *("--size_weight", size, "--body_weight", body),
            ],
            [f"{STEPS}.quantize", "--network", "propose", "--name", one],
        ]
        folds += [
            word for host in left_out("propose", fold) for word in ("--fold", f"{host}={one}")
        ]
    figures = _figures(run)
    commands.append(_calibrated(folds, figures))
    return Row(f"proposals: {name}", tuple(commands), figures, CPM)


def _calibrated(folds: list[str], figures: Path) -> Command:
    judge = [f"{STEPS}.calibrate", *folds, "--segment", "disease", "--classify", "student"]
    return [*judge, "--figures", str(figures)]


def flat() -> Row:
    """2D alone, as it ships."""
    folds = [
        word
        for fold in NODULES
        for host in left_out("propose", fold)
        for word in ("--fold", f"{host}={run_of('propose', fold)}")
    ]
    figures = _figures("study-2d-alone")
    return Row("2D alone (ships)", (_calibrated(folds, figures),), figures, CPM)


def branch(name: str, recipe: str, knobs: list[str]) -> Row:
    """A 3D branch (`cube`) or a `hybrid`, by itself and as one term more of the sum."""
    run, commands = f"study-{_slug(name)}", list[Command]()
    for fold in NODULES:
        commands.append(_taught(recipe, run_of(run, fold), fold, knobs))
    return _judged(name, run, commands)


def student() -> Row:
    """The light 3D network that a hybrid taught."""
    run, commands = "study-3d-student", list[Command]()
    for fold in NODULES:
        teacher = run_of("study-teacher-of-3d", fold)
        commands.append(_taught("hybrid", teacher, fold, []))
        commands.append(_taught("cube", run_of(run, fold), fold, ["--teacher", teacher]))
    return _judged("3D student of the hybrid", run, commands)


def _taught(recipe: str, run: str, fold: str, knobs: list[str]) -> Command:
    hosts = ["--hosts", learned_from(recipe, fold), "--propose", PROPOSE]
    start = ["--start", run_of("propose", fold)] if recipe == "cube" else []
    return [f"{STEPS}.{recipe}", "--name", run, *hosts, *start, *knobs]


def _judged(name: str, run: str, commands: list[Command]) -> Row:
    figures = _figures(run)
    folds = [
        f"{host}={run_of('propose', fold)}={run_of(run, fold)}"
        for fold in NODULES
        for host in left_out("propose", fold)
    ]
    judge = [f"{STEPS}.judge_cube", "--folds", ",".join(folds), "--classify", "student"]
    return Row(name, (*commands, [*judge, "--out", str(figures)]), figures, GAIN)


def ensemble() -> Row:
    """The mean of three 2D networks that differ in their seed alone, and a student of it."""
    runs = [f"study-alone-seed-{seed}" for seed in ("1", "2", "3")]
    alone: list[Command] = [
        [
            *(f"{STEPS}.classify", "--name", run, "--seed", run[-1], "--teachers", ""),
            *("--start", "", "--alone", "", "--steps", "3000", "--rate", "3e-3"),
        ]
        for run in runs
    ]
    name = "study-ensemble"
    taught = [f"{STEPS}.classify", "--name", name, "--teachers", ",".join(runs)]
    shown = {
        "AUC of the mean": ("compared", "teacher"),
        "gain over one": ("compared", "teacher minus alone"),
        "gain of its student": ("compared", "student minus alone"),
    }
    commands = (*alone, [*taught, "--start", runs[0], "--alone", runs[0]])
    return Row("ensemble of three 2D", commands, work_folder(name) / "metrics.json", shown)


def resnest(width: str, scale: str) -> Row:
    """ResNeSt-50 on patches alone: the hybrid's 2D branch, from nothing."""
    name = f"study-resnest-{_slug(width)}"
    taught = [f"{STEPS}.hybrid", "--name", name, "--scale", scale]
    figures = work_folder(name) / "metrics.json"
    return Row(f"ResNeSt-50, {width}", (taught,), figures, AUC)
