"""A water phantom on its way through `work`: record, event, and nothing else."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from appliance.phantom.water import Water
from appliance.reasons import Code
from appliance.report import Report, SeriesKey
from appliance.results import destinations, mqtt
from appliance.results.destinations import archives
from appliance.runtime.bundles import OpenBundles
from appliance.settings import Settings
from appliance.settings.archives import Deliver
from appliance.store import kept, qa
from appliance.store.journal import Journal
from appliance.store.spool import Spool
from appliance.watching.qa import QaCode
from appliance.work import phantoms as measuring
from appliance.work.conclude import Conclusions
from appliance.work.stage import Work
from rigs import phantoms
from rigs.device import Device

KEY = SeriesKey("1.2.3.9", "1.2.3.9.5")


def arrive(state: Path, water: Water = Water(), **how: Any) -> SeriesKey:  # noqa: B008 - frozen
    spool = Spool(state)
    for image in phantoms.images(water, **how):
        temp = spool.incoming_path()
        temp.write_bytes(phantoms.packed([image])[0])
        names = image.StudyInstanceUID, image.SeriesInstanceUID, image.SOPInstanceUID
        spool.store(temp, *names, lambda *_: False)
    return SeriesKey(image.StudyInstanceUID, image.SeriesInstanceUID)


def concluded(settings: Settings, journal: Journal, key: SeriesKey = KEY) -> Report:
    """What `work` says of it."""
    bundles = OpenBundles(settings)
    try:
        bundles.refresh()
        work = Work(settings, journal, Spool(settings.state), bundles)
        work.look_everywhere()
        end = time.monotonic() + 120
        while work.following and time.monotonic() < end:
            work.take_turn()
            time.sleep(min(0.05, work.wait_s()))
    finally:
        bundles.close()
    report = journal.reports.latest(key, None)
    rows = [one for one in journal.reports.of_series(key) if one.stage.value == "final"]
    assert rows or report is not None
    return rows[-1] if rows else report  # type: ignore[return-value]


def payloads(journal: Journal) -> list[dict[str, Any]]:
    rows = journal.owed.of_study("mqtt", KEY.study)
    return [json.loads(mqtt.Envelope.model_validate_json(r.body or b"").payload) for r in rows]


@pytest.fixture
def device(ready_site: Device, water_qa_bytes: bytes) -> Device:
    """The chest's bundle and that of phantoms are active."""
    Device(ready_site.folder, water_qa_bytes).activate()
    return ready_site


def test_a_phantom_is_set_aside_measured_kept_and_told_once(device: Device) -> None:
    state = device.settings.state
    arrive(state)
    with Journal.open(state) as journal:
        report = concluded(device.settings, journal)
        row = journal.series.get(KEY)
        said = payloads(journal)
        again = concluded(device.settings, journal)
        assert payloads(journal) == said, "nothing is said twice"
    assert [reason.code for reason in report.reasons] == [Code.PHANTOM_QA]
    assert again.report_id == report.report_id
    assert row is not None
    assert row.state == "set_aside"
    assert [one["event"] for one in said] == ["received", "complete", "not_analysed", "qa"]
    (record,) = qa.every(state)
    assert (record.report_id, record.verdict, record.codes) == (report.report_id, "passed", ())
    assert record.figures is not None
    assert record.figures.water_hu == pytest.approx(0, abs=1)
    assert said[-1]["report_id"] == str(report.report_id)
    assert said[-1]["figures"] == record.figures.model_dump(mode="json")
    assert kept.kept_record(state, report.report_id, kept.ROOM, type(record)) is None


def test_its_event_names_no_device_and_nobody(device: Device) -> None:
    arrive(device.settings.state)
    with Journal.open(device.settings.state) as journal:
        concluded(device.settings, journal)
        event = json.dumps(payloads(journal)[-1])
        key = journal.owed.of_study("mqtt", KEY.study)[-1]
    for word in ("PHANTOM", "Phantom scanner", "Scanside", KEY.series, KEY.study, "serial"):
        assert word not in event
    assert mqtt.said(key.body) is not None


