"""What goes down comes up again, and nothing that was acknowledged or said is lost."""

from __future__ import annotations

import pydicom

from appliance.reasons import Code
from appliance.report import Report, SeriesKey
from appliance.store.spool import Spool
from rigs.bundles import Bundles
from rigs.scans import Scan, Scans
from rigs.site import Site


def _once(site: Site, scan: Scan) -> Report:
    """The only report of a series, about all its images."""
    report: Report = site.report(scan)
    assert report.series.slices == len(scan.files)
    site.settled()
    assert len(site.events(scan, "analysed", "not_analysed", "failed")) == 1
    assert len(site.findings(report)) == len(report.findings)
    return report


def test_with_the_broker_away_nothing_is_lost_and_everything_comes_in_order(
    site: Site, scans: Scans
) -> None:
    site.settled()
    heard = len(site.heard)
    site.broker.stop()
    scan = scans.make()
    with site.journal() as journal:
        with site.held() as store:  # its end is not said before something was said early
            store(scan.files)
            site.until(lambda: journal.reports.latest(scan.key), "report in the journal")
        site.until(lambda: not journal.series.all("open"), "rest")
        assert journal.owed.counts().waiting > 0
    site.broker.start()
    _once(site, scan)
    new = [m for t, m in site.messages()[heard:] if "/study/" in t or "/finding/" in t]
    assert [m["seq"] for m in new] == sorted({m["seq"] for m in new})
    assert site.names(scan) == ["received", "preliminary", "complete", "analysed"]


def test_publish_killed_while_messages_are_owed_sends_them_after_its_restart(
    site: Site, scans: Scans
) -> None:
    scan = scans.make()
    site.kill("publish")
    assert site.send(scan) == 0
    report = site.report(scan)
    events = {m["event_id"] for m in (*site.events(scan), *site.findings(report))}
    site.settled()
    with site.journal() as journal:
        assert all(journal.owed.delivered_at("mqtt", event) for event in events)


def test_work_killed_in_the_middle_of_a_series_reports_it_once(site: Site, scans: Scans) -> None:
    scan = scans.make()
    with site.held() as store:
        store(scan.files[:30])
        site.until(lambda: site.events(scan, "received"), "received")
        site.kill("work")
        store(scan.files[30:])
    _once(site, scan)


def test_work_killed_after_the_last_slice_reports_the_series_once(site: Site, scans: Scans) -> None:
    scan = scans.make()
    site.send(scan)
    site.kill("work")
    _once(site, scan)


def test_receive_killed_in_the_middle_keeps_what_it_acknowledged(site: Site, scans: Scans) -> None:
    scan = scans.make()
    with site.held() as store:
        store(scan.files[:30])
        site.kill("receive")
    key = SeriesKey(scan.study, scan.series)
    assert len(Spool(site.settings.state).instances(key)) == 30
    site.until(lambda: site.send(scan) == 0, "receiver again")
    report = _once(site, scan)
    assert Code.TRANSFER_ABORTED not in {r.code for r in report.limitations}


def test_a_series_that_breaks_the_analysis_is_reported_failed_and_the_next_goes_on(
    site: Site, scans: Scans, bundles: Bundles
) -> None:
    site.install(bundles.broken, "broken", "1.0.0")

    def child(image: pydicom.Dataset, _: int) -> pydicom.Dataset:
        image.PatientAge, image.PatientBirthDate = "010Y", ""
        return image

    poisoned, good = scans.make(child), scans.make()
    site.send(poisoned)
    site.send(good)
    assert site.ending(good)["event"] == "analysed"
    event = site.ending(poisoned)
    assert event["event"] == "failed"
    assert [r["code"] for r in event["reasons"]] == [Code.BACKEND_FAILED.value]
    assert not event["report"]["findings"]
    with site.journal() as journal:
        row = journal.series.get(poisoned.key)
    assert row
    assert row.state == "failed"
    after = scans.make()
    site.send(after)
    assert site.ending(after)["event"] == "analysed"
