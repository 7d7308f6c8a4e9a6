"""What is committed: a report that the release before began, and one UID under two studies."""

from __future__ import annotations

import json
import time
import uuid
from datetime import datetime, timezone
from pathlib import Path

import pytest

from appliance.lines.choose import Chosen
from appliance.naming import Naming
from appliance.reasons import SET_ASIDE, Code
from appliance.report import Record, Report, SeriesKey, Stage, Status
from appliance.results import mqtt
from appliance.results.message import FindingMessage, Outgoing, StudyEvent
from appliance.retain.stage import run_once
from appliance.room.check import RoomCheck
from appliance.runtime.bundles import OpenBundles
from appliance.series import select
from appliance.settings import Retain, Settings
from appliance.store.journal import Journal
from appliance.store.kept import QUALITY, ROOM, keep_record, kept_record
from appliance.store.site_key import site_key
from appliance.store.spool import Spool
from appliance.verbs.analyze import analyze
from appliance.watching.quality import SeriesQuality
from appliance.work.conclude import Conclusions
from appliance.work.followed import Followed
from appliance.work.stage import Work
from rigs.chests import Dicom, Slices
from rigs.device import Device

NOON = datetime(2026, 1, 2, 12, tzinfo=timezone.utc)


def unkeyed(text: str) -> uuid.UUID:
    """An id as the release before made them: of public words alone."""
    return uuid.uuid5(uuid.UUID("22b1fc4c-6d21-5c2d-9f06-0d9a38c9b4a5"), text)


def as_before(report: Report) -> Report:
    """The same report, preliminary, with the ids of the release before."""
    findings = tuple(
        finding.model_copy(update={"tracking_uid": f"2.25.{unkeyed(str(finding.id)).int}"})
        for finding in report.findings
    )
    changes = {"stage": Stage.PRELIMINARY, "report_id": unkeyed("report"), "findings": findings}
    return report.model_copy(update=changes)


def messages_of(report: Report, series: uuid.UUID) -> list[Outgoing]:
    """What the release before said of it."""
    study = report.study.pseudonym
    said = StudyEvent(
        event_id=unkeyed("preliminary"), at=NOON, event="preliminary", study=study,
        series=series, report=report,
    )  # fmt: skip
    assert report.bundle is not None
    findings = [
        FindingMessage(
            event_id=unkeyed(f"finding {finding.id}"), at=NOON, report_id=report.report_id,
            study=study, stage=report.stage, finding=finding, bundle=report.bundle,
        )
        for finding in report.findings
    ]  # fmt: skip
    event = Outgoing(topic=f"study/{study}/event", qos=1, message=said)
    return [event, *(Outgoing(topic="finding/routine", qos=1, message=one) for one in findings)]


@pytest.fixture
def key(slices: Slices) -> SeriesKey:
    return SeriesKey(slices[0].StudyInstanceUID, slices[0].SeriesInstanceUID)


def arrive(device: Device, dicom: Dicom, slices: Slices) -> None:
    spool = Spool(device.settings.state)
    for ds in slices:
        temp = spool.incoming_path()
        temp.write_bytes(dicom.bytes(ds))
        spool.store(
            temp, ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.SOPInstanceUID, lambda *_: False
        )


def work_until_final(device: Device, journal: Journal, key: SeriesKey) -> Report:
    bundles = OpenBundles(device.settings)
    bundles.refresh()
    work = Work(device.settings, journal, Spool(device.settings.state), bundles)
    work.look_everywhere()
    assert list(work.following) == [key]
    end = time.monotonic() + 120
    while work.following and time.monotonic() < end:
        work.take_turn()
        time.sleep(min(0.05, work.wait_s()))
    bundles.close()
    report = journal.reports.latest(key)
    assert report is not None
    assert report.stage is Stage.FINAL
    return report


def test_a_preliminary_report_of_before_is_completed_under_its_id_and_no_finding_is_said_twice(
    ready_site: Device, dicom: Dicom, slices: Slices, key: SeriesKey
) -> None:
    state = ready_site.settings.state
    arrive(ready_site, dicom, slices)
    (now,) = analyze(state / "spool", ready_site.settings)
    before = as_before(now)
    assert before.findings
    naming = Naming(site_key(state))
    with Journal.open(state) as journal:
        said = [mqtt.enveloped(one, key) for one in messages_of(before, naming.series(key))]
        journal.commit_report(before, key, owed=said, series_state="open")
        final = work_until_final(ready_site, journal, key)
        rows = journal.owed.of_study("mqtt", key.study)

    assert final.report_id == before.report_id
    assert final.findings == before.findings
    assert (final.revision, final.supersedes) == (1, None)
    assert final.same_as(before.model_copy(update={"stage": Stage.FINAL}))
    payloads = [
        json.loads(mqtt.Envelope.model_validate_json(row.body or b"").payload) for row in rows
    ]
    events = [one["event"] for one in payloads if one["type"] == "study"]
    assert events == ["preliminary", "received", "complete", "analysed", "checked"]
    findings = [one["finding"]["id"] for one in payloads if one["type"] == "finding"]
    assert findings == [finding.id for finding in before.findings]
    again = [row.key for row in rows if mqtt.is_about(row.body, final)]
    assert len(again) == 2 + len(findings), "event, findings and check are sent again if asked"


