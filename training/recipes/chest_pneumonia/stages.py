"""The steps of chest-pneumonia: teachers, student, INT8, what tells frontal views, certainty, then
the source folder."""

from __future__ import annotations

from training.tracks import Stage

STEPS = "training.recipes.chest_pneumonia"


def stages(out: str) -> list[Stage]:
    """Teachers, the student, the same with labels alone to compare, a double that never saw val,
    and the network that tells frontal views."""
    alone = ["--name", "pneumonia-alone", "--teacher", "", "--final", "false"]
    return [
        {
            "taught": [[f"{STEPS}.teacher"], [f"{STEPS}.student"], [f"{STEPS}.quantize"]],
            "alone": [[f"{STEPS}.student", *alone]],
            "double": [[f"{STEPS}.double"]],
            "frontal": [[f"{STEPS}.frontal"]],
        },
        {"export": [[f"{STEPS}.certainty"], [f"{STEPS}.export", "--out", out]]},
    ]
