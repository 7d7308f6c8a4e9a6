"""What the demo says of a scanner that changes, and when it says that something is not as it is."""

from __future__ import annotations

import io
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

import pytest
from rich.console import Console

from appliance.demo import drifted
from appliance.demo.drifted import USUAL, WITHIN, Course
from appliance.verbs.drift import SaidRow
from appliance.watching.alarm import Alarm, Cause, Statistic
from appliance.watching.scanner import Scanner
from appliance.watching.told import ToldAlarm, ToldRow

AT = datetime(2026, 1, 5, tzinfo=timezone.utc)
ROW = "0123456789abcdef"


def row(n: int, *alarms: Alarm, **changes: Any) -> SaidRow:
    kept = {
        "row": ROW, "scanner": ROW, "key": Scanner(), "state": "frozen" if alarms else "fixed",
        "former": False, "n": n, "learnt": USUAL, "since": AT, "last": AT, "stopped": False,
        "waits": (), "alarms": alarms, "past": (), "spread": {}, **changes,
    }  # fmt: skip
    return SaidRow.model_validate(kept)


def alarm(studies: int, **changes: Any) -> Alarm:
    known = {"statistic": "noise", "test": "series", "size": 5.0, "cause": "sharper_kernel"}
    return Alarm.model_validate({**known, "since": AT, "studies": studies, **changes})


def told(*cause: Cause) -> ToldRow:
    alarms = tuple(ToldAlarm(statistic=Statistic.NOISE, cause=one) for one in cause)
    return ToldRow(row=ROW, n=USUAL + WITHIN, alarms=alarms)


SINCE = (row(31), *(row(31 + n, alarm(n)) for n in range(1, WITHIN)))
GOOD = Course(
    usual=row(USUAL),
    since=SINCE,
    told=told(Cause.SHARPER_KERNEL),
    acknowledged=row(34, past=(alarm(3, acknowledged=True),)),
)
LATE = (*(row(USUAL + n) for n in range(1, WITHIN + 1)), row(35, alarm(1)))
UNCLEAR = (*SINCE[:-1], row(34, alarm(3, cause="unclear")))


def test_a_change_that_is_said_as_it_is_lacks_nothing() -> None:
    assert drifted.lacking(GOOD) == []


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"usual": None}, "no row of the scanner"),
        ({"usual": row(29)}, "29 of 30 series were counted"),
        ({"usual": row(USUAL, alarm(1))}, "an alarm came before"),
        ({"usual": row(USUAL, past=(alarm(1, acknowledged=True),))}, "an alarm came before"),
        ({"usual": row(USUAL, state="learning")}, "is learning, and not fixed"),
        ({"others": 1}, "scanners that nobody has"),
        ({"since": tuple(row(USUAL + n) for n in range(1, 11))}, "no alarm came in 10 series"),
        ({"since": ()}, "no alarm came in 0 series"),
        ({"since": LATE}, "after 5 series, and not within 4"),
        ({"since": UNCLEAR, "told": told(Cause.UNCLEAR)}, "is said to be: unclear"),
        ({"told": None}, "watch.json does not say"),
        ({"told": told(Cause.DOSE)}, "watch.json does not say"),
        ({"acknowledged": None}, "is open after"),
        ({"acknowledged": row(34, alarm(3))}, "is open after"),
        ({"acknowledged": row(34)}, "does not know that its alarm was acknowledged"),
    ],
)
def test_whatever_is_not_so_is_said_in_a_sentence(change: dict[str, Any], sentence: str) -> None:
    assert sentence in " | ".join(drifted.lacking(replace(GOOD, **change)))


def test_an_alarm_of_the_fourth_series_is_in_time() -> None:
    since = (*(row(USUAL + n) for n in range(1, WITHIN)), row(34, alarm(4)))
    assert drifted.lacking(replace(GOOD, since=since)) == []


def test_every_study_has_to_be_analysed_and_the_box_online() -> None:
    assert drifted.unanswered({"a": "analysed", "b": "analysed"}, 2) == []
    assert drifted.unanswered({"a": "analysed"}, 2) == ["1 of 2 studies have a report"]
    (wrong,) = drifted.unanswered({"a": "analysed", "b": "failed"}, 2)
    assert wrong.endswith("failed")
    assert drifted.not_online(["init", "init", "online", "online"]) == []
    assert drifted.not_online(["init", "online", "degraded", "online"])
    assert drifted.not_online(["online", "init"]), "it started again"
    assert drifted.not_online(["init"])
    assert drifted.not_online([])


def test_the_table_says_what_changed_since_which_series_why_and_within_how_many() -> None:
    console = Console(file=io.StringIO(), width=110)
    second = row(33, alarm(2), alarm(3, statistic="lung_edge", test="cusum", size=4.26))
    since = (*SINCE[:2], second, row(34, alarm(3)))
    drifted.show(replace(GOOD, since=since), console)
    assert isinstance(console.file, io.StringIO)
    lines = [" ".join(line.split()) for line in console.file.getvalue().splitlines()]
    for line in (
        "as usual 30 as usual -",
        "sharper 31 as usual -",
        "sharper 32 CHANGED Noise (series) +5.0 32 a sharper kernel",
        "sharper 33 CHANGED Sharpness in the lung (cusum) +4.3 31 a sharper kernel",
        "sharper 34 CHANGED goes on",
        "acknowledged 34 as usual -",
        "said at series 32, the 2nd since the change: a sharper kernel",
    ):
        assert line in lines
