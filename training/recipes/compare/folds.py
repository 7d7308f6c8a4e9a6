"""The folds of the network of displacements: which CTs a run leaves out, to be judged on them.

Rules. Two folds of two CTs each judge, none with slices above 5 mm; what ships learns from all.
"""

from __future__ import annotations

from training.read.shared_series import TRAINING_SERIES

FOLDS = {
    "2": ("C3N-00247", "LIDC-IDRI-0004"),
    "4": ("LIDC-IDRI-0003", "LIDC-IDRI-0021"),
}
PHANTOMS = ("phantom-1", "phantom-2")


def run_of(role: str, fold: str) -> str:
    """The run that leaves a fold out; of no fold, the one that ships."""
    return f"{role}-fold-{fold}" if fold else role


def learned_from(fold: str = "") -> str:
    """The hosts of a run, as `--hosts` takes them."""
    out = FOLDS[fold] if fold else ()
    return ",".join([*(name for name in TRAINING_SERIES if name not in out), *PHANTOMS])


def judged_runs(role: str) -> list[str]:
    """CT=RUN of each CT that judges, with the run that left it out."""
    return [f"{host}={run_of(role, fold)}" for fold, hosts in FOLDS.items() for host in hosts]
