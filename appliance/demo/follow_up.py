"""`scanside demo --follow-up`: one person twice, a year apart, then a stranger under the same id.

Rules
- The device keeps of each exam what a later one needs (`[priors] keep`), in the demo's folder, that
  is gone afterwards.
- What is judged is what a separate subscriber received: the reports and the comparisons.
- Whatever is not as the truth of the phantom is, is said in a sentence, and the exit code is 1.
"""

from __future__ import annotations

import contextlib
import json
import queue
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Final

import cv2

from appliance.comparison import Comparison
from appliance.demo import compared, picture, scanner, show
from appliance.demo.show import Started, console
from appliance.errors import BrokerAway, SeriesRefused
from appliance.phantom.chest import Phantom
from appliance.phantom.follow_up import FollowUp, follow_up, stranger
from appliance.phantom.instances import Patient
from appliance.phantom.kernel import SOFT, STANDARD
from appliance.report import Report, Status

PATIENT: Final = Patient(
    patient_id="FOLLOW-UP-1", issuer="SCANSIDE-DEMO", name="PHANTOM^FOLLOWED", birth_date="19660401"
)
THEN, NOW, LATER = (
    datetime(2025, 1, 6, 10, 5),
    datetime(2026, 1, 6, 10, 30),
    datetime(2026, 2, 9, 8),
)
WITHIN_S: Final = 600.0
"""A comparison follows its report within seconds; a slow or busy box has room."""


class Lines:
    """What the subscriber prints, line by line, for whoever waits no longer than a time."""

    def __init__(self, stream: BinaryIO) -> None:
        self._read: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        threading.Thread(target=self._pump, args=(stream,), daemon=True).start()
        self.all: list[str] = []
        self.shown: set[str] = set()
        """Pseudonyms of the studies whose reports are known."""

    def _pump(self, stream: BinaryIO) -> None:
        # the demo's end closes the pipe
        with contextlib.suppress(ValueError, OSError):
            for line in stream:
                self._read.put(line)
        self._read.put(None)

    def __iter__(self) -> Iterator[bytes]:
        """Until the subscriber ends; without what is said of studies whose reports are known."""
        for line in self.within(None):
            if json.loads(line.partition(b" ")[2]).get("study") not in self.shown:
                yield line

    def within(self, seconds: float | None) -> Iterator[bytes]:
        """Until the subscriber ends, or the time is over."""
        end = None if seconds is None else time.monotonic() + seconds
        while True:
            left = None if end is None else max(0.0, end - time.monotonic())
            try:
                line = self._read.get(timeout=left)
            except queue.Empty:
                return
            if line is None:
                return
            self.all.append(line.decode().rstrip("\n"))
            yield line


@dataclass(frozen=True)
class Exam:
    """What came of one exam."""

    report: Report
    comparisons: tuple[Comparison, ...]


def run(*, once: bool, out: Path) -> int:
    """The demo of following; 0 when all was as the truth is."""
    with show.started(keep=True) as up:
        with console.status("making a person twice, and a stranger ..."):
            both, other = follow_up(), stranger()
        lines = Lines(up.subscriber)
        console.print("\n[bold]The first exam[/bold]")
        first = _exam(both.prior, THEN, STANDARD.name, up, lines)
        console.print("\n[bold]The same person, a year later[/bold]")
        second = _exam(both.current, NOW, SOFT.name, up, lines)
        wrong = [*_first(first), *_second(second, first, both)]
        console.print("\n[bold]Somebody else, under the same id[/bold]")
        third = _exam(other, LATER, STANDARD.name, up, lines)
        wrong += _third(third)
        _write(out, both, first, second, lines)
        if not once:
            show.stay(up, lines)
    for sentence in wrong:
        console.print(f"[red]not as the truth is[/red] {sentence}")
    if not wrong:
        console.print("[green]✓[/green] all was said as the truth is")
    return 1 if wrong else 0


