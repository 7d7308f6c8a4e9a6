"""The record of the in-room check: two verdicts, and a flag wherever it says `look`."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from appliance.room.check import Flag, RoomCheck, RoomValues
from appliance.room.codes import WHAT_TO_DO, FlagCode

NOISY = Flag(code=FlagCode.NOISE, text="noise of 90 HU", figure=90.0, unit="HU")


def test_a_flag_brings_what_to_do() -> None:
    assert NOISY.remedy == WHAT_TO_DO[FlagCode.NOISE]


@pytest.mark.parametrize(("verdict", "flags"), [("usable", (NOISY,)), ("look", ())])
def test_a_verdict_that_its_flags_contradict_is_refused(
    verdict: str, flags: tuple[Flag, ...]
) -> None:
    with pytest.raises(ValidationError, match="where there is a flag"):
        RoomCheck.model_validate({"verdict": verdict, "flags": flags})


def test_it_is_the_same_after_it_was_written_and_read() -> None:
    values = RoomValues(noise_hu=90.0, contrast="no")
    check = RoomCheck(verdict="look", flags=(NOISY,), values=values)
    assert RoomCheck.model_validate_json(check.model_dump_json()) == check


def test_what_was_not_measured_is_null_and_never_zero() -> None:
    assert set(RoomValues().model_dump().values()) == {None, "unknown"}
