"""The journal's file is damaged, while all stages are down and while they work: what was
acknowledged is reported in the end, what was owed is delivered, and no stage is dead for ever.
"""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from appliance.report import Report, Status
from appliance.store import heartbeat
from appliance.store.heartbeat import TroubleCode
from appliance.store.journal import JOURNAL_NAME, Journal, Manner, damage
from appliance.store.journal.ledger import LEDGER_NAME
from appliance.store.journal.migrate import SEQ_AHEAD
from faults.killed import Box
from faults.stages import STAGES, Line, line, wait_for
from faults.syscalls import PLAIN, Disk, Shelf, calls, picture, python, run, strace
from rigs.scans import Scan

SEED = 20261129
PAGE = 4096
LONG = 40
"""Damages in make test-long."""


@dataclass(frozen=True)
class Owing:
    """A device of which nothing was heard yet: one series is reported, one is not looked at."""

    state: Path
    reported: Scan
    waiting: Scan
    events: frozenset[str]
    """event_ids of what is owed."""
    report: Report


@pytest.fixture(scope="module")
def owing(installed: Path, small_scans: Any, tmp_path_factory: pytest.TempPathFactory) -> Owing:
    box = Box.of(installed, tmp_path_factory.mktemp("owing") / "box")
    first, second = small_scans.make(), small_scans.make()
    assert set(box.receive(first)[0].values()) == {"Success"}
    box.run("work", lambda: f"{first.series}: final" in box.log("work"))
    assert set(box.receive(second)[0].values()) == {"Success"}
    with box.journal() as journal:
        events = frozenset(row.key for row in journal.owed.waiting("mqtt", 1000))
        report = journal.reports.latest(first.key)
    assert report is not None
    for left in (box.state / "run").glob("*.sock"):  # which cannot be copied
        left.unlink()
    return Owing(box.state, first, second, events, report)


def heard(running: Line) -> set[str]:
    said = [
        p for topic, p in list(running.site.heard) if "/study/" in topic or "/finding/" in topic
    ]
    return {json.loads(payload)["event_id"] for payload in said}


def survives(owing: Owing, folder: Path, change: Callable[[bytearray], None]) -> None:
    """Damage a copy of the device, start all its stages, and listen."""
    folder.mkdir()
    state = folder / "state"
    with line(folder, state, owing.state, stages=()) as running:
        data = bytearray((state / JOURNAL_NAME).read_bytes())
        change(data)
        (state / JOURNAL_NAME).write_bytes(data)
        for name in STAGES:
            running.begin(name)
        site = running.site
        assert site.report(owing.waiting).status is Status.ANALYSED
        wait_for(lambda: owing.events <= heard(running), "what was owed")
        report = site.report(owing.reported)
        assert (report.report_id, report.revision) == (owing.report.report_id, 1)
        assert report.same_as(owing.report)


def _zero(data: bytearray, page: int) -> None:
    data[page * PAGE : (page + 1) * PAGE] = bytes(PAGE)


