"""Storage commitment from end to end: `receive` and `deliver` as processes, an archive that answers
on an association of its own, as Orthanc does, and a scanner that asks."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path, PurePosixPath

import pytest
from pydicom.dataset import Dataset

from appliance.deliver.offer import COMPREHENSIVE_3D_SR
from appliance.results.owed import File, Owed
from appliance.store import bell
from appliance.store.commitment import Reference
from appliance.store.delivery import State
from appliance.store.events import CommitmentRefused
from appliance.store.journal import Journal
from rigs import promises
from rigs.archive import written
from rigs.orthanc import AE_TITLE, Orthanc
from rigs.peers import HANG_S, free_port, until
from rigs.promises import Hearer, Promiser, hearing, promising
from rigs.receiver import Receiver

SETTINGS = """
state = "{state}"
[dicom]
bind = "127.0.0.1"
port = {port}
commitment = "relay"
[[dicom.allow]]
ae_title = "CT1"
host = "127.0.0.1"
commitment = "CT1@127.0.0.1:{scanner}"
[[deliver]]
name = "pacs"
host = "127.0.0.1"
port = {archive}
called_ae = "{title}"
commitment = true
[retain]
reserve_mb = 0
"""


class Box:
    """A device: its `receive`, its `deliver`, and what it has composed."""

    def __init__(
        self,
        folder: Path,
        archive: int,
        scanner: int,
        stack: ExitStack,
        *,
        title: str = promises.PACS,
        port: int = 0,
    ) -> None:
        """archive, scanner: their ports. title: of the archive. port: ours; 0: any."""
        self.state = folder / "state"
        self.state.mkdir()
        self.config = folder / "scanside.toml"
        self.config.write_text(
            SETTINGS.format(
                state=self.state, archive=archive, scanner=scanner, title=title, port=port
            )
        )
        self.journal = stack.enter_context(Journal.open(self.state))
        self.receive = Receiver(self.config, self.state, None, folder / "log")  # type: ignore[arg-type]
        self.receive.start()
        stack.callback(self.receive.stop, signal.SIGKILL)

    @contextmanager
    def delivering(self) -> Iterator[subprocess.Popen[bytes]]:
        """`deliver`, to the end of the block."""
        command = [sys.executable, "-m", "appliance", "deliver", "--config", str(self.config)]
        with self.receive.log.open("ab") as log:
            process = subprocess.Popen(command, stderr=log)
        try:
            yield process
        finally:
            process.terminate()
            assert process.wait(HANG_S) in (0, -signal.SIGKILL), self.receive.log.read_text()

    def composed(self, *uids: str) -> None:
        for uid in uids:
            written(self.state / "outgoing" / f"{uid}.dcm", uid)
            path = PurePosixPath("outgoing", f"{uid}.dcm")
            self.journal.owed.add([Owed("pacs", uid, None, File(path))])
        bell.ring(self.state, "deliver")

    def states(self) -> dict[str, str]:
        return {row.key: state.value for state in State for row in self.journal.owed.listed(state)}

    def asked(self) -> int:
        """How many requests it has made."""
        with self.journal._db.look() as db:
            return int(db.execute("SELECT count(*) FROM commitments").fetchone()[0])


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as opened:
        yield opened


def test_what_the_archive_has_is_committed_and_what_it_lost_is_sent_again_and_then_committed(
    tmp_path: Path, stack: ExitStack
) -> None:
    to_lose = ["1.2"]

    def loses(uid: str) -> bool:
        """Once."""
        return uid in to_lose and to_lose.pop() == uid

    archive = stack.enter_context(promising(Promiser(loses=loses)))
    archive.says = archive.kept
    box = Box(tmp_path, archive.port, 104, stack)
    archive.calls = box.receive.port
    with box.delivering():
        box.composed("1.1", "1.2")
        until(lambda: box.states() == {"1.1": "committed", "1.2": "committed"})
    assert to_lose == []
    assert archive.stored.count("1.2") == 1
    assert archive.stored[0] == "1.1"
    assert set(archive.statuses) == {0}
    assert box.journal.events.of(CommitmentRefused) == []


def test_a_promise_that_comes_while_deliver_is_killed_counts(
    tmp_path: Path, stack: ExitStack
) -> None:
    heard: list[tuple[str, Sequence[Reference]]] = []

    def silent(uid: str, asked: Sequence[Reference]) -> Dataset | None:
        heard.append((uid, asked))
        return None

    archive = stack.enter_context(promising(Promiser(says=silent)))
    box = Box(tmp_path, archive.port, 104, stack)
    with box.delivering() as deliver:
        box.composed("1.1")
        until(lambda: heard)
        deliver.kill()
    assert box.states() == {"1.1": "delivered"}
    ((uid, asked),) = heard
    forged = promises.answer("2.25.5", asked)
    assert promises.tell(box.receive.port, forged) == 0x0115
    assert promises.tell(box.receive.port, promises.answer(uid, asked)) == 0
    assert box.states() == {"1.1": "committed"}
    with box.delivering():
        box.composed("1.2")
        until(lambda: len(heard) == 2)
    assert [one.sop_instance for one in heard[1][1]] == ["1.2"], "and is not asked about again"


def test_a_scanner_hears_under_its_own_uid_what_the_archive_said_and_nothing_else(
    tmp_path: Path, stack: ExitStack
) -> None:
    archive = stack.enter_context(promising(Promiser()))
    archive.says = archive.kept
    archive.stored.append("5.1")
    scanner = stack.enter_context(hearing(Hearer()))
    box = Box(tmp_path, archive.port, scanner.port, stack)
    archive.calls = box.receive.port
    asked = [Reference(sop_class=COMPREHENSIVE_3D_SR, sop_instance=uid) for uid in ("5.1", "5.2")]
    assert promises.ask(box.receive.port, promises.request("1.9.9", asked)) == 0
    with box.delivering():
        until(lambda: scanner.heard)
        ((kind, said),) = scanner.heard
        assert (kind, said.TransactionUID) == (2, "1.9.9")
        assert [one.ReferencedSOPInstanceUID for one in said.ReferencedSOPSequence] == ["5.1"]
        (failed,) = said.FailedSOPSequence
        assert (failed.ReferencedSOPInstanceUID, failed.FailureReason) == ("5.2", 0x0112)
        ((ours, _),) = archive.asked
        assert ours not in ("1.9.9", "")
        until(lambda: not box.journal.commitments.to_tell(9))
        assert box.states() == {}, "what a scanner asks about is nothing of ours"


def test_an_orthanc_promises_what_it_has_and_denies_the_rest(
    tmp_path: Path, stack: ExitStack
) -> None:
    port = free_port()
    orthanc = stack.enter_context(Orthanc(tmp_path, senders={"SCANSIDE": port}))
    scanner = stack.enter_context(hearing(Hearer()))
    box = Box(tmp_path, orthanc.dicom_port, scanner.port, stack, title=AE_TITLE, port=port)
    with box.delivering():
        box.composed("1.1", "1.2")
        until(lambda: box.states() == {"1.1": "committed", "1.2": "committed"})
        assert len(orthanc.json("/instances")) == 2
        asked = [
            Reference(sop_class=COMPREHENSIVE_3D_SR, sop_instance=uid) for uid in ("1.1", "5.2")
        ]
        assert promises.ask(box.receive.port, promises.request("1.9.9", asked)) == 0
        until(lambda: scanner.heard)
    ((kind, said),) = scanner.heard
    assert (kind, said.TransactionUID) == (2, "1.9.9")
    assert [one.ReferencedSOPInstanceUID for one in said.ReferencedSOPSequence] == ["1.1"]
    (failed,) = said.FailedSOPSequence
    assert (failed.ReferencedSOPInstanceUID, failed.FailureReason) == ("5.2", 0x0112)
    assert box.journal.events.of(CommitmentRefused) == []
