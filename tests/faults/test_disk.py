"""The state folder is full, read-only, slow or broken, at every kind of write, with real processes.

Each test holds the same promises: success was answered only for what is on disk; what was refused
can be sent again; the stages end with one clear line or go on; once the disk is well again every
series has one report, and nothing that was said before is lost.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pydicom
import pytest

from appliance.report import SeriesKey
from appliance.store.spool import Spool
from faults.stages import OUT_OF_RESOURCES, SUCCESS, Line, fill, line, small_disk
from rigs.bundles import Bundles
from rigs.programs import program
from rigs.scans import Scan, Scans


def kept_whole(running: Line, scan: Scan, answers: dict[Path, str | None]) -> None:
    """Everything that was acknowledged is in the spool with its pixels; the rest is A700 or lost
    with its association, never another success."""
    there = Spool(running.site.settings.state).instances(SeriesKey(scan.study, scan.series))
    for path, status in answers.items():
        assert status in {SUCCESS, OUT_OF_RESOURCES, None}
        if status == SUCCESS:
            sent = pydicom.dcmread(path)
            assert sent.SOPInstanceUID in there, "acknowledged and lost"
            assert pydicom.dcmread(there[sent.SOPInstanceUID]).PixelData == sent.PixelData


def reported_once(running: Line, scan: Scan) -> None:
    """All images of the series are in the one report that stands."""
    site = running.site
    whole = site.until(
        lambda: [
            m
            for m in site.events(scan, "analysed", "not_analysed", "failed")
            if m["report"]["series"]["slices"] == len(scan.files)
        ],
        f"report of all images of {scan.series}",
    )
    assert whole[0]["event"] == "analysed"
    site.settled()
    ids = {m["event_id"] for m in whole}
    assert len(ids) == 1
    with site.journal() as journal:
        assert journal.audit.verify() is None
        assert journal.series.get(scan.key).state == "analysed"


def states(running: Line) -> list[tuple[str, list[str]]]:
    """What the retained status said, in order."""
    return [
        (m["state"], m.get("reasons", []))
        for topic, m in running.site.messages()
        if topic.endswith("/status")
    ]


@pytest.fixture
def running(tmp_path: Path, installed: Path) -> Iterator[Line]:
    with (
        small_disk(tmp_path / "disk", 64) as disk,
        line(tmp_path, disk / "state", installed, reserve_mb=1) as running,
    ):
        yield running


def test_a_disk_that_fills_refuses_says_degraded_and_goes_on_once_there_is_space(
    running: Line, small_scans: Scans, bundles: Bundles
) -> None:
    site = running.site
    before, refused = small_scans.make(), small_scans.make()
    assert site.send(before) == 0
    reported_once(running, before)
    filler = fill(site.settings.state.parent, 600_000)  # less than the reserve
    answers = running.store(refused.files)
    assert set(answers.values()) == {OUT_OF_RESOURCES}
    site.until(lambda: ("degraded", ["disk_full"]) in states(running), "degraded")
    fill(site.settings.state.parent, 0)
    add = [sys.executable, "-m", "appliance", "bundle", "add", str(bundles.newer)]
    add += ["--allow-development", "--config", str(site.config)]
    done = subprocess.run(add, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    filler.unlink()
    assert "90.1.0" not in site.scanside("bundle", "list")
    site.install(bundles.newer, "lung-nodule", "90.1.0")
    assert set(running.store(refused.files).values()) == {SUCCESS}
    reported_once(running, refused)
    site.until(lambda: states(running)[-1][0] == "online", "online again")
    assert [kept.codes for kept in running.kept.values()] == [[], [], [], []]


@pytest.mark.long
def test_a_disk_that_is_full_at_any_point_of_a_series_loses_nothing(
    tmp_path: Path, installed: Path, small_scans: Scans
) -> None:
    """The edge falls into the first writes, into the slices, and into what is made of them."""
    refused = 0
    with (
        small_disk(tmp_path / "disk", 64) as disk,
        line(tmp_path, disk / "state", installed) as running,
    ):
        for leave_kb in (12, 500, 760):
            scan = small_scans.make()
            filler = fill(disk, leave_kb << 10)
            answers = running.store(scan.files)
            kept_whole(running, scan, answers)
            with contextlib.suppress(AssertionError):  # `work` meets the full disk too
                running.site.until(lambda s=scan: running.site.events(s, "analysed"), "it", 2)
            filler.unlink()
            refused += sum(status != SUCCESS for status in answers.values())
            running.site.until(running.answers, "receive again")
            again = [path for path, status in answers.items() if status != SUCCESS]
            running.site.until(
                lambda left=again: set(running.store(left).values()) <= {SUCCESS}, "success"
            )
            reported_once(running, scan)
        codes = {name: kept.codes for name, kept in running.kept.items()}
        assert refused > 0
        assert all(code == 1 for ends in codes.values() for code in ends), codes


INJECTED = [
    ("work", "fdatasync", "ENOSPC"),  # the list of inputs, masks, a commit
    ("work", "fsync", "EIO"),  # the folder of a report
    ("work", "mkdir", "EROFS"),
    ("work", "rename", "ENOSPC"),
    ("work", "pwrite64", "ENOSPC"),  # the journal
    ("receive", "fdatasync", "EIO"),  # incoming bytes, a commit
    ("receive", "fsync", "EIO"),
    ("receive", "link", "ENOSPC"),
    ("receive", "mkdir", "EROFS"),
    ("receive", "pwrite64", "EROFS"),
    ("publish", "pwrite64", "ENOSPC"),
]
FROM, TO = 2, 4
"""Of the calls of each thread, these fail."""


@pytest.mark.long
@pytest.mark.parametrize(
    ("stage", "call", "error"), INJECTED, ids=["-".join(one) for one in INJECTED]
)
def test_a_write_that_fails_in_a_stage_loses_nothing(
    tmp_path: Path,
    installed: Path,
    small_scans: Scans,
    stage: str,
    call: str,
    error: str,
) -> None:
    """Some calls fail in every process of the stage; then it is as new."""
    strace = [program("strace"), "-f", "-qq", "-o", str(tmp_path / "calls")]
    strace += ["-e", f"trace={call}", "-e", f"inject={call}:error={error}:when={FROM}..{TO}"]
    others = [s for s in ("publish", "work", "receive") if s != stage]
    scan = small_scans.make()
    with line(tmp_path, tmp_path / "state", installed, stages=others) as running:
        running.begin(stage, *strace)
        if stage != "receive":
            running.site.until(running.answers, "port of receive")
        answers = running.store(scan.files)
        kept_whole(running, scan, answers)
        calls = tmp_path / "calls"
        running.site.until(lambda: "(INJECTED)" in calls.read_text(), "failed call")
        running.begin(stage)
        running.site.until(running.answers, "port of receive")
        left = [path for path, status in answers.items() if status != SUCCESS]
        assert set(running.store(left).values()) <= {SUCCESS}
        reported_once(running, scan)
        assert "Exception ignored" not in running.site.log()


@pytest.mark.long
def test_a_read_only_state_folder_ends_each_stage_with_one_line_until_it_is_writable(
    tmp_path: Path, installed: Path, small_scans: Scans
) -> None:
    scan = small_scans.make()
    with (
        small_disk(tmp_path / "disk", 64) as disk,
        line(tmp_path, disk / "state", installed, stages=()) as running,
    ):
        remount = [program("mount"), "-o", "remount,ro", str(disk)]
        subprocess.run(remount, check=True, timeout=20)
        for name in ("publish", "work", "retain"):
            running.begin(name)
        running.kept["receive"] = _unasked(running)
        for kept in running.kept.values():
            running.site.until(lambda k=kept: len(k.codes) >= 2, f"ends of {kept.name}")
            assert set(kept.codes) == {1}
        assert not running.answers()
        log = running.site.log()
        assert "Traceback" not in log
        assert "Read-only file system" in log or "readonly database" in log
        subprocess.run([*remount[:2], "remount,rw", str(disk)], check=True, timeout=20)
        running.site.until(running.answers, "port of receive")
        assert set(running.store(scan.files).values()) == {SUCCESS}
        reported_once(running, scan)


def _unasked(running: Line) -> Any:
    """`receive`, without waiting for its port."""
    asked, running.answers = running.answers, lambda: True  # type: ignore[method-assign]
    try:
        return running.begin("receive")
    finally:
        running.answers = asked  # type: ignore[method-assign]


@pytest.mark.long
def test_on_a_slow_disk_everything_is_delivered_and_no_association_is_lost(
    tmp_path: Path, installed: Path, small_scans: Scans
) -> None:
    strace = [program("strace"), "-f", "-qq", "-o", "/dev/null", "-e", "trace=fdatasync,fsync"]
    strace += ["-e", "inject=fdatasync,fsync:delay_enter=100ms"]
    scan = small_scans.make(lambda image, index: image if index % 2 else None)
    with line(tmp_path, tmp_path / "state", installed, stages=()) as running:
        for name in ("publish", "work", "receive"):
            running.begin(name, *strace)
        assert set(running.store(scan.files).values()) == {SUCCESS}
        running.site.ending(scan)
        running.site.settled()
        with running.site.journal() as journal:
            running.site.until(  # its row may be the last that this disk takes
                lambda: all(a.association.ended for a in journal.series.arrivals(scan.key)),
                "the end of the association",
            )
            outcomes = {a.association.outcome for a in journal.series.arrivals(scan.key)}
        assert outcomes == {"released"}
        assert not any(kept.codes for kept in running.kept.values())


def test_a_site_key_that_could_not_be_written_is_made_at_the_next_start(
    tmp_path: Path, installed: Path
) -> None:
    state = tmp_path / "state"
    shutil.copytree(installed, state)
    (state / "site.key").unlink()
    config = tmp_path / "scanside.toml"
    config.write_text(f'state = "{state}"\n')
    strace = [program("strace"), "-f", "-qq", "-o", "/dev/null", "-e", "trace=fdatasync"]
    work = [sys.executable, "-m", "appliance", "work", "--config", str(config)]
    done = subprocess.run(
        [*strace, "-e", "inject=fdatasync:error=ENOSPC:when=1+", *work],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("scanside: ")
    assert "Traceback" not in done.stderr
    assert not (state / "site.key").exists()
    assert not [p for p in state.iterdir() if "site.key" in p.name]
