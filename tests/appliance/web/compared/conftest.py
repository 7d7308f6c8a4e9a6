"""A study that was compared, on the page of the real stage."""

from __future__ import annotations

import pytest

from appliance.report import Report
from rigs import beside
from rigs.composing import Site
from rigs.judging import fresh, page, reader, site

__all__ = ["page", "reader", "site"]


@pytest.fixture
def waiting(site: Site) -> Report:
    """A fresh report with two findings that is still to be compared."""
    key, report = fresh(site)
    site.journal.shown.name(key)
    beside.wait(site.journal, key, report)
    return report