def test_the_check_is_kept_and_comes_after_the_findings_of_each_stage(
    ready_site: Device, dicom: Dicom, slices: Slices, key: SeriesKey
) -> None:
    """Preliminary, then final: in the outbox the check is behind all that its report says."""
    state = ready_site.settings.state
    arrive(ready_site, dicom, slices)
    bundles = OpenBundles(ready_site.settings)
    (opened,) = bundles.refresh()
    followed = Followed(key)
    followed.begin(None, Chosen((opened,)))
    for number, ds in enumerate(slices):
        followed.add(ds.SOPInstanceUID, dicom.bytes(ds), at=5.0 + number, tick=5.0 + number)
    with Journal.open(state) as journal:
        said = Conclusions(ready_site.settings, journal, Spool(state))
        said.preliminary(followed, opened.digest)
        first = journal.reports.latest(key)
        assert first is not None
        early = kept_record(state, first.report_id, ROOM, RoomCheck)
        said.final(followed, opened.digest, (select.reused_uid(),))
        rows = journal.owed.of_study("mqtt", key.study)
    bundles.close()
    payloads = [
        json.loads(mqtt.Envelope.model_validate_json(row.body or b"").payload) for row in rows
    ]
    types = [p["event"] if p["type"] == "study" else p["type"] for p in payloads]
    found = ["finding"] * len(first.findings)
    assert found
    assert types == ["preliminary", *found, "checked", "analysed", "checked"]
    assert [p["seq"] for p in payloads] == sorted(p["seq"] for p in payloads)
    checks = [p["checked"] for p in payloads if p.get("checked")]
    assert [one["stage"] for one in checks] == ["preliminary", "final"]
    assert early is not None
    assert early.values is not None
    assert [RoomCheck.model_validate(one["check"]) for one in checks] == [early, early]
    assert not {"room", "flags", "noise_hu"} & first.model_dump().keys(), "no part of a report"


