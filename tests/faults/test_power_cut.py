"""The power is cut while the line works: a child does every durable operation of it, strace sees
each system call, and these are done again on a disk that forgets what was not synced, in several
ways, up to each cut. What is left is opened by the product and held against what was acknowledged.
"""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from appliance.errors import ScansideError
from appliance.report import Status
from appliance.store.journal import Journal
from appliance.store.kept import inputs
from appliance.store.spool import Spool
from faults.syscalls import (
    LOST,
    PLAIN,
    Call,
    Disk,
    Left,
    Shelf,
    calls,
    picture,
    python,
    run,
    strace,
)
from faults.workload import Line, contents

SEED = 20261120
RANDOM = tuple(f"in part, {n}" for n in range(6))
VARIANTS = (*PLAIN, *RANDOM)
SHARE = 0.01


@dataclass
class Promised:
    """What was acknowledged up to a cut, and what will be: the whole run is known."""

    slices: dict[str, str] = field(default_factory=dict)
    """Path -> sha256"""
    quarantined: dict[str, str] = field(default_factory=dict)
    journal: list[str] = field(default_factory=list)
    """What it held after each transaction."""
    files: dict[str, bool | None] = field(default_factory=dict)
    """None: it is just being made or removed."""
    numbers: set[int] = field(default_factory=set)
    """Of `seq`, that left the device."""
    deleting: frozenset[str] = frozenset()
    deleted: bool = False
    lines: int = 0

    def add(self, line: dict[str, Any]) -> None:
        self.lines += 1
        if "slice" in line:
            self.slices[line["slice"]] = line["sha256"]
        elif "quarantined" in line:
            self.quarantined[line["quarantined"]] = line["sha256"]
        elif "journal" in line:
            self.journal.append(line["journal"])
        elif "file" in line:
            self.files[line["file"]] = line["there"]
        elif "deleting" in line:
            self.deleting = frozenset(line["deleting"])
            self.quarantined.clear()
        elif "deleted" in line:
            self.deleted = True
        self.numbers |= {line[name] for name in ("number", "seq") if name in line}


@dataclass(frozen=True)
class Recording:
    """The run of the child: what it did and what it was told."""

    start: Path
    """The state folder before."""
    state: Path
    told: Path
    calls: tuple[Call, ...]
    acknowledged: tuple[dict[str, Any], ...]

    @property
    def journal(self) -> list[str]:
        return [line["journal"] for line in self.of("journal")]

    @property
    def kept(self) -> dict[str, str]:
        """Path -> sha256 of the masks and lists of inputs."""
        return {line["kept"]: line["sha256"] for line in self.of("kept")}

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [line for line in self.acknowledged if kind in line]


@pytest.fixture(scope="session")
def recording(
    installed: Path, small_scans: Any, tmp_path_factory: pytest.TempPathFactory
) -> Recording:
    folder = tmp_path_factory.mktemp("recording")
    start, state, told = folder / "start", folder / "state", folder / "told"
    shutil.copytree(installed, start)
    shutil.copytree(installed, state)
    parts = {name: folder / name for name in ("early", "late", "other")}
    for part in parts.values():
        part.mkdir()
    for n, path in enumerate(small_scans.make().files):
        shutil.copy(path, parts["late" if n >= 62 else "early"])
    for path in small_scans.make().files[:4]:  # too few: refused, without an analysis
        shutil.copy(path, parts["other"])
    child = python(str(Path(__file__).with_name("workload.py")), str(state), str(told))
    run([*strace(output=folder / "trace"), *child, *map(str, parts.values())])
    seen = tuple(c for c in calls(folder / "trace") if c.touches(str(folder)))
    lines = tuple(map(json.loads, told.read_text().splitlines()))
    return Recording(start, state, told, seen, lines)


@pytest.fixture
def shelf() -> Iterator[Shelf]:
    """In memory where there is some: thousands of folders are made and thrown away."""
    memory = Path("/dev/shm")  # noqa: S108 - mkdtemp below
    folder = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else None))
    yield Shelf(folder)
    shutil.rmtree(folder)


# The cuts.


@dataclass(frozen=True)
class Cut:
    where: str
    left: Left
    promised: Promised
    """Changes with the next cut."""


