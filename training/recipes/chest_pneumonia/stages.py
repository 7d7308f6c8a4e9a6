"""The steps of chest-pneumonia in their order: teachers, student, INT8, source folder."""

from __future__ import annotations

from training.tracks import Stage

STEPS = "training.recipes.chest_pneumonia"


def stages(out: str) -> list[Stage]:
    """Teachers, the student, and the same with labels alone to compare."""
    alone = ["--name", "pneumonia-alone", "--teacher", "", "--final", "false"]
    return [
        {
            "taught": [[f"{STEPS}.teacher"], [f"{STEPS}.student"], [f"{STEPS}.quantize"]],
            "alone": [[f"{STEPS}.student", *alone]],
        },
        {"export": [[f"{STEPS}.export", "--out", out]]},
    ]
