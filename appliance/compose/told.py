"""What an object says besides its report: facts that may be others tomorrow, settled once.

    journal.told    (report, stage, edition) -> Told

Rules
- An archive that knows a UID keeps the bytes that it has, so one UID must always have the same
  bytes. The journal keeps what was settled when the first object of a report was composed, and
  every later object of it, or the same one again, is composed of that.
- It outlives the series: the same images, deleted and sent again, have the same report id, and so
  the same UIDs.
"""

from __future__ import annotations

from datetime import datetime

from appliance.report import Finding, Product, Record, SeriesKey
from appliance.results.sr.case import Beside, Predecessor


class Document(Record):
    """A structured report that was composed."""

    study: str
    series: str
    sop_class_uid: str
    sop_instance_uid: str
    key: str = ""
    """Under which archives are owed it."""

    def predecessor(self) -> Predecessor:
        """As the report that comes after it names it."""
        key = SeriesKey(self.study, self.series)
        return Predecessor(key, self.sop_class_uid, self.sop_instance_uid)


class Told(Record):
    """Facts of one report, in one stage and edition; the table `told` has one row for each."""

    at: datetime
    """When the report was committed, with its zone."""
    revision: int
    kinds: tuple[Product, ...]
    """What was ordered: a structured report names a segment only where there is one to be sent."""
    others: tuple[str, ...] = ()
    """A sentence on each other series of the study."""
    findings: tuple[Finding, ...] = ()
    """Those of the report, each with the tracking UID that it has here."""
    beside: tuple[Beside, ...] = ()
    """The comparisons with earlier exams that it says."""
    later: int = 0
    """How many further reports of this one were told before, because a comparison came late."""
    predecessor: Document | None = None
    document: Document | None = None
    """Its own structured report, where one was ordered."""
    by: str | None = None
    """Of a withdrawal: what stands in its place."""
    rejects: tuple[Document, ...] = ()
    """Of a withdrawal: every report that a rejection note names, as far as an archive has it."""
