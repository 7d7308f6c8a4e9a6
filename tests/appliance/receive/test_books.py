"""`receive` goes on while the journal cannot be had."""

from __future__ import annotations

import fcntl
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pynetdicom import AE

from appliance.report import SeriesKey
from appliance.store.journal import JOURNAL_NAME, Journal, Manner
from rigs.peers import until
from rigs.receiver import MakeImage, Receiver, StartReceiver


@contextmanager
def being_looked_at(state: Path) -> Iterator[None]:
    """As while a stage looks at a large journal on a slow disk."""
    with (state / f"{JOURNAL_NAME}.lock").open("rb+") as opener:
        fcntl.flock(opener, fcntl.LOCK_EX)
        yield


def associate(port: int) -> Any:
    peer = AE("CT1")
    peer.add_requested_context(CTImageStorage, ExplicitVRLittleEndian)
    association = peer.associate("127.0.0.1", port, ae_title="SCANSIDE")
    assert association.is_established
    return association


def send(one: Receiver, make_ct: MakeImage, *numbers: int) -> list[int]:
    association = associate(one.port)
    statuses = [association.send_c_store(make_ct(n)).Status for n in numbers]
    association.release()
    return statuses


def test_while_the_journal_is_looked_at_images_are_acknowledged_and_it_hears_of_them_later(
    receiver: StartReceiver, make_ct: MakeImage
) -> None:
    one = receiver()
    with being_looked_at(one.state):
        association = associate(one.port)
        assert [association.send_c_store(make_ct(n)).Status for n in range(2)] == [0, 0]
        assert len(one.stored()) == 2
    association.release()
    assert one.outcomes(1) == ["released"]
    with one.journal() as journal:
        (series,) = journal.series.all()
        (arrival,) = journal.series.arrivals(series.key)
    assert (arrival.instances, arrival.association.calling_ae) == (2, "CT1")


def test_with_a_journal_that_is_damaged_images_are_acknowledged(
    receiver: StartReceiver, make_ct: MakeImage
) -> None:
    one = receiver()
    assert send(one, make_ct, 0) == [0]
    assert one.outcomes(1) == ["released"]
    (one.state / JOURNAL_NAME).write_bytes(b"no journal at all" * 500)
    assert send(one, make_ct, 1, 2) == [0, 0]
    assert len(one.stored()) == 3
    with Journal.open(one.state, manner=Manner.MEND) as journal:
        assert [series.state for series in journal.series.all()] == ["open"]
    assert send(one, make_ct, 3) == [0]
    # of the one before too, where its process ends after the journal was mended
    assert set(one.outcomes(1)) == {"released"}, "it is told again"


def test_a_damage_that_an_association_meets_at_its_begin_does_not_refuse_it(
    receiver: StartReceiver, make_ct: MakeImage
) -> None:
    """Another stage has the file open, so nobody looks at it before it is met."""
    one = receiver()
    with one.journal() as beside:
        beside.series.set(SeriesKey("1.2", "1.2.3"), "open")
        with beside._db._lock:
            db = beside._db._db
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            pages = db.execute(
                "SELECT rootpage FROM sqlite_master WHERE tbl_name = 'associations'"
            ).fetchall()
        handle = os.open(one.state / JOURNAL_NAME, os.O_WRONLY)
        for (page,) in pages:
            os.pwrite(handle, b"junk" * 1024, (page - 1) * 4096)
        statuses = send(one, make_ct, 0)
        os.close(handle)
    assert statuses == [0]
    assert len(one.stored()) == 1
    with Journal.open(one.state, manner=Manner.MEND) as journal:
        assert len(journal.series.all()) == 1, "what is in the spool"


def test_a_receiver_starts_beside_a_journal_that_is_damaged(
    receiver: StartReceiver, make_ct: MakeImage
) -> None:
    one = receiver()
    assert send(one, make_ct, 1) == [0]
    assert one.stop() == 0
    (one.state / JOURNAL_NAME).write_bytes(b"no journal at all" * 500)
    one.start()
    assert send(one, make_ct, 0) == [0]
    assert (one.state / JOURNAL_NAME).read_bytes() == b"no journal at all" * 500
    until(lambda: "[journal_damaged]" in one.log.read_text())  # of the child that looked at it
    assert "Traceback" not in one.log.read_text()


def test_after_a_kill_the_lost_association_is_marked_without_keeping_a_sender_waiting(
    receiver: StartReceiver, make_ct: MakeImage
) -> None:
    one = receiver()
    association = associate(one.port)
    assert association.send_c_store(make_ct(0)).Status == 0
    one.stop(signal.SIGKILL)
    association.abort()
    one.start()
    assert one.outcomes(1) == ["lost"]