def test_a_faulty_phantom_is_no_refusal_and_names_its_fault(device: Device) -> None:
    arrive(device.settings.state, Water(offset_hu=12))
    with Journal.open(device.settings.state) as journal:
        report = concluded(device.settings, journal)
        event = payloads(journal)[-1]
    assert [reason.code for reason in report.reasons] == [Code.PHANTOM_QA]
    assert (event["verdict"], event["codes"]) == ("failed", [QaCode.WATER_HU.value])


def test_noise_that_doubled_is_found_once_the_protocol_is_known(device: Device) -> None:
    state = device.settings.state
    keys = [arrive(state, series_uid=f"1.2.3.9.5.{day}", seed=day, slices=3) for day in (1, 2, 3)]
    with Journal.open(state) as journal:
        concluded(device.settings, journal, keys[0])
        assert [one.verdict for one in qa.every(state)] == ["passed"] * 3
        last = arrive(state, Water(noise_hu=12), series_uid="1.2.3.9.5.9", slices=3)
        report = concluded(device.settings, journal, last)
    found = qa.kept(state, report.report_id)
    assert found is not None
    assert (found.codes, found.expected.earlier) == ((QaCode.NOISE,), 3)


def test_without_a_bundle_for_phantoms_it_is_set_aside_and_that_is_all(ready_site: Device) -> None:
    arrive(ready_site.settings.state)
    with Journal.open(ready_site.settings.state) as journal:
        report = concluded(ready_site.settings, journal)
        events = [one["event"] for one in payloads(journal)]
    assert [reason.code for reason in report.reasons] == [Code.PHANTOM_QA]
    assert events == ["received", "complete", "not_analysed"]
    assert qa.every(ready_site.settings.state) == ()


def test_what_cannot_be_put_in_order_says_why_it_was_not_measured(device: Device) -> None:
    state = device.settings.state
    spool = Spool(state)
    for number, image in enumerate(phantoms.images(slices=4)):
        x, y, z = image.ImagePositionPatient
        image.ImagePositionPatient = [x, float(y) + 2.0 * number, z]
        temp = spool.incoming_path()
        temp.write_bytes(phantoms.packed([image])[0])
        names = image.StudyInstanceUID, image.SeriesInstanceUID, image.SOPInstanceUID
        spool.store(temp, *names, lambda *_: False)
    with Journal.open(state) as journal:
        concluded(device.settings, journal)
        event = payloads(journal)[-1]
    (record,) = qa.every(state)
    assert (record.verdict, record.reasons) == ("not_measured", (Code.GANTRY_TILT,))
    assert (event["event"], event["figures"]) == ("qa", None)


def test_an_archive_is_told_nothing_of_a_study_of_phantoms(device: Device) -> None:
    to = Deliver(name="pacs", host="127.0.0.1", called_ae="PACS")
    settings = device.settings.model_copy(update={"deliver": (to,)})
    arrive(settings.state)
    with Journal.open(settings.state) as journal:
        concluded(settings, journal)
        assert journal.unsaid("pacs", time.time() + 3600) == []
        Conclusions(settings, journal, Spool(settings.state)).owe_of_set_aside()
        assert journal.owed.of_study("pacs", KEY.study) == []
    assert archives(destinations.of(settings.deliver))


def test_the_record_is_durable_before_its_report_is_committed(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power cut between the two: the next try says the very same."""
    state = device.settings.state
    arrive(state)
    order: list[str] = []
    keep, commit = qa.keep, Journal.commit_report
    monkeypatch.setattr(measuring.store, "keep", lambda *a: (order.append("record"), keep(*a)))
    monkeypatch.setattr(
        Journal, "commit_report", lambda *a, **k: (order.append("report"), commit(*a, **k))
    )
    with Journal.open(state) as journal:
        concluded(device.settings, journal)
    assert order == ["record", "report"]
