"""`scanside doctor`: every link of the chain checked, each failure with the line to change.

Rules
- With settings that cannot be read there is one failure and nothing else: checks of defaults
  would speak of another device.
- The checks stand in CHECKS, in the order in which they are printed. What a check may do is said in
  checks/check.py. Exit 0 only if none failed: what is well but has a remedy is a warning.
To add one: a function in a module of checks/, and its name in CHECKS.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from pydantic import ConfigDict, Field
from rich.console import Console
from rich.table import Table
from rich.text import Text

from appliance import settings as site
from appliance.errors import SettingsInvalid
from appliance.host import jetson
from appliance.report import Record
from appliance.verbs.checks import (
    analysis,
    archives,
    corrections,
    earlier,
    machine,
    page,
    peers,
    qa,
    stages,
    state,
    updates,
    watching,
)
from appliance.verbs.checks.check import Check, Device

CHECKS: tuple[Callable[[Device], Check], ...] = (
    machine.machine,
    machine.clock,
    stages.stages,
    state.state,
    state.journal,
    peers.allowed,
    peers.commitment,
    peers.dicom,
    machine.decoders,
    analysis.backend,
    analysis.gpu,
    analysis.bundles,
    analysis.site_key,
    analysis.memory,
    state.images,
    peers.broker,
    archives.archives,
    earlier.earlier,
    state.outbox,
    corrections.corrections,
    watching.scanners,
    page.page,
    qa.phantom,
    updates.slots,
    updates.guard,
    updates.trust,
    updates.update,
)


class Examination(Record):
    """scanside.doctor/1: what `scanside doctor --json` prints."""

    schema_: Literal["scanside.doctor/1"] = Field(default="scanside.doctor/1", alias="schema")
    ok: bool
    checks: tuple[Check, ...]

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


def examine(config: Path | None) -> Examination:
    """Run every check. `config` as given with --config."""
    found = site.find(config)
    try:
        settings = site.load(found)
    except SettingsInvalid as e:
        return _examination([Check(name="settings", ok=False, text=e.text, remedy=e.remedy)])
    device = Device(settings, str(found or "/etc/scanside/scanside.toml"))
    text = str(found) if found else "no settings file, defaults are in use"
    return _examination(
        [
            Check(name="settings", ok=True, text=text),
            *(_made(check, device) for check in CHECKS),
            *(
                Check(name=item.name, ok=item.ok, text=item.text, remedy=item.remedy)
                for item in jetson.items(settings.host)
            ),
        ]
    )


def _made(check: Callable[[Device], Check], device: Device) -> Check:
    """One check; what this user may not even look at is a failure with its remedy."""
    try:
        return check(device)
    except OSError as e:
        return Check(
            name=check.__name__,
            ok=False,
            text=f"{e.filename or device.settings.state}: {e.strerror or e}",
            remedy="Run it as the user that owns the state folder, such as "
            "`sudo -u scanside scanside doctor`.",
        )


def _examination(checks: list[Check]) -> Examination:
    return Examination(ok=all(check.ok for check in checks), checks=tuple(checks))


def to_json(examination: Examination) -> str:
    """For `--json`."""
    return json.dumps(examination.model_dump(mode="json", by_alias=True), indent=1)


def table(examination: Examination) -> Table:
    """For a terminal."""
    shown = Table(title="scanside doctor", title_justify="left", show_lines=True)
    for name in ("", "link", "what is", "what to do"):
        shown.add_column(name, overflow="fold")
    for check in examination.checks:
        mark = Text("ok", style="green") if check.ok else Text("FAIL", style="bold red")
        if check.ok and check.remedy:
            mark = Text("warn", style="yellow")
        shown.add_row(mark, Text(check.name), Text(check.text), Text(check.remedy))
    return shown


def main(config: Path | None, *, as_json: bool) -> int:
    """`scanside doctor [--json]`: print, and 0 only where no check failed."""
    found = examine(config)
    if as_json:
        sys.stdout.write(to_json(found) + "\n")
    else:
        Console().print(table(found))
    return 0 if found.ok else 1
