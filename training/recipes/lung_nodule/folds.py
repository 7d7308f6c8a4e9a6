"""The folds of the nodule networks: which CTs a network leaves out, to be judged on them.

Rules.
1. A fold leaves two CTs out, and every CT is left out by one fold. Runs of one role differ in
   nothing else. What ships learns from all.
2. A CT of `shared_series.MASSES_ONLY` counts for masses alone: no other network learns from it or
   is judged on it.
3. A role of FEW is trained in those folds alone, because it needs many minutes. A nodule is
   measured in the CTs of folds 2 and 4, which are the ones up to 3 mm. Disease of the lungs is
   judged in those of folds 1 and 3, which hold the two masses: a mass is not to count as disease.
"""

from __future__ import annotations

from training.read.shared_series import MASSES_ONLY, TRAINING_SERIES

FOLDS = {
    "1": ("R01-001", "A0002"),
    "2": ("C3N-00247", "LIDC-IDRI-0004"),
    "3": ("A0001", "LIDC-IDRI-0005"),
    "4": ("LIDC-IDRI-0003", "LIDC-IDRI-0021"),
}
FEW = {"measure": ("2", "4"), "disease": ("1", "3")}
WITH_MASSES_ONLY = ("mass",)
"""Roles that learn from, and are judged on, CTs of MASSES_ONLY too."""


def folds_of(role: str) -> tuple[str, ...]:
    """The folds in which a role's network is trained."""
    return FEW.get(role, tuple(FOLDS))


def run_of(role: str, fold: str) -> str:
    """The run of a role that leaves a fold out."""
    return f"{role}-fold-{fold}"


def left_out(role: str, fold: str) -> tuple[str, ...]:
    """The CTs that a fold's run is judged on."""
    return tuple(name for name in FOLDS[fold] if _counts(role, name))


def learned_from(role: str, fold: str = "") -> str:
    """The CTs that a fold's run learns from, or without a fold what ships, as `--hosts` takes
    them."""
    out = FOLDS[fold] if fold else ()
    return ",".join(n for n in TRAINING_SERIES if n not in out and _counts(role, n))


def judged_runs(role: str) -> list[tuple[str, str]]:
    """Each CT that a role is judged on, with the run that left it out."""
    return [(name, run_of(role, f)) for f in folds_of(role) for name in left_out(role, f)]


def _counts(role: str, name: str) -> bool:
    return role in WITH_MASSES_ONLY or name not in MASSES_ONLY
