"""`scanside drift` on a box with slots: what is typed goes to `apply` through its socket, and what
`work` makes of it comes back. The library, the journal and the socket are the real ones."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

import pytest

from appliance.apply import decided
from appliance.apply.audit import Audit
from appliance.apply.door import Door, opened
from appliance.apply.notes import Notes
from appliance.apply.requests import Answer, Requests
from appliance.errors import ScansideError, StateUnusable
from appliance.settings import Settings, Update
from appliance.store import tunings
from appliance.store.library import ACTS, REFUSED, TUNE
from appliance.verbs import drift, drift_asked
from appliance.verbs.drift import Decision
from rigs.watched import OTHER, Watched, watched

REPOSITORY = Path(__file__).resolve().parents[3]


class Box:
    """A device whose state folder is another user's, with `apply` at its door, and a `work` that is
    idle from `works` on."""

    def __init__(self, device: Watched, trusted: Path) -> None:
        self.device = device
        update = Update(root=trusted.with_name("root"), trusted=trusted)
        self.settings: Settings = device.settings.model_copy(update={"update": update})
        self.said: list[str] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._idle)

    def works(self) -> None:
        self._thread.start()

    def _idle(self) -> None:
        while not self._ended.wait(0.05):
            self.device.count()

    def end(self) -> None:
        self._ended.set()
        if self._thread.ident is not None:
            self._thread.join(60)

    def types(self, decision: Decision, row: str) -> str:
        return drift_asked.decided(self.settings, decision, row, say=self.said.append)

    def refused(self, decision: Decision, row: str) -> ScansideError:
        with pytest.raises(ScansideError) as raised:
            self.types(decision, row)
        return raised.value


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    trusted = tmp_path / "trusted"
    trusted.mkdir()
    with watched(tmp_path / "state") as device, opened(trusted, {}) as listening:
        made = Box(device, trusted)
        audit = Audit(trusted, lambda: datetime.now(timezone.utc), lambda *_: None)
        of_scanners = decided.of(device.state)
        requests = Requests(
            Notes(trusted),
            made.settings.update,
            audit.add,
            lambda: None,
            lambda *_: Answer(ok=False),
            of_scanners,
        )
        serving = Door(listening, requests)
        serving.open()
        yield made
        made.end()
        serving.close()


def test_what_work_obeyed_is_said_as_where_nobody_is_asked(box: Box, tmp_path: Path) -> None:
    entry = box.device.sharpened()
    box.works()
    decisions: tuple[Decision, ...] = ("tune", "withdraw")
    said = {one: box.types(one, entry.id[:6]) for one in decisions}
    with watched(tmp_path / "alone") as alone:
        here = alone.sharpened().id
        for one in decisions:
            noted = drift.decide(alone.settings, one, here, "ann@cli")
            alone.count()
            assert said[one] == f"done: {noted.replace(here, entry.id)}."
    assert tunings.in_force(box.device.state) == ()


def test_an_alarm_is_acknowledged_and_a_change_accepted(box: Box) -> None:
    entry = box.device.alarmed()
    box.works()
    assert box.types("accept", entry.id) == f"done: {entry.id}."
    (today,) = box.device.listed().today
    assert today.row.alarms == ()


def test_what_work_refuses_is_the_error_that_it_is_where_nobody_is_asked(box: Box) -> None:
    entry = box.device.sharpened()
    (other,) = (one for one in box.device.listed().today if one.row.key == OTHER)
    here: list[ScansideError] = []
    cases: tuple[tuple[Decision, str], ...] = (("tune", other.id), ("withdraw", entry.id))
    for decision, row in cases:
        with pytest.raises(ScansideError) as raised:
            drift.decide(box.device.settings, decision, row, "ann@cli")
        here.append(raised.value)
    assert box.device.journal.audit.of(ACTS) == []
    box.works()
    for (decision, row), error in zip(cases, here, strict=True):
        assert box.refused(decision, row).one_line() == error.one_line()
    (box.device.state / tunings.NAME).write_bytes(b"{")
    damaged = box.refused("tune", entry.id)
    assert damaged.code == "tunings_damaged"
    assert str(box.device.state / tunings.NAME) in damaged.remedy
    assert len(box.device.journal.audit.of((REFUSED,))) == 3


def test_an_older_answer_is_not_taken_for_this_one(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = box.device.sharpened()
    box.device.journal.audit.add("ann@cli", TUNE, row=entry.id)
    box.device.count()
    assert len(tunings.in_force(box.device.state)) == 1
    monkeypatch.setattr(drift_asked, "WAIT_S", 1.0)
    assert "has not answered within 1 s" in box.types("tune", entry.id)
    box.device.count()
    assert [one.detail["code"] for one in box.device.journal.audit.of((REFUSED,))] == [
        "no_proposal"
    ]


def test_a_work_that_does_not_run_is_waited_for_and_nothing_is_lost(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = box.device.sharpened()
    monkeypatch.setattr(drift_asked, "WAIT_S", 2.0)
    said = box.types("tune", entry.id)
    assert said.startswith(f"noted: {entry.id}. ")
    assert "Nothing is lost" in said
    box.device.count()
    assert len(tunings.in_force(box.device.state)) == 1


def test_a_tuning_whose_row_is_gone_is_taken_back(box: Box) -> None:
    entry, made = box.device.evicted()
    box.works()
    assert box.refused("withdraw", entry.id).code == "row_unknown"
    assert box.refused("withdraw", "zz zz").code == "row_unknown"
    said = box.types("withdraw", made.digest[:16])
    assert said == f"done: {made.digest[:16]}, softening by 0.6 mm is withdrawn."
    assert tunings.in_force(box.device.state) == ()


class Clock:
    """Time that passes by sleeping alone."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def followed(clock: Clock, *answers: Answer | Exception, said: list[str]) -> Answer | None:
    """What comes of these answers, of which the last one is given for ever."""
    left = list(answers)

    def ask() -> Answer:
        one = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(one, Exception):
            raise one
        return one

    return drift_asked.followed(ask, say=said.append, sleep=clock.sleep, clock=clock)


