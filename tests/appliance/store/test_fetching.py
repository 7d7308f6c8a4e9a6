"""Requests for earlier exams: for one reader, for a day at most, and never more than a few."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from pydantic import ValidationError

from appliance.errors import StateUnusable
from appliance.store import bell, fetching
from appliance.store.fetching import DAY_S, FOLDER, MOST, Wanted
from rigs.cuts import Full

WANTED = Wanted(patient_id="Z-4711", issuer="here", study="1.2.3")


def aged(path: Path, seconds: float) -> None:
    at = path.stat().st_mtime - seconds
    os.utime(path, (at, at))


def test_a_request_holds_the_patient_and_the_study_and_nothing_else(tmp_path: Path) -> None:
    fetching.ask(tmp_path, WANTED)
    (path,) = fetching.waiting(tmp_path)
    assert fetching.read(path) == WANTED
    assert set(Wanted.model_fields) == {"patient_id", "issuer", "study"}
    assert "4711" not in path.name
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert "4711" not in repr(WANTED), "no log shows it"
    assert "here" not in repr(WANTED)


def test_the_stage_is_woken_and_finds_the_oldest_first(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with bell.hearing(tmp_path, fetching.STAGE) as heard:
        fetching.ask(tmp_path, WANTED)
        assert bell.take(heard)
    (first,) = fetching.waiting(tmp_path)
    aged(first, 10)
    fetching.ask(tmp_path, WANTED)
    assert fetching.waiting(tmp_path)[0] == first
    fetching.done(first)
    fetching.done(first)
    assert len(fetching.waiting(tmp_path)) == 1


def test_after_a_day_a_request_goes_and_so_does_what_a_power_cut_left(tmp_path: Path) -> None:
    fetching.ask(tmp_path, WANTED)
    (path,) = fetching.waiting(tmp_path)
    left = path.with_name(".0.json.0.tmp")
    left.write_bytes(path.read_bytes()[:9])
    assert fetching.waiting(tmp_path) == [path], "a part of one is none"
    aged(path, DAY_S - 60)
    aged(left, DAY_S - 60)
    assert fetching.sweep(tmp_path) == 0
    aged(path, 120)
    aged(left, 120)
    assert fetching.sweep(tmp_path) == 2
    assert list((tmp_path / FOLDER).iterdir()) == []


def test_more_than_the_most_never_wait(tmp_path: Path) -> None:
    (tmp_path / FOLDER).mkdir()
    for n in range(MOST + 5):
        path = tmp_path / FOLDER / f"{n}.json"
        path.write_text("{}")
        os.utime(path, (n, n))
    fetching.ask(tmp_path, WANTED)
    names = [path.name for path in fetching.waiting(tmp_path)]
    assert len(names) == MOST
    assert names[0] == "6.json", "the oldest went"
    assert fetching.forget(tmp_path) == MOST


@pytest.mark.parametrize("data", [b"", b"{", b'{"patient_id": ""}', b"x" * 100_000])
def test_what_is_no_request_is_none(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "odd.json"
    assert fetching.read(path) is None
    path.write_bytes(data)
    assert fetching.read(path) is None


def test_a_link_is_followed_by_nobody(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (tmp_path / FOLDER).symlink_to(other)
    with pytest.raises(StateUnusable):
        fetching.ask(tmp_path, WANTED)
    assert list(other.iterdir()) == []


def test_a_disk_that_takes_nothing_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(StateUnusable):
        fetching.ask(tmp_path, WANTED, Full())
    assert list((tmp_path / FOLDER).iterdir()) == []


def test_an_empty_id_is_no_request() -> None:
    with pytest.raises(ValidationError):
        Wanted(patient_id="", study="1.2.3")
