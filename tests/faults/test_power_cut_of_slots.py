"""The power is cut while slots are made, switched and removed: a child does it with the real pip,
strace sees each system call, and these are done again on a disk that forgets what was not synced,
up to each cut. What is left is looked at by the product, as at boot. And the disk fills up.

    SCANSIDE_CUTS=200 .venv/bin/python -m pytest -m long tests/faults/test_power_cut_of_slots.py
"""

from __future__ import annotations

import json
import os
import random
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from appliance.errors import ScansideError, StateUnusable
from appliance.update import slots
from appliance.update.places import Places
from faults.stages import small_disk
from faults.syscalls import ALL, LOST, PLAIN, Call, Disk, Left, Shelf, calls, python, run, strace
from rigs.slotted import TinyRelease, box, contents, says, sha256
from rigs.wheels import wheel

SEED = 20261129
CUTS = int(os.environ.get("SCANSIDE_CUTS", "1000"))
VARIANTS = (*PLAIN, *(f"in part, {n}" for n in range(6)))


@dataclass(frozen=True)
class Recording:
    """What the child did and what it said."""

    folder: Path
    calls: tuple[Call, ...]
    lines: tuple[dict[str, Any], ...]

    @property
    def places(self) -> Places:
        return box(self.folder / "box")

    @property
    def told(self) -> str:
        return str(self.folder / "told")

    def known(self, number: int) -> list[dict[str, str]]:
        """What a slot held each time that it was whole."""
        return [line["files"] for line in self.lines if line.get("built") == number]


@dataclass
class Promised:
    """What must be so at a cut. What is under way may be as before or as after."""

    whole: set[int] = field(default_factory=set)
    changing: int | None = None
    """The slot that is being made or removed."""
    links: list[list[int | None]] = field(default_factory=lambda: [[None, None]])
    """Where `current` and `previous` may lead, together."""

    def add(self, line: dict[str, Any]) -> None:
        if "changing" in line:
            self.changing = line["changing"]
        elif "built" in line:
            self.whole.add(line["built"])
            self.changing = None
        elif "gone" in line:
            self.whole.remove(line["gone"])
            self.changing = None
        else:
            self.links = line["links"]


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    folder = tmp_path_factory.mktemp("slots")
    (folder / "box" / "root").mkdir(parents=True)
    (folder / "start").mkdir()
    child = python(str(Path(__file__).with_name("slots_workload.py")), str(folder / "box"))
    run([*strace(output=folder / "trace"), *child, str(folder / "releases"), str(folder / "told")])
    seen = tuple(c for c in calls(folder / "trace") if c.touches(str(folder)))
    lines = tuple(map(json.loads, (folder / "told").read_text().splitlines()))
    return Recording(folder, seen, lines)


@pytest.fixture
def shelf() -> Iterator[Shelf]:
    memory = Path("/dev/shm")  # noqa: S108 - mkdtemp below
    folder = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else None))
    yield Shelf(folder)
    shutil.rmtree(folder)


def moments(recording: Recording) -> Iterator[tuple[int, Disk, Promised, bool]]:
    """After each call that changed the disk or said something: its number, the disk, what is
    promised (both go on changing), and whether it was the second."""
    disk = Disk(recording.places.root, recording.folder / "start")
    promised = Promised()
    lines = iter(recording.lines)
    number = 0
    for call in recording.calls:
        told = call.name == "write" and call.path(0) == recording.told
        if told:
            promised.add(next(lines))
        elif not disk.apply(call):
            continue
        yield number, disk, promised, told
        number += 1
    assert next(lines, None) is None


def check(places: Places, promised: Promised, recording: Recording) -> None:
    """What must be so at boot, before and after the box has swept."""
    for swept in (False, True):
        counts = {one.slot for one in slots.complete(places)}
        loose = {promised.changing} - {None}
        assert promised.whole - loose <= counts <= promised.whole | loose, "which slots count"
        for number in counts:
            assert contents(places.slot(number)) in recording.known(number), f"slot {number}"
        lead = [slots.current(places), slots.previous(places)]
        assert lead in promised.links, f"links to {lead}"
        links = {*lead} - {None}
        assert links <= counts | loose, "a link leads to a slot that does not count"
        assert all(places.slot(n).is_dir() for n in links if n), "a link leads to nothing"
        for number in counts:
            for one in slots.wheel_set(places, number).wheels:
                assert sha256((places.wheels / one.name).read_bytes()) == one.digest, one.name
        if not swept:
            assert set(slots.sweep(places)) <= loose - links, "more was swept than was under way"
    nothing_else(places, counts | links)


