"""A report, for what stores one."""

from rigs.reports import make_report

__all__ = ["make_report"]
