"""A report to commit, and a time."""

from __future__ import annotations

from rigs.reports import make_report, noon

__all__ = ["make_report", "noon"]
