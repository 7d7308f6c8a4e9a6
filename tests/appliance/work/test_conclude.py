"""What is committed of a series whose report was begun by the release before."""

from __future__ import annotations

import json
import time
import uuid
from datetime import datetime, timezone

import pytest

from appliance.naming import Naming
from appliance.report import Report, SeriesKey, Stage
from appliance.results import mqtt
from appliance.results.message import FindingMessage, Outgoing, StudyEvent
from appliance.runtime.bundles import OpenBundles
from appliance.store.journal import Journal
from appliance.store.site_key import site_key
from appliance.store.spool import Spool
from appliance.verbs.analyze import analyze
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
    assert events == ["preliminary", "received", "complete", "analysed"]
    findings = [one["finding"]["id"] for one in payloads if one["type"] == "finding"]
    assert findings == [finding.id for finding in before.findings]
    again = [row.key for row in rows if mqtt.is_about(row.body, final)]
    assert len(again) == 1 + len(findings), "its event and its findings are sent again if asked"


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
