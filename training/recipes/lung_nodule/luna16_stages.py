"""The steps of lung-nodule on LUNA16 itself, from its files to the source folder of a bundle.

    python -m training.run lung-nodule --luna16 ROOT [--hosts 32] [--out build/lung-nodule-luna16]

Rules.
1. LUNA16 alone: its scans, annotations, candidates and lungs. No implants, so no outlines of LIDC;
   the 2D teacher starts from the weights of natural images. What was used the runs say themselves
   (`ship.learned`).
2. Three networks: lungs, proposals, patches. Masses, disease and measuring have nothing in LUNA16
   that could judge them (no nodule above 30 mm, no disease drawn, a diameter and no outline), and
   the line does without them.
3. Patches are cut from every scan of train; the networks of volumes learn from the `hosts` scans of
   train with the most nodules, because each is held in memory (about 0.3 GB). All scans of val
   calibrate, and nothing learned from them.
4. What is cut lies under the training work folder, beside the runs, and stays: called again, the
   same command goes on. Another ROOT wants another work folder.
"""

from __future__ import annotations

from pathlib import Path

from training.read.datasets import read_annotations
from training.read.folders import work_folder
from training.recipes.lung_nodule.luna16 import chosen, scans, table
from training.tracks import Command, Stage

STEPS = "training.recipes.lung_nodule"
BUNDLE, VERSION = "lung-nodule-luna16", "1.0.0"
RUN = "luna16-{}"
HOSTS = 32


def environment() -> dict[str, str]:
    """What every step reads beside its knobs: the patches that were cut."""
    return {"SCANSIDE_PATCHES": str(work_folder("luna16") / "patches.npz")}


def stages(root: Path, out: str, hosts: int = HOSTS) -> list[Stage]:
    """Cutting, then every network with its INT8 version side by side, then judge and export.

    DataError where `root` is not LUNA16's layout.
    """
    data = work_folder("luna16")
    nodules = read_annotations(table(root, "annotations.csv"))
    names = [path.stem for path in chosen(list(scans(root)), nodules, "train", hosts)]
    learned = ["--hosts", ",".join(str(data / "hosts" / name) for name in names)]
    cut = [f"{STEPS}.luna16", str(root), "--keep"]
    series = [*cut, "--series"]
    cutting: Stage = {
        "patches": [[*cut, "--patches", environment()["SCANSIDE_PATCHES"]]],
        "hosts": [[*series, str(data / "hosts"), "--split", "train", "--most", str(hosts)]],
        "val": [[*series, str(data / "val"), "--split", "val"]],
    }
    run = {role: RUN.format(role) for role in ("segment", "propose", "classify")}
    alone, teacher = RUN.format("student-alone"), RUN.format("teacher")
    networks: dict[str, list[Command]] = {
        "classify": [
            [
                *(f"{STEPS}.classify", "--name", alone, "--teachers", "", "--start", ""),
                *("--alone", "", "--steps", "3000", "--rate", "3e-3"),
            ],
            [f"{STEPS}.teacher", "--name", teacher],
            [
                *(f"{STEPS}.classify", "--name", run["classify"], "--start", alone),
                *("--teachers", f"{teacher},{alone}", "--alone", alone),
            ],
        ],
        "propose": [
            [
                *(f"{STEPS}.propose", "--name", run["propose"], *learned),
                *("--implants", "0", "--made_up", "0"),
            ]
        ],
        "segment": [[f"{STEPS}.segment", "--name", run["segment"], *learned]],
    }
    for role, commands in networks.items():
        commands.append([f"{STEPS}.quantize", "--network", role, "--name", run[role]])
    runs = [word for role, name in run.items() for word in (f"--{role}", name)]
    heads, figures = (str(data / f"{name}.json") for name in ("heads", "figures"))
    judge: list[Command] = [
        [
            *(f"{STEPS}.calibrate_scans", "--scans", str(data / "val"), *runs),
            *("--out", heads, "--figures", figures),
        ],
        [
            *(f"{STEPS}.export", "--out", out, "--name", BUNDLE, "--version", VERSION, *runs),
            *("--compared", f"{alone},{teacher}", "--heads", heads, "--figures", figures),
        ],
    ]
    return [cutting, networks, {"judge": judge}]
