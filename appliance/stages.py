"""The one table of stages: what `scanside run` starts, what systemd starts, what the README shows,
and of whom `status`, `health` and the doctor say how they do.

A stage is a process of its own. Its module has `main(settings, ready) -> int`, which serves in the
foreground until SIGTERM and calls `ready` once it serves. To add one: a folder with stage.py, a row
here, a unit under systemd/ and a row in the README's table (docs/CONTRIBUTING.md).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Stage:
    """One row."""

    name: str
    """The verb: `scanside NAME`."""
    module: str
    """Imported by that verb alone, so that a stage loads its own libraries only."""
    unit: str
    """Its file under systemd/."""
    help: str


STAGES = (
    Stage(
        "publish",
        "appliance.publish.stage",
        "scanside-publish.service",
        "The stage that speaks MQTT (systemd).",
    ),
    Stage(
        "work",
        "appliance.work.stage",
        "scanside-work.service",
        "The stage that analyses (systemd).",
    ),
    Stage(
        "receive",
        "appliance.receive.stage",
        "scanside-receive.service",
        "The stage that answers C-STORE (systemd).",
    ),
    Stage(
        "retain",
        "appliance.retain.stage",
        "scanside-retain.service",
        "The stage that deletes what is old and published (systemd).",
    ),
)
"""In order of start: a stage starts before the one that wakes it. They are stopped in reverse."""
