"""Figures and times as a page writes them, in every language alike. Pure.

Rules
- Times of the day are those of the ward: local time, with the date where it is not of today.
- A figure has as many digits as it is worth: seconds to a tenth while they are few, sizes to a
  tenth of a millimetre, a score to two digits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, tzinfo

_MINUTE, _HOUR, _DAY = 60.0, 3600.0, 86400.0


@dataclass(frozen=True, slots=True)
class Words:
    """now: seconds since 1970; zone: of the ward, None: that of this machine."""

    now: float
    zone: tzinfo | None = None

    def _local(self, at: float) -> datetime:
        return datetime.fromtimestamp(at, self.zone).astimezone(self.zone)

    def short(self, at: float) -> str:
        """14:03, or 2026-11-28 14:03."""
        found, today = self._local(at), self._local(self.now)
        return f"{found:%H:%M}" if found.date() == today.date() else f"{found:%Y-%m-%d %H:%M}"

    def moment(self, at: float) -> str:
        """2026-11-28 14:03:22."""
        return f"{self._local(at):%Y-%m-%d %H:%M:%S}"

    def clock(self, at: float) -> str:
        """14:03:22.4, for steps that follow each other."""
        found = self._local(at)
        return f"{found:%H:%M:%S}.{found.microsecond // 100_000}"

    def lasting(self, seconds: float) -> str:
        """3.2 s, 45 s, 12 min, 5 h, 3 d."""
        s = abs(seconds)
        minus = "-" if seconds < 0 else ""
        if s < 9.95:
            return f"{minus}{s:.1f} s"
        if s < 2 * _MINUTE:
            return f"{minus}{s:.0f} s"
        if s < 2 * _HOUR:
            return f"{minus}{s / _MINUTE:.0f} min"
        if s < 2 * _DAY:
            return f"{minus}{s / _HOUR:.0f} h"
        return f"{minus}{s / _DAY:.0f} d"

    def after(self, seconds: float) -> str:
        """+3.2 s, -60 s."""
        return f"{'+' if seconds >= 0 else ''}{self.lasting(seconds)}"

    def tenth(self, value: float) -> str:
        """Millimetres and the like."""
        return f"{value:.1f}"

    def whole(self, value: float) -> str:
        return f"{value:.0f}"

    def share(self, value: float) -> str:
        """A score."""
        return f"{value:.2f}"

    def of(self, values: Mapping[str, object]) -> dict[str, str]:
        """The values of a phrase, each as its name asks for it."""
        return {name: self._value(name, value) for name, value in values.items()}

    def _value(self, name: str, value: object) -> str:
        if not isinstance(value, float):
            return str(value)
        if name == "at":
            return self.short(value)
        if name in ("age", "pause", "seconds", "quiet"):
            return self.lasting(value)
        return self.whole(value)
