"""kill -9 at named points of the child that compares: the real process, under strace."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from appliance.compare.child import built
from appliance.results import mqtt
from appliance.settings import Settings
from appliance.store.journal import Journal
from appliance.store.priors import Priors
from faults.killed import Point, strace_command
from faults.syscalls import Call, calls
from rigs.chests import Dicom
from rigs.device import Device
from rigs.exams import Room

HANG_S = 240.0
NAMED = Point("rename", "comparison-")
POINTS = {
    "the entry written, without its name": Point("rename", ".entry"),
    "the comparison written, without its name": NAMED,
    "all is kept, nothing is committed": Point("pwrite64", ".ledger", after=NAMED),
    "the ledger is synced, the journal is not written": Point(
        "pwrite64", "-wal", after=Point("fdatasync", ".ledger", after=NAMED)
    ),
    "committed, and nobody was woken": Point("sendto", "publish.sock"),
}


def child(settings: Settings, trace: Path, kill: tuple[str, int] | None = None) -> list[Call]:
    """The child until it was killed, or lingers with nothing left to do; its calls."""
    text = settings.model_dump_json().encode()
    command = strace_command(trace, kill, sys.executable, "-m", "appliance.compare.child")
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdin is not None
        process.stdin.write(text)
        process.stdin.close()
        end = time.monotonic() + HANG_S
        while process.poll() is None and time.monotonic() < end:
            time.sleep(0.1)
            if kill is None and trace.exists() and "publish.sock" in trace.read_text():
                break
        process.terminate()
    return list(calls(trace))


def copied(settings: Settings, folder: Path) -> Settings:
    state = folder / "state"
    shutil.copytree(settings.state, state, ignore=shutil.ignore_patterns("*.sock"))
    return settings.model_copy(update={"state": state})


def said(settings: Settings, room: Room) -> tuple[Sequence[str], int, int]:
    """States of the exam beside the earlier one, entries, messages: after the next child."""
    with Journal.open(settings.state) as journal:
        built(settings, journal).run()
        standing = journal.comparisons.standing(room.report("1.2.2").report_id)
        rows = journal.owed.of_study(mqtt.MQTT, "1.2.2")
        about = [one for row in rows if (one := mqtt.said(row.body)) and one.type == "comparison"]
        prior = [str(one.prior is not None) for one in standing]
        return prior, len(Priors(settings.state).all()), len(about)


@pytest.mark.timeout(1500)
@pytest.mark.long
def test_what_is_killed_at_any_point_is_done_again_and_said_once(
    ready_site: Device, dicom: Dicom, tmp_path: Path
) -> None:
    with Journal.open(ready_site.settings.state) as journal:
        room = Room(ready_site, dicom, journal)
        room.send("1.2.1", "CT1", PatientID="a12", AcquisitionDate="20240101")
        room.judge()
        built(room.settings, journal).run()
        room.send("1.2.2", "CT1", PatientID="a12", AcquisitionDate="20250101", shift_hu=1)
        room.judge()
        undisturbed = child(copied(room.settings, tmp_path / "whole"), tmp_path / "whole.trace")
        for number, (name, point) in enumerate(POINTS.items()):
            settings = copied(room.settings, tmp_path / str(number))
            trace = tmp_path / f"{number}.trace"
            child(settings, trace, point.aim(undisturbed))
            assert "killed by SIGKILL" in trace.read_text(), name
            assert said(settings, room) == (["True"], 2, 1), name
