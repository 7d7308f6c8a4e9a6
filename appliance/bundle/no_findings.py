"""What a line answers that reports no finding (bundle/lines.OfLine). Data only."""

from __future__ import annotations

from typing import TypeVar

from appliance.report import Record

Same = TypeVar("Same", bound="NoFindings")


class NoFindings(Record):
    """It looks for none: it finds no organ, no score is high enough, and no two of its networks see
    one image."""

    @property
    def finds_organ(self) -> bool:
        return False

    @property
    def finds(self) -> tuple[str, ...]:
        return ()

    @property
    def least_score(self) -> float:
        return 1.0

    def fed_as(self, role: str) -> str:
        return role

    def every_finding(self: Same) -> Same:
        return self
