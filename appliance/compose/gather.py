"""What the objects of one report are made of: from the journal, from what is kept, from the spool.

Rules
- Headers are read one by one, of all images but one only what places them: a series of 1,500 images
  costs little memory. Pixels are read for a capture alone, image by image.
- What may be another tomorrow is settled once (`told`), in the journal, before a first byte of an
  object is written.
- The report before: an earlier edition or stage of the same report, else the one that it
  supersedes, as far as an object was made of it. A finding keeps the tracking UID of it.
- A report is composed as it stands in the journal. One that was said again meanwhile (a later
  edition, or the final one after a preliminary) is not composed any more: the later one is owed.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import BinaryIO

import pydicom
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

from appliance.compose import beside
from appliance.compose.objects import Material, Nothing
from appliance.compose.told import Document, Told
from appliance.errors import Poisoned
from appliance.naming import Naming
from appliance.records import Mask
from appliance.report import Product, Report, SeriesKey, Status
from appliance.results.identity import identified
from appliance.results.pacs import Ordered, is_set_aside, key_of, place_of
from appliance.results.source import Source, source
from appliance.results.sr.case import Beside, Case, carried, form
from appliance.results.sr.document import COMPREHENSIVE_3D, ENHANCED
from appliance.settings import Settings
from appliance.store import kept
from appliance.store.journal import Journal
from appliance.store.kept import FINDING, LUNGS
from appliance.store.spool import Spool

MOST_OTHERS = 40
"""Series of a study that are named."""
PLACE = (
    "InstanceNumber", "ImagePositionPatient",
    "ImageOrientationPatient", "PixelSpacing", "Rows", "Columns",
    "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
)  # fmt: skip


class Gatherer:
    """The state folder, as composing sees it."""

    def __init__(self, settings: Settings, journal: Journal, spool: Spool, naming: Naming) -> None:
        self._state = settings.state
        self._device = settings.site.device
        self._journal = journal
        self._spool = spool
        self._naming = naming

    def material(self, ordered: Ordered, kinds: Sequence[Product]) -> Material | Nothing:
        """For the objects of one report. kinds: all that are ordered of it.

        Nothing where the report was said again since, or is not there any more. Poisoned where no
        image of the series can be read, or what is kept beside the report is damaged.
        """
        key = self._journal.reports.series_of(ordered.report_id)
        report = self._report(ordered)
        if key is None or report is None:
            return Nothing("its report is not there any more, or was said again since")
        by = None
        if ordered.stage == "withdrawn":
            replacing = self._replacing(key, report, ordered)
            if isinstance(replacing, Nothing):
                return replacing
            by = replacing
        besides = beside.standing(self._state, self._journal, ordered)
        known = self._journal.told.kept(ordered.report_id, place_of(ordered), ordered.edition)
        if known is None:  # else it was settled before, and its file was not written yet
            last = self._last_told(ordered.report_id)
            if (why := beside.why_nothing(ordered, besides, last)) is not None:
                return Nothing(why)
        report = report.model_copy(update={"edition": ordered.edition})
        names = kept.images(self._state, ordered.report_id)
        try:
            images = self._source(key, names)
            masks = {mask.name: mask for mask in kept.masks(self._state, ordered.report_id)}
            maps = {heat.name: heat for heat in kept.maps(self._state, ordered.report_id)}
        except (OSError, ValueError) as e:
            raise Poisoned(str(e)) from e
        told = self._told(ordered, report, key, kinds, by, besides)
        drawn = bodies(masks)
        case = Case(
            report=report.model_copy(update={"revision": told.revision}),
            source=images,
            naming=self._naming,
            at=told.at,
            device=self._device,
            axes={number: body.axes for number, body in drawn.items() if body.axes is not None},
            tracking={finding.id: finding.tracking_uid for finding in told.findings},
            others=told.others,
            beside=told.beside,
            comparison=ordered.comparison,
            later=told.later,
        )
        files = self._spool.instances(key)
        return Material(
            case=case,
            read=lambda uid: files[uid].read_bytes(),
            bodies=drawn,
            lungs=masks.get(LUNGS),
            maps=maps,
            segmented="seg" in told.kinds,
            told=told,
        )

    def case(self, report_id: uuid.UUID) -> Case | None:
        """A report and the images that it is about, for a document beside it; None where report or
        images are not there any more. Poisoned as `material`."""
        key, report = (
            self._journal.reports.series_of(report_id),
            self._journal.reports.get(report_id),
        )
        if key is None or report is None or not self._spool.instances(key):
            return None
        try:
            images = self._source(key, kept.images(self._state, report_id))
        except (OSError, ValueError) as e:
            raise Poisoned(str(e)) from e
        at = report.times.committed or datetime.now(timezone.utc)
        return Case(report, images, self._naming, at, device=self._device)

    def _report(self, ordered: Ordered) -> Report | None:
        """The report in just this stage and edition; for a withdrawal what stands in the journal
        under its id, as it was when it was analysed."""
        report = self._journal.reports.get(ordered.report_id)
        if ordered.stage == "withdrawn" or report is None:
            return report
        same = report.stage.value == ordered.stage and report.edition == ordered.edition
        return report if same else None

    def _source(self, key: SeriesKey, names: Sequence[str] | None) -> Source:
        wanted = None if names is None else {name.split("/")[0] for name in names}
        return source(self._headers(key, wanted), analysed=names)

    def _headers(self, key: SeriesKey, wanted: set[str] | None) -> Iterator[Dataset]:
        """Of every image that can be read, ordered by UID; whole of the first that is wanted."""
        whole = False
        for uid, path in self._spool.instances(key).items():
            first = not whole and (wanted is None or uid in wanted)
            found = header(path, None if first else PLACE)
            if found is not None:
                whole = whole or first
                yield found

    def _told(
        self,
        ordered: Ordered,
        report: Report,
        key: SeriesKey,
        kinds: Sequence[Product],
        by: str | None,
        besides: tuple[Beside, ...],
    ) -> Told:
        """What was settled, or is now."""
        before = self._before(ordered, report)
        earlier = before.findings if before else ()
        uids = carried(report.findings, earlier, {f.id: f.tracking_uid for f in earlier})
        now = beside.tracked(report, uids, besides)
        later = self._later(ordered)
        made = Told(
            at=_said_at(ordered, report, besides),
            revision=report.revision,
            kinds=tuple(kinds),
            others=self._others(key),
            findings=now if by is None else earlier,
            beside=besides,
            later=later,
            predecessor=before.document if before else None,
            document=self._document(ordered, report, key, by, later) if "sr" in kinds else None,
            by=by,
            rejects=self._rejects(ordered.report_id) if by is not None else (),
        )
        settled = self._journal.told.keep(
            ordered.report_id, place_of(ordered), ordered.edition, made.model_dump_json()
        )
        return Told.stored(settled)

    def _before(self, ordered: Ordered, report: Report) -> Told | None:
        """What was told before this, as far as an object was made of it."""
        last = self._last_told(ordered.report_id)
        if last is None and report.supersedes is not None and ordered.stage != "withdrawn":
            return self._last_told(report.supersedes)
        return last

    def _later(self, ordered: Ordered) -> int:
        """How many further reports were told of this edition."""
        told = (Told.stored(one) for one in self._journal.told.all(ordered.report_id))
        keys = [one.document.key.split(" ") for one in told if one.document]
        edition = str(ordered.edition)
        return sum(len(k) > 2 and "+" in k[1] and k[2] == edition for k in keys)

    def _last_told(self, report_id: uuid.UUID) -> Told | None:
        told = self._journal.told.all(report_id)
        return Told.stored(told[-1]) if told else None

    def _document(
        self, ordered: Ordered, report: Report, key: SeriesKey, by: str | None, later: int
    ) -> Document:
        """Which structured report it becomes."""
        measured = by is None and form(report) == "measurements"
        sop_class = COMPREHENSIVE_3D if measured else ENHANCED
        one = identified(
            report, key, "sr", sop_class, self._naming, withdrawn_by=by,
            comparison=ordered.comparison, later=later,
        )  # fmt: skip
        return Document(
            study=key.study,
            series=one.series_uid,
            sop_class_uid=sop_class,
            sop_instance_uid=one.sop_instance_uid,
            key=key_of(ordered.model_copy(update={"kind": "sr", "note": False})),
        )

    def _rejects(self, report_id: uuid.UUID) -> tuple[Document, ...]:
        """Every structured report that was told of a report, but its withdrawals."""
        told = [Told.stored(one) for one in self._journal.told.all(report_id)]
        return tuple(one.document for one in told if one.document and one.by is None)

    def _others(self, key: SeriesKey) -> tuple[str, ...]:
        """A sentence on each other series of the study, in order of their numbers."""
        found = []
        for row in self._journal.series.of_study(key.study):
            report = self._journal.reports.latest(row.key) if row.key != key else None
            if report is not None:
                number = self._number(row.key)
                found.append((number is None, number or 0, row.key, sentence(number, report)))
        return tuple(sentence for *_, sentence in sorted(found)[:MOST_OTHERS])

    def _number(self, key: SeriesKey) -> int | None:
        """Series Number (0020,0011) of the first image that has one."""
        for path in self._spool.instances(key).values():
            found = header(path, ("SeriesNumber",))
            if found is not None and found.get("SeriesNumber") is not None:
                return int(found.SeriesNumber)
        return None

    def _replacing(self, key: SeriesKey, report: Report, ordered: Ordered) -> str | Nothing:
        """What stands in the place of a report, as a text may name it."""
        if self._last_told(ordered.report_id) is None:
            return Nothing("nothing was composed of the report that is withdrawn")
        for row in self._journal.series.of_study(key.study):
            if self._naming.series(row.key) != ordered.by:
                continue
            digest = report.bundle.digest if report.bundle else None
            latest = self._journal.reports.latest(row.key, digest)
            if row.key == key and latest is not None and not is_set_aside(latest):
                return Nothing("a later report of the same series stands in its place")
            number = self._number(row.key)
            named = "ANOTHER SERIES" if number is None else f"SERIES {number}"
            return named if latest is None else f"{named}, REPORT {latest.report_id}"
        return "ANOTHER SERIES"


def header(file: Path | BinaryIO, keywords: Sequence[str] | None = None) -> Dataset | None:
    """A header up to the pixels, of these attributes alone or (None) whole; None where it is gone,
    cannot be read, or does not say which image it is of."""
    asked = None if keywords is None else ["SOPClassUID", "SOPInstanceUID", *keywords]
    try:
        found = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=asked)
    except (OSError, InvalidDicomError, ValueError, EOFError):
        return None
    return found if found.get("SOPClassUID") and found.get("SOPInstanceUID") else None


def _said_at(ordered: Ordered, report: Report, besides: Sequence[Beside]) -> datetime:
    """When the report was committed, or the comparison that a further one says."""
    for one in besides:
        said = one.kept.comparison
        if said.comparison_id == ordered.comparison and said.committed is not None:
            return said.committed
    return report.times.committed or datetime.now(timezone.utc)


def bodies(masks: Mapping[str, Mask]) -> dict[int, Mask]:
    """Finding -> its body, of all masks of a report by name."""
    return {
        int(name.removeprefix(FINDING)): mask
        for name, mask in masks.items()
        if name.startswith(FINDING)
    }


def sentence(number: int | None, report: Report) -> str:
    """What is said of another series of the study."""
    series = report.series
    named = "a series without a number" if number is None else f"series {number}"
    said = {
        Status.ANALYSED: "analysed",
        Status.NOT_ANALYSED: "not analysed",
        Status.FAILED: "analysis failed",
    }[report.status]
    why = "" if not report.reasons else f": {report.reasons[0].sentence()}"
    count = "1 image" if series.slices == 1 else f"{series.slices} images"
    return f"{named} ({series.modality or 'no modality'}, {count}), {said}{why}"
