"""Faults of the machine while a box takes a release, each as it would happen: a clock that is wrong
by decades, an engine that cannot be built, and whoever broke into the stage `update` and writes
into its folder at any moment."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

import pytest

from appliance.apply.course import Turn
from appliance.apply.interlock import Seen
from appliance.apply.proving import failed
from appliance.runtime import proof
from appliance.update.states import State
from rigs.applied import STAGES, Applied
from rigs.bundles import signed
from rigs.releasing import Simulated

IN_1970 = datetime(1970, 1, 1, tzinfo=timezone.utc)
IN_2099 = datetime(2099, 1, 1, tzinfo=timezone.utc)


@pytest.fixture
def repo() -> Simulated:
    """With one release of a new appliance in stable."""
    made = Simulated.begun()
    made.ship()
    return made


@pytest.fixture
def box(repo: Simulated, tmp_path: Path) -> Applied:
    return Applied(tmp_path / "box", repo)


def runs(box: Applied, slot: int) -> bool:
    return box.slots.current() == slot and box.units.running() == {(s, slot) for s in STAGES}


def confirm(box: Applied) -> None:
    """The trial in slot 2, to its end."""
    assert box.state is State.TRIAL, box.steps()
    box.seen = Seen(mark="m", analysed=frozenset(f"0.2.0 {n}" for n in range(3)))
    box.turns(box.course())
    assert box.state is State.CONFIRMED


# ---- the clock


def test_a_box_whose_clock_says_1970_takes_the_release_and_nothing_older(
    repo: Simulated, box: Applied
) -> None:
    old = dict(repo.files)
    repo.later(days=20)
    repo.publish()
    box.local = IN_1970
    assert box.offer(box.course()) is Turn.END
    assert runs(box, 2)
    confirm(box)
    repo.files = old
    box.notes.wish(asked=box.notes.wishes().asked + 1)
    course = box.course()
    box.offer(course)
    assert runs(box, 2)
    assert course.offers.at() == repo.now, "of what was signed, not of the clock"


def test_a_box_whose_clock_says_2099_says_so_goes_on_and_takes_it_when_the_clock_is_right(
    box: Applied,
) -> None:
    box.local = IN_2099
    course = box.course()
    box.offer(course)
    assert "clock" in course.trouble
    assert runs(box, 1)
    assert box.steps() is None
    box.local = None
    box.notes.wish(asked=box.notes.wishes().asked + 1)
    assert box.offer(box.course()) is Turn.END
    confirm(box)


def test_a_clock_that_jumps_to_2099_in_a_trial_neither_confirms_it_nor_ends_it(
    box: Applied,
) -> None:
    assert box.offer(box.course()) is Turn.END
    course = box.course()
    assert box.turns(course) is Turn.WAIT
    box.local = IN_2099
    assert box.turns(course) is Turn.WAIT
    assert (box.state, runs(box, 2)) == (State.TRIAL, True)
    box.local = IN_1970
    assert box.turns(course) is Turn.WAIT
    assert (box.state, runs(box, 2)) == (State.TRIAL, True)
    box.local = None
    confirm(box)


# ---- the graphics processor


def test_an_engine_that_cannot_be_built_refuses_the_release_before_anything_is_switched(
    repo: Simulated, box: Applied, tiny_bytes: bytes
) -> None:
    """By the record that `scanside prove --json` of the new slot prints then."""
    repo.add(repo.release(version="0.3.0", bundles=(signed(tiny_bytes),)))
    repo.sign("stable")
    repo.publish()
    box.notes.know(highest=1)
    why = proof.Why(code="engine_build", text="no engine was built", remedy="")
    said = proof.Proof(
        file="tiny.scanside", verdict="failed", bundle=None, reasons=(why,), seconds=1.0
    )
    box.unproved = failed(said.model_dump_json(by_alias=True))
    assert box.unproved is not None
    assert box.offer(box.course()) is Turn.WAIT
    assert box.state is State.REFUSED
    assert "no engine was built" in box.text
    assert runs(box, 1)
    assert box.units.told == []
    assert box.shelf.active() == ()


# ---- who broke into `update`


def _junk(path: Path, rng: random.Random) -> None:
    path.unlink(missing_ok=True)
    path.write_bytes(rng.randbytes(rng.choice([0, 10, 5000])))


def _pipe(path: Path, _: random.Random) -> None:
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def _folder(path: Path, _: random.Random) -> None:
    path.unlink(missing_ok=True)
    path.mkdir()


def _link(path: Path, _: random.Random) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to("/etc/passwd")


def _flipped(path: Path, rng: random.Random) -> None:
    data = bytearray(path.read_bytes())
    if data:
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)


def _gone(path: Path, _: random.Random) -> None:
    path.unlink(missing_ok=True)


HARMS: tuple[Callable[[Path, random.Random], None], ...] = (
    _junk, _pipe, _folder, _link, _flipped, _gone,
)  # fmt: skip


@pytest.mark.parametrize("seed", range(20))
def test_whoever_writes_into_the_downloads_at_any_moment_runs_nothing_of_his_own(
    repo: Simulated, tmp_path: Path, seed: int
) -> None:
    """Before each turn of `apply` a file of the downloads becomes something else. What is put into
    a slot is what was signed, or nothing is; and once he is gone, a person gets the release."""
    rng = random.Random(seed)
    box = Applied(tmp_path / "box", repo)
    signed_names = {"liba-1.0.0-py3-none-any.whl", "libb-2.1-py3-none-any.whl"}
    course = box.course()
    course.turn()
    box.fetch()
    for _ in range(25):
        files = [p for p in box.places.downloads.rglob("*") if p.is_file() and not p.is_symlink()]
        if files:
            rng.choice(HARMS)(rng.choice(sorted(files)), rng)
        made = course.turn()
        if made is Turn.END:
            course = box.course()
        assert box.slots.current() in (1, 2)
    for _, names in box.slots.built:
        assert signed_names < set(names)
    if box.state is State.TRIAL:
        assert runs(box, 2)
        return
    assert runs(box, 1)
    shutil.rmtree(box.places.downloads)
    course = box.course()
    course.notes.wish(now=True, asked=box.notes.wishes().asked + 1)
    course.turn()
    box.fetch()
    assert box.turns(course) is Turn.END, (course.trouble, box.steps())
    assert runs(box, 2)
