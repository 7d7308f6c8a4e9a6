"""When a series counts as complete, and what becomes of what comes later."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest
from pydicom.dataset import Dataset

from appliance.reasons import Code
from appliance.report import Report, SeriesKey, Status
from appliance.store.spool import Spool
from rigs import site as sites
from rigs.bundles import Bundles
from rigs.scans import Scan, Scans
from rigs.site import Site

SLICES = 65


def announcing(keyword: str) -> Callable[[Dataset, int], Dataset]:
    """Every image says how many there are."""

    def change(image: Dataset, _: int) -> Dataset:
        setattr(image, keyword, SLICES)
        return image

    return change


def standing(site: Site, scan: Scan) -> Report:
    """The report of all images of a series, and its findings."""

    def found() -> Report | None:
        for event in site.events(scan, "analysed"):
            if event["report"]["series"]["slices"] == len(scan.files):
                return Report.model_validate(event["report"])
        return None

    report: Report = site.until(found, "report of all images")
    site.until(lambda: len(site.findings(report)) == len(report.findings), "findings")
    return report


@pytest.mark.parametrize(
    "keyword", ["ImagesInAcquisition", "NumberOfSeriesRelatedInstances"], ids=["1002", "1209"]
)
def test_when_the_announced_count_is_reached_the_report_is_final_at_once(
    site: Site, scans: Scans, keyword: str
) -> None:
    scan = scans.make(announcing(keyword))
    site.send(scan)
    report = site.report(scan)
    assert site.names(scan) == ["received", "complete", "analysed"]
    assert f"{scan.series}: complete by expected_reached" in site.log()
    assert not report.limitations or Code.UNEXPECTED_COUNT not in {
        r.code for r in report.limitations
    }


def test_the_announced_count_counts_while_the_association_stays_open(
    site: Site, scans: Scans
) -> None:
    scan = scans.make(announcing("ImagesInAcquisition"))
    with site.held() as store:
        store(scan.files)
        site.report(scan)
        assert f"{scan.series}: complete by expected_reached" in site.log()
    site.settled()
    assert site.names(scan) == ["received", "complete", "analysed"]


def test_a_pause_in_an_open_association_is_a_plausible_end_and_no_more(
    site: Site, scans: Scans
) -> None:
    scan = scans.make()
    with site.held() as store:
        store(scan.files[:45])  # the lungs go on
        time.sleep(0.5)
        store(scan.files[45:])
        site.until(lambda: site.events(scan, "preliminary"), "preliminary")
        assert not site.events(scan, "complete")
    report = site.report(scan)
    assert site.names(scan) == ["received", "preliminary", "complete", "analysed"]
    assert report.revision == 1


def test_fewer_images_than_announced_are_named_as_a_limitation(site: Site, scans: Scans) -> None:
    scan = scans.make(announcing("ImagesInAcquisition"))
    site.send(*scan.files[:60])
    report = site.report(scan)
    assert Code.UNEXPECTED_COUNT in {r.code for r in report.limitations}


def test_later_slices_lead_to_a_second_revision_that_supersedes_the_first(
    site: Site, scans: Scans
) -> None:
    scan = scans.make()
    site.send(*scan.files[:45])
    first = site.report(scan)
    assert first.status is Status.ANALYSED
    assert Code.LUNGS_NOT_COVERED in {r.code for r in first.limitations}
    assert not site.events(scan, "preliminary"), "lungs that go on are no plausible end"
    site.send(*scan.files[45:])
    second = site.report(scan, 2)
    assert second.revision == 2
    assert second.supersedes == first.report_id
    assert second.coverage.lungs == "covered"
    (withdrawn,) = site.events(scan, "superseded")
    assert withdrawn["withdrawn_report_id"] == str(first.report_id)


@pytest.fixture(scope="module")
def hasty(bundles: Bundles, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site that judges a broken transfer soon."""
    with sites.running(tmp_path_factory.mktemp("hasty"), bundles.usual, 2.0) as running_site:
        yield running_site


def test_of_a_broken_transfer_what_was_acknowledged_is_kept_and_judged_with_its_limits(
    hasty: Site, scans: Scans
) -> None:
    site = hasty
    scan = scans.make()
    site.send(*scan.files[:40], options=["--abort"])
    report = site.report(scan)
    key = SeriesKey(scan.study, scan.series)
    assert len(Spool(site.settings.state).instances(key)) == 40
    assert report.status is Status.ANALYSED
    assert Code.TRANSFER_ABORTED in {r.code for r in report.limitations}
    assert report.times.complete
    assert report.times.last_slice
    quiet = (report.times.complete - report.times.last_slice).total_seconds()
    assert quiet >= site.settings.work.aborted_quiet_s
    site.send(scan)  # the sender tries again
    again = standing(site, scan)
    assert again.revision == 2
    assert Code.TRANSFER_ABORTED not in {r.code for r in again.limitations}


def test_a_broken_transfer_of_too_few_images_is_not_analysed(hasty: Site, scans: Scans) -> None:
    site = hasty
    scan = scans.make()
    site.send(*scan.files[:10], options=["--abort"])
    event = site.ending(scan)
    assert event["event"] == "not_analysed"
    assert Code.COVER_TOO_SHORT.value in {r["code"] for r in event["reasons"]}


def test_one_association_per_slice_is_one_series(site: Site, scans: Scans) -> None:
    scan = scans.make(lambda image, index: image if 15 <= index < 45 else None)
    for path in scan.files:
        assert site.send(path) == 0
    standing(site, scan)
    assert f"{scan.series}: complete by one_per_slice" in site.log()


def test_two_studies_interleaved_over_two_associations_are_two_reports(
    site: Site, scans: Scans
) -> None:
    one, two = scans.make(), scans.make()
    first = site.sending(*one.files[::2], *two.files[::2])
    second = site.sending(*one.files[1::2], *two.files[1::2])
    assert (first.wait(60), second.wait(60)) == (0, 0)
    reports = [standing(site, one), standing(site, two)]
    assert {r.study.pseudonym for r in reports} == {
        site.events(scan)[0]["study"] for scan in (one, two)
    }
    assert len({r.study.pseudonym for r in reports}) == 2


def test_two_studies_slice_by_slice_over_one_association_are_two_reports(
    site: Site, scans: Scans
) -> None:
    one, two = scans.make(), scans.make()
    with site.held() as store:
        for pair in zip(one.files, two.files, strict=True):
            store(pair)
    for scan in (one, two):
        report = site.report(scan)
        assert (report.status, report.revision) == (Status.ANALYSED, 1)
        assert report.series.slices == len(scan.files)
        (from_disk,) = site.analyze(scan.folder)
        assert from_disk.same_as(report)


def test_the_same_series_sent_twice_at_once_is_reported_once(site: Site, scans: Scans) -> None:
    scan = scans.make()
    senders = [site.sending(scan), site.sending(scan)]
    assert [sender.wait(60) for sender in senders] == [0, 0]
    report = standing(site, scan)
    site.settled()
    assert len(site.events(scan, "analysed")) == 1
    assert len(site.findings(report)) == len(report.findings)


def test_four_senders_at_once_get_four_reports(site: Site, scans: Scans) -> None:
    made = [scans.make() for _ in range(4)]
    senders = [site.sending(scan) for scan in made]
    assert [sender.wait(60) for sender in senders] == [0] * 4
    assert len({standing(site, scan).report_id for scan in made}) == 4
