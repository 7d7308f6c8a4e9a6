"""The steps of lung-compare in their order: networks, their judge, the source folder.

Rules. Each network learns to match on lessons of 16 mm first. Where demons are better, `export`
says so and writes no source folder: then nothing is packed.
"""

from __future__ import annotations

from training.read.folders import work_folder
from training.recipes.compare.folds import FOLDS, judged_runs, learned_from, run_of
from training.tracks import Command, Stage

STEPS = "training.recipes.compare"


def stages(out: str) -> list[Stage]:
    """Two folds and the network that ships side by side, then the judge."""
    tracks: dict[str, list[Command]] = {}
    for fold in (*FOLDS, ""):
        coarse, fine = run_of("displace-coarse", fold), run_of("displace", fold)
        hosts = ["--hosts", learned_from(fold)]
        learn = [f"{STEPS}.displace", *hosts]
        tracks[fine] = [
            [*learn, "--name", coarse, "--coarse", "true", "--batch", "4", "--steps", "1000"],
            [*learn, "--name", fine, "--start", coarse],
        ]
    figures = str(work_folder("lung-compare") / "displace.json")
    judge = [f"{STEPS}.judge", *(w for run in judged_runs("displace") for w in ("--fold", run))]
    return [
        tracks,
        {"judge": [[*judge, "--out", figures]]},
        {"export": [[f"{STEPS}.export", "--out", out, "--figures", figures]]},
    ]
