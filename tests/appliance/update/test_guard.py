"""`guard` in real shells: when it goes back, and that a power cut at any step changes nothing."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from appliance.host.boot import boot_id
from rigs.guarded import SHELLS, Box
from rigs.peers import until

BACK = [
    "stop apply 0",
    "start receive 1",
    "stop receive 2",
    "stop publish 2",
    "stop work 2",
    "stop retain 2",
    "begin publish 1",
    "begin work 1",
    "begin retain 1",
    "begin apply 0",
    "restart update 0",
]


@pytest.fixture(params=SHELLS, ids=lambda shell: Path(shell[0]).name)
def box(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Box]:
    made = Box(tmp_path, request.param)
    yield made
    made.close()


def stays(box: Box) -> bool:
    done = box.guard()
    assert done.returncode == 0, done.stderr
    return (box.current, box.reason, box.asked) == ("slots/2", None, [])


def goes_back(box: Box) -> str | None:
    """Why, after checking that all of it was done."""
    done = box.guard()
    assert done.returncode == 0, done.stderr
    assert box.current == "slots/1"
    assert not (box.trusted / "trial").exists()
    until(lambda: box.asked[-1:] == BACK[-1:])
    assert box.asked[0] == "kill apply 0", "first: it may be on its way forward"
    assert [line for line in box.asked if not line.startswith("kill")] == BACK
    assert not list(box.control.glob("*.tmp"))
    return box.reason


def test_without_a_trial_it_does_nothing(box: Box) -> None:
    (box.trusted / "trial").unlink()
    box.starts("work", 30)
    assert stays(box)


def test_a_stage_that_was_started_three_times_without_a_beat_ends_the_trial(box: Box) -> None:
    box.starts("work", 2)
    box.starts("work", 5, slot=1)
    assert stays(box)
    box.starts("work", 1)
    assert goes_back(box) == "slot=2 stage=work why=starts\n"


def test_a_beat_forgives_the_starts_before_it_but_never_the_tenth(box: Box) -> None:
    box.starts("work", 9)
    box.beat("work", starts=9)
    assert stays(box)
    box.starts("work", 1)
    box.beat("work", starts=10)
    assert goes_back(box) == "slot=2 stage=work why=starts\n"


def test_three_starts_after_the_last_beat_end_it_too(box: Box) -> None:
    box.starts("publish", 4)
    box.beat("publish", starts=2, age_s=400)
    assert stays(box), "two starts since its beat"
    box.starts("publish", 1)
    assert goes_back(box) == "slot=2 stage=publish why=starts\n"


@pytest.mark.parametrize("allowed_s", [20, pytest.param(120, marks=pytest.mark.long)])
def test_a_beat_that_is_older_than_its_time_ends_the_trial(box: Box, allowed_s: int) -> None:
    box.starts("retain", 1)
    box.beat("retain", age_s=allowed_s - 15, allowed_s=allowed_s)
    assert stays(box)
    box.beat("retain", age_s=allowed_s + 5, allowed_s=allowed_s)
    assert goes_back(box) == "slot=2 stage=retain why=hang\n"
    assert "kill retain 2" in box.asked, "it would not listen to SIGTERM"


def test_a_release_whose_updater_died_is_left_although_all_its_stages_serve(box: Box) -> None:
    """Nobody else could confirm it, take the next one or go back."""
    box.beat("work")
    box.hurry()
    box.updater(age_s=10)
    assert stays(box)
    box.updater(age_s=19)
    assert goes_back(box) == "slot=2 stage=apply why=hang\n"


def test_the_time_of_the_updater_begins_anew_with_each_boot_and_where_it_said_nothing(
    box: Box,
) -> None:
    box.updater(age_s=9000, boot="another")
    assert stays(box)
    assert box.alive.read_text().split()[1] == boot_id()
    box.alive.write_text("no number\n")
    assert stays(box)
    up, boot = box.alive.read_text().split()
    assert (up.isdigit(), boot) == (True, boot_id())
    before = box.alive.read_text()
    assert stays(box)
    assert box.alive.read_text() == before, "it goes on from there"


def test_an_old_beat_of_another_boot_or_slot_or_before_a_start_is_no_hang(box: Box) -> None:
    box.starts("work", 1)
    for more in ({"boot": "another"}, {"slot": 1}, {"starts": 0}):
        box.beat("work", age_s=500, **more)  # type: ignore[arg-type]
        assert stays(box), more
    (box.state / "trial" / "work.beat").unlink()
    assert stays(box), "who was asked to end took it along"


def break_python(box: Box, number: int) -> None:
    python = box.root / "slots" / str(number) / "bin" / "python"
    python.unlink()
    python.symlink_to("/usr/bin/python3.99")


def test_a_slot_whose_python_does_not_start_is_left_unless_the_other_does_not_either(
    box: Box,
) -> None:
    break_python(box, 1)
    break_python(box, 2)
    assert stays(box)
    python = box.root / "slots" / "1" / "bin" / "python"
    python.unlink()
    python.symlink_to("/bin/true")
    assert goes_back(box) == "slot=2 stage=all why=python\n"


HOSTILE: dict[str, Callable[[Path], object]] = {
    "link": lambda path: path.symlink_to("/dev/zero"),
    "fifo": os.mkfifo,
    "zeros": lambda path: path.write_bytes(bytes(100_000)),
    "words": lambda path: path.write_bytes(b"$(touch /tmp/x) `id` * ' \" \\ -1 99999999999\n" * 50),
    "folder": lambda path: path.mkdir(),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_what_a_stage_that_was_broken_into_writes_harms_nothing(box: Box, kind: str) -> None:
    for name in ("work.beat", "receive.starts"):
        HOSTILE[kind](box.state / "trial" / name)
    assert stays(box)


@pytest.mark.parametrize("text", ["", "slot=two\nprevious=1\nstate=/x\n", "slot=2\n"])
def test_a_trial_that_makes_no_sense_changes_nothing(box: Box, text: str) -> None:
    box.starts("work", 5)
    (box.trusted / "trial").write_text(text)
    assert stays(box)


def test_the_reason_of_an_earlier_trial_is_not_this_ones(box: Box) -> None:
    (box.trusted / "reason").write_text("slot=12 stage=work why=hang\n")
    box.guard()
    assert (box.current, box.asked) == ("slots/2", [])


STAND_IN = """#!/bin/sh
count=$(($(cat {count}) + 1))
echo $count >{count}
[ $count -ne {at} ] || [ {after} -eq 1 ] || kill -KILL $PPID
{real} "$@"
code=$?
[ $count -ne {at} ] || [ {after} -eq 0 ] || kill -KILL $PPID
exit $code
"""


def cutting(folder: Path, at: int, *, after: bool) -> Path:
    """Programs that cut the power before or after the step number `at` that changes the disk."""
    folder.mkdir(exist_ok=True)
    (folder / "count").write_text("0")
    for name in ("mv", "ln", "sync", "rm"):
        real = "true" if name == "sync" else f"/bin/{name}"  # what kills a process keeps its writes
        text = STAND_IN.format(count=folder / "count", at=at, after=int(after), real=real)
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    return folder


@pytest.mark.parametrize("at", [2, pytest.param(5, marks=pytest.mark.long)])
def test_a_power_cut_before_a_step_ends_as_none(box: Box, tmp_path: Path, at: int) -> None:
    box.starts("work", 3)
    assert cut(box, tmp_path / "cut", at, after=False)


@pytest.mark.long
@pytest.mark.parametrize("after", [False, True])
def test_a_power_cut_before_or_after_any_step_ends_as_none(
    box: Box, tmp_path: Path, after: bool
) -> None:
    box.starts("work", 3)
    cuts = 0
    while cut(box, tmp_path / "cut", cuts + 1, after=after):
        cuts += 1
    assert cuts >= 10, "reason, links and the end of the trial, each with its sync"


def cut(box: Box, folder: Path, at: int, *, after: bool) -> bool:
    """Cut at this step, then go on at the start of the machine or by the timer: one end. Whether
    there was such a step."""
    box.begin_trial()
    (box.trusted / "reason").unlink(missing_ok=True)
    (box.root / "current").unlink(missing_ok=True)
    (box.root / "current").symlink_to("slots/2")
    box.asked.clear()
    was_cut = box.guard(path=cutting(folder, at, after=after)).returncode != 0
    assert box.current in {"slots/1", "slots/2"}, "the link is whole at every moment"
    again = "boot" if at % 2 else "watch"
    assert box.guard(again).returncode == 0
    assert box.current == "slots/1", (at, again)
    assert box.reason == "slot=2 stage=work why=starts\n" or (again, box.reason) == ("boot", None)
    assert not (box.trusted / "trial").exists()
    if again == "watch" or not was_cut:
        until(lambda: BACK[-1] in box.asked)
    return was_cut