def test_it_is_said_that_it_waits_after_a_second_and_then_now_and_then() -> None:
    clock, said = Clock(), list[str]()
    assert followed(clock, Answer(ok=True), said=said) is None
    assert 60 <= clock.now - 100 < 61
    assert len(said) == 6
    assert "59 s more" in said[0]
    quick, quiet = Clock(), list[str]()
    obeyed = Answer(ok=True, obeyed=True, text="x")
    assert followed(quick, Answer(ok=True), Answer(ok=True), obeyed, said=quiet) == obeyed
    assert (quick.now < 101, quiet) == (True, [])


def test_an_apply_that_is_away_for_a_while_is_waited_for() -> None:
    away, obeyed = StateUnusable("nobody answers"), Answer(ok=True, obeyed=True)
    assert followed(Clock(), away, away, obeyed, said=[]) == obeyed
    assert followed(Clock(), away, said=[]) is None
    with pytest.raises(ScansideError) as raised:
        followed(Clock(), away, Answer(ok=False, code="no_tuning", text="x"), said=[])
    assert raised.value.code == "no_tuning"


def test_it_is_typed_with_the_exit_codes_of_every_verb(box: Box, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give the state folder to another user")
    entry = box.device.sharpened()
    config = tmp_path / "scanside.toml"
    config.write_text(
        f'state = "{box.device.state}"\n[update]\nroot = "{box.settings.update.root}"\n'
        f'trusted = "{box.settings.update.trusted}"\n'
    )
    os.chown(box.device.state, 12345, 12345)
    box.works()

    def scanside(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "appliance", "drift", *words, "--config", str(config)]
        return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)

    done = scanside("tune", entry.id)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1].startswith(f"done: {entry.id}, softening by 0.6 mm")
    refused = scanside("tune", entry.id)
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
    assert "[no_proposal]" in refused.stderr
    assert {one.actor[-7:] for one in box.device.journal.audit.of(ACTS)} == {"@socket"}
