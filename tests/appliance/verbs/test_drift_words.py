"""What a person reads of a scanner is in words: `scanside drift` and the doctor say the same."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
from rich.console import Console

from appliance.store.library import Library
from appliance.verbs import drift as verb
from appliance.verbs.checks import watching as check
from appliance.verbs.checks.check import Device
from appliance.watching.alarm import Alarm, Cause, Statistic, Test
from appliance.watching.scanner import UNKNOWN, Scanner
from appliance.web.text import say
from rigs.watched import BEGAN, Watched, watched

WORDS = say.speaker(say.texts("en"))
CODES = {one.value for one in (*Statistic, *Cause)} | {*get_args(Test), UNKNOWN}
AT = f"{BEGAN.astimezone():%Y-%m-%d %H:%M}"


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Watched]:
    with watched(tmp_path / "state") as made:
        yield made


def printed(device: Watched) -> list[str]:
    """The lines of `scanside drift`, each as it was before it was laid into a table."""
    console = Console(file=io.StringIO(), width=2000, highlight=False)
    verb.show(device.settings, console)
    assert isinstance(console.file, io.StringIO)
    cells = (cell for line in console.file.getvalue().splitlines() for cell in line.split("│"))
    return [cell.strip() for cell in cells if cell.strip()]


def said_of(statistic: Statistic, test: Test) -> str:
    name = WORDS(f"drift.statistic.{statistic.value}")
    if test == "missing":
        return WORDS("drift.alarm_missing", statistic=name, at=AT)
    if test == "learning":
        return WORDS("drift.alarm_learning", statistic=name, size="5.0")
    way = WORDS("drift.way.up")
    return WORDS("drift.alarm", statistic=name, size="5.0", way=way, at=AT)


@pytest.mark.parametrize("cause", list(Cause))
def test_every_alarm_is_said_in_the_same_words_and_by_no_code(
    device: Watched, cause: Cause
) -> None:
    device.learnt(30)
    (entry,) = device.listed().today
    tests = get_args(Test)
    alarms = [
        Alarm(statistic=one, test=tests[n % len(tests)], size=5.0, since=BEGAN, cause=cause)
        for n, one in enumerate(Statistic)
    ]
    row = entry.row.model_copy(update={"alarms": tuple(alarms), "state": "frozen"})
    Library(device.state).put(entry.model_copy(update={"row": row}))
    likely = WORDS("drift.cause", cause=WORDS(f"drift.cause.{cause.value}"))
    listed = printed(device)
    doctor = check.scanners(Device(device.settings, "scanside.toml")).text
    for alarm in alarms:
        sentence = said_of(alarm.statistic, alarm.test)
        assert sentence in listed
        assert f"{sentence}. {likely}" in doctor
        doctor = doctor.replace(f"{sentence}. {likely}", "")
        listed.remove(sentence)
    to_do = f"{likely}. {WORDS(f'drift.do.{cause.value}')}"
    rest = [line for line in listed if line != to_do]
    assert len(listed) - len(rest) == len(alarms)
    for code in CODES:
        assert not re.search(rf"\b{code}\b", "\n".join((doctor, *rest))), code


@pytest.mark.parametrize(
    ("key", "said"),
    [
        (Scanner(), "maker unknown model unknown, modality unknown"),
        (Scanner(modality="DX", maker="siemens"), "siemens model unknown, DX"),
        (
            Scanner(modality="CT", maker="siemens", model="Definition", thickness="to 1.5 mm"),
            "siemens Definition, kernel unknown, kV unknown, slices ≤ 1.5 mm",
        ),
        (
            Scanner(modality="CT", model="Definition", kernel="B40f", kvp="120"),
            "maker unknown Definition, B40f, 120 kV, thickness unknown",
        ),
    ],
)
def test_what_is_not_known_of_a_scanner_is_said_in_words(
    device: Watched, key: Scanner, said: str
) -> None:
    device.learnt(5, key)
    assert said in printed(device)
