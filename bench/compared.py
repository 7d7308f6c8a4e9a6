"""From the final report to its comparison with an earlier exam, and the memory that this takes.

    python -m bench compared

Rules
- The real line, keeping exams. The phantom of `scanside demo --follow-up` is sent by storescu: RUNS
  people, each twice, a year apart, with images of 512 x 512. The first exams are of the same size,
  so the child that compares has done all of its work once before the first run that counts.
- The time runs from the commit of the final report to that of the comparison, as both say it. The
  making of today's entry is a part of it.
- Memory is that of the child alone. It starts with the first image, so its networks are open when
  the first final report is committed; what it has then is the base. What counts is how far its
  highest resident set (VmHWM, proc(5)) lies above; beside it stands the highest of its PSS
  (smaps_rollup), sampled every SAMPLE_S.
- Which method laid one exam over the other is named, for the aim of demons is another one than that
  of a network.
"""

from __future__ import annotations

import contextlib
import json
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from pydicom.uid import generate_uid

from appliance.comparison import Comparison
from appliance.demo.follow_up import NOW, PATIENT, THEN
from appliance.phantom import instances
from appliance.phantom.chest import Phantom
from appliance.phantom.follow_up import follow_up
from appliance.report import Report
from bench.figure import Figure
from bench.site import STORESCU, Site, running
from bench.size import tree

RUNS = 3
AIM_S = {"network": 1.0, "demons": 3.0}
AIM_MB = 300.0
SAMPLE_S = 0.02
WITHIN_S = 240.0
CHILD = b"appliance.compare.child"


class Memory:
    """MB of the child that compares, sampled while the context is open."""

    def __init__(self, site: Site) -> None:
        self._site, self._done = site, threading.Event()
        self._thread = threading.Thread(target=self._sample)
        self.peak: dict[int, float] = {}
        """Process -> its highest resident set."""
        self.pss: dict[int, float] = {}
        """Process -> its highest PSS."""
        self._resident: list[tuple[float, int, float]] = []
        """Of each sample: seconds since 1970, process, its resident set."""

    def __enter__(self) -> Memory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def at(self, moment: datetime) -> tuple[int, float]:
        """The child of this moment, and its resident set."""
        seen = [(pid, mb) for time_s, pid, mb in self._resident if time_s < moment.timestamp()]
        if not seen:
            raise SystemExit("there was no child that compares before the first report")
        return seen[-1]

    def _sample(self) -> None:
        while not self._done.wait(SAMPLE_S):
            for pid in tree(self._site.process.pid):
                with contextlib.suppress(OSError, KeyError):  # it has ended
                    if CHILD in Path(f"/proc/{pid}/cmdline").read_bytes():
                        self._look(pid)

    def _look(self, pid: int) -> None:
        status = Path(f"/proc/{pid}/status")
        self._resident.append((time.time(), pid, _mb(status, "VmRSS")))
        self.peak[pid] = _mb(status, "VmHWM")
        pss = _mb(Path(f"/proc/{pid}/smaps_rollup"), "Pss")
        self.pss[pid] = max(self.pss.get(pid, 0.0), pss)


def figures() -> Iterator[Figure]:
    """Seconds, and megabytes above the base; nothing, with the reason, where dcmtk is missing."""
    if not STORESCU.exists():
        print("compared: left out, dcmtk is not installed (apt-get install dcmtk)")
        return
    both = follow_up()
    with tempfile.TemporaryDirectory(prefix="scanside-bench-") as name:
        folder = Path(name)
        with running(folder, more="[priors]\nkeep = true\n") as site, Memory(site) as memory:
            rows = [_run(site, folder, n, both.prior, both.current) for n in range(RUNS)]
        seconds = [_seconds(report, said) for _, report, said in rows]
        (method,) = {said.registered.method for *_, said in rows if said.registered}
        what = f"final report to compared, {len(both.current.hu)} slices, by {method}"
        yield Figure(f"{what}, p50 of {RUNS}", statistics.median(seconds), "s", AIM_S[method])
        yield Figure(f"{what}, slowest", max(seconds), "s")
        pid, base = memory.at(rows[0][0])
        parts = {"base": base, "peak": memory.peak[pid], "peak of PSS": memory.pss[pid]}
        yield Figure("its child, above its base", memory.peak[pid] - base, "MB", AIM_MB, parts)


def _run(
    site: Site, folder: Path, number: int, prior: Phantom, current: Phantom
) -> tuple[datetime, Report, Comparison]:
    """One person twice: when the first final report was committed; then the second one, and its
    comparison."""
    first, _ = _sent(site, folder, number, prior, THEN)
    report, said = _sent(site, folder, number, current, NOW)
    if said.status != "compared":
        raise SystemExit(f"not compared: {', '.join(reason.code for reason in said.reasons)}")
    return _committed(first), report, said


def _seconds(report: Report, said: Comparison) -> float:
    if said.committed is None:
        raise SystemExit("a comparison does not say when it was committed")
    return (said.committed - _committed(report)) / timedelta(seconds=1)


def _committed(report: Report) -> datetime:
    if report.times.committed is None:
        raise SystemExit("a report does not say when it was committed")
    return report.times.committed


def _sent(
    site: Site, folder: Path, number: int, phantom: Phantom, when: datetime
) -> tuple[Report, Comparison]:
    """One exam through the line; its final report, and what is said of it beside earlier ones."""
    files = folder / f"files-{generate_uid()}"
    files.mkdir()
    study, series = str(generate_uid()), str(generate_uid())
    patient = replace(PATIENT, patient_id=f"BENCH-{number}")
    images = instances.series(
        phantom, study_uid=study, series_uid=series, when=when, patient=patient
    )
    for at, image in enumerate(images):
        image.save_as(files / f"{at:04d}.dcm", enforce_file_format=True)
    if site.scanner("CT1", [files]).wait(300):
        raise SystemExit("the sender failed")
    site.ended([series])
    end = time.monotonic() + WITHIN_S
    while time.monotonic() < end:
        for row in site.rows(
            """SELECT reports.json AS report, compared.json AS said FROM reports
            JOIN compared USING (report_id) WHERE series_uid = ? AND stage = 'final'""",
            (series,),
        ):
            found: dict[str, Any] = dict(row)
            report = Report.model_validate(json.loads(found["report"]), extra="ignore")
            return report, Comparison.stored(found["said"])
        time.sleep(0.1)
    raise SystemExit(f"nothing was compared in {WITHIN_S:.0f} s")


def _mb(file: Path, name: str) -> float:
    """A figure of a file of proc(5) that gives kB."""
    lines = (line.partition(":") for line in file.read_text(encoding="ascii").splitlines())
    return {key: int(value.split()[0]) / 1024 for key, _, value in lines if value.endswith("kB")}[
        name
    ]
