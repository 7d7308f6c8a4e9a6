"""What a page shows of the feedback on one report. Pure.

Rules
- Each finding shows the verdict that counts, and every act about it where there was more than one:
  what two readers or two tabs said against each other stands there, the later one counting.
- A form carries a name for the act that it would make, drawn when the page was made. Sent twice,
  it is one act.
- An undo takes back the act that counts, whoever it is of: the ward is one team, and both rows
  stay.
- Of radiographs a reader may also say that all images were read: without that nobody knows what an
  image without a finding shows (quality/coverage.py). It can be said once every finding has a
  verdict, and taken back.
- A missed place is said in millimetres of the patient, or on a radiograph, which has none, as a
  pixel of the image as it was sent; its size is then that at the detector.
"""

from __future__ import annotations

import unicodedata
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from appliance.report import Finding, Millimetres3, Report, Scores, Status
from appliance.results.feedback import (
    Feedback,
    PlacePx,
    Read,
    Verdict,
    at_place,
    counting,
    of_image,
)
from appliance.store.journal.feedback import Comment
from appliance.web.site import Visitor

SIZES_MM: Final = (3, 4, 6, 8, 10, 15, 20, 30)
"""What a reader may tap, one button each."""
SIZES_DETECTOR_MM: Final = (10, 20, 30, 40, 60, 80, 120)
"""The same on a radiograph, where a consolidation is larger than a nodule."""
OUTSIDE_MM: Final = 30.0
"""So far outside the slices a mark may lie: a nodule at the edge has its middle there at most."""
RADIOGRAPHS: Final = frozenset({"CR", "DX"})
"""Modalities."""
Placed = Literal["patient", "image"]
"""Millimetres of the patient (LPS), or pixels of a radiograph."""
Where = Literal["study", "report"]
"""Which page shows it, and is shown again after an act."""


@dataclass(frozen=True, slots=True)
class ActShown:
    """One act. at: in the time of the device, to the minute."""

    uid: uuid.UUID
    at: str
    verdict: Verdict
    role: str
    mine: bool
    """Whether who looks said it."""
    counts: bool
    taken_back: bool


@dataclass(frozen=True, slots=True)
class FindingShown:
    """One finding, with what was said of it."""

    finding: Finding
    said: ActShown | None
    """The act that counts."""
    acts: tuple[ActShown, ...]
    """Every one, in order; empty where there is one at most."""
    contradicted: bool
    """Whether acts that nobody took back say different things."""
    form: uuid.UUID


@dataclass(frozen=True, slots=True)
class MissedShown:
    """One place that a reader marked."""

    act: ActShown
    center_lps_mm: Millimetres3 | None
    place_px: PlacePx | None
    """Of a radiograph, in place of millimetres."""
    size_mm: float
    form: uuid.UUID


@dataclass(frozen=True, slots=True)
class CommentShown:
    at: str
    finding: int | None
    role: str
    mine: bool
    text: str


@dataclass(frozen=True, slots=True)
class ReadShown:
    """Whether all images were read."""

    said: Read | None
    """The act that counts; None: nobody said it, or it was taken back."""
    at: str
    mine: bool
    may: bool
    """Whether it can be said now: every finding has a verdict."""
    form: uuid.UUID


@dataclass(frozen=True, slots=True)
class Shown:
    """The part of a page about one report."""

    report: Report
    where: Where
    findings: tuple[FindingShown, ...]
    missed: tuple[MissedShown, ...]
    comments: tuple[CommentShown, ...]
    judged: int
    """Findings that have a verdict."""
    placed: Placed | None
    """In what a missed place can be marked; None: in nothing."""
    sizes_mm: tuple[int, ...]
    missed_form: uuid.UUID
    read: ReadShown | None
    """None of what is no radiograph."""
    mark: str
    """Another one whenever there is more to show: an open page asks for it."""


