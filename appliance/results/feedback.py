"""What readers said of a report: one row for each act, and what counts of the rows. Pure.

Rules
- A row is an act of one reader: they accept or reject a finding, mark what was missed, or take back
  an earlier row. A row is never changed. An undo is a row of its own, and names the one that it
  takes back; nobody can take back an undo, but the act can be done again.
- Of each finding the last row counts that was not taken back (`counting`), whoever wrote it. So two
  readers who contradict each other leave both rows, and the later one counts.
- A row has no name and no UID of DICOM, neither of the patient nor of the reader: it outlives the
  images and the report. A comment is no part of it (store/journal/feedback.py).
- What a marked place scored is kept with the mark, so that the threshold can be judged later
  without the place (web/feedback/operating.py).
- `uid` is random, drawn when the form was made. A form that is sent twice is one row.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Final, Literal

from pydantic import Field, model_validator

from appliance.report import (
    ConformalBounds,
    Digest,
    Millimetres3,
    Record,
    Scored,
    Scores,
    absent,
)

Verdict = Literal["accept", "reject", "missed", "undo"]
ReaderRole = Literal["display", "technologist", "radiologist", "service"]
Size = Annotated[float, Field(ge=1, le=200)]
"""Diameter of what was missed, in millimetres, as the reader said it."""
Coordinate = Annotated[float, Field(ge=-2000, le=2000)]
"""Further from the middle of a scanner nobody lies."""
Pixel = Annotated[float, Field(ge=-0.5, le=65535.5)]
REACH_MM: Final = 5.0
"""A mark names a candidate within its radius and at least this, as `training.evaluate` counts."""


class PlacePx(Record):
    """A place on a radiograph, which has no millimetres of the patient. 0 is the centre of the
    first pixel of the image as it was sent, not as it is turned to be looked at."""

    image: int = Field(ge=0)
    """As `Finding.key_image` counts."""
    column: Pixel
    row: Pixel


class ReportScores(Record):
    """What was scored for one report, without a place: kept with the first row about it."""

    threshold: float = Field(ge=0, le=1)
    findings: int = Field(ge=0)
    """How many the report has."""
    below: tuple[float, ...] = ()
    """Of every candidate below the threshold, the highest first."""
    certainty: ConformalBounds | None = Field(
        default=None, exclude_if=absent, description="as in the scores of the report"
    )


class Feedback(Record):
    """One act of one reader."""

    uid: uuid.UUID
    """Random. It is the event_id on MQTT."""
    at: float
    """Seconds since 1970, UTC."""
    study: str = Field(pattern=r"^[0-9a-f]{32}$")
    """The pseudonym."""
    series: uuid.UUID | None
    """The published name; None where the journal does not know it any more."""
    report_id: uuid.UUID
    bundle: Digest | None
    verdict: Verdict
    finding: int | None = Field(default=None, ge=1)
    """Its number in the report; None of what was missed."""
    center_lps_mm: tuple[Coordinate, Coordinate, Coordinate] | None = None
    place_px: PlacePx | None = Field(
        default=None,
        exclude_if=absent,
        description="of what was missed on a radiograph, in place of center_lps_mm: its size is "
        "then that at the detector; not written where there is none",
    )
    size_mm: Size | None = None
    undoes: uuid.UUID | None = None
    """The row that this one takes back."""
    role: ReaderRole
    reader: str = Field(pattern=r"^[0-9a-f]{1,64}$")
    """Keyed id of the account: tells two readers apart and names nobody."""
    score: float | None = Field(default=None, ge=0, le=1)
    """What the place scored: of the finding, or of the candidate that a missed mark names; None
    where nothing was scored there, or by a network whose threshold is another."""
    scores: ReportScores | None = None
    """Of the first act about a report alone, where they were kept."""

    @model_validator(mode="after")
    def _of_its_verdict(self) -> Feedback:
        """Each verdict has what it is about, and nothing else."""
        places = (self.center_lps_mm is not None) + (self.place_px is not None)
        placed = places == 1 and self.size_mm is not None
        wanted = {
            "accept": (True, False, False),
            "reject": (True, False, False),
            "missed": (False, True, False),
            "undo": (self.finding is not None, False, True),
        }[self.verdict]
        neither = not places and self.size_mm is None
        has = (self.finding is not None, placed, self.undoes is not None)
        if has != wanted or not (placed or neither):
            raise ValueError(f"`{self.verdict}` does not say what it is about, or too much")
        return self


class Read(Record):
    """That a reader has read all images of a report, and that nothing is in them besides what was
    accepted and what was marked as missed; or that this is taken back. The last one counts."""

    uid: uuid.UUID
    """Random, as of Feedback."""
    at: float
    """Seconds since 1970, UTC."""
    report_id: uuid.UUID
    series: uuid.UUID | None
    """The published name; None where the journal does not know it any more."""
    bundle: Digest | None
    done: bool
    """False: taken back."""
    role: ReaderRole
    reader: str = Field(pattern=r"^[0-9a-f]{1,64}$")
    scores: ReportScores | None = None
    """What was scored for the report; None where it is not kept."""


@dataclass(frozen=True, slots=True)
class Counting:
    """What counts of the rows about one report."""

    findings: dict[int, Feedback]
    """Finding -> the row that counts; not one that nobody judged, or whose rows were taken back."""
    missed: tuple[Feedback, ...]
    """What was missed and not taken back, in order."""
    taken_back: frozenset[uuid.UUID]


def counting(rows: Iterable[Feedback]) -> Counting:
    """Rows about one report, in the order in which they were said -> what counts."""
    said = list(rows)
    gone = frozenset(row.undoes for row in said if row.undoes is not None)
    stands = [row for row in said if row.verdict != "undo" and row.uid not in gone]
    return Counting(
        findings={row.finding: row for row in stands if row.finding is not None},
        missed=tuple(row for row in stands if row.verdict == "missed"),
        taken_back=gone,
    )


def of_report(scores: Scores, findings: int) -> ReportScores:
    """Everything that was scored for a report, without the places."""
    below = sorted((c.score for c in _below(scores)), reverse=True)
    return ReportScores(
        threshold=scores.threshold,
        findings=findings,
        below=tuple(below),
        certainty=scores.certainty,
    )


def at_place(scores: Scores, center_lps_mm: Millimetres3, size_mm: float) -> float | None:
    """What the candidate scored that a missed mark names: of those below the threshold that lie
    within its radius, and at least REACH_MM, the nearest. None where there is none."""
    reach = max(size_mm / 2, REACH_MM)
    near = [
        (math.dist(center_lps_mm, one.center_lps_mm), -one.score)
        for one in _below(scores)
        if one.center_lps_mm is not None
    ]
    away, negative = min(near, default=(math.inf, 0.0))
    return -negative if away <= reach else None


def of_image(scores: Scores) -> float | None:
    """The same of a mark on a radiograph, where the image as a whole was scored. None where that is
    not below the threshold, or where several images were scored: none of them is named."""
    whole = [one.score for one in scores.candidates if one.center_lps_mm is None]
    return whole[0] if len(whole) == 1 and whole[0] < scores.threshold else None


def _below(scores: Scores) -> Sequence[Scored]:
    return [one for one in scores.candidates if one.score < scores.threshold]