def nothing_else(places: Places, kept: set[int | None]) -> None:
    """No file is left of what was under way."""
    folders = {path.name for path in (places.root / "slots").glob("*") if path.is_dir()}
    assert folders == {str(number) for number in kept}
    needed = {one.name for n in kept if n for one in slots.wheel_set(places, n).wheels}
    sets = {f"{number}.json" for number in kept}
    assert {path.name for path in places.wheels.glob("*")} == needed | sets
    for folder in (places.root, places.root / "slots", places.wheels):
        assert not list(folder.glob("*.tmp"))


def try_cuts(recording: Recording, shelf: Shelf, count: int) -> tuple[int, list[str]]:
    """After every promise with all lost that can be, and `count` at random: how many cuts, and what
    was wrong after which."""
    last = max(number for number, *_ in moments(recording))
    random_ = random.Random(SEED)
    ways = [(number, variant) for number in range(last + 1) for variant in VARIANTS]
    chosen = set(random_.sample(ways, count))
    tried, wrong = 0, []
    for number, disk, promised, told in moments(recording):
        for variant in VARIANTS:
            if (number, variant) not in chosen and not (told and variant == LOST):
                continue
            tried += 1
            try:
                check(lay(shelf, disk.left(variant, SEED + number)), promised, recording)
            except (AssertionError, ScansideError, OSError) as e:
                wrong.append(f"{number} ({variant}): {type(e).__name__} {e}".splitlines()[0])
    return tried, wrong


@pytest.mark.long
def test_what_the_disk_of_these_tests_holds_in_the_end_is_what_the_real_one_holds(
    recording: Recording, shelf: Shelf
) -> None:
    *_, (_, disk, _, _) = moments(recording)
    made = lay(shelf, disk.left(ALL))
    assert contents(made.root) == contents(recording.places.root)


def lay(shelf: Shelf, left: Left, name: str = "box") -> Places:
    return box(shelf.make({"root": None, **{f"root/{at}": one for at, one in left.items()}}, name))


def test_after_a_power_cut_slots_and_links_are_as_before_or_as_after(
    recording: Recording, shelf: Shelf
) -> None:
    tried, wrong = try_cuts(recording, shelf, 30)
    assert tried >= 30
    assert not wrong, "\n".join(wrong[:20])


@pytest.mark.long
@pytest.mark.timeout(900)
def test_after_each_of_many_power_cuts_slots_and_links_are_as_before_or_as_after(
    recording: Recording, shelf: Shelf, capsys: pytest.CaptureFixture[str]
) -> None:
    tried, wrong = try_cuts(recording, shelf, CUTS)
    with capsys.disabled():
        print(f"\n{tried} power cuts of slots, seed {SEED}")  # noqa: T201 - counts
    assert not wrong, f"{len(wrong)} of {tried}:\n" + "\n".join(wrong[:20])


def test_after_a_power_cut_the_same_slot_is_made_again_and_runs(
    recording: Recording, shelf: Shelf
) -> None:
    making = [number for number, _, promised, _ in moments(recording) if promised.changing == 3]
    cut = making[2 * len(making) // 3]
    disk = next(disk for number, disk, *_ in moments(recording) if number == cut)
    places = lay(shelf, disk.left("in part, 1", SEED))
    slots.sweep(places)
    TinyRelease(recording.folder / "releases" / "3", "3.0.0").build(places, 3)
    slots.switch(places, 3)
    assert (slots.current(places), slots.previous(places)) == (3, 2)
    assert says(places, 3) == "3.0.0"
    nothing_else(places, {1, 2, 3})


def test_a_disk_that_fills_up_while_pip_installs_is_no_fault_of_the_release(
    tmp_path: Path,
) -> None:
    release = TinyRelease(tmp_path / "release")
    with small_disk(tmp_path / "box", 12) as folder:
        places = box(folder)
        release.build(places, 1)
        slots.switch(places, 1)
        before = contents(places.root)
        large = TinyRelease(tmp_path / "large", "2.0.0")
        large.add(*wheel("large", more={"large.txt": "x" * 6 * 2**20}))
        with pytest.raises(StateUnusable, match="No space left") as said:
            large.build(places, 2)
        assert said.value.code == "slot_disk"
        assert contents(places.root) == before | {"slots/last": sha256(b"2\n")}
        assert says(places, 1) == "1.0.0"
