"""kill -9 at random moments of random stages while scanners go on sending: what was acknowledged is
there, every series has one report that stands, and no finding is lost or said twice.

    make test-long ARGS="tests/scenarios/test_random_cuts.py"     SCANSIDE_CUTS=1000 by default

The stages run as under systemd, each by itself and started again at once; `scanside run` waits up
to 30 s before a restart, which would leave most of the time without anything to cut.

`retain` deletes all that it may whenever it starts; it starts when it is to be cut, and is cut
within its first seconds. Before that, all that was acknowledged must lie in the spool; what it then
took is judged by what the subscriber heard of it.

No series may fail. One that ended `work` three times while in hand is `failed` by rule, and that is
right: `work` is halted first, and goes on where the series in hand was cut twice already. However
often it is cut, those that wait are not to blame.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from pydicom.filereader import read_file_meta_info

from appliance.report import Report, SeriesKey
from appliance.retain import stage as retain
from appliance.settings import load
from appliance.store.hand import Hand
from appliance.store.spool import Spool
from rigs.bundles import Bundles
from rigs.programs import program
from rigs.scans import Scan, Scans
from rigs.site import Site, running

CUTS = int(os.environ.get("SCANSIDE_CUTS", "1000"))
SEED = 20261120
LONGEST_S = 40 * 60.0
BETWEEN_CUTS_S = (0.05, 1.9)
RETAIN_CUT_S = (0.3, 2.0)
"""After its start; it deletes from about half a second on."""
SENDERS = 2
UNDER_WAY = 3
"""Series of one sender that have no report yet; more than that and it waits."""
WORK_CUTS_A_SERIES = 2
REPORT_WITHIN_S = 240.0
STAGES = ("publish", "work", "receive")
TARGETS = ("association", "receive", "receive parent", "work", "publish", "retain")
WEIGHTS = (3, 1, 1, 2, 2, 1)
OF = {"association": "receive", "receive parent": "receive"}
ENDINGS = ("analysed", "not_analysed", "failed")
SAID = re.compile(r"Sending file: (?P<file>\S+)|Received Store Response \((?P<answer>[^)]*)\)")


# What the subscriber heard, by event_id.


@dataclass
class Heard:
    """An index of what the subscriber of a site heard; the same event_id again counts once."""

    site: Site
    endings: dict[str, dict[str, Any]] = field(default_factory=lambda: defaultdict(dict))
    """series -> event_id -> message"""
    findings: dict[str, dict[int, set[str]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(set))
    )
    """report_id -> finding -> event_ids: one, unless a finding was doubled"""
    withdrawn: set[str] = field(default_factory=set)
    events: Counter[str] = field(default_factory=Counter)
    _read: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def ended(self, scan: Scan) -> bool:
        self.listen()
        return str(self.site.naming.series(scan.key)) in self.endings

    def standing(self, scan: Scan) -> list[Report]:
        """The final reports of a series that nothing has withdrawn."""
        ends = self.endings[str(self.site.naming.series(scan.key))].values()
        reports = [Report.model_validate(m["report"]) for m in ends]
        return [r for r in reports if str(r.report_id) not in self.withdrawn]

    def listen(self) -> None:
        with self._lock:
            new = self.site.heard[self._read :]
            self._read += len(new)
            for topic, payload in new:
                if "/study/" in topic or "/finding/" in topic:
                    self._take(topic, json.loads(payload))

    def _take(self, topic: str, message: dict[str, Any]) -> None:
        event = message["event_id"]
        self.events[event] += 1
        if "/finding/" in topic:
            self.findings[message["report_id"]][message["finding"]["id"]].add(event)
        elif message["event"] in ENDINGS:
            self.endings[message["series"]][event] = message
        elif message["event"] == "superseded":
            self.withdrawn.add(message["withdrawn_report_id"])


# The stages.


@dataclass
class Stages:
    """Each stage a process of its own, started again at once when it ends."""

    site: Site
    log: BinaryIO
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    cut: set[int] = field(default_factory=set)
    by_themselves: list[tuple[str, int]] = field(default_factory=list)
    """Stages that ended without a cut."""
    in_hand: Counter[SeriesKey] = field(default_factory=Counter)
    """How often `work` was cut with this series in hand."""

    def keep_running(self) -> None:
        for name in STAGES:
            process = self.running.get(name)
            if process is not None and (code := process.poll()) is not None:
                if process.pid not in self.cut:
                    self.by_themselves.append((name, code))
                    time.sleep(1)
                process = None
            if process is None:
                self.running[name] = self._start(name, self.site.config)

    def _start(self, name: str, config: Path) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "appliance", name, "--config", str(config)]
        return subprocess.Popen(command, stderr=self.log, start_new_session=True)

    @property
    def short_of_space(self) -> Path:
        """Settings by which `retain` deletes all that it may at its first look."""
        path = self.site.config.with_name("retain.toml")
        text = self.site.config.read_text()
        path.write_text(re.sub("target_free_mb = .*", "target_free_mb = 900000000", text))
        return path

    def kill(self, target: str) -> bool:
        """kill -9; False where there is nothing of that kind now."""
        process = self.running[OF.get(target, target)]
        if process.poll() is not None:
            return False
        if target == "work" and not self._may_end(process):
            return False
        children = []
        if target in {"association", "receive"}:
            of = Path(f"/proc/{process.pid}/task/{process.pid}/children")
            children = [int(pid) for pid in of.read_text().split()]
        if target == "association":
            if not children:
                return False
            children = children[:1]
        else:
            self.cut.add(process.pid)
            process.kill()
        for pid in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return True

    def _may_end(self, work: subprocess.Popen[bytes]) -> bool:
        """Halts it; False, and it goes on, where the series in hand has no cut left."""
        work.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, work.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        held = Hand(self.site.settings.state).last()
        if held is not None and self.in_hand[held.key] >= WORK_CUTS_A_SERIES:
            work.send_signal(signal.SIGCONT)
            return False
        if held is not None:
            self.in_hand[held.key] += 1
        return True

    def kill_retain(self, after_s: float) -> None:
        """Starts `retain` short of space, and kills it so much later."""
        process = self._start("retain", self.short_of_space)
        time.sleep(after_s)
        process.kill()
        if process.wait() != -signal.SIGKILL:
            self.by_themselves.append(("retain", process.returncode))

    def stop(self) -> dict[str, int]:
        """SIGTERM for each, senders first; their exit codes."""
        codes = {}
        for name in reversed(STAGES):
            process = self.running[name]
            process.terminate()
            try:
                codes[name] = process.wait(45)
            except subprocess.TimeoutExpired:
                process.kill()
                codes[name] = process.wait()
        return codes


@pytest.fixture
def line(bundles: Bundles, tmp_path: Path) -> Iterator[tuple[Site, Stages]]:
    """(A site of its own, its stages): no parent, the broker stays."""
    # longer than `receive` needs to come back, should it be cut twice in a row
    with (
        running(tmp_path, bundles.usual, aborted_quiet_s=10) as site,
        (tmp_path / "cuts.log").open("wb") as log,
    ):
        site.process.terminate()
        assert site.process.wait(45) == 0
        stages = Stages(site, log)
        stages.keep_running()
        try:
            yield site, stages
        finally:
            stages.stop()


# The scanners.


@dataclass
class Scanners:
    """Send series after series by storescu, each image until it is acknowledged."""

    program: str
    site: Site
    scans: Scans
    heard: Heard
    stop: threading.Event = field(default_factory=threading.Event)
    sent: list[Scan] = field(default_factory=list)
    """Scans, each begun; in order of their beginning."""
    acknowledged: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """series -> SOP Instance UIDs"""
    deleted: set[str] = field(default_factory=set)
    """series of which `retain` has left no slice"""
    associations: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def send_on(self) -> None:
        """One scanner, until `stop`."""
        mine: list[Scan] = []
        while not self.stop.is_set():
            with self.lock:
                scan = self.scans.make()
            mine.append(scan)
            self.send(scan)
            self.wait(lambda: len(self._waiting(mine)) < UNDER_WAY, "report")
        self.wait(lambda: not self._waiting(mine), "report")

    def send(self, scan: Scan) -> None:
        with self.lock:
            self.sent.append(scan)
        uids = {str(p): str(read_file_meta_info(p).MediaStorageSOPInstanceUID) for p in scan.files}
        until = time.monotonic() + REPORT_WITHIN_S
        while uids:
            assert time.monotonic() < until, f"{len(uids)} images were never acknowledged"
            command = [self.program, "-v", "-aet", "SCANNER", "-aec", "SCANSIDE", "-nh"]
            done = subprocess.run(
                [*command, "127.0.0.1", str(self.site.settings.dicom.port), *uids],
                env={**os.environ, "TCP_NODELAY": "1"},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=180,
                check=False,
            )
            with self.lock:
                self.associations += 1
            file = ""
            for said in SAID.finditer(done.stdout.decode(errors="replace")):
                if said["file"]:
                    file = said["file"]
                elif said["answer"] == "Success":
                    self.acknowledged[scan.series].add(uids.pop(file))
                else:
                    self.refused[said["answer"]] += 1
            if uids:
                time.sleep(0.2)
        shutil.rmtree(scan.folder)

    def wait(self, found: Callable[[], bool], what: str) -> None:
        until = time.monotonic() + REPORT_WITHIN_S
        while not found():
            assert time.monotonic() < until, f"no {what} within {REPORT_WITHIN_S:.0f} s"
            time.sleep(0.2)

    def lost(self) -> dict[str, set[str]]:
        """series -> acknowledged slices that are not in the spool though `retain` left it."""
        spool = Spool(self.site.settings.state)
        with self.lock:
            known = {scan: set(self.acknowledged[scan.series]) for scan in self.sent}
        gone = {
            scan.series: uids - spool.instances(scan.key).keys()
            for scan, uids in known.items()
            if scan.series not in self.deleted
        }
        return {series: uids for series, uids in gone.items() if uids}

    def took(self) -> None:
        """After `retain`: notes what it deleted, whole series alone."""
        for series, uids in self.lost().items():
            if uids == self.acknowledged[series]:
                self.deleted.add(series)

    def _waiting(self, scans: list[Scan]) -> list[Scan]:
        return [s for s in scans if not self.heard.ended(s)]


def _told(report: Report) -> list[Any]:
    return [(f.id, f.kind, f.center_lps_mm, f.diameter_mm) for f in report.findings]


def _slices(reports: list[Report]) -> int | None:
    return reports[0].series.slices if reports else None


def _cut(
    stages: Stages, scanners: Scanners, senders: list[Future[None]], say: Callable[[str], None]
) -> Counter[str]:
    """Kill at random until there were enough cuts or time is up; how many of each kind."""
    random_ = random.Random(SEED)
    cuts: Counter[str] = Counter()
    end = time.monotonic() + LONGEST_S
    next_at = time.monotonic()
    target = random_.choices(TARGETS, WEIGHTS)[0]
    while cuts.total() < CUTS and time.monotonic() < end:
        if any(sender.done() for sender in senders):
            break  # it failed, and says why
        stages.keep_running()
        if time.monotonic() >= next_at:
            if target == "retain":
                assert not scanners.lost()
                stages.kill_retain(random_.uniform(*RETAIN_CUT_S))
                scanners.took()
            if target == "retain" or stages.kill(target):
                cuts[target] += 1
                if cuts.total() % 100 == 0:
                    say(f"{cuts.total()} cuts, {len(scanners.sent)} series")
                next_at = time.monotonic() + random_.uniform(*BETWEEN_CUTS_S)
            target = random_.choices(TARGETS, WEIGHTS)[0]
        time.sleep(0.02)
    return cuts


def _wrong(scanners: Scanners, heard: Heard, expected: list[Any]) -> dict[str, list[Any]]:
    """What the subscriber should not have heard, or not missed, by its name."""
    standing = {scan.series: heard.standing(scan) for scan in scanners.sent}
    ids = {str(r.report_id) for reports in standing.values() for r in reports}
    return {
        "series failed": [
            series
            for series, said in heard.endings.items()
            if any(message["event"] == "failed" for message in said.values())
        ],
        "series without one report that stands": [
            series for series, reports in standing.items() if len(reports) != 1
        ],
        "series reported in part": [
            s.series for s in scanners.sent if _slices(standing[s.series]) != len(s.files)
        ],
        "series with other findings": [
            series
            for series, reports in standing.items()
            if reports and _told(reports[0]) != expected
        ],
        "findings lost": [
            (series, f.id)
            for series, reports in standing.items()
            for f in (reports[0].findings if reports else ())
            if f.id not in heard.findings[str(reports[0].report_id)]
        ],
        "findings doubled": [
            (report, finding)
            for report, findings in heard.findings.items()
            for finding, events in findings.items()
            if len(events) != 1
        ],
        "reports that neither stand nor are withdrawn": [
            report
            for report, findings in heard.findings.items()
            if findings and report not in ids | heard.withdrawn
        ],
    }


@pytest.mark.long
@pytest.mark.timeout(LONGEST_S + 15 * 60)
def test_at_random_cuts_under_continuous_sending_nothing_is_lost_and_nothing_doubled(
    line: tuple[Site, Stages], scans: Scans, capsys: pytest.CaptureFixture[str]
) -> None:
    site, stages = line
    heard = Heard(site)
    scanners = Scanners(program("storescu"), site, scans, heard)
    whole = scans.make()
    scanners.send(whole)  # before any cut: what the others are held against
    scanners.wait(lambda: heard.ended(whole), "report")

    def say(line: str) -> None:
        with capsys.disabled():
            print(f"\n{line}", end="", flush=True)  # noqa: T201 - it takes a quarter of an hour

    began = time.monotonic()
    with ThreadPoolExecutor(SENDERS) as pool:
        senders = [pool.submit(scanners.send_on) for _ in range(SENDERS)]
        try:
            cuts = _cut(stages, scanners, senders, say)
        finally:
            took = time.monotonic() - began
            scanners.stop.set()
            while not all(sender.done() for sender in senders):
                stages.keep_running()
                time.sleep(0.05)
    for sender in senders:
        sender.result()
    site.settled()
    time.sleep(1)  # the subscriber's ear is behind the PUBACK
    heard.listen()

    lost = scanners.lost()
    with site.journal() as journal:
        owed = journal.owed.counts()
    after = retain.run_once(load(stages.short_of_space))
    left = [s.series for s in scanners.sent if Spool(site.settings.state).instances(s.key)]
    expected = _told(heard.standing(whole)[0])
    wrong = _wrong(scanners, heard, expected)
    slices = sum(len(uids) for uids in scanners.acknowledged.values())
    again = sum(n - 1 for n in heard.events.values())
    with capsys.disabled():
        print(  # noqa: T201 - the counts are what this is run for
            f"\nseed {SEED}: {cuts.total()} cuts in {took:.0f} s {dict(cuts)}\n"
            f"{len(scanners.sent)} series in {scanners.associations} associations,"
            f" {slices} slices acknowledged, {sum(map(len, lost.values()))} lost;"
            f" `retain` deleted {len(scanners.deleted)} series when it was cut,"
            f" {after.series} at the end;"
            f" `work` was cut with {len(stages.in_hand)} series in hand,"
            f" {sum(n > 1 for n in stages.in_hand.values())} of them twice\n"
            f"{len(heard.withdrawn)} reports withdrawn, {len(expected)} findings each;"
            f" { {what: len(which) for what, which in wrong.items()} }\n"
            f"{len(heard.events)} events, {again} times the same event_id again on the wire;"
            f" refused {dict(scanners.refused)};"
            f" stages that ended by themselves: {stages.by_themselves}"
        )
    assert expected
    assert {what: which for what, which in wrong.items() if which} == {}
    assert not lost
    assert (owed.waiting, owed.dead) == (0, 0)
    assert not left, "`retain` went on where it was cut, and deleted all"
    assert CUTS < 100 or set(cuts) == set(TARGETS)
    assert not stages.by_themselves
