"""What a structured report is composed of, and which kind of it a report is owed. Pure.

Rules
1. A report with findings in millimetres gets a measurement report (TID 1500), so that a viewer
   jumps to each place. Every other one gets a text, its first line the verdict: a viewer that draws
   places must never be given a measurement report without one.
2. What is rightly set aside gets none, which `results.pacs` decides: it is listed in the other
   reports of its study. A study in which everything was set aside gets one text.
3. Nothing that imports highdicom is imported here, nor in `appliance.results.destinations`: the
   stages that are in a hurry would load it.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

import numpy as np

from appliance.comparison import KeptComparison
from appliance.naming import Naming
from appliance.records import Axes
from appliance.report import Finding, Record, Report, SeriesKey
from appliance.results.source import Source

Form = Literal["measurements", "text"]
NEAR_MM = 5.0
"""How far the same finding may lie from where it was, at least."""


@dataclass(frozen=True, slots=True)
class Segment:
    """Where the body of a finding stands in a composed segmentation."""

    sop_instance_uid: str
    series_uid: str
    number: int


@dataclass(frozen=True, slots=True)
class Predecessor:
    """A composed report that this one comes after (PS3.3 C.17.2.3)."""

    key: SeriesKey
    """Study, and the series of the composed object."""
    sop_class_uid: str
    sop_instance_uid: str


@dataclass(frozen=True, slots=True)
class Reference:
    """An image of another study that a report names (PS3.3 C.17.2.3, Pertinent Other Evidence)."""

    study_uid: str
    series_uid: str
    sop_class_uid: str
    sop_instance_uid: str


class Beside(Record):
    """A comparison with an earlier exam, as a report says it."""

    kept: KeptComparison
    wrong: tuple[int, ...] = ()
    """Places in `Comparison.findings` of the pairs that a reader called wrong."""


@dataclass(frozen=True, slots=True)
class Case:
    """All that a structured report says. The same case gives the same bytes."""

    report: Report
    source: Source
    naming: Naming
    at: datetime
    """When the report was committed, with its zone."""
    device: str = "scanside"
    axes: Mapping[int, Axes] = field(default_factory=dict)
    """Finding -> where its axes end."""
    segments: Mapping[int, Segment] = field(default_factory=dict)
    """Finding -> its body, where one was composed."""
    tracking: Mapping[int, str] = field(default_factory=dict)
    """Finding -> tracking UID of its first sighting, or of its predecessor (`carried`)."""
    beside: tuple[Beside, ...] = ()
    """The earlier exams that it was compared with, or why it was not."""
    comparison: uuid.UUID | None = None
    """Of a further instance, said because a comparison came later than the report: which one."""
    later: int = 0
    """How many such instances were said before."""
    predecessors: tuple[Predecessor, ...] = ()
    variant: str = ""
    """Where archives get different objects of one order, because they have different predecessors:
    which of them this is. Empty for the one that most get."""
    others: tuple[str, ...] = ()
    """A sentence on each other series of the study: analysed, or why it was set aside."""


def form(report: Report) -> Form:
    """What a report becomes (rule 1)."""
    located = any(finding.center_lps_mm is not None for finding in report.findings)
    return "measurements" if located else "text"


def carried(
    findings: Sequence[Finding], before: Sequence[Finding], uids: Mapping[int, str]
) -> dict[int, str]:
    """Tracking UIDs that findings take over from those of the report before: the nearest centre,
    within the radius of the earlier one and at least NEAR_MM, one to one, nearest pairs first.

    uids: finding of the report before -> the UID that it had.
    """
    pairs = []
    for new in findings:
        for old in before:
            if new.center_lps_mm is None or old.center_lps_mm is None or old.id not in uids:
                continue
            away = float(np.linalg.norm(np.subtract(new.center_lps_mm, old.center_lps_mm)))
            if away <= max(NEAR_MM, (old.diameter_mm or 0.0) / 2):
                pairs.append((away, new.id, old.id))
    found: dict[int, str] = {}
    taken: set[int] = set()
    for _, new_id, old_id in sorted(pairs):
        if new_id not in found and old_id not in taken:
            found[new_id] = uids[old_id]
            taken.add(old_id)
    return found
