"""The wall clock jumps by years, both ways, while the line runs (libfaketime; Debian: faketime).

Only the wall clock is faked: CLOCK_MONOTONIC and CLOCK_BOOTTIME go on, as where a person or a time
server sets the clock.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from appliance.report import Report, SeriesKey
from appliance.retain.age import LEDGER_NAME, read
from appliance.store.spool import Spool
from faults.stages import SUCCESS, Line, line
from rigs.scans import Scan, Scans
from rigs.site import Site

YEARS = 5 * 365 * 86400


@pytest.fixture
def clock(tmp_path: Path) -> Path:
    """Where the offset of the wall clock is written, such as +0; beside it, when it was set."""
    path = tmp_path / "clock"
    path.write_text("+0\n")
    path.with_suffix(".history").write_text("0 0\n")
    return path


def faked(clock: Path) -> dict[str, str]:
    """The environment of a process whose wall clock is set by that file."""
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    if not found:
        pytest.skip("faketime is not installed")
    return {
        "LD_PRELOAD": str(found[0]),
        "PYTHONPATH": str(Path(__file__).parent / "wallclock"),
        "WALL_CLOCK": str(clock.with_suffix(".history")),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "DONT_FAKE_MONOTONIC": "1",
    }


def jump(clock: Path, seconds: int) -> None:
    with clock.with_suffix(".history").open("a") as history:
        history.write(f"{time.time()!r} {seconds}\n")
    fresh = clock.with_name("clock.new")
    fresh.write_text(f"{seconds:+d}\n")
    os.replace(fresh, clock)


def whole(running: Line, scan: Scan) -> Report:
    """The one report of a series, about all its images."""
    site = running.site
    report = site.report(scan)
    site.settled()
    endings = site.events(scan, "analysed", "not_analysed", "failed")
    assert [m["event"] for m in endings] == ["analysed"]
    assert report.series.slices == len(scan.files)
    return report


@pytest.mark.long
def test_jumps_of_years_both_ways_lose_nothing_double_nothing_and_delete_nothing(
    tmp_path: Path, installed: Path, small_scans: Scans, clock: Path
) -> None:
    scans = [small_scans.make() for _ in range(5)]
    with line(tmp_path, tmp_path / "state", installed, **faked(clock)) as running:
        site = running.site
        years: list[int] = []
        for scan, offset in zip(scans, (YEARS, -YEARS, 2 * YEARS, 0, -2 * YEARS), strict=True):
            with site.held() as store:  # the clock is set in the middle of a series
                store(scan.files[:30])
                site.until(lambda s=scan: site.events(s, "received"), "received")
                jump(clock, offset)
                store(scan.files[30:])
            report = whole(running, scan)
            assert report.times.committed is not None
            years.append(report.times.committed.year)
            looks = read(site.settings.state / LEDGER_NAME)
            running.begin("retain", **faked(clock))  # looks at once
            site.until(
                lambda before=looks: read(site.settings.state / LEDGER_NAME) != before, "look"
            )
        assert len(set(years)) == 5, "every process saw the clock jump"
        spool = Spool(site.settings.state)
        for scan in scans:
            key = SeriesKey(scan.study, scan.series)
            assert len(spool.instances(key)) == len(scan.files), "deleted early"
            with site.journal() as journal:
                assert journal.reports.latest(scan.key) is not None
        with site.journal() as journal:
            assert journal.audit.verify() is None
        assert not any(kept.codes for name, kept in running.kept.items() if name != "retain"), (
            "a stage ended"
        )
        owed = [m for topic, m in site.messages() if "/study/" in topic or "/finding/" in topic]
        numbers = [m["seq"] for m in owed]
        assert numbers == sorted(set(numbers)), "in order, none twice"
        assert len({m["event_id"] for m in owed}) == len(owed)


@pytest.mark.long
def test_a_jump_while_the_broker_is_away_keeps_the_order_of_what_is_owed(
    tmp_path: Path, installed: Path, small_scans: Scans, clock: Path
) -> None:
    first, second = small_scans.make(), small_scans.make()
    with line(tmp_path, tmp_path / "state", installed, **faked(clock)) as running:
        site: Site = running.site
        site.broker.stop()
        for scan in (first, second):
            assert set(running.store(scan.files).values()) == {SUCCESS}
            with site.journal() as journal:
                site.until(lambda s=scan, j=journal: j.reports.latest(s.key), "report")
            jump(clock, -YEARS)
        site.broker.start()
        for scan in (first, second):
            whole(running, scan)
        owed = [m["seq"] for topic, m in site.messages() if "/study/" in topic]
        assert owed == sorted(set(owed))
