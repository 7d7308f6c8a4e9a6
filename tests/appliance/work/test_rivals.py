"""Which series of a study stand, by what the journal holds: the same for every order of arrival."""

from __future__ import annotations

import json
import math
import sqlite3
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from appliance.bundle import archive
from appliance.naming import Naming
from appliance.phantom.chest import Phantom
from appliance.reasons import Code
from appliance.report import Report, SeriesKey, Stage, Status
from appliance.results.mqtt import Envelope
from appliance.runtime.bundles import OpenBundles
from appliance.store.events import ImagesSetAside
from appliance.store.journal import JOURNAL_NAME, Journal, Manner
from appliance.store.site_key import site_key
from appliance.store.spool import Spool
from appliance.verbs import analyze
from appliance.work.stage import Work
from rigs.chests import Dicom, Slices
from rigs.device import Device

STUDY = "1.2.9"
THIN, THICK, LOWER, RIGHT = (f"{STUDY}.{n}" for n in (1, 2, 3, 4))
HALF_MM = 76.0
"""The whole scan reaches so far up and down."""
STEPS = {THIN: 2.0, THICK: 4.0, LOWER: 1.0, RIGHT: 1.0}
BALLS = ((0, 0, 60), (10, 20, -60), (-20, -30, 80), (24, 10, 50), (-40, 5, -70))


def scan(dicom: Dicom, uid: str, degrees: float = 0.0, study: str = STUDY) -> Slices:
    """A small chest with five balls in its lungs; its images stand so many degrees off the axial
    plane. LOWER and RIGHT are a half of it."""
    step = STEPS[uid]
    z = np.arange(-HALF_MM, (0.0 if uid == LOWER else HALF_MM) + step / 2, step)
    pixels = (np.arange(60) - 29.5) * 5.0
    columns = pixels[:30] if uid == RIGHT else pixels
    zs, ys, xs = np.meshgrid(z, pixels, columns, indexing="ij")
    hu = np.full(zs.shape, -1000, np.int16)
    hu[(xs / 140) ** 2 + (ys / 110) ** 2 < 1] = 40
    for side in (-1, 1):
        hu[((xs - 70 * side) / 55) ** 2 + (ys / 80) ** 2 + (zs / 60) ** 2 < 1] = -800
    for dz, dy, dx in BALLS:
        hu[(xs - dx) ** 2 + (ys - dy) ** 2 + (zs - dz) ** 2 < 9**2] = 40
    hu += np.random.default_rng(1).integers(-10, 10, hu.shape).astype(np.int16)
    phantom = Phantom(hu, (step, 5.0, 5.0), (float(columns[0]), -147.5, float(z[0])), ())
    images = dicom.series(
        phantom, study_uid=study, series_uid=uid, FrameOfReferenceUID=f"{study}.9"
    )
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    for image in images:
        along = float(image.ImagePositionPatient[2])
        y, up = -147.5 * cos - along * sin, -147.5 * sin + along * cos
        dicom.say(
            image,
            ImageOrientationPatient=[1, 0, 0, 0, round(cos, 8), round(sin, 8)],
            ImagePositionPatient=[float(columns[0]), round(y, 4), round(up, 4)],
        )
    return images


