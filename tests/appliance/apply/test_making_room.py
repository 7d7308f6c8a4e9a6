"""Where memory holds one bundle only, a proof waits for an idle `work` to let go. The proof is the
real one; how much memory is free is told by whether `work` runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.apply.course import Course, Turn
from appliance.apply.interlock import Seen
from appliance.host import memory
from appliance.runtime import proof
from appliance.update.states import State
from appliance.update.units import UnitFailed
from rigs.applied import Applied
from rigs.bundles import signed
from rigs.releasing import Simulated

STUDY = Seen(associations=1, mark="a study")


class Small:
    """A box whose memory holds one bundle: `work` of slot 1 has one open while it runs."""

    def __init__(self, box: Applied, monkeypatch: pytest.MonkeyPatch) -> None:
        self.box = box
        self.proofs = 0
        self.beside = 0
        settings = box.settings
        work = settings.work.model_copy(update={"backend": "onnxruntime"})
        self.settings = settings.model_copy(update={"work": work})
        monkeypatch.setattr(memory, "available", self._available)

    def _available(self) -> int:
        return self.beside if self.box.units.state("work", 1) == "ready" else 1 << 40

    def prove(self, slot: int, paths: Sequence[Path]) -> str | None:
        self.proofs += 1
        found = [proof.prove(path, self.settings) for path in paths]
        return next((one.one_line() for one in found if one.verdict == "failed"), None)

    def course(self, **how: float) -> Course:
        made = self.box.course(**how)
        made.box = replace(made.box, prove=self.prove)
        return made


@pytest.fixture
def small(tmp_path: Path, tiny_bytes: bytes, monkeypatch: pytest.MonkeyPatch) -> Small:
    """A release with another appliance and a bundle is there."""
    repo = Simulated.begun()
    box = Applied(tmp_path / "box", repo)
    release = repo.release(bundles=(signed(tiny_bytes),))
    repo.add(release)
    repo.sign("stable")
    repo.publish()
    return Small(box, monkeypatch)


def fetched(small: Small, course: Course) -> Turn:
    small.box.turns(course)
    small.box.fetch()
    return small.box.turns(course)


def test_it_waits_for_an_idle_box_and_tries_nothing_in_vain(small: Small) -> None:
    course = small.course()
    small.box.seen = STUDY
    assert fetched(small, course) is Turn.WAIT
    assert small.box.state is State.PROVING
    assert "[update_memory]" in course.trouble
    for _ in range(3):
        small.box.turns(course)
    assert small.proofs == 1
    assert ("stop", "work", 1) not in small.box.units.told


def test_on_an_idle_box_work_lets_go_and_is_there_again(small: Small) -> None:
    course = small.course()
    fetched(small, course)
    assert small.box.units.told[:2] == [("stop", "work", 1), ("start", "work", 1)]
    assert ("work makes room", {"slot": "2"}) in small.box.audit
    assert small.box.state is State.TRIAL


def test_what_memory_does_not_hold_even_then_is_refused_and_work_runs(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "available", lambda: 0)
    fetched(small, small.course())
    assert small.box.state is State.REFUSED
    assert "[memory_short]" in small.box.text
    assert small.box.units.state("work", 1) == "ready"


def test_where_memory_holds_both_work_is_not_touched(small: Small) -> None:
    small.beside = 1 << 40
    fetched(small, small.course())
    assert ("start", "work", 1) not in small.box.units.told
    assert small.proofs == 1


def test_a_work_that_does_not_start_again_at_once_refuses_nothing(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = small.box.units.start

    def fails(stage: str, slot: int) -> None:
        if (stage, slot) == ("work", 1):
            raise UnitFailed(f"{stage} of slot {slot} did not serve yet")
        start(stage, slot)

    monkeypatch.setattr(small.box.units, "start", fails)
    fetched(small, small.course())
    assert small.box.state is State.TRIAL
