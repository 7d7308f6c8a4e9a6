"""Senders are told what was promised, under their own UID: real peers."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from appliance.deliver.teller import Teller
from appliance.deliver.worker import Pace
from appliance.dicom.requestor import Limits
from appliance.settings import TLS, Allow, Dicom
from appliance.store.commitment import GIVE_UP_S, Answer, Failed, Reference, Request
from appliance.store.journal import Journal
from rigs.authority import Authority, shown
from rigs.peers import HANG_S, until
from rigs.promises import Hearer, hearing

PACE = Pace(limits=Limits(connect_s=HANG_S, answer_s=HANG_S, send_s=HANG_S), tick_s=0.05)
ASKED = tuple(Reference(sop_class="1.2.840", sop_instance=f"5.{n}") for n in range(2))


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


class Box:
    """A device whose archive was asked for a sender."""

    def __init__(self, state: Path, stack: ExitStack) -> None:
        self.clock = Clock()
        self.journal = stack.enter_context(Journal.open(state, clock=self.clock))
        self._stack = stack

    def asked(self, port: int) -> None:
        request = Request(transaction_uid="1.9.9", references=ASKED)
        self.journal.commitments.relay(
            request, calling_ae="CT1", host="127.0.0.1", answer_to=f"CT1@127.0.0.1:{port}"
        )

    def answered(self, *failed: Failed) -> None:
        """By the archive."""
        (one,) = self.journal.commitments.to_relay(1)
        ours = self.journal.commitments.ask_for(one, "pacs")
        not_kept = {each.reference for each in failed}
        kept = tuple(each for each in ASKED if each not in not_kept)
        said = Answer(transaction_uid=ours.transaction_uid, kept=kept, failed=failed)
        self.journal.commitments.take(said, ["pacs"])

    def tell(self, ours: Dicom | None = None) -> None:
        ours = ours or Dicom(ae_title="BOX")
        teller = Teller(ours, self.journal, pace=PACE, clock=self.clock)
        thread = threading.Thread(target=teller.run, daemon=True)
        thread.start()

        def stop() -> None:
            teller.stop()
            teller.cut()
            thread.join(HANG_S)
            assert not thread.is_alive()

        self._stack.callback(stop)

    def left(self) -> int:
        """How many answers senders are still owed, at any time."""
        with self.journal._db.look() as db:
            found = db.execute("SELECT count(*) FROM relayed WHERE told IS NULL").fetchone()
        return int(found[0])


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    with ExitStack() as stack:
        yield Box(tmp_path, stack)


def test_a_sender_hears_of_each_object_whether_the_archive_keeps_it(box: Box) -> None:
    with hearing(Hearer()) as scanner:
        box.asked(scanner.port)
        box.tell()
        box.answered(Failed(reference=ASKED[1], reason=0x0213))
        until(lambda: box.left() == 0)
        ((kind, said),) = scanner.heard
        assert (kind, said.TransactionUID) == (2, "1.9.9")
        assert [one.ReferencedSOPInstanceUID for one in said.ReferencedSOPSequence] == ["5.0"]
        (failed,) = said.FailedSOPSequence
        assert (failed.ReferencedSOPInstanceUID, failed.FailureReason) == ("5.1", 0x0213)


def test_all_of_it_is_promised_only_where_the_archive_said_so(box: Box) -> None:
    with hearing(Hearer()) as scanner:
        box.asked(scanner.port)
        box.tell()
        box.answered()
        until(lambda: box.left() == 0)
        ((kind, said),) = scanner.heard
        assert kind == 1
        assert len(said.ReferencedSOPSequence) == 2
        assert "FailedSOPSequence" not in said


def test_without_an_answer_of_the_archive_all_of_it_has_failed_after_a_day(box: Box) -> None:
    with hearing(Hearer()) as scanner:
        box.asked(scanner.port)
        box.clock.now += GIVE_UP_S - 1
        box.tell()
        box.clock.now += 1
        until(lambda: box.left() == 0)
        ((kind, said),) = scanner.heard
        assert kind == 2
        assert "ReferencedSOPSequence" not in said
        assert [one.FailureReason for one in said.FailedSOPSequence] == [0x0110, 0x0110]


@pytest.mark.parametrize("refuses", [True, False])
def test_a_sender_that_is_away_or_refuses_is_told_again_after_a_pause(
    box: Box, refuses: bool
) -> None:
    scanner = Hearer(answers=0x0110)
    with hearing(scanner):
        port = scanner.port
        if refuses:
            box.asked(port)
            box.answered()
            box.tell()
            until(lambda: len(scanner.heard) == 1)
    if not refuses:
        box.asked(port)
        box.answered()
        box.tell()
    until(lambda: not box.journal.commitments.to_tell(1))
    assert box.left() == 1
    scanner.answers = 0x0000
    with hearing(scanner, port=port):
        box.clock.now += 60
        until(lambda: box.left() == 0)
        assert len(scanner.heard) == 1 + refuses


def test_a_sender_that_is_away_for_ever_is_given_up(box: Box) -> None:
    with hearing(Hearer()) as scanner:
        port = scanner.port
    box.asked(port)
    box.answered()
    box.clock.now += 2 * GIVE_UP_S + 1
    box.tell()
    until(lambda: box.left() == 0)


@pytest.mark.parametrize(("shows", "told"), [("ct1.ward", True), ("ct2.ward", False)])
def test_a_sender_whose_line_names_a_certificate_is_told_only_where_it_shows_that_one(
    box: Box, tmp_path: Path, shows: str, told: bool, caplog: pytest.LogCaptureFixture
) -> None:
    authority = Authority(tmp_path, "ward")
    with hearing(Hearer(), tls=shown(authority.issue(shows, "127.0.0.1"))) as scanner:
        line = Allow(
            ae_title="CT1", host="127.0.0.1", certificate="ct1.ward",
            commitment=f"CT1@127.0.0.1:{scanner.port}",
        )  # fmt: skip
        box.asked(scanner.port)
        box.answered()
        box.tell(Dicom(ae_title="BOX", allow=(line,), tls=TLS(ca=authority.ca)))
        until(lambda: box.left() == 0 if told else "another certificate" in caplog.text)
        assert len(scanner.heard) == int(told)
