"""What an archive gets after what it has: predecessors, and rejection notes."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset

from appliance import line
from appliance.reasons import Code
from appliance.report import Report, SeriesKey, Stage
from appliance.results import pacs
from appliance.results.note import KEY_OBJECTS
from appliance.results.owed import Withdrawn
from appliance.results.sr.document import COMPREHENSIVE, COMPREHENSIVE_3D
from appliance.store.delivery import State
from rigs import oblique
from rigs.composing import BUNDLE, FOUND, Site

NOTES = {"profile": ["sr"], "rejection_note": True}


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """One archive takes no Comprehensive 3D SR, the other one does."""
    made = Site(tmp_path / "state", {"name": "old", **NOTES}, {"name": "new", **NOTES})
    with made.journal:
        yield made


@pytest.fixture
def key(site: Site) -> SeriesKey:
    return site.store(oblique.series(oblique.POSES["oblique"]))


def read(site: Site, archive: str, ends: str) -> list[Dataset]:
    """What an archive was owed and was composed under keys that end so, in order."""
    rows = site.journal.owed.with_files("outgoing/")
    mine = [row for row in rows if row.destination == archive and row.key.endswith(ends)]
    return [pydicom.dcmread(io.BytesIO(site.data(row))) for row in mine]


def refuse_3d(site: Site, archive: str = "old") -> None:
    """As `deliver` does where the archive refuses the class of all that waits, and is sent what is
    composed then."""
    for row in site.rows(archive):
        one = pacs.ordered(row.body)
        is_3d = row.file and pydicom.dcmread(
            io.BytesIO(site.data(row)), specific_tags=["SOPClassUID"]
        )
        if one is None or not is_3d or is_3d.SOPClassUID != COMPREHENSIVE_3D:
            continue
        series = site.journal.reports.series_of(one.report_id)
        assert series is not None
        instead = pacs.older(archive, row.key, one, series)
        assert instead is not None
        assert site.journal.order_instead(archive, row.key, "0122", instead)
    site.compose()


def deliver(site: Site) -> None:
    for name in ("old", "new"):
        site.journal.owed.ack(name, [row.key for row in site.rows(name)])


def revised(site: Site, key: SeriesKey, before: Report, revision: int) -> Report:
    report = site.commit(
        key, FOUND, images=str(revision) * 64, revision=revision, before=before
    )  # fmt: skip
    site.compose()
    refuse_3d(site)
    deliver(site)
    return report


def predecessor(one: Dataset) -> tuple[str, str]:
    (series,) = one.PredecessorDocumentsSequence[0].ReferencedSeriesSequence
    (named,) = series.ReferencedSOPSequence
    return named.ReferencedSOPClassUID, named.ReferencedSOPInstanceUID


def test_a_revision_names_the_report_before_in_the_class_in_which_the_archive_has_it(
    site: Site, key: SeriesKey
) -> None:
    report = site.commit(key, FOUND)
    site.compose()
    refuse_3d(site)
    deliver(site)
    for revision in (2, 3, 4):
        report = revised(site, key, report, revision)
    old, new = read(site, "old", "final 1 sr older"), read(site, "new", "final 1 sr")
    for archive, sop_class in ((old, COMPREHENSIVE), (new, COMPREHENSIVE_3D)):
        assert [one.SOPClassUID for one in archive] == [sop_class] * 4
        chain = [(one.SOPClassUID, one.SOPInstanceUID) for one in archive]
        assert [predecessor(one) for one in archive[1:]] == chain[:-1]
    uids = [one.SOPInstanceUID for one in (*old, *new)]
    assert len(set(uids)) == 8, "no UID stands for two objects"
    assert len({one.SeriesInstanceUID for one in (*old, *new)}) == 1


def withdraw(site: Site, key: SeriesKey, report: Report) -> None:
    """Another series stands in its place."""
    images = oblique.series(oblique.POSES["axial"], SeriesNumber=7)
    for image in images:
        image.SeriesInstanceUID = f"{key.series}.1"
        image.SOPInstanceUID = f"{image.SOPInstanceUID}.1"
    thin = site.store(images)
    withdraws = [Withdrawn(report.report_id, 1, thin)]
    site.commit(thin, FOUND, images="d" * 64, before=report, withdraws=withdraws)
    site.compose()


def rejected(one: Dataset) -> list[tuple[str, str]]:
    named = [item.ReferencedSOPSequence[0] for item in one.ContentSequence[1:]]
    return [(item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID) for item in named]


def test_a_withdrawn_report_is_rejected_after_the_text_in_the_class_in_which_the_archive_has_it(
    site: Site, key: SeriesKey
) -> None:
    report = site.commit(key, FOUND)
    site.compose()
    refuse_3d(site)
    deliver(site)
    withdraw(site, key, report)
    for archive, ends, sop_class in (
        ("old", "final 1 sr older", COMPREHENSIVE),
        ("new", "final 1 sr", COMPREHENSIVE_3D),
    ):
        first = read(site, archive, ends)[0]
        (text,), (note,) = read(site, archive, "withdrawn 1 sr"), read(site, archive, " note")
        assert note.SOPClassUID == KEY_OBJECTS
        assert rejected(note) == [(sop_class, first.SOPInstanceUID)] == [predecessor(text)]
        keys = [row.key for row in site.rows(archive) if "withdrawn" in row.key]
        assert [one.split(" ")[-1] for one in keys] == ["sr", "note"], "the text goes first"
        (data,) = [site.data(row) for row in site.rows(archive) if row.key.endswith(" note")]
        result = line.process([data], None, None)
        assert [reason.code for reason in result.reasons] == [Code.OWN_RESULT]


def test_reports_that_wait_together_are_composed_in_the_order_in_which_they_were_made(
    site: Site, key: SeriesKey
) -> None:
    first = site.commit(key, FOUND, images="c" * 64)
    ids = {f"{n:064x}": site.naming.report(key, BUNDLE.digest, f"{n:064x}") for n in range(99)}
    images = min(ids, key=lambda one: ids[one])
    assert str(ids[images]) < str(first.report_id), "by name it would be composed before"
    later = site.commit(key, FOUND, images=images, revision=2, before=first)
    site.compose()
    before, after = read(site, "new", "final 1 sr")
    assert later.supersedes == first.report_id
    assert predecessor(after) == (before.SOPClassUID, before.SOPInstanceUID)


def test_a_preliminary_report_is_rejected_too_where_the_archive_has_it(tmp_path: Path) -> None:
    both = {"name": "new", "when": "preliminary", **NOTES}
    site = Site(tmp_path / "state", {"name": "old", **NOTES}, both)
    with site.journal:
        key = site.store(oblique.series(oblique.POSES["oblique"]))
        for stage in (Stage.PRELIMINARY, Stage.FINAL):
            report = site.commit(key, FOUND, stage=stage)
            site.compose()
            deliver(site)
        withdraw(site, key, report)
        (old,), (new,) = read(site, "old", " note"), read(site, "new", " note")
        assert len(rejected(old)) == 1
        assert len(rejected(new)) == 2
        assert old.SOPInstanceUID != new.SOPInstanceUID


def test_a_preliminary_report_is_no_predecessor_where_the_archive_did_not_ask_for_it(
    tmp_path: Path,
) -> None:
    both = {"name": "new", "when": "preliminary", "profile": ["sr"]}
    site = Site(tmp_path / "state", {"name": "old", "profile": ["sr"]}, both)
    with site.journal:
        key = site.store(oblique.series(oblique.POSES["oblique"]))
        first = site.commit(key, FOUND)
        site.compose()
        deliver(site)
        for stage in (Stage.PRELIMINARY, Stage.FINAL):
            site.commit(key, FOUND, stage=stage, images="c" * 64, revision=2, before=first)
            site.compose()
            deliver(site)
        old, new = read(site, "old", " sr"), read(site, "new", " sr")
        assert (len(old), len(new)) == (2, 3)
        assert old[0].SOPInstanceUID == new[0].SOPInstanceUID
        assert predecessor(old[1])[1] == old[0].SOPInstanceUID
        assert [predecessor(one)[1] for one in new[1:]] == [one.SOPInstanceUID for one in new[:2]]
        assert old[1].SOPInstanceUID != new[2].SOPInstanceUID, "they say something else"


def test_no_report_is_rejected_that_the_archive_never_took(site: Site, key: SeriesKey) -> None:
    report = site.commit(key, FOUND)
    site.compose()
    site.journal.owed.never("old", f"{report.report_id} final 1 sr", "0xA900")
    withdraw(site, key, report)
    assert read(site, "old", " note") == []
    (dropped,) = site.journal.owed.listed(State.DROPPED)
    assert (dropped.destination, dropped.key) == ("old", f"{report.report_id} withdrawn 1 note")
    assert dropped.last_error == "the archive has no report to reject"
    assert len(read(site, "new", " note")) == 1


def test_without_the_line_in_the_settings_nothing_is_rejected(tmp_path: Path) -> None:
    site = Site(tmp_path / "state", {"name": "new", "profile": ["sr"]})
    with site.journal:
        key = site.store(oblique.series(oblique.POSES["oblique"]))
        withdraw(site, key, site.commit(key, FOUND))
        assert not [row for row in site.rows("new") if row.key.endswith("note")]
