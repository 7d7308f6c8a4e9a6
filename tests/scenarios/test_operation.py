"""Commands over MQTT, bundles that change while series come, and what may leave the device."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pydicom

from appliance.report import Status


def test_a_ping_is_answered(site: Any) -> None:
    assert site.command("ping")["ok"]


def test_pause_holds_what_is_owed_and_resume_releases_it_in_order(site: Any, scans: Any) -> None:
    scan = scans.make()
    assert site.command("pause")["ok"]
    try:
        site.send(scan)
        with site.journal() as journal:
            site.until(lambda: journal.latest_report(scan.series), "report in the journal")
            site.until(lambda: not journal.series("open"), "rest")
        assert not site.events(scan)
    finally:
        assert site.command("resume")["ok"]
    site.report(scan)
    names = [event["event"] for event in site.events(scan)]
    assert names == ["received", "preliminary", "complete", "analysed"]


def test_resend_sends_the_same_events_again(site: Any, scans: Any) -> None:
    scan = scans.make()
    site.send(scan)
    report = site.report(scan)
    before = {m["event_id"] for m in (*site.events(scan, "analysed"), *site.findings(report))}
    heard = len(site.findings(report))
    assert site.command("resend", report_id=str(report.report_id))["ok"]
    site.until(lambda: len(site.findings(report)) == 2 * heard, "findings again")
    site.until(lambda: len(site.events(scan, "analysed")) == 2, "event again")
    again = {m["event_id"] for m in (*site.events(scan, "analysed"), *site.findings(report))}
    assert again == before


def test_a_bundle_activated_while_running_is_used_from_the_next_study_on(
    site: Any, scans: Any, bundles: Any
) -> None:
    under_way, later, last = scans.make(), scans.make(), scans.make()
    with site.held() as store:
        store(under_way.files[:20])
        site.until(lambda: site.events(under_way, "received"), "received")
        site.install(bundles.newer, "lung-nodule", "90.1.0")
        site.send(later)
        assert site.report(later).bundle.version == "90.1.0"
        store(under_way.files[20:])
    report = site.report(under_way)
    assert report.status is Status.ANALYSED
    assert report.bundle.version == "90.0.0", "it began with that one"
    with site.journal() as journal:
        (loaded,) = journal.events("loaded", 1)
    nodule = [b["version"] for b in loaded.detail["bundles"] if b["name"] == "lung-nodule"]
    assert nodule == ["90.1.0"]
    site.scanside("bundle", "rollback", "lung-nodule")
    site.send(last)
    assert site.report(last).bundle.version == "90.0.0"


def test_nothing_of_the_patient_leaves_the_device(site: Any, scans: Any, phi: Any) -> None:
    scan = scans.make()
    site.send(scan)
    site.report(scan)
    payloads = "\n".join(f"{topic} {payload}" for topic, payload in site.said)
    log = site.log()
    words = {word for value in phi.values() for word in (value, *value.split("^"))}
    for word in words:
        assert word not in payloads
        assert word not in log
    uids = {uid for one in scans.made for uid in (one.study, one.series)}
    uids |= {str(pydicom.dcmread(p, stop_before_pixels=True).SOPInstanceUID) for p in scan.files}
    assert [uid for uid in uids if uid in payloads] == []


def test_waiting_costs_next_to_nothing(site: Any, record_testsuite_property: Any) -> None:
    """A figure for the report; the machine may be busy, so nothing is asserted of it."""
    site.settled()
    pid = site.stage("work")

    def ticks() -> int:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    before = ticks()
    time.sleep(2)
    record_testsuite_property("cpu_ms_of_work_in_2_s_of_rest", (ticks() - before) * 10)
