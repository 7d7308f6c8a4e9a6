"""The steps of lung-nodule in their order: networks, their INT8 versions, judges, source folder.

Rules. Of every network that is judged on our CTs a run a fold leaves the fold's CTs out (`folds`),
and one more ships.
"""

from __future__ import annotations

from training.read.folders import work_folder
from training.recipes.lung_nodule.folds import folds_of, judged_runs, learned_from, run_of
from training.tracks import Command, Stage

STEPS = "training.recipes.lung_nodule"


def stages(out: str) -> list[Stage]:
    """Every network with its INT8 version on tracks side by side, then the judges."""
    quantize = [f"{STEPS}.quantize", "--network"]
    tracks: dict[str, list[Command]] = {}
    for role in ("propose", "mass", "measure"):
        for fold in (*folds_of(role), ""):
            run = run_of(role, fold) if fold else role
            tracks[run] = [
                [f"{STEPS}.{role}", "--name", run, "--hosts", learned_from(role, fold)],
                [*quantize, role, "--name", run],
            ]
        if role == "propose":
            tracks["classify"] = [
                [
                    *(f"{STEPS}.classify", "--name", "student-alone", "--teachers", ""),
                    *("--start", "", "--alone", "", "--steps", "3000", "--rate", "3e-3"),
                ],
                [f"{STEPS}.teacher"],
                [f"{STEPS}.classify"],
                [*quantize, "classify", "--name", "student"],
            ]
            for fold in (*folds_of("disease"), ""):
                mask, run = (run_of(r, fold) if fold else r for r in ("segment", "disease"))
                hosts = ["--hosts", learned_from("disease", fold)]
                tracks[run] = [
                    [f"{STEPS}.segment", "--name", mask, *hosts],
                    [f"{STEPS}.disease", "--name", run, "--lungs", mask, *hosts],
                    [*quantize, "segment", "--name", run],
                ]
    return [tracks, {"judge": judged_and_exported(out)}]


def judged_and_exported(out: str) -> list[Command]:
    """The commands after the last training: fits out of fold, figures, shapes for the probe, the
    source folder."""
    folder = work_folder("lung-nodule")
    shapes = str(folder / "shapes.npz")

    def folds(role: str) -> list[str]:
        return [w for host, run in judged_runs(role) for w in ("--fold", f"{host}={run}")]

    def files(**options: str) -> list[str]:
        return [w for o, name in options.items() for w in (f"--{o}", str(folder / f"{name}.json"))]

    runs = ["--segment", "disease", "--classify", "student", "--mass", "mass"]
    runs += ["--measure", "measure"]
    nodules = files(heads="heads", figures="figures")
    masses = files(mass_heads="mass-heads", mass_figures="mass-figures")
    measures = files(measure_figures="measure-figures")
    compared = ["--compared", "student-alone,teacher"]
    return [
        [
            *(f"{STEPS}.calibrate", *folds("propose"), "--segment", "disease"),
            *("--classify", "student"),
            *files(out="heads", figures="figures"),
        ],
        [
            *(f"{STEPS}.calibrate_masses", *folds("mass"), "--segment", "disease"),
            *files(out="mass-heads", figures="mass-figures"),
        ],
        [
            *(f"{STEPS}.judge_measure", *folds("measure")),
            *files(figures="measure-figures"),
        ],
        [f"{STEPS}.judge_disease", *folds("disease"), "--out", str(folder / "disease.json")],
        ["training.ship.shapes", shapes],
        [
            *(f"{STEPS}.export", "--out", out, *runs, *compared, *nodules, *masses, *measures),
            *(*files(disease="disease"), "--shapes", shapes),
        ],
    ]