class Box:
    """A device whose series come one after the other, each judged before the next."""

    def __init__(self, device: Device, journal: Journal, dicom: Dicom, files: Path) -> None:
        self.device, self.journal, self.dicom, self.files = device, journal, dicom, files
        self.spool = Spool(device.settings.state)
        self.bundles = OpenBundles(device.settings)

    def named(self, uid: str) -> str:
        """What a series is called outside the device."""
        naming = Naming(site_key(self.device.settings.state))
        return str(naming.series(SeriesKey(STUDY, uid)))

    def put(self, uid: str, images: Slices, study: str = STUDY) -> None:
        folder = self.spool.folder(SeriesKey(study, uid))
        folder.mkdir(parents=True, exist_ok=True)
        for image in images:
            (folder / f"{image.SOPInstanceUID}.dcm").write_bytes(self.dicom.bytes(image))
        self.dicom.write(images, self.files / f"{uid} {len(list(folder.iterdir()))}")

    def serve(self) -> None:
        work = Work(self.device.settings, self.journal, self.spool, self.bundles)
        work.refresh()
        work.look_everywhere()
        while work.busy or work.wait_s() == 0:
            work.take_turn()

    def come(self, *uids: str, degrees: float = 0.0) -> None:
        for uid in uids:
            self.put(uid, scan(self.dicom, uid, degrees))
            self.serve()

    def spoil(self, uid: str) -> None:
        """One more image of it, of another frame of reference: the series is refused."""
        image = scan(self.dicom, uid)[0]
        image = self.dicom.say(image, SOPInstanceUID=f"{uid}.999", FrameOfReferenceUID="1.2.8")
        self.put(uid, [image])
        self.serve()

    def damage(self) -> None:
        """A page of the journal is lost while the stages are down, and they start again."""
        self.journal.close()
        path = self.device.settings.state / JOURNAL_NAME
        data = bytearray(path.read_bytes())
        data[100:2048] = bytes(1948)
        path.write_bytes(data)
        self.journal = Journal.open(self.device.settings.state, manner=Manner.MEND)

    def said(self) -> dict[str, Report]:
        """The latest report of each series."""
        digest = self.bundles.all[0].digest
        found = {
            row.series_uid: self.journal.reports.latest(row.key, digest)
            for row in self.journal.series.of_study(STUDY)
        }
        return {uid: report for uid, report in found.items() if report is not None}

    def standing(self) -> set[str]:
        return {uid for uid, report in self.said().items() if report.status is Status.ANALYSED}

    def messages(self) -> list[dict[str, Any]]:
        rows = self.journal.owed.waiting("mqtt", 1000)
        return [json.loads(Envelope.model_validate_json(r.body or b"").payload) for r in rows]

    def events(self, uid: str) -> list[tuple[str, int]]:
        """What was said of the reports of a series, in order: event and edition."""
        named, found = self.named(uid), []
        ids = {str(r.report_id) for r in self.journal.reports.of_study(STUDY)}
        own = {m["report"]["report_id"] for m in self.messages()
               if m["type"] == "study" and m["report"] and m["series"] == named} & ids  # fmt: skip
        for m in self.messages():
            if m["type"] == "study" and m["event"] == "superseded":
                if m["withdrawn_report_id"] in own:
                    found.append(("superseded", 0))
            elif m["type"] == "study" and m["report"] and m["series"] == named:
                found.append((m["event"], m["report"]["edition"]))
        return [one for one in found if one[0] != "preliminary"]


@pytest.fixture
def box(site: Device, dicom: Dicom, tiny_bytes: bytes, tmp_path: Path) -> Iterator[Box]:
    accepts = json.loads(archive.read(tiny_bytes)["manifest.json"])["accepts"]
    site.activate(accepts={**accepts, "cover_mm": 70.0, "organ_ml": 100.0})
    made = Box(site, Journal.open(site.settings.state), dicom, tmp_path / "files")
    yield made
    made.bundles.close()
    made.journal.close()


def codes(report: Report) -> list[Code]:
    return [reason.code for reason in report.limitations]


def names(report: Report) -> str:
    return " ".join(r.text for r in report.limitations if r.code is Code.ALSO_SHOWN_IN)


@pytest.mark.parametrize(
    ("order", "degrees", "stands"),
    [
        ((THICK, THIN), 0.0, {THIN}),
        ((THIN, THICK), 15.0, {THIN}),
        ((LOWER, THICK), 0.0, {THICK, LOWER}),
        ((THICK, RIGHT), 0.0, {THICK, RIGHT}),
        ((LOWER, THICK, RIGHT, THIN), 0.0, {THIN, LOWER, RIGHT}),
        *(
            pytest.param(order, degrees, stands, marks=pytest.mark.long)
            for order, degrees, stands in (
                ((THIN, THICK), 0.0, {THIN}),
                ((THICK, THIN), 15.0, {THIN}),
                ((THICK, LOWER), 0.0, {THICK, LOWER}),
                ((RIGHT, THICK), 0.0, {THICK, RIGHT}),
                ((THICK, LOWER), 15.0, {THICK, LOWER}),
                ((THIN, RIGHT, LOWER, THICK), 0.0, {THIN, LOWER, RIGHT}),
                ((THICK, LOWER, THIN, RIGHT), 0.0, {THIN, LOWER, RIGHT}),
            )
        ),
    ],
)
def test_the_journal_says_what_analyze_says_whichever_series_came_first(
    box: Box, order: tuple[str, ...], degrees: float, stands: set[str]
) -> None:
    box.come(*order, degrees=degrees)
    assert box.standing() == stands
    now = {report.report_id: report for report in box.said().values()}
    then = {r.report_id: r for r in analyze.analyze(box.files, box.device.settings)}
    assert now.keys() == then.keys()
    for one, report in now.items():
        assert report.same_as(then[one]), report.coverage
    for uid, report in box.said().items():
        others = stands - {uid} if uid in stands else set()
        assert codes(report).count(Code.ALSO_SHOWN_IN) == len(others)
        assert all(box.named(other) in names(report) for other in others)


