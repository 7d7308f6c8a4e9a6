"""Which entries of earlier exams go, and after what."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from appliance.retain.age import DAY_S, Look
from appliance.retain.stage import run_once
from appliance.settings import Priors as Rules
from appliance.settings import Retain, Settings
from appliance.store import priors, site_key
from appliance.store.files import Disk
from appliance.store.journal import Journal
from appliance.store.priors import Priors
from rigs.entries import named
from rigs.reports import NAMING

ANN = NAMING.patient("", "a12")
KEY = bytes(range(32))


class Filling(Disk):
    """A disk of which so much is free, and more by each entry that goes."""

    def __init__(self, free_mb: float, entry_mb: float) -> None:
        self.free, self.entry_mb = free_mb, entry_mb
        self.removed: list[str] = []

    def free_mb(self, path: Path) -> float:
        return self.free

    def unlink(self, path: Path) -> None:
        super().unlink(path)
        if path.suffix in {priors.SUFFIX, ".dcm"}:
            self.free += self.entry_mb
            self.removed.append(path.suffix)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """Whose audit knows KEY, with three entries."""
    (tmp_path / site_key.NAME).write_bytes(KEY)
    with Journal.open(tmp_path) as journal:
        site_key.register(journal, KEY, "work")
    for number in range(3):
        Priors(tmp_path).keep(
            ANN, named(number), b"x" * 1_000_000, fingerprint=site_key.fingerprint(KEY)
        )
    return tmp_path


def looked(state: Path, *days: float, disk: Disk | None = None, **rules: Any) -> int:
    """Looks after so many days, and how many entries are left."""
    retain = {"reserve_mb": 0, "target_free_mb": 0, **rules.pop("retain", {})}
    settings = Settings(state=state, retain=Retain(**retain), priors=Rules(**rules))
    for day in days:
        look = Look(1.7e9 + day * DAY_S, "boot", 1000 + day * DAY_S)
        run_once(settings, disk=disk or Disk(), look=lambda at=look: at)
    return len(Priors(state).all())


def audited(state: Path) -> list[dict[str, Any]]:
    with Journal.open(state) as journal:
        return [dict(row.detail) for row in journal.audit.of(("priors_deleted",))]


def test_they_go_by_the_time_that_was_seen_to_pass(state: Path) -> None:
    assert looked(state, 0, 1899) == 3
    assert looked(state, 1901) == 0
    assert audited(state) == []


def test_a_clock_that_jumps_deletes_none(state: Path) -> None:
    assert looked(state, 0) == 3
    settings = Settings(state=state, retain=Retain(reserve_mb=0, target_free_mb=0))
    run_once(settings, look=lambda: Look(1.7e9 + 9000 * DAY_S, "boot", 1060.0))
    assert len(Priors(state).all()) == 3


def test_they_stay_while_series_go_and_where_nothing_more_is_kept(state: Path) -> None:
    assert looked(state, 0, 400, keep=False, retain={"days": 1}) == 3


def test_they_are_no_more_than_they_may_be(state: Path) -> None:
    assert looked(state, 0, max_mb=2) == 2
    assert audited(state) == [{"why": "max_mb", "count": 1}]


def test_they_make_room_before_receive_would_refuse(state: Path) -> None:
    rules = {"retain": {"reserve_mb": 100, "target_free_mb": 400}}
    assert looked(state, 0, disk=Filling(250.0, 30.0), **rules) == 3
    assert looked(state, 1, disk=Filling(150.0, 30.0), **rules) == 1
    assert audited(state) == [{"why": "space", "count": 2}]


def test_those_of_another_site_key_all_go(state: Path) -> None:
    (state / site_key.NAME).write_bytes(bytes(32))
    with Journal.open(state) as journal:
        site_key.accept(journal, state, "a person")
    assert looked(state, 0) == 0
    assert audited(state) == [{"why": "site_key", "count": 3}]
