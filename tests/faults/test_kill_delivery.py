"""kill -9 at each step of a result on its way into an archive: composed, sent, promised.

    compose -> file -> journal -> association, C-STORE -> journal -> N-ACTION, N-EVENT -> journal
    once undisturbed: what each thread did, call by call
    for each point: the same again, killed just before that call; then the process is started anew

Real processes under strace, and pynetdicom as the archive. `deliver` is traced once it is ready,
and only then gets what it has to do: strace counts the calls of each thread by itself, and the
others make none of these meanwhile. The archive answers on the association on which it is asked;
how a promise that comes to `receive` is cut is in tests/appliance/receive/test_commitments.py.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath

import pytest

from appliance.demo.child import child
from appliance.results.owed import File, Owed
from appliance.settings import load
from appliance.store import bell
from appliance.store.delivery import State
from faults.killed import HANG_S, Box, Point, ended, is_ready, strace_command, wait
from faults.syscalls import Call, calls
from rigs import oblique
from rigs.archive import TITLE, written
from rigs.composing import FOUND, Site
from rigs.promises import Promiser, promising

UID = "1.2.3.4"
TRIES = 12
SECTION = """
[[deliver]]
name = "pacs"
host = "127.0.0.1"
port = {port}
called_ae = "{title}"
profile = ["sr", "seg"]
commitment = true
"""
SR, COMMITMENT = "1.2.840.10008.5.1.4.1.1.88.34", "1.2.840.10008.1.20.1"
NAMED = Point("rename", "/outgoing/")
STORED = Point("recvfrom", SR)
REQUESTED = Point("fdatasync", "-wal")
RESPONDED = Point("recvfrom", COMMITMENT)
HEARD = Point("recvfrom", COMMITMENT, 2)
WRITTEN = Point("fdatasync", "-wal", 2)

POINTS = {
    "compose": {
        "before what is told is settled": Point("pwrite64", "-wal"),
        "what is told written, not synced": Point("fdatasync", "-wal", 2),
        "before the folder": Point("mkdir", "/outgoing"),
        "before the first byte": Point("write", "/outgoing/"),
        "the bytes written, not synced": Point("fdatasync", "/outgoing/"),
        "the bytes synced, without their name": NAMED,
        "the name not synced": Point("fsync", "/outgoing", after=NAMED),
        "the file durable, the ledger not written": Point("pwrite64", ".ledger", after=NAMED),
        "the ledger written, not synced": Point("fdatasync", ".ledger", after=NAMED),
        "the ledger synced, the journal not written": Point("pwrite64", "-wal", after=NAMED),
        "the journal written, not synced": Point("fdatasync", "-wal", after=NAMED),
        "between two objects": Point("write", "/outgoing/", 2),
        "the last one named, not in the journal": Point(
            "pwrite64", "-wal", after=Point("rename", "/outgoing/", 2)
        ),
        "all composed, nobody woken": Point("sendto", "deliver.sock"),
    },
    "send": {
        "before the association": Point("sendto", SR),
        "before the command": Point("sendto", SR, 2),
        "the command sent, the object not": Point("sendto", UID, 2),
        "before the answer": Point("recvfrom", "", after=Point("sendto", UID, 2)),
        "after the answer, before the ledger": Point("pwrite64", ".ledger", after=STORED),
        "the ledger written, the journal not": Point("pwrite64", "-wal", after=STORED),
        "the journal half written": Point("pwrite64", "-wal", 4, after=STORED),
        "the journal written, not synced": Point("fdatasync", "-wal", after=STORED),
    },
    "commit": {
        "before the association": Point("sendto", COMMITMENT),
        "before the request is in the journal": Point("pwrite64", "-wal"),
        "the request written, not synced": REQUESTED,
        "the request in the journal, not sent": Point("sendto", COMMITMENT, 2),
        "N-ACTION half sent": Point("sendto", UID),
        "before the response": Point("recvfrom", "", after=Point("sendto", UID)),
        "after the response, before the promise": Point("recvfrom", "", after=RESPONDED),
        "after the promise, before the ledger": Point("pwrite64", ".ledger", after=HEARD),
        "the ledger written, not synced": Point("fdatasync", ".ledger", after=HEARD),
        "the ledger synced, the journal not written": Point("pwrite64", "-wal", after=HEARD),
        "the journal half written": Point("pwrite64", "-wal", 6, after=HEARD),
        "the journal written, not synced": Point("fdatasync", "-wal", after=HEARD),
        "the promise in the journal, nobody woken": Point("sendto", "deliver.sock", after=WRITTEN),
        "before the promise is answered": Point("sendto", COMMITMENT, after=WRITTEN),
        "after all of it": Point("recvfrom", "", after=Point("sendto", COMMITMENT, after=WRITTEN)),
    },
}  # fmt: skip
SAMPLE = {
    "compose": "the file durable, the ledger not written",
    "send": "after the answer, before the ledger",
    "commit": "after the promise, before the ledger",
}


def device(folder: Path, port: int, before: Path | None = None) -> Box:
    """A device with one archive; before: a state folder to begin with."""
    empty = folder.with_name(f"{folder.name}-empty")
    if before is None:
        empty.mkdir()
    box = Box.of(before or empty, folder)
    with (folder / "scanside.toml").open("a") as settings:
        settings.write(SECTION.format(port=port, title=TITLE))
    return box


def compose(box: Box, trace: Path | None = None, kill: tuple[str, int] | None = None) -> list[Call]:
    """The child that composes, to its end; its calls, where there is a trace of them."""
    under = strace_command(trace, kill, "-D") if trace else []
    settings = load(box.folder / "scanside.toml")
    done = subprocess.run(
        [*under, sys.executable, "-m", "appliance.compose.child"],
        input=settings.model_dump_json().encode(),
        capture_output=True,
        timeout=HANG_S,
        check=False,
    )
    assert done.returncode == (-signal.SIGKILL if kill else 0), done.stderr.decode()
    last = "+++ killed by SIGKILL +++" if kill else "+++ exited with 0 +++"
    return ended(trace, last) if trace else []


def deliver(
    box: Box,
    begin: Callable[[Box], None],
    done: Callable[[], bool],
    trace: Path | None = None,
    kill: tuple[str, int] | None = None,
) -> list[Call]:
    """`deliver` until `done`, or until it is killed; what it has to do begins once it is traced."""
    with ExitStack() as stack:
        process, ready = stack.enter_context(box.stage("deliver"))
        wait(
            lambda: is_ready(ready) or process.poll() is not None, f"deliver: {box.log('deliver')}"
        )
        tracer = None
        if trace:
            command = strace_command(trace, kill, "-p", str(process.pid))
            tracer = stack.enter_context(child(command, stderr=subprocess.PIPE))
            assert tracer.stderr is not None
            assert b"attached" in tracer.stderr.readline()
        begin(box)
        if kill:
            process.wait(HANG_S)
            assert process.returncode == -signal.SIGKILL, box.log("deliver")
        else:
            wait(lambda: done() or process.poll() is not None, f"end: {box.log('deliver')}")
        if tracer:
            process.terminate()
            process.wait(HANG_S)
            tracer.wait(HANG_S)
    return list(calls(trace)) if trace else []


def owe(box: Box, *, taken: bool = False) -> None:
    """An object is composed; taken: the archive has it, and is to be asked about it."""
    path = written(box.state / "outgoing" / "one.dcm", UID)
    with box.journal() as journal:
        journal.owed.add([Owed("pacs", "one", None, File(PurePosixPath("outgoing", path.name)))])
        if taken:
            journal.owed.ack("pacs", ["one"])
    bell.ring(box.state, "deliver")


def owe_a_promise(box: Box) -> None:
    owe(box, taken=True)


def states(box: Box) -> list[str]:
    """Of every row."""
    with box.journal() as journal:
        return [state.value for state in State for _ in journal.owed.listed(state)]


def ten_minutes_later(box: Box) -> None:
    """What was asked without an answer is due again."""
    with box.journal() as journal, journal._db.write() as db:
        db.execute("UPDATE uncommitted SET due = 0 WHERE due IS NOT NULL")
    bell.ring(box.state, "deliver")


@dataclass
class Undisturbed:
    """Each part once."""

    ordered: Path
    """A state folder in which two objects of a report are ordered."""
    calls: dict[str, list[Call]] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)
    """What is composed, by the key of its row."""


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    folder = tmp_path_factory.mktemp("once")
    site = Site(folder / "site", {"name": "pacs", "profile": ["sr", "seg"]})
    with site.journal:
        site.commit(site.store(oblique.series(oblique.POSES["axial"])), FOUND)
    once = Undisturbed(folder / "site")
    with promising(Promiser(waits=True)) as archive:
        box = device(folder / "compose", archive.port, once.ordered)
        once.calls["compose"] = compose(box, folder / "compose.trace")
        once.objects = composed(box)
        for part, begin in (("send", owe), ("commit", owe_a_promise)):
            box = device(folder / part, archive.port)
            once.calls[part] = deliver(
                box,
                begin,
                lambda box=box: states(box) == ["committed"],  # type: ignore[misc]
                folder / f"{part}.trace",
            )
    assert len(once.objects) == 2
    return once


def composed(box: Box) -> dict[str, bytes]:
    with box.journal() as journal:
        rows = journal.owed.with_files("outgoing/")
    return {row.key: (box.state / str(row.file)).read_bytes() for row in rows}


Run = Callable[[Path, Path, tuple[str, int]], tuple[Box, list[Call]]]


def killed(part: str, name: str, folder: Path, once: Undisturbed, run: Run) -> Box:
    """Run until it is killed at the point; the device on which the kill fell there."""
    point = POINTS[part][name]
    aim = point.aim(once.calls[part])
    for n in range(TRIES):
        found, seen = run(folder / str(n), folder / f"trace-{n}", aim)
        if point.hit(seen):
            return found
        aim = point.again(seen, aim)
    raise AssertionError(f"{part} was never killed {name}: {[c for c in seen if c.result is None]}")


def compose_again(name: str, folder: Path, once: Undisturbed, _archive: Promiser) -> None:
    def run(at: Path, trace: Path, kill: tuple[str, int]) -> tuple[Box, list[Call]]:
        box = device(at, 104, once.ordered)
        return box, compose(box, trace, kill)

    box = killed("compose", name, folder, once, run)
    compose(box)
    assert composed(box) == once.objects, "the same bytes, and so the same UIDs"
    lie_there = [path.name for path in (box.state / "outgoing").glob("[!.]*")]
    assert len(lie_there) == 2, "none is there twice under another name"


def delivered_again(
    part: str, begin: Callable[[Box], None], name: str, folder: Path, once: Undisturbed,
    archive: Promiser,
) -> None:  # fmt: skip
    def run(at: Path, trace: Path, kill: tuple[str, int]) -> tuple[Box, list[Call]]:
        archive.stored.clear()
        archive.asked.clear()
        box = device(at, archive.port)
        return box, deliver(box, begin, lambda: False, trace, kill)

    box = killed(part, name, folder, once, run)
    assert states(box) in (["waiting"], ["delivered"], ["committed"])
    deliver(box, ten_minutes_later, lambda: states(box) == ["committed"])
    assert set(archive.stored) == ({UID} if part == "send" else set()), "under no other UID"
    assert len(archive.stored) <= 2
    asked = {one.sop_instance for _, references in archive.asked for one in references}
    assert asked == {UID}
    assert len({uid for uid, _ in archive.asked}) == len(archive.asked), (
        "each with a UID of its own"
    )


AGAIN = {
    "compose": compose_again,
    "send": partial(delivered_again, "send", owe),
    "commit": partial(delivered_again, "commit", owe_a_promise),
}


@pytest.mark.parametrize("part", SAMPLE)
def test_a_result_whose_way_is_cut_by_kill_9_comes_whole_once_and_under_its_uid(
    part: str, tmp_path: Path, undisturbed: Undisturbed
) -> None:
    with promising(Promiser(waits=True)) as archive:
        AGAIN[part](SAMPLE[part], tmp_path, undisturbed, archive)


@pytest.mark.long
@pytest.mark.parametrize(
    ("part", "name"), [(part, name) for part, points in POINTS.items() for name in points]
)
def test_a_result_whose_way_is_cut_at_any_step_comes_whole_once_and_under_its_uid(
    part: str, name: str, tmp_path: Path, undisturbed: Undisturbed
) -> None:
    with promising(Promiser(waits=True)) as archive:
        AGAIN[part](name, tmp_path, undisturbed, archive)
