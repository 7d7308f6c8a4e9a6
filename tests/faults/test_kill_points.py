"""kill -9 at named points of every stage: the real command line, dcmtk and mosquitto, strace.

    receive -> work -> publish -> retain      once undisturbed: what each did, call by call
    for each point: the same stage on the same state, killed just before that call; then again

The count of the call is taken from the undisturbed run. Where the two runs differ so that the kill
fell elsewhere (a broker's answer may come earlier or later), it is tried again.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from appliance.report import SeriesKey
from appliance.results.mqtt import Envelope
from appliance.store.journal import Journal
from appliance.store.spool import Spool
from faults.killed import Box, Point, Subscriber, wait
from faults.syscalls import ALL, Call, Disk, Shelf
from faults.workload import Line
from rigs.scans import Scan
from rigs.site import Broker

TRIES = 12
FEW = 4  # images of the series that is refused
SOCKETS = "work.sock"
ANSWER = Point("sendto", "", 2, without=SOCKETS)  # the first is A-ASSOCIATE-AC
MASK = Point("rename", ".npz")
PUBACK = Point("recvfrom", '"@"')  # MQTT 5.0 3.4.1: the first byte is 0x40
CONNECT = "MQTT\5"  # MQTT 5.0 3.1.2: protocol name and version
PUBLISHED = Point("sendto", "/study/")
MOVED = Point("rename", "/spool/")
SLICES_GONE = Point("unlinkat", ".npz")

POINTS = {
    "receive": {
        "before the first byte": Point("write", "/incoming/"),
        "while the bytes come": Point("write", "/incoming/", 5),
        "after the bytes, before fdatasync": Point("fdatasync", "/incoming/", 2),
        "between fdatasync and the name": Point("link|linkat", ".dcm", 2),
        "between the name and the end of the other": Point("unlink", "/incoming/", 2),
        "between the name and the folder's sync": Point(
            "fsync", "/spool/", 1, after=Point("link|linkat", ".dcm", 2)
        ),
        "after the sync, before the answer": Point("sendto", "", 3, without=SOCKETS),
        "after the answer, before the journal": Point("pwrite64", "-wal", after=ANSWER),
        "in the journal, before its sync": Point("fdatasync", "-wal", after=ANSWER),
        "after the journal, before the hint": Point("sendto", SOCKETS),
        "after the last answer, before the end is told": Point(
            "pwrite64", "-wal", after=Point("sendto", SOCKETS, 65)
        ),
    },
    "work": {
        "before the folder of the report": Point("mkdir", "/reports/"),
        "the list of inputs half written": Point("write", "inputs.json"),
        "the list of inputs without its name": Point("rename", "inputs.json"),
        "a mask half written": Point("write", ".npz"),
        "a mask written, not synced": Point("fdatasync", ".npz"),
        "a mask without its name": MASK,
        "a mask's folder not synced": Point("fsync", "/reports/", after=MASK),
        "report files written, not committed": Point("pwrite64", "-wal", after=MASK),
        "the ledger not written": Point("pwrite64", ".ledger", after=MASK),
        "the ledger written, not synced": Point("fdatasync", ".ledger", after=MASK),
        "the ledger synced, the journal not written": Point(
            "pwrite64", "-wal", after=Point("fdatasync", ".ledger", after=MASK)
        ),
        "the commit half written": Point("pwrite64", "-wal", 6, after=MASK),
        "the commit written, not synced": Point("fdatasync", "-wal", after=MASK),
        "after the commit, before the wake": Point("sendto", "publish.sock", after=MASK),
    },
    "publish": {
        "before PUBLISH": PUBLISHED,
        "between two PUBLISH": Point("sendto", "/study/", 2),
        "after PUBLISH, before PUBACK": Point("recvfrom", "", after=PUBLISHED),
        "after PUBACK, before the mark": Point("pwrite64", "-wal", after=PUBACK),
        "the mark written, not synced": Point("fdatasync", "-wal", after=PUBACK),
        "after the mark": Point(
            "recvfrom|sendto", "", after=Point("fdatasync", "-wal", after=PUBACK)
        ),
    },
    "retain": {
        "before the slices": MOVED,
        "the slices moved, not synced": Point("fsync", "/incoming", after=MOVED),
        "between unlinks": Point("unlinkat", ".dcm", 30),
        "the slices gone, not the masks": Point("unlinkat", "inputs.json"),
        "between the masks": SLICES_GONE,
        "the masks gone, not the rows": Point("pwrite64", "-wal", after=SLICES_GONE),
        "the rows gone, not synced": Point("fdatasync", "-wal", after=SLICES_GONE),
    },
}  # fmt: skip
SAMPLE = {
    "receive": "between the name and the folder's sync",
    "work": "report files written, not committed",
    "publish": "after PUBACK, before the mark",
    "retain": "between unlinks",
}


@dataclass
class Undisturbed:
    """Each stage once: what it began with, what it did, and what came of it all."""

    scan: Scan
    few: Scan
    before: dict[str, Path] = field(default_factory=dict)
    calls: dict[str, list[Call]] = field(default_factory=dict)
    """Of the run whose state folder is `states`."""
    states: dict[str, Path] = field(default_factory=dict)
    instances: dict[str, bytes] = field(default_factory=dict)
    said: dict[str, Any] = field(default_factory=dict)


@pytest.fixture(scope="module")
def undisturbed(
    installed: Path, small_scans: Any, tmp_path_factory: pytest.TempPathFactory
) -> Undisturbed:
    folder = tmp_path_factory.mktemp("once")
    few = small_scans.make(lambda image, index: image if index < FEW else None)
    once = Undisturbed(small_scans.make(), few)
    receive = Box.of(installed, folder / "receive")
    answers, _ = receive.receive(few)
    once.before["receive"] = copied(receive, folder)
    more, once.calls["receive"] = receive.receive(once.scan, trace=folder / "receive.trace")
    assert {*answers.values(), *more.values()} == {"Success"}
    once.instances = receive.instances()

    work = Box.of(receive.state, folder / "work")
    once.before["work"] = receive.state
    once.calls["work"] = work.run("work", lambda: finished(work, once), trace=folder / "work.trace")
    once.said = said(work)

    once.before["publish"] = work.state
    with contextlib.ExitStack() as stack:
        publish, heard = published(stack, work.state, folder / "publish")
        once.calls["publish"] = publish.run(
            "publish", lambda: all_heard(heard, once), trace=folder / "publish.trace"
        )
    once.states["publish"] = publish.state
    retain = Box.of(publish.state, folder / "retain")
    with retain.journal() as journal, journal._db.write() as db:  # of one something is owed
        db.execute("UPDATE owed SET state = 'waiting' WHERE series_uid = ?", (once.few.series,))
    once.before["retain"] = copied(retain, folder)
    once.calls["retain"] = retain.run(
        "retain", lambda: deleted(retain, once.scan), trace=folder / "retain.trace"
    )
    return once


def copied(box: Box, folder: Path) -> Path:
    to = folder / f"before-{box.folder.name}"
    shutil.copytree(box.state, to, ignore=shutil.ignore_patterns("*.sock"))
    return to


def said(box: Box) -> dict[str, Any]:
    """Reports (id, stage, status) and event ids of findings, as the journal has them."""
    with box.journal() as journal, journal._db.look() as db:
        reports = db.execute("SELECT report_id, stage, status FROM reports").fetchall()
        owed = db.execute("SELECT key, body FROM owed ORDER BY id").fetchall()
    return {
        "final": {tuple(row) for row in reports if row[1] == "final"},
        "reports": {row[0] for row in reports},
        "events": {key for key, _ in owed},
        "findings": sorted(
            key
            for key, body in owed
            if Envelope.model_validate_json(body).topic.startswith("finding/")
        ),
        "order": [key for key, _ in owed],
    }


def finished(box: Box, once: Undisturbed) -> bool:
    return all(f"{scan.series}: final" in box.log("work") for scan in (once.scan, once.few))


def deleted(box: Box, scan: Scan) -> bool:
    with box.journal() as journal:
        return journal.series.get(scan.key) is None


def published(stack: contextlib.ExitStack, state: Path, folder: Path) -> tuple[Box, Subscriber]:
    """A copy of the state with a broker of its own, and who listens."""
    home = folder.with_name(f"{folder.name}-broker")
    home.mkdir()
    broker = Broker(home)
    broker.start()
    stack.callback(broker.stop)
    return Box.of(state, folder, broker.port), Subscriber(stack, broker.port)


def heard_events(heard: Subscriber) -> list[str]:
    """event_ids of what came out of the outbox, in order, doubles included."""
    said = [p for t, p in list(heard.said) if "/study/" in t or "/finding/" in t]
    return [json.loads(payload)["event_id"] for payload in said]


def all_heard(heard: Subscriber, once: Undisturbed) -> bool:
    return once.said["events"] <= set(heard_events(heard))


# The stages, killed and started again.


def killed(
    stage: str, name: str, folder: Path, run: Callable[[Path, Path, tuple[str, int]], Any],
    once: Undisturbed,
) -> Any:  # fmt: skip
    """Run the stage until it is killed at the point; what `run` gave, once the kill fell there."""
    point = POINTS[stage][name]
    aim = point.aim(once.calls[stage])
    for n in range(TRIES):
        trace = folder / f"trace-{n}"
        found, seen = run(folder / str(n), trace, aim)
        if point.hit(seen):
            return found
        aim = point.again(seen, aim)
    raise AssertionError(
        f"{stage} was never killed {name}: {[c for c in seen if c.result is None]}"
    )


def receive_again(name: str, folder: Path, once: Undisturbed) -> None:
    def run(at: Path, trace: Path, kill: tuple[str, int]) -> Any:
        box = Box.of(once.before["receive"], at)
        answers, seen = box.receive(once.scan, trace, kill)
        return (box, answers), seen

    box, answers = killed("receive", name, folder, run, once)
    there = box.instances()
    assert {uid for uid, answer in answers.items() if answer == "Success"} <= there.keys()
    assert there.items() <= once.instances.items(), "an instance is not whole"
    assert len(there) < len(once.instances) or "last answer" in name
    box.age_incoming()
    answers, _ = box.receive(once.scan)
    assert set(answers.values()) == {"Success"}
    assert box.instances() == once.instances
    assert not list((box.state / "incoming").iterdir())
    with box.journal() as journal:
        assert not journal.series.open_associations()
    Line(box.state, lambda **_: None).analyse()
    assert said(box)["final"] == once.said["final"]
    assert said(box)["findings"] == once.said["findings"]


def work_again(name: str, folder: Path, once: Undisturbed) -> None:
    def run(at: Path, trace: Path, kill: tuple[str, int]) -> Any:
        box = Box.of(once.before["work"], at)
        return box, box.run_until_killed("work", trace, kill)

    box = killed("work", name, folder, run, once)
    with glimpse(box) as copy:
        before = said(copy)
    box.run("work", lambda: settled(box))
    after = said(box)
    assert after["order"][: len(before["order"])] == before["order"]
    assert after["final"] == once.said["final"]
    assert after["reports"] == once.said["reports"]
    assert after["findings"] == once.said["findings"]
    assert after["events"] <= once.said["events"]
    assert box.instances() == once.instances
    for report, _, status in after["final"]:
        kept = box.state / "reports" / report
        names = {path.name for path in kept.glob("*.*") if not path.name.startswith(".")}
        assert "inputs.json" in names
        assert len(names) > 1 or status != "analysed"


def settled(box: Box) -> bool:
    with box.journal() as journal:
        return not journal.series.all("open", "complete")


@contextlib.contextmanager
def glimpse(box: Box) -> Iterator[Box]:
    """A copy: to open a journal repairs it, and that is for the stage to do."""
    folder = box.folder / "glimpse"
    yield Box.of(box.state, folder)
    shutil.rmtree(folder)


def publish_again(name: str, folder: Path, once: Undisturbed) -> None:
    with contextlib.ExitStack() as stack:

        def run(at: Path, trace: Path, kill: tuple[str, int]) -> Any:
            box, heard = published(stack, once.before["publish"], at)
            return (box, heard), box.run_until_killed("publish", trace, kill)

        box, heard = killed("publish", name, folder, run, once)
        with glimpse(box) as copy:
            delivered = set(marked(copy))
        wait(lambda: delivered <= set(heard_events(heard)), "what is marked as delivered")
        box.run("publish", lambda: len(marked(box)) == len(once.said["order"]))
        wait(lambda: all_heard(heard, once), "messages")
        events = heard_events(heard)
    # each once in order, as a consumer has them that drops the same event_id
    assert list(dict.fromkeys(events)) == once.said["order"]


def marked(box: Box) -> list[str]:
    """event_ids of what counts as delivered."""
    with box.journal() as journal, journal._db.look() as db:
        rows = db.execute("SELECT key FROM owed WHERE state = 'delivered'").fetchall()
    return [row[0] for row in rows]


def retain_again(name: str, folder: Path, once: Undisturbed) -> None:
    def run(at: Path, trace: Path, kill: tuple[str, int]) -> Any:
        box = Box.of(once.before["retain"], at)
        return box, box.run_until_killed("retain", trace, kill)

    box = killed("retain", name, folder, run, once)
    owed = Spool(box.state).instances(SeriesKey(once.few.study, once.few.series))
    assert len(owed) == FEW
    box.age_incoming()
    box.run("retain", lambda: deleted(box, once.scan))
    assert {uid: path.read_bytes() for uid, path in owed.items()} == box.instances()
    assert not list((box.state / "incoming").iterdir())
    (left,) = said(box)["reports"]
    assert [p.name for p in (box.state / "reports").iterdir()] == [left]


AGAIN = {
    "receive": receive_again,
    "work": work_again,
    "publish": publish_again,
    "retain": retain_again,
}


@pytest.mark.parametrize("stage", SAMPLE)
def test_a_stage_killed_at_a_named_point_loses_nothing_and_doubles_nothing(
    stage: str, tmp_path: Path, undisturbed: Undisturbed
) -> None:
    AGAIN[stage](SAMPLE[stage], tmp_path, undisturbed)


@pytest.mark.long
@pytest.mark.parametrize(
    ("stage", "name"), [(stage, name) for stage, points in POINTS.items() for name in points]
)
def test_every_stage_killed_at_every_named_point_loses_nothing_and_doubles_nothing(
    stage: str, name: str, tmp_path: Path, undisturbed: Undisturbed
) -> None:
    AGAIN[stage](name, tmp_path, undisturbed)


# The order of what `publish` does.


def publishes(call: Call) -> tuple[int, int] | None:
    """(packet identifier, seq) of a PUBLISH of QoS 1 (MQTT 5.0 3.3) that carries a seq."""
    data = call.data(1) if call.name == "sendto" else b""
    seq = re.search(rb'"seq": ?(\d+)', data)
    if not data or data[0] & 0xF6 != 0x32 or seq is None:
        return None
    at = 1
    while data[at] & 0x80:  # the remaining length (1.5.5)
        at += 1
    at += 1
    at += 2 + int.from_bytes(data[at : at + 2], "big")  # the topic
    return int.from_bytes(data[at : at + 2], "big"), int(seq[1])


def acknowledged(stream: bytearray) -> Iterator[int]:
    """Packet identifiers of the PUBACKs (MQTT 5.0 3.4) that are whole; takes packets away."""
    while len(stream) >= 2 and len(stream) >= 2 + stream[1]:
        assert stream[1] < 0x80, "a long packet"
        if stream[0] == 0x40:
            yield int.from_bytes(stream[2:4], "big")
        del stream[: 2 + stream[1]]


def test_a_message_is_marked_as_delivered_only_after_its_puback(
    undisturbed: Undisturbed, tmp_path: Path
) -> None:
    disk = Disk(undisturbed.states["publish"], undisturbed.before["publish"])
    shelf = Shelf(tmp_path)
    seqs: dict[int, int] = {}
    stream, acked = bytearray(), set[int]()
    delivered = set[int]()
    broker = next(
        c.args[0] for c in undisturbed.calls["publish"] if c.name == "sendto" and CONNECT in c.text
    )
    for call in undisturbed.calls["publish"]:
        if (sent := publishes(call)) is not None:
            seqs[sent[0]] = sent[1]
        if call.name == "recvfrom" and call.args[0] == broker and (call.result or 0) > 0:
            stream += call.data(1)
            acked |= {seqs[mid] for mid in acknowledged(stream) if mid in seqs}
        disk.apply(call)
        if call.name == "fdatasync" and "-wal" in call.text:
            with Journal.open(shelf.make(disk.left(ALL))) as journal, journal._db.look() as db:
                rows = db.execute("SELECT seq FROM owed WHERE state = 'delivered'")
                delivered = {row[0] for row in rows}
            assert delivered <= acked
    assert len(delivered) == len(undisturbed.said["order"]) > FEW