@pytest.mark.long
def test_a_part_that_comes_later_withdraws_nothing_and_each_report_names_the_other(
    box: Box,
) -> None:
    box.come(THICK)
    first = box.said()[THICK]
    assert first.findings
    box.come(LOWER)
    assert box.events(THICK) == [("analysed", 1), ("analysed", 2)]
    assert box.events(LOWER) == [("analysed", 1)]
    again = box.said()[THICK]
    assert (again.report_id, again.findings) == (first.report_id, first.findings)
    assert (again.edition, again.revision) == (2, first.revision)
    found = [m for m in box.messages() if m["type"] == "finding"]
    own = [m for m in found if m["report_id"] == str(first.report_id)]
    assert len(own) == len(first.findings), "its findings are not repeated"
    every = [m["event_id"] for m in box.messages()]
    assert len(set(every)) == len(every)


def test_of_a_series_that_is_beaten_from_the_start_no_finding_is_said(box: Box) -> None:
    box.come(THIN, THICK)
    assert box.events(THICK) == [("not_analysed", 1)]
    beaten = box.said()[THICK]
    assert [reason.code for reason in beaten.reasons] == [Code.BETTER_SERIES]
    assert all(
        m["report_id"] != str(beaten.report_id) for m in box.messages() if m["type"] == "finding"
    )
    row = box.journal.series.get(SeriesKey(STUDY, THICK))
    assert row
    assert row.state == "set_aside"


def test_a_series_stands_again_where_the_one_in_its_place_is_refused_later(box: Box) -> None:
    box.come(THIN, THICK)
    box.spoil(THIN)
    assert box.standing() == {THICK}
    assert box.events(THICK) == [("not_analysed", 1), ("analysed", 2)]
    report = box.said()[THICK]
    found = [m for m in box.messages() if m["type"] == "finding"]
    own = [m for m in found if m["report_id"] == str(report.report_id)]
    assert len(own) == len(report.findings) > 0
    row = box.journal.series.get(SeriesKey(STUDY, THICK))
    assert row
    assert row.state == "analysed"


@pytest.mark.long
def test_what_was_withdrawn_and_said_again_can_be_withdrawn_again(box: Box) -> None:
    box.come(THICK, THIN)
    assert box.events(THICK) == [("analysed", 1), ("superseded", 0)]
    first = box.said()[THIN]
    assert first.supersedes == box.said()[THICK].report_id
    box.spoil(THIN)
    again = [("analysed", 1), ("superseded", 0), ("analysed", 3)]
    assert box.events(THICK) == again
    images = scan(box.dicom, THIN)
    for image in images:
        box.dicom.say(
            image, SeriesInstanceUID=f"{STUDY}.8", SOPInstanceUID=f"{image.SOPInstanceUID}.8"
        )
    box.put(f"{STUDY}.8", images)
    box.serve()
    assert box.standing() == {f"{STUDY}.8"}
    assert box.events(THICK) == [*again, ("superseded", 0)], "a consumer must not drop it"


@pytest.mark.long
def test_a_report_of_before_stands_beside_whatever_comes(box: Box) -> None:
    """It says neither how far the lungs reach nor in which edition it is."""
    box.come(THICK)
    report = box.said()[THICK]
    (box.device.settings.state / "reports" / str(report.report_id) / "compared.json").unlink()
    gone = ["$.edition", *(f"$.coverage.{n}" for n in ("lungs_z_mm", "sides", "fov_mm"))]
    with sqlite3.connect(box.device.settings.state / JOURNAL_NAME) as db:
        db.execute("UPDATE reports SET json = json_remove(json, ?, ?, ?, ?)", gone)
    assert box.said()[THICK].coverage.lungs_z_mm is None
    box.come(THIN)
    assert box.standing() == {THIN, THICK}
    assert box.named(THICK) in names(box.said()[THIN])
    assert box.named(THIN) in names(box.said()[THICK])