def cuts(recording: Recording, take: Callable[[int, str, bool], bool]) -> Iterator[Cut]:
    """Every different cut that `take` wants.

    take(number, variant, told): `number` counts the calls that changed the disk or, `told`,
    acknowledged something. The cut comes after the call.
    """
    disk = Disk(recording.state, recording.start)
    promised = Promised()
    seen: set[tuple[int, int]] = set()
    lines = iter(recording.acknowledged)
    number = 0
    for call in recording.calls:
        told = call.name == "write" and call.path(0) == str(recording.told)
        if told:
            promised.add(next(lines))
        elif not disk.apply(call):
            continue
        number += 1
        for salt, variant in enumerate(VARIANTS):
            if not take(number, variant, told):
                continue
            left = disk.left(variant, SEED + 10 * number + salt)
            one = promised.lines, picture(left)
            if one not in seen:
                seen.add(one)
                yield Cut(f"cut {number} ({variant}) after {call.name}", left, promised)
    assert next(lines, None) is None


def check(state: Path, promised: Promised, recording: Recording) -> None:
    """Everything acknowledged is there; what was under way is there whole, or not at all."""
    slices(state, promised, recording)
    told = recording.journal
    with Journal.open(state) as journal:
        with journal._db.look() as db:
            assert [r[0] for r in db.execute("PRAGMA integrity_check")] == ["ok"]
            assert not db.execute("PRAGMA foreign_key_check").fetchall()
            if done := promised.journal:
                after = (held for held in told[len(done) :] if held != done[-1])
                assert contents(db) in (done[-1], next(after, None)), "the journal"
            rows = db.execute("SELECT series_uid, report_id, status FROM reports").fetchall()
            highest = db.execute("SELECT max(seq) FROM owed").fetchone()[0] or 0
        assert journal.audit.verify() is None
        for series, report, status in rows:
            if status == Status.ANALYSED.value and series not in promised.deleting:
                assert inputs(state, report), f"inputs of {report}"
                files = {n: h for n, h in recording.kept.items() if f"/{report}/" in n}
                assert len(files) > 1
                assert {n: sha256(state / n) for n in files} == files
        if promised.deleted:
            assert not promised.deleting & {row[0] for row in rows}
            masks = {path.name for path in (state / "reports").iterdir()}
            assert masks == {row[1] for row in rows}, "masks of nobody stay for ever"
        assert journal.owed.next_seq() > max(promised.numbers | {highest}), "a seq is used again"
    for name, digest in promised.quarantined.items():
        assert sha256(state / name) == digest, name
    for name, there in promised.files.items():
        assert there is None or (state / name).exists() == there, name


def slices(state: Path, promised: Promised, recording: Recording) -> None:
    spool = Spool(state)
    found = {
        str(path.relative_to(state)): sha256(path)
        for key in spool.series()
        for path in spool.instances(key).values()
    }
    whole = {line["slice"]: line["sha256"] for line in recording.of("slice")}
    assert found.items() <= whole.items(), "an instance is not whole"
    going = {name for name in promised.slices if name.split("/")[2] in promised.deleting}
    assert promised.slices.keys() - going <= found.keys(), "an acknowledged slice is missing"
    if going:
        assert not going & found.keys() or going <= found.keys(), "deleted in part"
    if promised.deleted:
        assert not going & found.keys()


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def try_all(
    recording: Recording, shelf: Shelf, take: Callable[[int, str, bool], bool]
) -> tuple[int, list[str]]:
    """How many cuts there were, and what was wrong after which."""
    count, wrong = 0, []
    for cut in cuts(recording, take):
        count += 1
        try:
            check(shelf.make(cut.left), cut.promised, recording)
        except (AssertionError, ScansideError, OSError) as e:
            wrong.append(f"{cut.where}: {type(e).__name__} {e}".splitlines()[0])
    return count, wrong


def test_what_was_acknowledged_survives_a_power_cut_of_the_whole_line(
    recording: Recording, shelf: Shelf
) -> None:
    random_ = random.Random(SEED)
    count, wrong = try_all(
        recording,
        shelf,
        lambda _, variant, told: (told and variant == LOST) or random_.random() < SHARE,
    )
    assert count > len(recording.acknowledged)
    assert not wrong, "\n".join(wrong[:20])


