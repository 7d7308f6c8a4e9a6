"""What is said over MQTT of a water phantom: the event `qa`. Pure.

Rules
- Figures, codes and the verdict alone: nothing that names a device or a person. A fleet that wants
  to know which scanner it was reads the records at the box (`scanside qa --trend`).
- It comes after the message of the report that says that the series is set aside, once.
"""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Literal

from pydantic import Field

from appliance.naming import Naming
from appliance.report import BundleRef, SeriesKey
from appliance.results.payload import Message
from appliance.watching.qa import Expected, QaCode, QaRecord, Verdict, WaterFigures


class QaMessage(Message):
    """What was measured of a water phantom, and whether it is as it should be."""

    type: Literal["qa"] = "qa"
    event: Literal["qa"] = "qa"
    study: str = Field(pattern=r"^[0-9a-f]{32}$")
    series: uuid.UUID = Field(description="as the events of the study name it")
    report_id: uuid.UUID = Field(description="of the report that says that it is set aside")
    bundle: BundleRef
    verdict: Verdict
    codes: tuple[QaCode, ...]
    figures: WaterFigures | None = Field(description="null where it could not be measured")
    expected: Expected


def message(record: QaRecord, key: SeriesKey, *, naming: Naming, at: datetime) -> QaMessage:
    """The message of one record."""
    return QaMessage(
        event_id=naming.event(record.report_id, "qa"),
        at=at,
        study=record.study,
        series=naming.series(key),
        report_id=record.report_id,
        bundle=record.bundle,
        verdict=record.verdict,
        codes=record.codes,
        figures=record.figures,
        expected=record.expected,
    )