def of_report(
    report: Report,
    acts: Iterable[Feedback],
    comments: Iterable[Comment],
    read: Read | None = None,
    *,
    who: Visitor,
    where: Where,
    draw: Callable[[], uuid.UUID] = uuid.uuid4,
) -> Shown:
    """acts, comments: all about this report, in order. read: the last act that says whether all
    images were read. draw: a fresh name for an act."""
    said, remarks = list(acts), list(comments)
    counts = counting(said)
    counting_uids = {act.uid for act in (*counts.findings.values(), *counts.missed)}

    def act(one: Feedback) -> ActShown:
        return ActShown(
            uid=one.uid,
            at=local(one.at),
            verdict=one.verdict,
            role=one.role,
            mine=one.reader == who.reader,
            counts=one.uid in counting_uids,
            taken_back=one.uid in counts.taken_back,
        )

    findings = tuple(
        _finding(f, said, counts.findings.get(f.id), act, draw()) for f in report.findings
    )
    judged = sum(one.said is not None for one in findings)
    return Shown(
        report=report,
        where=where,
        findings=findings,
        missed=tuple(
            MissedShown(act(one), one.center_lps_mm, one.place_px, one.size_mm, draw())
            for one in counts.missed
            if one.size_mm is not None
        ),
        comments=tuple(
            CommentShown(local(c.at), c.finding, c.role, c.reader == who.reader, c.text)
            for c in remarks
        ),
        judged=judged,
        placed=placed(report),
        sizes_mm=SIZES_DETECTOR_MM if placed(report) == "image" else SIZES_MM,
        missed_form=draw(),
        read=_read(read, who, draw(), may=judged == len(findings))
        if placed(report) == "image"
        else None,
        mark=f"{len(said)}-{len(remarks)}" + (f"-{read.uid.hex[:8]}" if read else ""),
    )


def _read(read: Read | None, who: Visitor, form: uuid.UUID, *, may: bool) -> ReadShown:
    said = read if read is not None and read.done else None
    return ReadShown(
        said=said,
        at="" if said is None else local(said.at),
        mine=said is not None and said.reader == who.reader,
        may=may,
        form=form,
    )


def _finding(
    finding: Finding,
    said: Sequence[Feedback],
    counts: Feedback | None,
    act: Callable[[Feedback], ActShown],
    form: uuid.UUID,
) -> FindingShown:
    about = [act(one) for one in said if one.finding == finding.id]
    stands = {one.verdict for one in about if one.verdict != "undo" and not one.taken_back}
    return FindingShown(
        finding=finding,
        said=None if counts is None else act(counts),
        acts=tuple(about) if len(about) > 1 else (),
        contradicted=len(stands) > 1,
        form=form,
    )


def placed(report: Report) -> Placed | None:
    """In what a place in the images of a report can be said."""
    if report.status is not Status.ANALYSED:
        return None
    if report.series.spacing_mm is not None:
        return "patient"
    return "image" if report.series.modality in RADIOGRAPHS else None


def is_inside(report: Report, center_lps_mm: Millimetres3) -> bool:
    """Whether a marked place lies in the images of a report, or OUTSIDE_MM beside them at most."""
    x, y, z = center_lps_mm
    if report.coverage.z_mm is not None:
        low, high = report.coverage.z_mm
        if not low - OUTSIDE_MM <= z <= high + OUTSIDE_MM:
            return False
    if report.coverage.fov_mm is not None:
        x0, y0, x1, y1 = report.coverage.fov_mm
        return x0 - OUTSIDE_MM <= x <= x1 + OUTSIDE_MM and y0 - OUTSIDE_MM <= y <= y1 + OUTSIDE_MM
    return True


def score_of(finding: Finding, scores: Scores | None) -> float | None:
    """What stands with the verdict on a finding: None where its threshold is not that of the curve
    (results/operating.py, rule 4)."""
    on_curve = scores is not None and finding.threshold == scores.threshold
    return finding.score if on_curve else None


def score_at(
    center_lps_mm: Millimetres3 | None, size_mm: float, scores: Scores | None
) -> float | None:
    """What stands with a missed mark; center_lps_mm: None of a radiograph."""
    if scores is None:
        return None
    return of_image(scores) if center_lps_mm is None else at_place(scores, center_lps_mm, size_mm)


def plain(text: str) -> str:
    """A comment without what is no character of a text: control characters and those that turn the
    direction of writing (Unicode 9, bidirectional controls); lines stay."""
    kept = (c for c in text.replace("\r\n", "\n") if c == "\n" or unicodedata.category(c)[0] != "C")
    return "".join(kept).strip()


def local(at: float) -> str:
    """A time, in that of the device."""
    return datetime.fromtimestamp(at).astimezone().strftime("%Y-%m-%d %H:%M")
