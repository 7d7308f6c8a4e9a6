"""The child that composes: every order becomes a file, once, whatever ends it."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset

from appliance import line
from appliance.compose.child import Composer
from appliance.errors import StateUnusable
from appliance.reasons import Code
from appliance.report import Reason, SeriesKey, Stage
from appliance.results import pacs
from appliance.results.owed import Withdrawn
from appliance.results.sr import document
from appliance.store.delivery import State
from appliance.store.files import Disk
from appliance.work.conclude import Conclusions
from rigs import oblique
from rigs.composing import FOUND, Site
from rigs.cuts import Full

ALL = {"name": "pacs", "profile": ["sr", "seg", "sc"]}
TILT = Reason(code=Code.GANTRY_TILT, text="the gantry is tilted by 20 degrees")


class Killed(BaseException):
    """The process ends here."""


class Deadly(Disk):
    """A disk at whose n-th call the process ends, before or after it is done."""

    def __init__(self, calls: int, *, after: bool) -> None:
        self.left = calls
        self._after = after

    def write(self, path: Path, data: bytes) -> None:
        self.left -= 1
        if self.left == 0 and not self._after:
            raise Killed
        super().write(path, data)
        if self.left == 0:
            raise Killed


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path / "state", ALL)
    with made.journal:
        yield made


@pytest.fixture
def key(site: Site) -> SeriesKey:
    return site.store(oblique.series(oblique.POSES["oblique"]))


def objects(site: Site, archive: str = "pacs") -> dict[str, Dataset]:
    """What waits and was composed, by modality."""
    found = (pydicom.dcmread(io.BytesIO(site.data(row))) for row in site.rows(archive))
    return {str(one.Modality): one for one in found}


def owed(site: Site, key: SeriesKey) -> int:
    """How much keeps the images of a series from being deleted."""
    return next(kept.owed for kept in site.journal.kept() if kept.series.key == key)


def first_line(document: Dataset) -> str:
    """Of a text: its verdict."""
    return str(document.ContentSequence[0].ContentSequence[0].TextValue)


def test_every_object_of_a_report_becomes_a_file_that_its_row_names(
    site: Site, key: SeriesKey
) -> None:
    site.commit(key, FOUND)
    assert site.compose() == 3
    made = objects(site)
    assert made.keys() == {"SR", "SEG", "OT"}
    assert {one.StudyInstanceUID for one in made.values()} == {key.study}
    segment = made["SEG"].SegmentSequence[0]
    assert segment.TrackingUID == FOUND.tracking_uid
    evidence = made["SR"].CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
    named = {s.SeriesInstanceUID: len(s.ReferencedSOPSequence) for s in evidence}
    assert named == {key.series: oblique.SLICES, made["SEG"].SeriesInstanceUID: 1}
    assert not (site.settings.state / "outgoing" / key.series).exists()
    names = [path.name for path in (site.settings.state / "outgoing").iterdir()]
    assert len(names) == 3
    assert not any(key.series in name or key.study in name for name in names)


def test_the_images_need_not_wait_once_their_objects_are_composed(
    site: Site, key: SeriesKey
) -> None:
    site.commit(key, FOUND)
    said = len(site.rows("mqtt"))
    assert owed(site, key) == said + 3
    site.compose()
    assert owed(site, key) == said, "the broker's messages alone"


def test_two_archives_share_the_file_of_the_object_that_both_are_owed(tmp_path: Path) -> None:
    site = Site(tmp_path, ALL, {"name": "research", "profile": ["sr"]})
    with site.journal:
        site.commit(site.store(oblique.series(oblique.POSES["axial"])), FOUND)
        assert site.compose() == 3
        (shared,) = {row.file for row in site.rows("research")}
        assert shared in {row.file for row in site.rows("pacs")}


def test_an_archive_that_gets_no_segmentation_gets_a_report_that_names_none(
    tmp_path: Path,
) -> None:
    site = Site(tmp_path, {"name": "pacs", "profile": ["sr"]})
    with site.journal:
        site.commit(site.store(oblique.series(oblique.POSES["axial"])), FOUND)
        site.compose()
        (made,) = objects(site).values()
    evidence = made.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
    assert len(evidence) == 1


@pytest.mark.parametrize(
    ("write", "after"),
    [
        (1, False),
        (2, True),
        (3, False),
        *(pytest.param(*one, marks=pytest.mark.long) for one in ((1, True), (2, False), (3, True))),
    ],
)
def test_killed_at_any_write_it_makes_the_same_bytes_at_the_next_start(
    tmp_path: Path, write: int, after: bool
) -> None:
    whole, cut = Site(tmp_path / "whole", ALL), Site(tmp_path / "cut", ALL)
    with whole.journal, cut.journal:
        (tmp_path / "cut" / "site.key").write_bytes((tmp_path / "whole" / "site.key").read_bytes())
        cut = Site(tmp_path / "cut", ALL)
        for site in (whole, cut):
            site.commit(site.store(oblique.series(oblique.POSES["axial"])), FOUND)
        whole.compose()
        with pytest.raises(Killed):
            cut.compose(Deadly(write, after=after))
        cut.compose()
        both = [{row.key: site.data(row) for row in site.rows()} for site in (whole, cut)]
        assert both[0] == both[1]
        assert len(both[0]) == 3


def test_what_was_composed_once_is_never_made_anew(site: Site, key: SeriesKey) -> None:
    site.commit(key, FOUND)
    site.compose()
    before = {row.key: site.data(row) for row in site.rows()}
    assert site.compose() == 0
    assert {row.key: site.data(row) for row in site.rows()} == before


def test_a_refusal_is_as_visible_in_the_archive_as_a_finding(site: Site, key: SeriesKey) -> None:
    site.commit(key, reasons=[TILT])
    site.compose()
    made = objects(site)
    assert made.keys() == {"SR", "OT"}
    assert first_line(made["SR"]).startswith("NOT ANALYSED")


def test_without_a_frame_of_reference_there_is_no_segmentation_and_the_rest_is_sent(
    site: Site,
) -> None:
    images = oblique.series(oblique.POSES["axial"])
    for image in images:
        del image.FrameOfReferenceUID
    site.commit(site.store(images), FOUND)
    site.compose()
    assert objects(site).keys() == {"SR", "OT"}
    (dropped,) = site.journal.owed.listed(State.DROPPED)
    assert "Frame of Reference" in (dropped.last_error or "")


def test_a_later_revision_names_the_one_before_and_its_findings_keep_their_tracking_uid(
    site: Site, key: SeriesKey
) -> None:
    first = site.commit(key, FOUND)
    site.compose()
    before = objects(site)
    moved = FOUND.model_copy(update={"tracking_uid": "2.25.99", "center_lps_mm": near()})
    site.commit(key, moved, images="c" * 64, revision=2, before=first)
    site.compose()
    later = [pydicom.dcmread(io.BytesIO(site.data(row))) for row in site.rows()]
    (document,) = [
        one
        for one in later
        if one.Modality == "SR" and one.SOPInstanceUID != before["SR"].SOPInstanceUID
    ]
    assert document.SeriesInstanceUID == before["SR"].SeriesInstanceUID
    assert document.InstanceNumber > before["SR"].InstanceNumber
    (named,) = document.PredecessorDocumentsSequence[0].ReferencedSeriesSequence
    assert named.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == before["SR"].SOPInstanceUID
    segments = [one.SegmentSequence[0].TrackingUID for one in later if one.Modality == "SEG"]
    assert segments == [FOUND.tracking_uid] * 2


def near() -> tuple[float, float, float]:
    x, y, z = FOUND.place_lps_mm
    return x + 2, y, z


def test_a_report_in_whose_place_another_series_stands_is_withdrawn_in_its_own_series(
    site: Site, key: SeriesKey
) -> None:
    thick = site.commit(key, FOUND)
    site.compose()
    before = objects(site)
    thin_images = oblique.series(oblique.POSES["axial"], SeriesNumber=7)
    for image in thin_images:
        image.SeriesInstanceUID = f"{key.series}.1"
        image.SOPInstanceUID = f"{image.SOPInstanceUID}.1"
    thin = site.store(thin_images)
    site.commit(
        thin, FOUND, images="d" * 64, before=thick, withdraws=[Withdrawn(thick.report_id, 1, thin)]
    )
    site.compose()
    documents = [pydicom.dcmread(io.BytesIO(site.data(row))) for row in site.rows()]
    own = [one for one in documents if one.SeriesInstanceUID == before["SR"].SeriesInstanceUID]
    newest = min(own, key=lambda one: int(one.InstanceNumber))  # as sr/text.py numbers texts
    assert first_line(newest).startswith("WITHDRAWN: THIS REPORT IS REPLACED BY SERIES 7, REPORT")


def test_nothing_is_withdrawn_of_which_nothing_was_said(site: Site, key: SeriesKey) -> None:
    thick = site.commit(key, FOUND)
    again = thick.model_copy(update={"edition": 2})
    site.journal.commit_report(again, key, owed=(), series_state="analysed")
    other = site.store([moved(image, key) for image in oblique.series(oblique.POSES["axial"])])
    site.commit(other, FOUND, withdraws=[Withdrawn(thick.report_id, 1, other)], images="e" * 64)
    site.compose()
    withdrawn = [row for row in site.journal.owed.listed(State.DROPPED) if "withdrawn" in row.key]
    assert [row.last_error for row in withdrawn] == [
        "nothing was composed of the report that is withdrawn"
    ]


def moved(image: Dataset, key: SeriesKey) -> Dataset:
    """The same image in another series."""
    image.SeriesInstanceUID = f"{key.series}.1"
    image.SOPInstanceUID = f"{image.SOPInstanceUID}.1"
    return image


def test_a_preliminary_report_that_became_final_meanwhile_is_not_composed(tmp_path: Path) -> None:
    site = Site(tmp_path, {"name": "pacs", "when": "preliminary"})
    with site.journal:
        key = site.store(oblique.series(oblique.POSES["axial"]))
        site.commit(key, FOUND, stage=Stage.PRELIMINARY)
        site.commit(key, FOUND)
        site.compose()
        (made,) = objects(site).values()
        assert made.CompletionFlag == "COMPLETE"
        (dropped,) = site.journal.owed.listed(State.DROPPED)
        assert "preliminary" in dropped.key


def test_what_cannot_be_composed_is_dead_after_three_tries_and_keeps_no_image(
    site: Site, key: SeriesKey
) -> None:
    report = site.commit(key, FOUND)
    (site.settings.state / "reports" / str(report.report_id) / "finding-1.npz").write_bytes(b"?")
    for _ in range(3):
        assert len(site.rows()) == 3
        assert site.compose() == 0
    dead = site.journal.owed.listed(State.DEAD)
    assert [row.last_error or "" for row in dead] == [dead[0].last_error] * 3
    assert "not composed in 3 tries" in (dead[0].last_error or "")
    assert "finding-1.npz" in (dead[0].last_error or "")
    assert owed(site, key) == len(site.rows("mqtt"))


def test_an_object_that_ends_its_process_is_given_up_after_three_times(
    site: Site, key: SeriesKey
) -> None:
    site.commit(key, FOUND)
    culprit = site.rows()[0]
    for _ in range(3):
        hand = site.settings.state / "run" / "compose.hand"
        hand.parent.mkdir(exist_ok=True)
        hand.write_text(culprit.key)  # as a process leaves it that was killed
        site_rows = {row.key: row for row in site.rows()}
        assert site_rows[culprit.key].file is None
        Composer(site.settings, site.journal).recover()
    (dead,) = site.journal.owed.listed(State.DEAD)
    assert dead.key == culprit.key
    assert "ended its process" in (dead.last_error or "")


def test_the_process_itself_composes_and_says_nothing_of_the_patient(
    site: Site, key: SeriesKey
) -> None:
    site.commit(key, FOUND)
    done = subprocess.run(
        [sys.executable, "-m", "appliance.compose.child"],
        input=site.settings.model_dump_json(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "composed 3 objects" in done.stderr
    made = objects(site)
    assert made.keys() == {"SR", "SEG", "OT"}
    assert str(made["SR"].PatientName) not in done.stderr


def test_a_study_of_which_all_was_set_aside_gets_one_report_that_says_so(
    site: Site, key: SeriesKey
) -> None:
    scout = Reason(code=Code.LOCALIZER, text="Image Type says LOCALIZER")
    first = site.commit(key, reasons=[scout], state="set_aside")
    second = site.store([moved(image, key) for image in oblique.series(oblique.POSES["axial"])])
    site.commit(second, reasons=[scout], images="f" * 64, state="set_aside")
    assert site.rows() == [], "neither orders anything by itself"
    conclusions = Conclusions(site.settings, site.journal, site.spool)
    conclusions.owe_of_set_aside()
    assert site.rows() == [], "more may come: the last image is not ten minutes old"
    site.age(700)
    conclusions.owe_of_set_aside()
    conclusions.owe_of_set_aside()
    assert [row.key for row in site.rows()] == [
        f"{first.report_id} final 1 sr",
        f"{first.report_id} final 1 sc",
    ]
    site.compose()
    made = objects(site)["SR"]
    assert first_line(made).startswith("NOT ANALYSED")
    said = [str(i.TextValue) for i in made.ContentSequence[1].ContentSequence]
    assert any("series 1 (CT, 24 images), not analysed" in line for line in said)


def test_a_study_of_which_one_series_was_analysed_gets_no_report_of_the_others(
    site: Site, key: SeriesKey
) -> None:
    site.commit(key, FOUND)
    second = site.store([moved(image, key) for image in oblique.series(oblique.POSES["axial"])])
    scout = Reason(code=Code.LOCALIZER, text="Image Type says LOCALIZER")
    site.commit(second, reasons=[scout], images="f" * 64, state="set_aside")
    site.age(700)
    before = site.rows()
    Conclusions(site.settings, site.journal, site.spool).owe_of_set_aside()
    assert site.rows() == before


def test_what_comes_back_to_us_is_set_aside_and_nothing_is_said_of_it(
    site: Site, key: SeriesKey
) -> None:
    site.commit(key, FOUND)
    site.compose()
    for row in site.rows():
        result = line.process([site.data(row)], None, None)
        assert [reason.code for reason in result.reasons] == [Code.OWN_RESULT], row.key
    own = Reason(code=Code.OWN_RESULT, text="it is a result of this product")
    fetched = Site(site.settings.state.parent / "other", ALL)
    with fetched.journal:
        fetched.commit(
            fetched.store(oblique.series(oblique.POSES["axial"])), reasons=[own], state="set_aside"
        )
        fetched.age(700)
        Conclusions(fetched.settings, fetched.journal, fetched.spool).owe_of_set_aside()
        assert fetched.rows() == []


def test_a_report_whose_class_an_archive_refused_is_composed_in_the_older_class(
    site: Site, key: SeriesKey
) -> None:
    site.commit(key, FOUND)
    site.compose()
    (row,) = [row for row in site.rows() if row.key.endswith("sr")]
    before = pydicom.dcmread(io.BytesIO(site.data(row)))
    ordered = pacs.ordered(row.body)
    assert ordered is not None
    instead = pacs.older("pacs", row.key, ordered, key)
    assert instead is not None
    assert site.journal.order_instead("pacs", row.key, "0122", instead)
    assert site.compose() == 1
    (row,) = [row for row in site.rows() if row.key.endswith("older")]
    made = pydicom.dcmread(io.BytesIO(site.data(row)))
    assert made.SOPClassUID == document.COMPREHENSIVE
    assert made.SOPInstanceUID != before.SOPInstanceUID
    assert made.SeriesInstanceUID == before.SeriesInstanceUID
    assert made.ContentSequence == before.ContentSequence


def test_a_full_disk_costs_no_try_and_all_is_composed_once_there_is_room(
    site: Site, key: SeriesKey
) -> None:
    site.commit(key, FOUND)
    for _ in range(4):
        with pytest.raises(StateUnusable):
            site.compose(Full())
    assert [row.attempts for row in site.rows()] == [0, 0, 0]
    assert site.compose() == 3


def test_a_state_folder_that_was_moved_goes_on_with_the_same_objects(tmp_path: Path) -> None:
    one = {"name": "pacs", "profile": ["sr"]}
    site = Site(tmp_path / "here", one)
    with site.journal:
        key = site.store(oblique.series(oblique.POSES["axial"]))
        report = site.commit(key, FOUND)
        site.compose()
        before = {row.key: site.data(row) for row in site.rows()}
    (tmp_path / "here").rename(tmp_path / "there")
    moved = Site(tmp_path / "there", one)
    with moved.journal:
        assert {row.key: moved.data(row) for row in moved.rows()} == before
        later = moved.commit(key, FOUND, images="c" * 64, revision=2, before=report)
        assert moved.compose() == 1
        (row,) = [row for row in moved.rows() if str(later.report_id) in row.key]
        (named,) = pydicom.dcmread(io.BytesIO(moved.data(row))).PredecessorDocumentsSequence
        (first,) = (pydicom.dcmread(io.BytesIO(data)) for data in before.values())
        assert named.StudyInstanceUID == first.StudyInstanceUID == key.study


def test_a_series_whose_images_are_gone_is_said_so_and_leaves_nothing_waiting(
    site: Site, key: SeriesKey
) -> None:
    site.commit(key, FOUND)
    site.spool.delete(key)
    for _ in range(3):
        site.compose()
    dead = site.journal.owed.listed(State.DEAD)
    assert len(dead) == 3
    assert all("needs an image that was analysed" in (row.last_error or "") for row in dead)
