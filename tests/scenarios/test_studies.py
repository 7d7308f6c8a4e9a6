"""Several series of one study: one of them is analysed, whichever came first."""

from __future__ import annotations

from pydicom.dataset import Dataset

from appliance.reasons import Code
from appliance.report import Report, Status
from rigs.scans import Scans
from rigs.site import Site


def test_a_thinner_series_that_comes_late_supersedes(site: Site, scans: Scans) -> None:
    thick = scans.make()
    site.send(thick)
    first = site.report(thick)
    thin = scans.make(phantom=scans.finer, study=thick.study)
    site.send(thin)
    second = site.report(thin)
    assert second.status is Status.ANALYSED
    assert second.supersedes == first.report_id
    (withdrawn,) = site.events(thin, "superseded")
    assert withdrawn["withdrawn_report_id"] == str(first.report_id)
    assert not Report.model_validate(site.events(thin, "preliminary")[0]["report"]).supersedes


def test_a_thicker_series_that_comes_late_is_set_aside(site: Site, scans: Scans) -> None:
    thin = scans.make(phantom=scans.finer)
    site.send(thin)
    first = site.report(thin)
    thick = scans.make(study=thin.study)
    site.send(thick)
    event = site.ending(thick)
    assert event["event"] == "not_analysed"
    assert [r["code"] for r in event["reasons"]] == [Code.BETTER_SERIES.value]
    assert not site.events(thick, "preliminary")
    with site.journal() as journal:
        assert journal.reports.latest(thin.key) == first
        row = journal.series.get(thick.key)
    assert row
    assert row.state == "set_aside"


def test_of_three_series_each_better_one_withdraws_the_last_and_only_that(
    site: Site, scans: Scans
) -> None:
    """The last one is no thinner, but has the same positions and one slice more."""
    thick = scans.make()
    site.send(thick)
    site.report(thick)
    middle = scans.make(
        lambda image, index: image if index else None, phantom=scans.finer, study=thick.study
    )
    site.send(middle)
    second = site.report(middle)
    best = scans.make(phantom=scans.finer, study=thick.study)
    site.send(best)
    assert site.report(best).supersedes == second.report_id
    assert len(site.events(best, "superseded")) == 1


def test_of_a_whole_study_over_one_association_one_analysis_stands(
    site: Site, scans: Scans
) -> None:
    def localizer(image: Dataset, index: int) -> Dataset | None:
        image.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
        return image if index == 0 else None

    scout = scans.make(localizer)
    thick = scans.make(study=scout.study)
    thin = scans.make(phantom=scans.finer, study=scout.study)
    assert site.send(scout, thick, thin) == 0
    report = site.report(thin)
    assert report.status is Status.ANALYSED
    assert [r["code"] for r in site.ending(scout)["reasons"]] == [Code.LOCALIZER.value]
    other = site.ending(thick)
    if other["event"] == "analysed":  # it was judged first
        assert str(report.supersedes) == other["report"]["report_id"]
    else:
        assert [r["code"] for r in other["reasons"]] == [Code.BETTER_SERIES.value]
