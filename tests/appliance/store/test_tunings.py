"""The accepted tunings: kept whole, put in force by a person, and never lost."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from appliance.errors import ScansideError, StateUnusable
from appliance.store import tunings
from appliance.watching.scanner import Scanner
from appliance.watching.tuning import Tuning
from rigs.cuts import Full

AT = datetime(2026, 11, 29, tzinfo=timezone.utc)
LATER = AT + timedelta(days=1)


def of(sd_mm: float) -> Tuning:
    return Tuning(scanner=Scanner(maker="one"), soften_mm=sd_mm, from_per_mm=0.43)


def test_none_is_in_force_until_one_is_accepted(tmp_path: Path) -> None:
    state = tmp_path / "state"
    assert tunings.in_force(state) == ()
    tunings.accept(state, of(0.6), AT)
    tunings.accept(state, of(0.8), LATER)
    tunings.accept(state, of(0.6), LATER)
    assert tunings.in_force(state) == (of(0.6), of(0.8))
    assert [one.at for one in tunings.kept(state)] == [AT, LATER]


def test_what_is_withdrawn_is_known_and_not_in_force(tmp_path: Path) -> None:
    tunings.accept(tmp_path, of(0.6), AT)
    tunings.withdraw(tmp_path, of(0.6).digest, LATER)
    assert tunings.in_force(tmp_path) == ()
    assert tunings.of_digest(tmp_path, of(0.6).digest) == of(0.6)
    assert tunings.of_digest(tmp_path, "0" * 64) is None
    with pytest.raises(ScansideError) as e:
        tunings.withdraw(tmp_path, of(0.6).digest, LATER)
    assert e.value.code == "no_tuning"
    tunings.accept(tmp_path, of(0.6), LATER)
    assert tunings.in_force(tmp_path) == (of(0.6),)
    assert len(tunings.kept(tmp_path)) == 1


def test_one_takes_the_place_of_another_in_one_write(tmp_path: Path) -> None:
    tunings.accept(tmp_path, of(0.6), AT)
    tunings.accept(tmp_path, of(0.8), LATER, instead_of=[of(0.6).digest])
    assert tunings.in_force(tmp_path) == (of(0.8),)
    first, second = tunings.kept(tmp_path)
    assert (first.withdrawn, second.withdrawn) == (LATER, None)
    with pytest.raises(StateUnusable):
        tunings.accept(tmp_path, of(1.0), LATER, Full(), instead_of=[of(0.8).digest])
    assert tunings.in_force(tmp_path) == (of(0.8),)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b"\xff\xfe",
        b'{"schema": "scanside.tunings/2", "tunings": []}',
        b'{"schema": "scanside.tunings/1", "tunings": [{"tuning": {"soften_mm": -1}}]}',
        b" " * (tunings.MOST_BYTES + 1),
        b"[" * 100_000,
    ],
)
def test_a_damaged_file_is_an_error_that_says_what_to_do_and_stays(
    tmp_path: Path, data: bytes
) -> None:
    (tmp_path / tunings.NAME).write_bytes(data)
    for ask in (tunings.in_force, lambda state: tunings.accept(state, of(0.6), AT)):
        with pytest.raises(ScansideError) as e:
            ask(tmp_path)
        assert e.value.code == "tunings_damaged"
        assert tunings.NAME in e.value.remedy
    assert (tmp_path / tunings.NAME).read_bytes() == data


def test_what_a_later_release_added_is_left_out(tmp_path: Path) -> None:
    tunings.accept(tmp_path, of(0.6), AT)
    path = tmp_path / tunings.NAME
    path.write_text(path.read_text().replace('"soften_mm"', '"newer": 1, "soften_mm"'))
    assert tunings.in_force(tmp_path) == (of(0.6),)


def test_a_full_disk_keeps_what_was_in_force(tmp_path: Path) -> None:
    tunings.accept(tmp_path, of(0.6), AT)
    with pytest.raises(StateUnusable):
        tunings.accept(tmp_path, of(0.8), AT, Full())
    assert tunings.in_force(tmp_path) == (of(0.6),)


def test_there_is_an_end_to_how_many_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tunings, "MOST", 2)
    tunings.accept(tmp_path, of(0.4), AT)
    tunings.accept(tmp_path, of(0.6), AT)
    with pytest.raises(ScansideError) as e:
        tunings.accept(tmp_path, of(0.8), AT)
    assert e.value.code == "tunings_full"