@pytest.mark.long
@pytest.mark.timeout(900)
def test_what_was_acknowledged_survives_a_power_cut_after_every_call_of_the_line(
    recording: Recording, shelf: Shelf, capsys: pytest.CaptureFixture[str]
) -> None:
    count, wrong = try_all(recording, shelf, lambda *_: True)
    with capsys.disabled():
        promises = len(recording.acknowledged)
        print(f"\n{count} power cuts of {promises} promises, seed {SEED}")  # noqa: T201 - counts
    assert not wrong, f"{len(wrong)} of {count}:\n" + "\n".join(wrong[:20])


ONE_OF_TWO_SENDERS = """
import os, sys
from pathlib import Path
from appliance.store.spool import Spool
spool = Spool(Path(sys.argv[1]))
for folder in ("1.2", "1.2/1.3"):  # another one has come so far
    os.mkdir(spool.root / "spool" / folder)
temp = spool.incoming_path()
temp.write_bytes(b"an instance")
spool.store(temp, "1.2", "1.3", "1.4", lambda one, other: False)
os.mkdir(sys.argv[2])
"""


def test_a_slice_in_a_folder_that_another_sender_has_not_synced_yet_survives_a_power_cut(
    tmp_path: Path, shelf: Shelf
) -> None:
    start, state, told = tmp_path / "start", tmp_path / "state", tmp_path / "told"
    Spool(start)
    shutil.copytree(start, state)
    child = python("-c", ONE_OF_TWO_SENDERS, str(state), str(told))
    run([*strace(output=tmp_path / "trace"), *child])
    disk = Disk(state, start)
    for call in calls(tmp_path / "trace"):
        if call.name == "mkdir" and call.path(0) == str(told):
            break
        disk.apply(call)
    else:
        pytest.fail("it was never stored")
    left = shelf.make(disk.left(LOST))
    assert (left / "spool/1.2/1.3/1.4.dcm").read_bytes() == b"an instance"


# After the restart.


def test_after_a_power_cut_the_line_comes_to_the_same_reports_with_the_same_ids(
    recording: Recording, shelf: Shelf
) -> None:
    assert restarts(recording, shelf, 1)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_after_many_power_cuts_the_line_comes_to_the_same_reports_with_the_same_ids(
    recording: Recording, shelf: Shelf, capsys: pytest.CaptureFixture[str]
) -> None:
    count = restarts(recording, shelf, 25)
    with capsys.disabled():
        print(f"\n{count} restarts of `work` after a power cut")  # noqa: T201 - counts


def restarts(recording: Recording, shelf: Shelf, count: int) -> int:
    """Cut the power while the first report is made, and let `work` begin again; how often."""
    (first, *_) = recording.of("reports")
    said = {event: seq for seq, event in first["messages"]}
    (final,) = [tuple(row) for row in first["reports"] if row[1] == "final"]
    received = next(n for n, line in enumerate(recording.acknowledged) if "reports" in line)
    begin = max(n for n, line in enumerate(recording.acknowledged[:received]) if "slice" in line)
    random_ = random.Random(SEED)
    during = [
        (cut.where, shelf.make(cut.left, name=f"during-{n}"))
        for n, cut in enumerate(cuts(recording, lambda *_: random_.random() < count / 500))
        if begin + 3 < cut.promised.lines < received
    ]
    assert during
    for where, state in during:
        reported, messages = work_again(state)
        assert final in reported, where
        for event, seq in messages.items():
            assert said.get(event) == seq, f"{where}: {event}"
    return len(during)


def work_again(state: Path) -> tuple[set[tuple[str, ...]], dict[str, int]]:
    """What a new `work` says: (report id, stage, input), and event id -> seq."""
    line = Line(state, lambda **_: None)
    line.analyse()
    with line.journal() as journal, journal._db.look() as db:
        reports = db.execute("SELECT report_id, stage, input_digest FROM reports").fetchall()
        messages = db.execute("SELECT key, seq FROM owed").fetchall()
    return {tuple(r) for r in reports}, {r[0]: r[1] for r in messages}
