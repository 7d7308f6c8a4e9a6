"""The power is cut while `apply` writes its audit, its wishes and its steps: strace sees each
system call of a child, and these are done again on a disk that forgets what was not synced, up to
each cut. What is left is read by the product, as at boot."""

from __future__ import annotations

import json
import random
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from appliance.apply import audit as audits
from appliance.apply.audit import broken, lines
from appliance.apply.notes import Notes
from appliance.errors import ScansideError
from appliance.update import steps
from appliance.update.places import Places
from faults.apply_workload import KEPT, ROUNDS, SMALL, audit_of
from faults.syscalls import ALL, LOST, PLAIN, Call, Disk, Shelf, calls, python, run, strace

SEED = 20261130
VARIANTS = (*PLAIN, *(f"in part, {n}" for n in range(4)))


@dataclass(frozen=True)
class Recording:
    """What the child did and what it said."""

    folder: Path
    calls: tuple[Call, ...]

    @property
    def trusted(self) -> Path:
        return self.folder / "trusted"


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    folder = tmp_path_factory.mktemp("apply")
    for name in ("trusted", "start"):
        (folder / name).mkdir()
    child = python(str(Path(__file__).with_name("apply_workload.py")), str(folder / "trusted"))
    run([*strace(output=folder / "trace"), *child, str(folder / "told")])
    return Recording(folder, tuple(c for c in calls(folder / "trace") if c.touches(str(folder))))


@pytest.fixture
def shelf() -> Iterator[Shelf]:
    memory = Path("/dev/shm")  # noqa: S108 - mkdtemp below
    folder = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else None))
    yield Shelf(folder)
    shutil.rmtree(folder)


def moments(recording: Recording) -> Iterator[tuple[int, Disk, dict[str, int], bool]]:
    """After each call that changed the disk or said something: its number, the disk, the last of
    each kind that was acknowledged, and whether it was the second."""
    disk = Disk(recording.trusted, recording.folder / "start")
    said = dict.fromkeys(("line", "asked", "highest", "release"), 0)
    number = 0
    for call in recording.calls:
        told = call.name == "write" and call.path(0) == str(recording.folder / "told")
        if told:
            said |= json.loads(call.data(1))
        elif not disk.apply(call):
            continue
        yield number, disk, said, told
        number += 1


def check(trusted: Path, said: dict[str, int]) -> None:
    """Nothing that was acknowledged is lost, and at most what was under way is more."""
    notes = Notes(trusted)
    taken = steps.read(Places(trusted, trusted, trusted, trusted))
    release = 0 if taken is None else int(taken.release[7:-5])
    found = {"asked": notes.wishes().asked, "highest": notes.done().highest, "release": release}
    for name, value in found.items():
        assert value in (said[name], said[name] + 1), f"{name} is {value}"
    audit_of(trusted).add("apply", "after the cut", {})
    assert broken(trusted) is None
    kept = [json.loads(line) for line in lines(trusted)]
    *_, before, after = [{"number": 0}, *kept]
    assert after["action"] == "after the cut"
    assert before["number"] in (said["line"], said["line"] + 1), f"line {before['number']}"
    assert len(list(trusted.glob("audit.*.jsonl"))) <= KEPT


def test_the_disk_of_these_tests_ends_as_the_real_one(recording: Recording, shelf: Shelf) -> None:
    *_, (_, disk, said, _) = moments(recording)
    assert set(said.values()) == {ROUNDS}
    made = shelf.make(disk.left(ALL))
    there = {path.name: path.read_bytes() for path in recording.trusted.iterdir()}
    assert {path.name: path.read_bytes() for path in made.iterdir()} == there


def test_no_power_cut_costs_apply_what_it_acknowledged(
    recording: Recording, shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audits, "MOST_BYTES", SMALL)
    monkeypatch.setattr(audits, "KEPT", KEPT)
    chance = random.Random(SEED)
    tried, wrong = 0, []
    for number, disk, said, told in moments(recording):
        for variant in VARIANTS:
            if chance.random() > 0.3 and not (told and variant == LOST):
                continue
            tried += 1
            try:
                check(shelf.make(disk.left(variant, SEED + number)), said)
            except (AssertionError, ScansideError, OSError) as e:
                wrong.append(f"{number} ({variant}): {type(e).__name__} {e}".splitlines()[0])
    assert tried > 500
    assert not wrong, "\n".join(wrong[:20])
