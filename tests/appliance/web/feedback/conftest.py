"""A report to be judged, alone and on the page of the real stage."""

from __future__ import annotations

import pytest

from appliance.report import Report, Scored, Scores
from appliance.store import kept
from appliance.store.files import DISK
from rigs.composing import FOUND, Site
from rigs.judging import fresh, page, reader, site
from rigs.reports import make_report, noon

__all__ = ["make_report", "noon", "page", "reader", "site"]

X, Y, Z = FOUND.place_lps_mm
SCORES = Scores(
    threshold=FOUND.threshold,
    candidates=(
        Scored(score=FOUND.score, center_lps_mm=(X, Y, Z)),
        Scored(score=0.31, center_lps_mm=(X + 12, Y, Z)),
    ),
)


@pytest.fixture
def report(site: Site) -> Report:
    """Of a fresh series, with two findings, and what was scored for it."""
    _, report = fresh(site)
    folder = site.settings.state / kept.FOLDER / str(report.report_id)
    listed = kept.Images.model_validate_json((folder / "images.json").read_bytes())
    scored = listed.model_copy(update={"scores": SCORES})
    DISK.write(folder / "images.json", scored.model_dump_json().encode())
    return report
