"""Rows of the study (`training.study`): which lesson teaches the network of displacements best.

Rules. Rows differ in nothing but their losses. Two folds judge each; demons and the boxes alone
stand beside the network in the same figures.
"""

from __future__ import annotations

from collections.abc import Mapping

from training.read.folders import work_folder
from training.recipes.compare.folds import FOLDS, learned_from
from training.tracks import Command, Row

STEPS = "training.recipes.compare"
LENGTH = "600"
NONE: Mapping[str, str] = {"field": "0", "ncc": "0", "mi": "0", "masks": "false", "lungs": "0"}
LESSONS: Mapping[str, Mapping[str, str]] = {
    "supervised": {"field": "1"},
    "NCC": {"ncc": "1"},
    "MI": {"mi": "1"},
    "NCC + mask": {"ncc": "1", "masks": "true"},
    "all": {"field": "1", "ncc": "0.1", "mi": "0.1", "masks": "true"},
    "all + lungs": {"field": "1", "ncc": "0.1", "mi": "0.1", "masks": "true", "lungs": "0.2"},
}
"""What each row's loss is made of; all else is 0."""


def run_of(lesson: str, fold: str) -> str:
    """The folder of a run."""
    name = lesson.lower().replace(" + ", "-with-").replace(" ", "-")
    return f"study-{name}-fold-{fold}"


def trained(lesson: str, fold: str) -> Command:
    """The command that trains a row's run of a fold."""
    losses = {**NONE, **LESSONS[lesson]}
    return [
        *(f"{STEPS}.displace", "--name", run_of(lesson, fold), "--hosts", learned_from(fold)),
        *("--steps", LENGTH),
        *(word for name, weight in losses.items() for word in (f"--{name}", weight)),
    ]


def rows() -> list[Row]:
    """A row a lesson."""
    found = []
    for lesson in LESSONS:
        figures = work_folder("study") / f"{run_of(lesson, 'all')}.json"
        folds = [f"{host}={run_of(lesson, f)}" for f, hosts in FOLDS.items() for host in hosts]
        judge = [f"{STEPS}.judge", *(word for fold in folds for word in ("--fold", fold))]
        shown = {
            f"{name} {what}": ("all", key, of)
            for name, key in (("network", "network x2"), ("demons", "demons"), ("boxes", "boxes"))
            for what, of in (("mean mm", "mean_mm"), ("p95 mm", "p95_mm"))
        }
        commands = [*(trained(lesson, f) for f in FOLDS), [*judge, "--out", str(figures)]]
        found.append(Row(f"lesson: {lesson}", tuple(commands), figures, shown))
    return found