def test_what_was_measured_is_kept_after_the_findings_are_on_their_way_and_sent_nowhere(
    ready_site: Device,
    dicom: Dicom,
    slices: Slices,
    key: SeriesKey,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After a preliminary report; where the process ended before that, before the final one."""
    state = ready_site.settings.state
    for ds in slices:
        ds.DeviceSerialNumber = "SN-4711"
    arrive(ready_site, dicom, slices)
    bundles = OpenBundles(ready_site.settings)
    (opened,) = bundles.refresh()
    followed = Followed(key)
    followed.begin(None, Chosen((opened,)))
    for number, ds in enumerate(slices):
        followed.add(ds.SOPInstanceUID, dicom.bytes(ds), at=5.0 + number, tick=5.0 + number)
    kept: list[tuple[str, bool]] = []

    def noted(path: Path, report_id: uuid.UUID, name: str, record: Record) -> None:
        committed = journal.reports.latest(key)
        kept.append((name, committed is not None))
        keep_record(path, report_id, name, record)

    monkeypatch.setattr("appliance.work.conclude.keep_record", noted)
    with Journal.open(state) as journal:
        said = Conclusions(ready_site.settings, journal, Spool(state))
        said.preliminary(followed, opened.digest)
        report = journal.reports.latest(key)
        assert report is not None
        assert (QUALITY, True) in kept
        found = kept_record(state, report.report_id, QUALITY, SeriesQuality)
        (state / "reports" / str(report.report_id) / f"{QUALITY}.json").unlink()
        said.final(followed, opened.digest, ())
        again = kept_record(state, report.report_id, QUALITY, SeriesQuality)
        said.final(followed, opened.digest, ())
        bodies = [row.body or b"" for row in journal.owed.of_study("mqtt", key.study)]
    bundles.close()
    assert found is not None
    assert again == found
    assert sum(name == QUALITY for name, _ in kept) == 2, "what is there is not written again"
    assert found.outputs.findings == len(report.findings)
    assert found.scanner.modality == "CT"
    assert bodies
    for secret in (found.schema_, "skin_hu_per_mm", found.scanner.serial, "SN-4711"):
        assert not any(secret.encode() in body for body in bodies), secret
        assert secret not in report.model_dump_json()
    assert (
        b"SN-4711"
        not in (state / "reports" / str(report.report_id) / f"{QUALITY}.json").read_bytes()
    )


def test_a_refused_series_is_told_to_be_looked_at_and_one_that_is_set_aside_is_not(
    ready_site: Device, dicom: Dicom, slices: Slices, key: SeriesKey
) -> None:
    state = ready_site.settings.state
    arrive(ready_site, dicom, slices[:2])
    aside = dicom.chest(
        study_uid="1.2.9", series_uid="1.2.9.1", ImageType=["DERIVED", "PRIMARY", "MIP"]
    )
    with Journal.open(state) as journal:
        refused = work_until_final(ready_site, journal, key)
        arrive(ready_site, dicom, aside)
        other = work_until_final(ready_site, journal, SeriesKey("1.2.9", "1.2.9.1"))
        events = [
            json.loads(mqtt.Envelope.model_validate_json(row.body or b"").payload)
            for study in (key.study, "1.2.9")
            for row in journal.owed.of_study("mqtt", study)
        ]
    measured = kept_record(state, refused.report_id, QUALITY, SeriesQuality)
    assert measured is not None
    assert not measured.outputs.analysed
    assert kept_record(state, other.report_id, QUALITY, SeriesQuality) is None
    check = kept_record(state, refused.report_id, ROOM, RoomCheck)
    assert check is not None
    assert (check.verdict, check.flags[0].reason) == ("look", refused.reasons[0].code)
    assert other.reasons[0].code in SET_ASIDE
    assert kept_record(state, other.report_id, ROOM, RoomCheck) is None
    told = [one["study"] for one in events if one.get("checked")]
    assert told == [refused.study.pseudonym]


def test_what_is_known_of_an_input_is_not_named_anew(
    ready_site: Device, dicom: Dicom, slices: Slices, key: SeriesKey
) -> None:
    """A final report of before; then the spool is looked at again."""
    state = ready_site.settings.state
    arrive(ready_site, dicom, slices)
    (now,) = analyze(state / "spool", ready_site.settings)
    before = as_before(now).model_copy(update={"stage": Stage.FINAL})
    with Journal.open(state) as journal:
        journal.commit_report(before, key, owed=(), series_state="open")
        assert work_until_final(ready_site, journal, key) == before
        assert journal.reports.of_study(key.study) == [before]


def test_one_series_uid_under_two_studies_is_two_series_to_the_end(
    ready_site: Device, dicom: Dicom
) -> None:
    """Reports, messages, files and deletion of one never touch the other."""
    state, series = ready_site.settings.state, "1.2.826.0.1.3680043.10.1.2"
    first, other = SeriesKey("1.2.3", series), SeriesKey("1.2.4", series)
    arrive(ready_site, dicom, dicom.chest(study_uid=first.study))
    with Journal.open(state) as journal:
        alone = work_until_final(ready_site, journal, first)
        arrive(ready_site, dicom, dicom.chest(study_uid=other.study)[2:])
        second = work_until_final(ready_site, journal, other)

        assert Code.SERIES_UID_REUSED not in codes(alone)
        assert codes(second)[0] is Code.SERIES_UID_REUSED
        assert second.status is alone.status is Status.ANALYSED
        assert (second.revision, second.supersedes) == (1, None)
        assert journal.reports.latest(first) == alone
        assert alone.study.pseudonym != second.study.pseudonym
        assert alone.report_id != second.report_id
        tracked = [f.tracking_uid for report in (alone, second) for f in report.findings]
        assert len(tracked) == len(set(tracked)) > 2
        for key, report, count in ((first, alone, 24), (other, second, 22)):
            said = [
                mqtt.Envelope.model_validate_json(row.body or b"")
                for row in journal.owed.of_study("mqtt", key.study)
            ]
            study = report.study.pseudonym
            assert {one.topic for one in said} == {f"study/{study}/event", "finding/routine"}
            assert {json.loads(one.payload)["study"] for one in said} == {study}
            assert not any("superseded" in one.payload for one in said)
            assert len(Spool(state).instances(key)) == count

        journal.owed.ack("mqtt", [row.key for row in journal.owed.of_study("mqtt", first.study)])
        (before,) = (row for row in journal.kept() if row.series.key == other)
    everything = Settings(state=state, retain=Retain(target_free_mb=10**9))
    assert run_once(everything).series == 1
    with Journal.open(state) as journal:
        assert [row for row in journal.kept() if row.series.key == other] == [before]
        assert journal.series.get(first) is None
        assert journal.reports.latest(other) == second
        assert [r.report_id for r in journal.reports.recent(9)] == [second.report_id]
    assert Spool(state).series() == [other]
    assert (state / "reports" / str(second.report_id)).exists()
    assert not (state / "reports" / str(alone.report_id)).exists()


def test_from_disk_both_series_say_that_one_uid_was_given_twice(
    ready_site: Device, dicom: Dicom, tmp_path: Path
) -> None:
    dicom.write(dicom.chest(study_uid="1.2.3"), tmp_path / "in" / "a")
    dicom.write(dicom.chest(study_uid="1.2.4"), tmp_path / "in" / "b")
    reports = analyze(tmp_path / "in", ready_site.settings)
    assert [codes(report)[0] for report in reports] == [Code.SERIES_UID_REUSED] * 2
    (one,) = analyze(tmp_path / "in" / "a", ready_site.settings)
    assert Code.SERIES_UID_REUSED not in codes(one)


def codes(report: Report) -> list[Code]:
    return [limitation.code for limitation in report.limitations]