@pytest.mark.long
def test_a_restart_and_a_resend_change_nothing(box: Box) -> None:
    box.come(THICK, LOWER, THIN)
    before, messages = box.said(), box.messages()
    for uid in (THICK, LOWER, THIN):
        box.journal.series.set(SeriesKey(STUDY, uid), "open")
    box.serve()
    assert box.said() == before
    assert box.messages() == messages


@pytest.mark.long
def test_a_series_that_is_likely_to_be_beaten_comes_after_all_others(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    box.come(THIN)
    taken: list[SeriesKey] = []
    commit: Callable[..., None] = Journal.commit_report

    def noted(journal: Journal, report: Report, key: SeriesKey, **more: Any) -> None:
        taken.append(key)
        commit(journal, report, key, **more)

    monkeypatch.setattr(Journal, "commit_report", noted)
    for study in ("1.1.9", "1.3.9"):  # one is found before it, one after
        images = scan(box.dicom, THIN, study=study)
        for image in images:
            box.dicom.say(image, SeriesInstanceUID=f"{study}.1")
        box.put(f"{study}.1", images, study)
    box.put(THICK, scan(box.dicom, THICK))
    box.serve()
    assert [key.study for key in dict.fromkeys(taken)] == ["1.1.9", "1.3.9", STUDY]


@pytest.mark.long
def test_what_stands_again_is_withdrawn_again_by_its_own_next_revision(box: Box) -> None:
    box.come(THICK, THIN)
    box.spoil(THIN)
    again = [("analysed", 1), ("superseded", 0), ("analysed", 3)]
    assert box.events(THICK) == again
    box.spoil(THICK)
    assert box.events(THICK) == [*again, ("superseded", 0), ("not_analysed", 1)]


def test_after_a_damage_of_the_journal_editions_go_on_and_each_is_owed_once(box: Box) -> None:
    box.come(THICK, THIN)
    box.damage()
    assert box.standing() == {THIN}
    box.serve()
    box.spoil(THIN)
    box.damage()
    assert box.events(THICK) == [("analysed", 1), ("superseded", 0), ("analysed", 3)]
    box.come(LOWER)
    box.damage()
    box.serve()
    assert box.standing() == {THICK, LOWER}
    again = [("analysed", 1), ("superseded", 0), ("analysed", 3), ("analysed", 4)]
    assert box.events(THICK) == again
    assert box.said()[THICK].edition == 4
    every = [m["event_id"] for m in box.messages()]
    assert len(set(every)) == len(every)


def test_a_foreign_image_that_comes_late_to_a_beaten_series_is_told_too(box: Box) -> None:
    box.come(THIN, THICK)
    scout = box.dicom.say(
        scan(box.dicom, THICK)[0], SOPInstanceUID=f"{THICK}.999", InstanceNumber=999,
        ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"],
    )  # fmt: skip
    box.put(THICK, [scout])
    box.serve()
    (happened,) = box.journal.events.of(ImagesSetAside)
    assert "image 999: it is a localizer" in happened.event.text
    assert box.events(THICK) == [("not_analysed", 1)]
    box.spoil(THIN)
    assert box.standing() == {THICK}
    assert len(box.journal.events.of(ImagesSetAside)) == 1


def test_what_stands_again_keeps_the_names_of_its_findings(box: Box) -> None:
    """Also where it is analysed anew for it: a report of before the site key named others."""
    box.come(THICK)
    with sqlite3.connect(box.device.settings.state / JOURNAL_NAME) as db:
        db.execute(
            "UPDATE reports SET json = json_set(json, '$.findings[0].tracking_uid', '2.25.7')"
        )
    first = box.said()[THICK]
    assert first.findings[0].tracking_uid == "2.25.7"
    box.come(THIN)
    early = {"report_id": uuid.uuid4(), "revision": 2, "stage": Stage.PRELIMINARY}
    again = box.said()[THIN].model_copy(update=early)
    box.journal.commit_report(again, SeriesKey(STUDY, THIN), owed=[], series_state="open")
    box.journal.series.set(SeriesKey(STUDY, THICK), "open")
    box.spool.folder(SeriesKey(STUDY, THIN)).rename(box.files / "away")
    box.serve()
    assert THICK in box.standing()
    assert box.said()[THICK].findings == first.findings
