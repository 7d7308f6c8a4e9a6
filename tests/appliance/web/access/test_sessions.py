"""Sessions: a secret in the cookie, its digest at rest; they end by age, of idleness, when told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from appliance.errors import StateUnusable
from appliance.store.files import Disk
from appliance.web.access import sessions
from appliance.web.access.moment import Moment
from appliance.web.access.sessions import Sessions
from rigs.cuts import Full


class Clock:
    """A machine that can be started again."""

    def __init__(self) -> None:
        self.at = Moment(wall=1e9, boot="a", tick=100.0)

    def __call__(self) -> Moment:
        return self.at

    def passes(self, seconds: float) -> None:
        self.at = Moment(
            wall=self.at.wall + seconds, boot=self.at.boot, tick=self.at.tick + seconds
        )

    def jumps(self, seconds: float) -> None:
        """Of the clock of the day alone."""
        self.at = self.at.model_copy(update={"wall": self.at.wall + seconds})

    def starts_again(self) -> None:
        self.at = self.at.model_copy(update={"boot": self.at.boot + "a", "tick": 1.0})


@pytest.fixture
def clock() -> Clock:
    return Clock()


def opened(state: Path, clock: Clock, disk: Disk | None = None) -> Sessions:
    return Sessions(state, lasts_s=3600.0, idle_s=600.0, now=clock, disk=disk or Disk())


def begin(at: Sessions, kind: sessions.Kind = "account") -> str:
    return at.begin(kind, "technologist", "anna", "mark")[0]


def test_a_session_is_known_by_its_cookie_and_only_a_digest_is_at_rest(
    tmp_path: Path, clock: Clock
) -> None:
    open_ = opened(tmp_path, clock)
    token = begin(open_)
    found = open_.of(token)
    assert found is not None
    assert (found.account, found.role) == ("anna", "technologist")
    assert len(token) == 43, "256 bits"
    stored = (tmp_path / "web" / "sessions.json").read_text()
    assert token not in stored
    assert sessions.name_of(token) in stored


@pytest.mark.parametrize("forged", ["", "x" * 43, "\udcff", "0" * 64])
def test_a_forged_cookie_opens_nothing(tmp_path: Path, clock: Clock, forged: str) -> None:
    open_ = opened(tmp_path, clock)
    token = begin(open_)
    assert open_.of(forged) is None
    assert open_.of(sessions.name_of(token)) is None, "what is at rest is no key"


def test_it_ends_of_idleness_and_by_age(tmp_path: Path, clock: Clock) -> None:
    open_ = opened(tmp_path, clock)
    idle, used = begin(open_), begin(open_)
    for _ in range(7):
        clock.passes(500.0)
        assert open_.of(used) is not None
    assert open_.of(idle) is None
    clock.passes(500.0)
    assert open_.of(used) is None, "it was used, and it is too old"


def test_what_a_page_asks_for_by_itself_keeps_no_session(tmp_path: Path, clock: Clock) -> None:
    open_ = opened(tmp_path, clock)
    token = begin(open_)
    clock.passes(500.0)
    assert open_.of(token, used=False) is not None
    clock.passes(200.0)
    assert open_.of(token, used=False) is None


@pytest.mark.parametrize("jump", [-1e8, 1e8])
def test_a_clock_that_jumps_ends_nothing_and_lengthens_nothing(
    tmp_path: Path, clock: Clock, jump: float
) -> None:
    open_ = opened(tmp_path, clock)
    token = begin(open_)
    clock.jumps(jump)
    assert open_.of(token) is not None
    clock.passes(601.0)
    assert open_.of(token) is None


def test_it_outlives_a_start_but_not_one_with_a_clock_set_back(
    tmp_path: Path, clock: Clock
) -> None:
    token = begin(opened(tmp_path, clock))
    clock.starts_again()
    clock.passes(60.0)
    assert opened(tmp_path, clock).of(token) is not None
    clock.jumps(-1e6)
    clock.starts_again()
    assert opened(tmp_path, clock).of(token) is None


def test_when_it_was_used_is_written_down_once_a_minute(tmp_path: Path, clock: Clock) -> None:
    open_ = opened(tmp_path, clock)
    token = begin(open_)
    path = tmp_path / "web" / "sessions.json"
    before = path.read_bytes()
    clock.passes(59.0)
    open_.of(token)
    assert path.read_bytes() == before
    clock.passes(1.0)
    open_.of(token)
    assert path.read_bytes() != before


def test_the_display_does_not_end_by_itself(tmp_path: Path, clock: Clock) -> None:
    open_ = opened(tmp_path, clock)
    token, person = begin(open_, "display"), begin(open_)
    clock.passes(1e8)
    assert open_.of(token) is not None
    assert open_.of(person) is None


def test_who_is_told_to_go_is_gone_after_a_start_too(tmp_path: Path, clock: Clock) -> None:
    open_ = opened(tmp_path, clock)
    token = begin(open_)
    open_.end(sessions.name_of(token))
    assert open_.of(token) is None
    assert opened(tmp_path, clock).of(token) is None


def test_the_newest_stay_where_there_are_too_many(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "MOST", 3)
    open_ = opened(tmp_path, clock)
    tokens = [begin(open_) for _ in range(5)]
    assert [open_.of(token) is not None for token in tokens] == [False, False, True, True, True]
    assert len(json.loads((tmp_path / "web" / "sessions.json").read_text())["sessions"]) == 3


def test_who_logs_in_again_and_again_logs_nobody_else_out(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "MOST_EACH", 3)
    open_ = opened(tmp_path, clock)
    display, _ = open_.begin("display", "display", None, "m" * 16)
    other, _ = open_.begin("account", "service", "bert", "m" * 16)
    tokens = [open_.begin("account", "radiologist", "anna", "m" * 16)[0] for _ in range(5)]
    assert [open_.of(token) is not None for token in tokens] == [False, False, True, True, True]
    assert open_.of(display)
    assert open_.of(other)


def test_on_a_full_disk_nobody_is_let_in_and_who_is_in_stays(tmp_path: Path, clock: Clock) -> None:
    disk = Full(full=False)
    open_ = opened(tmp_path, clock, disk)
    token = begin(open_)
    disk.full = True
    with pytest.raises(StateUnusable):
        begin(open_)
    assert len(open_._open) == 1
    clock.passes(120.0)
    assert open_.of(token) is not None
