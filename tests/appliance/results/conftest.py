"""A report to say something of."""

from __future__ import annotations

from rigs.reports import make_report

__all__ = ["make_report"]
