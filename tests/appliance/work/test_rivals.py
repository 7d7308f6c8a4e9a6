"""Which series of a study stands, by what the journal holds."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

from appliance.bundle import archive
from appliance.phantom.chest import Phantom
from appliance.report import Report, SeriesKey, Status
from appliance.runtime.bundles import OpenBundles
from appliance.store.journal import Journal
from appliance.store.spool import Spool
from appliance.work.stage import Work

STUDY, THIN, THICK = "1.2.9", "1.2.9.1", "1.2.9.2"


def series(dicom: Any, uid: str, step_mm: float, cover_mm: float, degrees: float) -> Any:
    """A small chest whose images stand so many degrees off the axial plane."""
    count = round(cover_mm / step_mm) + 1
    z, y, x = np.meshgrid(
        *((np.arange(n) - (n - 1) / 2) * s for n, s in ((count, step_mm), (60, 5.0), (60, 5.0))),
        indexing="ij",
    )
    hu = np.full(z.shape, -1000, np.int16)
    hu[(x / 140) ** 2 + (y / 110) ** 2 < 1] = 40
    for side in (-1, 1):
        hu[((x - 70 * side) / 55) ** 2 + (y / 80) ** 2 + (z / 60) ** 2 < 1] = -800
    hu += np.random.default_rng(1).integers(-10, 10, hu.shape).astype(np.int16)
    phantom = Phantom(hu, (step_mm, 5.0, 5.0), (-147.5, -147.5, 0.0), ())
    images = dicom.series(phantom, study_uid=STUDY, series_uid=uid)
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    for image in images:
        along = float(image.ImagePositionPatient[2])
        at = [-147.5, round(-147.5 * cos - along * sin, 4), round(-147.5 * sin + along * cos, 4)]
        dicom.say(
            image,
            ImageOrientationPatient=[1, 0, 0, 0, round(cos, 8), round(sin, 8)],
            ImagePositionPatient=at,
        )
    return images


@pytest.fixture
def arrives(site: Any, dicom: Any, tiny_bytes: bytes) -> Any:
    """Series that come one after the other -> the reports that stand in the end, by series."""
    accepts = json.loads(archive.read(tiny_bytes)["manifest.json"])["accepts"]
    site.activate(accepts={**accepts, "cover_mm": 150.0, "organ_ml": 100.0})

    def come(*uids: str, degrees: float) -> dict[str, Report]:
        steps = {THIN: 2.0, THICK: 4.0}
        settings = site.settings
        spool = Spool(settings.state)
        bundles = OpenBundles(settings)
        with Journal.open(settings.state) as journal:
            work = Work(settings, journal, spool, bundles)
            work.refresh()
            for uid in uids:
                folder = spool.folder(SeriesKey(STUDY, uid))
                folder.mkdir(parents=True)
                for image in series(dicom, uid, steps[uid], 152.0, degrees):
                    (folder / f"{image.SOPInstanceUID}.dcm").write_bytes(dicom.bytes(image))
                work.look_everywhere()
                while work.busy or work.wait_s() == 0:
                    work.take_turn()
            reports = journal.reports.of_study(STUDY)
            withdrawn = {report.supersedes for report in reports}
            standing = {
                row.series_uid: report
                for row in journal.series.of_study(STUDY)
                for report in [journal.reports.latest(row.key, bundles.all[0].digest)]
                if report is not None
                and report.status is Status.ANALYSED
                and report.report_id not in withdrawn
            }
        bundles.close()
        return standing

    return come


@pytest.mark.parametrize("order", [(THIN, THICK), (THICK, THIN)])
def test_the_thin_series_of_an_axial_scan_stands_in_either_order(
    arrives: Any, order: tuple[str, str]
) -> None:
    assert set(arrives(*order, degrees=0.0)) == {THIN}


def test_the_thin_series_of_an_oblique_scan_stands_though_the_thick_one_comes_later(
    arrives: Any,
) -> None:
    assert set(arrives(THIN, THICK, degrees=15.0)) == {THIN}


def test_the_thin_series_of_an_oblique_scan_stands_where_it_comes_later(arrives: Any) -> None:
    assert set(arrives(THICK, THIN, degrees=15.0)) == {THIN}