def _exam(phantom: Phantom, when: datetime, kernel: str, up: Started, lines: Lines) -> Exam:
    """One exam is sent; its report, and what is said of it beside earlier ones."""
    images = scanner.series(phantom, when=when, kernel=kernel, patient=PATIENT)
    show.send(images, up.settings)
    with console.status("waiting for the report ..."):
        received = show.wait(lines)
    report = received.event.report
    if report is None or report.status is not Status.ANALYSED:
        raise SeriesRefused(received.event.reasons[0])
    lines.shown.add(report.study.pseudonym)
    with console.status("waiting for the comparison ..."):
        comparisons = await_comparisons(lines, report)
    for one in comparisons:
        compared.not_compared(one, console)
    return Exam(report, comparisons)


def await_comparisons(lines: Lines, report: Report) -> tuple[Comparison, ...]:
    """What is said of a report beside the newest and the oldest earlier exam. BrokerAway where it
    does not come in time."""
    found: dict[object, Comparison] = {}
    for line in lines.within(WITHIN_S):
        body = json.loads(line.partition(b" ")[2])
        if body.get("type") != "comparison":
            continue
        one = Comparison.model_validate(body["comparison"])
        if one.report_id != report.report_id:
            continue
        found[one.prior and one.prior.report_id] = one
        which = {name for c in found.values() if c.prior for name in c.prior.which}
        if one.prior is None or which == {"newest", "oldest"}:
            return tuple(found.values())
    raise BrokerAway(
        f"no comparison came within {WITHIN_S:.0f} s",
        remedy="See `scanside bundle list` for the bundle lung-compare, and the log of `work`.",
    )


def _first(exam: Exam) -> list[str]:
    codes = {reason.code.value for one in exam.comparisons for reason in one.reasons}
    return [] if codes == {"no_prior"} else ["the first exam is not said to have no earlier one"]


def _second(exam: Exam, first: Exam, truth: FollowUp) -> list[str]:
    out = [] if exam.comparisons else ["nothing was said of comparing the two exams"]
    for one in exam.comparisons:
        if one.status != "compared":
            out.append("the two exams of one person were not compared")
            continue
        found = compared.rows(truth.followed, one, first.report, exam.report)
        compared.show(found, one, console)
        out += compared.lacking(found)
        apart = (NOW - THEN).days
        if one.prior is None or one.prior.interval_days != apart:
            out.append(f"the exams are {apart} days apart, and it says otherwise")
    return out


def _third(exam: Exam) -> list[str]:
    return compared.stranger_compared(exam.comparisons)


def _write(out: Path, truth: FollowUp, first: Exam, second: Exam, lines: Lines) -> None:
    """Reports, comparison, messages, and a picture of each nodule then and now."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "report-then.json").write_text(first.report.to_json())
    (out / "report.json").write_text(second.report.to_json())
    (out / "messages.txt").write_text("\n".join(lines.all) + "\n")
    for one in second.comparisons:
        (out / "comparison.json").write_text(one.model_dump_json(by_alias=True, indent=2))
    path = out / "then-and-now.png"
    cv2.imwrite(str(path), then_and_now(truth))
    console.print(f"\ncomparison: {out / 'comparison.json'}   picture: {path}")


def then_and_now(truth: FollowUp) -> picture.Image:
    """Each nodule in three planes, then on the left and now on the right, circled where it lies or
    would lie."""
    pages = []
    for exam, title, now in ((truth.prior, "Then", False), (truth.current, "Now", True)):
        marks = []
        for one in truth.followed:
            drawn = one.now if now else one.then
            place = one.place_now_lps_mm if now else one.place_then_lps_mm
            size = drawn.diameter_mm if drawn is not None else 0.0
            marks.append(picture.Mark(place, size, one.change or one.state, truth=True))
        pages.append(
            picture.findings_picture(
                exam.hu, exam.spacing_mm, exam.origin_lps_mm, marks, most=len(marks), title=title
            )
        )
    side_by_side: picture.Image = cv2.hconcat(pages)
    return side_by_side