def test_after_a_bad_page_all_stages_start_and_what_was_owed_is_delivered(
    owing: Owing, tmp_path: Path
) -> None:
    survives(owing, tmp_path / "zero", lambda data: _zero(data, 3))
    told = damage.read(tmp_path / "zero" / "state")
    assert told is not None
    assert told.finished
    assert told.file is not None
    assert (tmp_path / "zero" / "state" / told.file).read_bytes()[3 * PAGE : 4 * PAGE] == bytes(
        PAGE
    )


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_after_any_damage_all_stages_start_and_what_was_owed_is_delivered(
    owing: Owing, tmp_path: Path
) -> None:
    size = (owing.state / JOURNAL_NAME).stat().st_size
    random_ = random.Random(SEED)
    for n in range(LONG):
        page, at, bit = random_.randrange(size // PAGE), random_.randrange(PAGE), n % 8

        def change(data: bytearray, page: int = page, at: int = at, bit: int = bit) -> None:
            if bit == 0:
                _zero(data, page)
            elif bit == 1:
                del data[page * PAGE + at :]
            else:
                data[page * PAGE + at] ^= 1 << bit

        folder = tmp_path / str(n)
        survives(owing, folder, change)
        shutil.rmtree(folder)


def troubles(state: Path) -> set[TroubleCode]:
    """What `work` suffers from."""
    beat = heartbeat.read(state, "work")
    return {trouble.code for trouble in beat.troubles} if beat is not None else set()


def spoil(state: Path) -> None:
    """Junk in all pages but the first one, and in all that lies in the log."""
    pages = state / JOURNAL_NAME, PAGE, PAGE
    frames = state / f"{JOURNAL_NAME}-wal", 32 + 24, PAGE + 24  # SQLite file format, 4.1
    for path, begin, step in (pages, frames):
        handle = os.open(path, os.O_WRONLY)
        for at in range(begin, os.fstat(handle).st_size - PAGE + 1, step):
            os.pwrite(handle, b"junk" * (PAGE // 4), at)
        os.close(handle)


def test_a_journal_that_is_damaged_under_running_stages_is_replaced_under_them(
    installed: Path, small_scans: Any, tmp_path: Path
) -> None:
    state = tmp_path / "state"
    scans = [small_scans.make() for _ in range(3)]
    with line(tmp_path, state, installed) as running:
        assert set(running.store(scans[0].files).values()) == {"Success"}
        before = running.site.report(scans[0])
        spoil(state)
        assert set(running.store(scans[1].files).values()) == {"Success"}
        running.begin("work")  # if it has not met it by itself
        assert running.site.report(scans[1]).status is Status.ANALYSED
        told = wait_for(lambda: damage.read(state), "record of the damage")
        assert told.file is not None
        assert set(running.store(scans[2].files).values()) == {"Success"}
        assert running.site.report(scans[2]).status is Status.ANALYSED
        running.site.settled()
        wait_for(lambda: TroubleCode.JOURNAL_DAMAGED in troubles(state), "trouble")
        assert told.file in running.site.scanside("journal", "confirm")
        assert damage.read(state) is None
        with running.site.journal() as mended:
            again = mended.reports.latest(scans[0].key)
            assert mended.owed.next_seq() > SEQ_AHEAD
            assert mended.whole() is None
    assert again is not None
    assert again == before.model_copy(update={"stage": again.stage})


# The power is cut while the new journal is made.

MEND = """
import sys
from pathlib import Path
from appliance.store.journal import Journal, Manner
Journal.open(Path(sys.argv[1]), manner=Manner.MEND).close()
"""


def test_the_power_may_be_cut_after_every_call_while_the_new_journal_is_made(
    owing: Owing, tmp_path: Path
) -> None:
    start, state = tmp_path / "start", tmp_path / "state"
    shutil.copytree(owing.state, start, ignore=shutil.ignore_patterns("*.sock"))
    data = bytearray((start / JOURNAL_NAME).read_bytes())
    _zero(data, 3)
    (start / JOURNAL_NAME).write_bytes(data)
    shutil.copytree(start, state)
    run([*strace(output=tmp_path / "trace"), *python("-c", MEND, str(state))])
    disk, shelf, seen, count = Disk(state, start), Shelf(tmp_path), set[int](), 0
    for call in calls(tmp_path / "trace"):
        if not call.touches(str(state)) or not disk.apply(call):
            continue
        for n, variant in enumerate((*PLAIN, "in part, 1", "in part, 2")):
            left = disk.left(variant, SEED + 10 * count + n)
            if picture(left) in seen:
                continue
            seen.add(picture(left))
            count += 1
            check(shelf.make(left, name="cut"), owing, bytes(data), f"{variant} after {call.name}")
    assert count > 50


def check(state: Path, owing: Owing, damaged: bytes, where: str) -> None:
    with Journal.open(state, manner=Manner.MEND) as journal:
        rows = journal.owed.waiting("mqtt", 1000)
        assert {row.key for row in rows} == owing.events, where
        assert journal.reports.latest(owing.reported.key) == owing.report, where
        assert journal.owed.next_seq() > SEQ_AHEAD, where
        assert journal.audit.verify() is None, where
        assert {row.key for row in journal.series.all()} == {owing.reported.key, owing.waiting.key}
    told = damage.read(state)
    assert told is not None, where
    assert told.finished, where
    assert told.file is not None, where
    assert (state / told.file).read_bytes() == damaged, where
    assert (state / LEDGER_NAME).exists(), where
