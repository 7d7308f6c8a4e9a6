"""The steps of chest-pneumonia: teachers, student, INT8, certainty, then the source folder.

The network of frontal views (frontal.py) is none of them: the bundle has none yet
(docs/radiographs.md).
"""

from __future__ import annotations

from training.tracks import Stage

STEPS = "training.recipes.chest_pneumonia"


def stages(out: str) -> list[Stage]:
    """Teachers, the student, the same with labels alone to compare, and a double that never saw
    val."""
    alone = ["--name", "pneumonia-alone", "--teacher", "", "--final", "false"]
    return [
        {
            "taught": [[f"{STEPS}.teacher"], [f"{STEPS}.student"], [f"{STEPS}.quantize"]],
            "alone": [[f"{STEPS}.student", *alone]],
            "double": [[f"{STEPS}.double"]],
        },
        {"export": [[f"{STEPS}.certainty"], [f"{STEPS}.export", "--out", out]]},
    ]
