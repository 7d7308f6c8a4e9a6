"""A destination that is an archive (PACS): it is owed objects that are composed later.

Rules
- With a report, and in the same transaction, one row is owed for each object of the profile. The
  body is an `Ordered`: which object, and in which file under outgoing/ it will lie. So a power cut
  loses no object and orders none twice.
- `work` composes an object after the commit and writes its file once, durably; it is never changed.
  A row whose file is there is sent; a row without waits. Two archives that are owed the same object
  share one file, which goes when no row that names it is owed any more.
- An archive that refuses the class of a report is owed the same one in an older class (`older`),
  once, in a row and a file of its own.
- The name of a file is keyed (`naming`): no UID stands in it.
- A segmentation is ordered only where there are findings in millimetres to show. A composer that
  finds nothing to draw all the same (no frame of reference, no body) must settle the row, else its
  series is never deleted.
- What is rightly set aside orders nothing, unless that is the whole study: then one of its reports
  says so. What is preliminary is ordered only where the archive asks.
- A comparison with an earlier exam orders a further report. What is composed of it where the report
  itself said that comparison already is nothing (compose/gather).
- A withdrawal orders one object that says so in words: a report, or a capture where the archive
  takes none. An archive that shows neither gets no withdrawal. After the report it orders a
  rejection note (`results.note`) where the archive asks for those.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import PurePosixPath
from typing import Final, Literal, Protocol

from pydantic import ValidationError

from appliance.comparison import Comparison
from appliance.naming import Naming
from appliance.reasons import SET_ASIDE
from appliance.report import Product, Record, Report, SeriesKey, Stage, Status
from appliance.results.owed import Owed, SeriesEvent

OUTGOING: Final = "outgoing"
"""Folder of composed objects in the state folder."""
Said = Literal["preliminary", "final", "withdrawn"]


class Archive(Protocol):
    """What of a `[[deliver]]` decides what is owed (settings.Deliver)."""

    @property
    def name(self) -> str: ...

    @property
    def profile(self) -> tuple[Product, ...]: ...

    @property
    def when(self) -> Literal["final", "preliminary"]: ...

    @property
    def rejection_note(self) -> bool: ...


class Ordered(Record):
    """The body of what is owed: which object to compose, and where it will lie."""

    report_id: uuid.UUID
    stage: Said
    edition: int
    kind: Product
    file: str
    """Name under outgoing/."""
    by: uuid.UUID | None = None
    """Of a withdrawal: the name (Naming.series) of the series that stands in its place."""
    note: bool = False
    """Of a withdrawal: the rejection note, beside the report that says so in words."""
    comparison: uuid.UUID | None = None
    """Of a further report of the series: the comparison with an earlier exam that came later than
    the report, and that it says besides."""
    older_class: bool = False
    """A report as Comprehensive SR, with a UID of its own: the archive takes no Comprehensive 3D SR
    (PS3.3 A.35.13)."""


class Pacs:
    """One archive as a row of the registry."""

    stage = "deliver"
    numbered = False

    def __init__(
        self,
        name: str,
        profile: Sequence[Product],
        when: Literal["final", "preliminary"],
        *,
        rejection_note: bool = False,
    ) -> None:
        self.name = name
        self._rejection_note = rejection_note
        self._profile = tuple(profile)
        self._preliminary = when == "preliminary"

    def of_event(
        self, event: SeriesEvent, key: SeriesKey, *, naming: Naming, slices: int, at: datetime
    ) -> Iterator[Owed]:
        """Nothing: an archive is told of results alone."""
        return iter(())

    def of_report(
        self,
        report: Report,
        key: SeriesKey,
        *,
        naming: Naming,
        at: datetime,
        completes: Report | None = None,
        superseded: int = 1,
    ) -> Iterator[Owed]:
        if report.stage is Stage.PRELIMINARY and not self._preliminary:
            return
        if report.supersedes is not None:
            yield from self.of_withdrawal(
                report.supersedes, key, naming=naming, at=at, edition=superseded
            )
        if not is_set_aside(report):
            yield from self._objects(report, key, naming)

    def of_study_set_aside(
        self, report: Report, key: SeriesKey, *, naming: Naming
    ) -> Iterator[Owed]:
        """The one report about a study whose series were all set aside: so that nobody waits for a
        result that will not come."""
        yield from self._objects(report, key, naming)

    def _objects(self, report: Report, key: SeriesKey, naming: Naming) -> Iterator[Owed]:
        for kind in self._profile:
            if kind == "seg":
                shows = any(finding.center_lps_mm for finding in report.findings)
            else:
                shows = kind != "lungs" or report.status is Status.ANALYSED
            if shows:
                yield self._row(
                    naming, key, report.report_id, report.stage.value, report.edition, kind
                )

    def of_withdrawal(
        self,
        report_id: uuid.UUID,
        key: SeriesKey,
        *,
        naming: Naming,
        at: datetime,
        edition: int = 1,
    ) -> Iterator[Owed]:
        for kind in ("sr", "sc"):
            if kind in self._profile:
                by = naming.series(key)
                yield self._row(naming, key, report_id, "withdrawn", edition, kind, by)
                if kind == "sr" and self._rejection_note:
                    yield self._row(
                        naming, key, report_id, "withdrawn", edition, kind, by, note=True
                    )
                return

    def of_comparison(
        self, comparison: Comparison, key: SeriesKey, *, naming: Naming, edition: int
    ) -> Iterator[Owed]:
        """A further report. That nothing was compared is worth none, unless something that was said
        before counts no more. edition: of the report."""
        if "sr" in self._profile and (comparison.status == "compared" or comparison.supersedes):
            report_id, named = comparison.report_id, comparison.comparison_id
            file = naming.composed(report_id, "final", str(edition), "sr", str(named))
            one = Ordered(
                report_id=report_id, stage="final", edition=edition, kind="sr", file=file,
                comparison=named,
            )  # fmt: skip
            yield Owed(self.name, key_of(one), key, one.model_dump_json().encode())

    def described(self, key: str, body: bytes | None) -> str:
        if (one := ordered(body)) is None:
            return key
        older = ", in the older class" if one.older_class else ""
        what: str = "rejection note" if one.note else one.kind
        if one.comparison is not None:
            what = f"{what} beside an earlier exam ({one.comparison})"
        return f"{what} of report {one.report_id}, {one.stage}, edition {one.edition}{older}"

    def _row(
        self,
        naming: Naming,
        key: SeriesKey,
        report_id: uuid.UUID,
        said: Said,
        edition: int,
        kind: Product,
        by: uuid.UUID | None = None,
        *,
        note: bool = False,
    ) -> Owed:
        file = naming.composed(report_id, said, str(edition), "note" if note else kind)
        ordered = Ordered(
            report_id=report_id, stage=said, edition=edition, kind=kind, file=file, by=by, note=note
        )
        body = ordered.model_dump_json().encode()
        return Owed(self.name, key_of(ordered), key, body)


def key_of(one: Ordered) -> str:
    """Under which an archive is owed it, in its usual class."""
    what = "note" if one.note else one.kind
    return f"{one.report_id} {place_of(one)} {one.edition} {what}"


def place_of(one: Ordered) -> str:
    """Which document of a report it is: its stage, and the comparison that a further one says. It
    has no blank."""
    return one.stage if one.comparison is None else f"{one.stage}+{one.comparison}"


def older_key(key: str) -> str:
    """Under which it is owed the same in the older class."""
    return f"{key} older"


def is_older_key(key: str) -> bool:
    return key.endswith(" older")


def ordered(body: bytes | None) -> Ordered | None:
    """What a row orders; None where its body is no order."""
    try:
        return Ordered.stored(body or b"")
    except ValidationError:
        return None


def older(destination: str, key: str, one: Ordered, series: SeriesKey) -> Owed | None:
    """The same report in the older class, to be composed of its series; None where there is no
    older one. key: under which it was owed. The name is made of the keyed one, without the key."""
    if one.kind != "sr" or one.note or one.older_class:
        return None
    file = PurePosixPath(one.file)
    again = one.model_copy(update={"older_class": True, "file": f"{file.stem}-older{file.suffix}"})
    return Owed(destination, older_key(key), series, again.model_dump_json().encode())


def is_set_aside(report: Report) -> bool:
    """Whether its series is rightly set aside: an archive learns of it by its neighbours."""
    return (
        report.status is Status.NOT_ANALYSED
        and bool(report.reasons)
        and report.reasons[0].code in SET_ASIDE
    )
