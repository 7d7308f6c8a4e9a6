"""A report to be judged."""

from __future__ import annotations

from rigs.reports import make_report, noon

__all__ = ["make_report", "noon"]
