"""Several series of one study: the same of them stand, whichever came first."""

from __future__ import annotations

import numpy as np
import pytest
from pydicom.dataset import Dataset

from appliance.phantom.chest import Phantom, chest
from appliance.reasons import Code
from appliance.report import Report, Status
from rigs.scans import Change, Scan, Scans
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


@pytest.fixture(scope="session")
def fine() -> Phantom:
    """1 mm, the same anatomy."""
    return chest(spacing_mm=(1.0, 2.8, 2.8), noise_hu=8.0)


def lower_part(count: int) -> Change:
    """Of images in order from the head: three quarters."""
    return lambda image, index: image if index >= count // 4 else None


def right_half(image: Dataset, index: int) -> Dataset:
    """The columns that show the patient's right."""
    pixels = np.frombuffer(image.PixelData, "<i2").reshape(image.Rows, -1)
    half = pixels[:, : pixels.shape[1] // 2]
    image.Columns = half.shape[1]  # of all images, which share this element
    image.PixelData = half.tobytes()
    return image


def named(site: Site, scan: Scan) -> str:
    """What a series is called outside the device."""
    return str(site.naming.series(scan.key))


def beside(report: Report) -> list[str]:
    return [r.text for r in report.limitations if r.code is Code.ALSO_SHOWN_IN]


@pytest.mark.parametrize(
    ("part", "whole_first"),
    [
        ("lower part", True),
        ("right half", False),
        pytest.param("lower part", False, marks=pytest.mark.long),
        pytest.param("right half", True, marks=pytest.mark.long),
    ],
)
def test_a_thinner_part_of_a_chest_withdraws_nothing_and_each_names_the_other(
    site: Site, scans: Scans, fine: Phantom, part: str, whole_first: bool
) -> None:
    change = {"lower part": lower_part(fine.hu.shape[0]), "right half": right_half}[part]
    whole = scans.make()
    half = scans.make(change, phantom=fine, study=whole.study)
    order = (whole, half) if whole_first else (half, whole)
    for scan in order:
        site.send(scan)
        site.ending(scan)
    first, second = order
    said = site.until(lambda: last_of(site, first, 2), "the first one says of the second")
    later = site.report(second)
    for report, other in ((said, second), (later, first)):
        assert report.status is Status.ANALYSED
        assert [named(site, other) in text for text in beside(report)] == [True]
    assert said.report_id == site.report(first).report_id
    assert said.edition == 2
    assert not site.events(whole, "superseded")
    assert not site.events(half, "superseded")
    assert site.report(whole).findings


def last_of(site: Site, scan: Scan, count: int) -> Report | None:
    """The report of the count-th event of a series that is analysed; None where there is none."""
    found = site.events(scan, "analysed")
    return Report.model_validate(found[count - 1]["report"]) if len(found) >= count else None


def test_a_thick_series_stands_again_where_the_thin_one_turns_out_to_be_mixed(
    site: Site, scans: Scans
) -> None:
    thin = scans.make(phantom=scans.finer)
    thick = scans.make(study=thin.study)
    site.send(thin)
    site.report(thin)
    site.send(thick)
    assert site.ending(thick)["event"] == "not_analysed"

    def foreign(image: Dataset, index: int) -> Dataset | None:
        image.SeriesInstanceUID = thin.series
        image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = f"{thin.series}.1"
        image.FrameOfReferenceUID = "1.2.3.4"
        return image if index == 0 else None

    site.send(scans.make(foreign, phantom=scans.finer, study=thin.study))
    again = site.report(thick, 2)
    assert again.status is Status.ANALYSED
    assert again.report_id == Report.model_validate(site.ending(thick)["report"]).report_id
    assert again.findings
    assert site.ending(thin, 2)["event"] == "not_analysed"
