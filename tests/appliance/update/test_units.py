"""One contract for both kinds of units.

`Parent` speaks to the real `scanside run`, whose slots run a small stage. `Systemctl` speaks to a
recorder: a program that notes its arguments and answers as systemd 252 does. No systemd takes part.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from appliance.update import units
from appliance.update.units import Parent, Systemctl, UnitFailed, Units
from rigs.peers import until
from rigs.run_in_slots import Slotted

STAGE = """
[ "$1" = -m ] || exec {python} "$@"
mode=$(cat {folder}/mode-$SCANSIDE_SLOT 2>/dev/null)
[ "$mode" != dies ] || exit 3
exec {python} {folder}/stage.py "$@"
"""
PROGRAM = """
import os, signal, socket, time
stopped = []
signal.signal(signal.SIGTERM, lambda *_: stopped.append(1))
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
    notify.sendto(b"READY=1", os.environ["NOTIFY_SOCKET"])
while not stopped:
    time.sleep(0.02)
"""
RECORDER = """#!{python}
import json, pathlib, sys
folder = pathlib.Path(__file__).parent
with (folder / "calls").open("a") as file:
    file.write(" ".join(sys.argv[1:]) + "\\n")
path = folder / "states.json"
states = json.loads(path.read_text()) if path.exists() else {{}}
words = [word for word in sys.argv[1:] if not word.startswith("-")]
verb, unit = words[0], words[-1]
mode = folder / ("mode-" + unit.partition("@")[2].partition(".")[0])
if verb == "show":
    active, sub = states.get(unit, ["inactive", "dead"])
    print("ActiveState=" + active + "\\nSubState=" + sub)
    sys.exit(0)
if verb == "stop":
    states.pop(unit, None)
elif mode.exists():
    states[unit] = ["activating", "auto-restart"]
else:
    states[unit] = ["active", "running"]
path.write_text(json.dumps(states))
if verb != "stop" and mode.exists():
    print("Job for " + unit + " failed because the control process exited.", file=sys.stderr)
    sys.exit(1)
"""


@dataclass
class Case:
    """One implementation, and a slot that can be made to die at its start."""

    units: Units
    folder: Path

    def break_slot(self, slot: int) -> None:
        (self.folder / f"mode-{slot}").write_text("dies")

    def mend_slot(self, slot: int) -> None:
        (self.folder / f"mode-{slot}").unlink()


def of_systemctl(folder: Path) -> Iterator[Case]:
    program = folder / "systemctl"
    program.write_text(RECORDER.format(python=sys.executable))
    program.chmod(0o755)
    yield Case(Systemctl(str(program)), folder)


def of_parent(folder: Path) -> Iterator[Case]:
    box = Slotted(folder)
    (folder / "stage.py").write_text(PROGRAM)
    for slot in (1, 2):
        box.python(slot, STAGE.format(folder=folder, python=sys.executable))
    box.start()
    box.wait_ready()
    try:
        yield Case(box.units, folder)
    finally:
        assert box.end() == 0, box.log.read_text()


KINDS: dict[str, Callable[[Path], Iterator[Case]]] = {
    "systemctl": of_systemctl,
    "parent": of_parent,
}


@pytest.fixture(params=KINDS)
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Case]:
    yield from KINDS[request.param](tmp_path)


def test_two_slots_of_one_stage_start_and_stop_apart(case: Case) -> None:
    assert case.units.state("receive", 2) == "absent"
    case.units.start("receive", 2)
    assert case.units.state("receive", 2) == "ready"
    case.units.start("receive", 2)  # it runs
    case.units.start("receive", 1)
    case.units.stop("receive", 2)
    assert case.units.state("receive", 2) == "absent"
    assert case.units.state("receive", 1) == "ready"
    case.units.stop("receive", 2)  # it has ended


def test_one_that_ends_before_it_serves_is_an_error_and_stays_wanted(case: Case) -> None:
    case.break_slot(2)
    with pytest.raises(UnitFailed) as refused:
        case.units.start("work", 2)
    assert refused.value.remedy
    until(lambda: case.units.state("work", 2) == "failed")
    case.units.stop("work", 2)
    assert case.units.state("work", 2) == "absent"
    case.mend_slot(2)
    case.units.start("work", 2)
    assert case.units.state("work", 2) == "ready"


def test_a_restart_is_another_process_and_starts_what_was_absent(case: Case) -> None:
    case.units.restart("retain", 2)
    assert case.units.state("retain", 2) == "ready"
    case.units.restart("retain", 2)
    assert case.units.state("retain", 2) == "ready"
    case.break_slot(2)
    with pytest.raises(UnitFailed):
        case.units.restart("retain", 2)


def test_systemctl_is_asked_for_the_instance_of_the_slot(tmp_path: Path) -> None:
    (case,) = of_systemctl(tmp_path)
    case.units.start("work", 2)
    case.units.stop("receive", 1)
    case.units.restart("apply", 2)
    case.units.state("update", 7)
    assert (tmp_path / "calls").read_text().splitlines() == [
        "--no-ask-password start -- scanside-work@2.service",
        "--no-ask-password stop -- scanside-receive@1.service",
        "--no-ask-password restart -- scanside-apply.service",
        "--no-ask-password show --property=ActiveState,SubState scanside-update.service",
    ]


@pytest.mark.parametrize(
    ("said", "state"),
    [
        ("ActiveState=activating\nSubState=start", "starting"),
        ("ActiveState=activating\nSubState=auto-restart", "failed"),
        ("ActiveState=deactivating\nSubState=stop-sigterm", "stopping"),
        ("ActiveState=failed\nSubState=failed", "failed"),
        ("ActiveState=inactive\nSubState=dead", "absent"),
        ("", "absent"),
    ],
)
def test_each_state_of_systemd_has_its_word(tmp_path: Path, said: str, state: str) -> None:
    program = tmp_path / "systemctl"
    program.write_text(f"#!/bin/sh\ncat <<END\n{said}\nEND\n")
    program.chmod(0o755)
    assert Systemctl(str(program)).state("work", 2) == state


def test_a_systemctl_that_is_not_there_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(UnitFailed, match="No such file"):
        Systemctl(str(tmp_path / "none")).start("work", 2)


def test_a_parent_that_has_gone_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(UnitFailed, match="No such file"):
        Parent(tmp_path / "none").start("work", 2)
    ticks = iter([0.0, 1e6])
    with pytest.raises(UnitFailed, match="no answer") as refused:
        Parent(tmp_path, clock=lambda: next(ticks)).stop("work", 2)
    assert "still runs" in refused.value.remedy
    assert list(tmp_path.iterdir()) == [], "nobody does later what was given up"


def test_a_process_has_the_units_of_whoever_started_it(tmp_path: Path) -> None:
    assert isinstance(units.found({}), Systemctl)
    assert isinstance(units.found({units.CONTROL: str(tmp_path)}), Parent)
