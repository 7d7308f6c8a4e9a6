"""The one table of stages: what `scanside run` starts, what systemd starts, what the README shows,
and of whom `status`, `health` and the doctor say how they do.

A stage is a process of its own. Its module has `main(settings, ready) -> int`, which serves in the
foreground until SIGTERM and calls `ready` once it serves. To add one: a folder with stage.py, a row
here, a unit under systemd/ and a row in the README's table (docs/CONTRIBUTING.md).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from appliance.settings import Settings


def _always(_: Settings) -> bool:
    return True


def _has_archives(settings: Settings) -> bool:
    return bool(settings.deliver)


def _asks_for_priors(settings: Settings) -> bool:
    return bool(settings.priors.query)


def _shows_a_page(settings: Settings) -> bool:
    return settings.web.enabled


def _has_slots(settings: Settings) -> bool:
    return settings.update.root is not None


def _state(settings: Settings) -> Path:
    return settings.state


def _downloads(settings: Settings) -> Path:
    return settings.update.downloads


def _trusted(settings: Settings) -> Path:
    return settings.update.trusted


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
    configured: Callable[[Settings], bool] = _always
    """Whether these settings ask for it: else it is not started, and nothing is said of it."""
    home: Callable[[Settings], Path] = _state
    """The folder in which it lives: run/NAME.lock. One with a home of its own has a user of its own
    too, so that the others see nothing of how it does, and say nothing of it."""
    in_slots: bool = True
    """Whether it runs once in each slot. `update` and `apply` start from the link `current`."""
    migrates: bool = False
    """Its `main` takes `migrate` too: whether the journal becomes one of this release's schema."""


STAGES = (
    Stage(
        "fetch",
        "appliance.fetch.stage",
        "scanside-fetch@.service",
        "The stage that asks archives for earlier exams (systemd).",
        _asks_for_priors,
    ),
    Stage(
        "publish",
        "appliance.publish.stage",
        "scanside-publish@.service",
        "The stage that speaks MQTT (systemd).",
    ),
    Stage(
        "deliver",
        "appliance.deliver.stage",
        "scanside-deliver@.service",
        "The stage that sends to archives (systemd).",
        _has_archives,
    ),
    Stage(
        "work",
        "appliance.work.stage",
        "scanside-work@.service",
        "The stage that analyses (systemd).",
        migrates=True,
    ),
    Stage(
        "receive",
        "appliance.receive.stage",
        "scanside-receive@.service",
        "The stage that answers C-STORE (systemd).",
    ),
    Stage(
        "retain",
        "appliance.retain.stage",
        "scanside-retain@.service",
        "The stage that deletes what is old and published (systemd).",
    ),
    Stage(
        "web",
        "appliance.web.stage",
        "scanside-web@.service",
        "The stage that shows the page (systemd), and who may log in.",
        _shows_a_page,
    ),
    Stage(
        "update",
        "appliance.update.stage",
        "scanside-update.service",
        "The stage that asks for new releases (systemd), and how updates stand.",
        _has_slots,
        _downloads,
        in_slots=False,
    ),
    Stage(
        "apply",
        "appliance.apply.stage",
        "scanside-apply.service",
        "The stage that alone changes what runs (systemd).",
        _has_slots,
        _trusted,
        in_slots=False,
    ),
)
"""In order of start: a stage starts before the one that wakes it. They are stopped in reverse."""


def of(settings: Settings) -> tuple[Stage, ...]:
    """Those that these settings ask for, in order of start."""
    return tuple(row for row in STAGES if row.configured(settings))
