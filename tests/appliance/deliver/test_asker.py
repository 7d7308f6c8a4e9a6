"""An archive is asked to promise until it has: real peers, and a clock that the test moves."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path, PurePosixPath

import pytest

from appliance.deliver.asker import Asker
from appliance.deliver.worker import Pace
from appliance.dicom.requestor import Limits
from appliance.results.owed import File, Owed
from appliance.settings import Deliver
from appliance.store.commitment import ASKED_AGAIN_S, ASKED_AT_LEAST, GIVE_UP_S, Reference, Request
from appliance.store.delivery import State
from appliance.store.events import CommitmentRefused, HandshakeRefused
from appliance.store.journal import Journal
from appliance.store.patience import Patience
from rigs import promises
from rigs.archive import SR_3D, written
from rigs.authority import Authority, shown
from rigs.peers import HANG_S, until
from rigs.promises import Promiser, promising

QUICK = Pace(
    pauses=Patience(0.02, 0.1, 5),
    limits=Limits(connect_s=HANG_S, answer_s=HANG_S, send_s=HANG_S),
    tick_s=0.05,
    listen_s=HANG_S,
)
IMPATIENT = Pace(pauses=QUICK.pauses, limits=QUICK.limits, tick_s=0.05, listen_s=0.0)


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


class Box:
    """A device with objects that an archive took."""

    def __init__(self, state: Path, stack: ExitStack) -> None:
        self.state = state
        self.clock = Clock()
        self.journal = stack.enter_context(Journal.open(state, clock=self.clock))
        self._stack = stack

    def took(self, *uids: str) -> None:
        for uid in uids:
            written(self.state / "outgoing" / f"{uid}.dcm", uid)
            path = PurePosixPath("outgoing", f"{uid}.dcm")
            self.journal.owed.add([Owed("pacs", uid, None, File(path))])
        self.journal.owed.ack("pacs", list(uids))

    def ask(self, port: int, pace: Pace = QUICK, *, relays: bool = False, **keys: object) -> Asker:
        """The thread that asks, until the end of the test. keys: more of its [[deliver]]."""
        address = {"name": "pacs", "host": "127.0.0.1", "port": port, "called_ae": "PACS"}
        to = Deliver.model_validate({**address, "commitment": True, **keys})
        asker = Asker(to, self.journal, self.state, relays=relays, pace=pace)
        errors: list[BaseException] = []

        def run() -> None:
            try:
                asker.run()
            except BaseException as e:  # noqa: BLE001 - the test looks at it
                errors.append(e)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()

        def stop() -> None:
            asker.stop()
            asker.cut()
            thread.join(HANG_S)
            assert not thread.is_alive()
            assert errors == []

        self._stack.callback(stop)
        return asker

    def states(self) -> dict[str, str]:
        return {row.key: state.value for state in State for row in self.journal.owed.listed(state)}

    def later(self) -> dict[str, str]:
        """Ten minutes pass."""
        self.clock.now += ASKED_AGAIN_S
        return self.states()

    def said(self) -> str:
        """What the archive said last, of all that it has not promised."""
        with self.journal._db.look() as db:
            return "; ".join(str(row["said"]) for row in db.execute("SELECT said FROM uncommitted"))


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    with ExitStack() as stack:
        yield Box(tmp_path, stack)


def reference(uid: str) -> Reference:
    return Reference(sop_class=SR_3D, sop_instance=uid)


def test_what_was_delivered_is_asked_about_in_one_request_and_committed_by_the_answer(
    box: Box,
) -> None:
    with promising(Promiser()) as archive:
        box.took("1.1", "1.2")
        box.ask(archive.port)
        until(lambda: box.states() == {"1.1": "committed", "1.2": "committed"})
        ((uid, asked),) = archive.asked
        assert uid.startswith("2.25.")
        assert asked == (reference("1.1"), reference("1.2"))
        until(lambda: archive.statuses == [0])
        box.took("1.3")
        until(lambda: box.states()["1.3"] == "committed")
        assert archive.associations == 2


def test_of_two_objects_one_is_committed_and_the_other_is_owed_once_more(box: Box) -> None:
    lost = {"1.2": 0x0112}

    def says(uid: str, asked: promises.Sequence[Reference]) -> promises.Dataset:
        failed = {one: lost[one.sop_instance] for one in asked if one.sop_instance in lost}
        return promises.answer(uid, [one for one in asked if one not in failed], failed)

    with promising(Promiser(says=says)) as archive:
        box.took("1.1", "1.2")
        box.ask(archive.port)
        until(lambda: box.states() == {"1.1": "committed", "1.2": "waiting"})
        lost.clear()
        box.journal.owed.ack("pacs", ["1.2"])  # it was sent once more
        until(lambda: box.states()["1.2"] == "committed")
        assert archive.asked[1][1] == (reference("1.2"),)
        assert archive.asked[1][0] != archive.asked[0][0]


def test_an_archive_that_never_answers_is_asked_again_and_after_a_day_it_is_dead(box: Box) -> None:
    with promising(Promiser(says=lambda *_: None)) as archive:
        box.took("1.1")
        box.ask(archive.port, IMPATIENT)
        until(lambda: len(archive.asked) == 1)
        box.clock.now += ASKED_AGAIN_S
        until(lambda: len(archive.asked) == 2)
        assert archive.asked[0][0] != archive.asked[1][0]
        assert box.states() == {"1.1": "delivered"}
        until(lambda: box.later() == {"1.1": "dead"})
        assert len(archive.asked) >= ASKED_AT_LEAST
        (row,) = box.journal.owed.listed(State.DEAD)
        assert "24 hours" in (row.last_error or "")


def test_a_wrong_answer_on_our_own_association_changes_nothing_and_is_an_event(box: Box) -> None:
    def says(uid: str, asked: promises.Sequence[Reference]) -> promises.Dataset:
        return promises.answer(uid, [*asked, reference("1.9")])

    with promising(Promiser(says=says)) as archive:
        box.took("1.1")
        box.ask(archive.port)
        until(lambda: archive.statuses == [0x0115])
        assert box.states() == {"1.1": "delivered"}
        (event,) = [one.event for one in box.journal.events.of(CommitmentRefused)]
        assert (event.subject, event.code) == ("PACS", "other_references")


@pytest.mark.parametrize(
    ("takes", "speaks_of_it", "words"),
    [(0x0110, True, "0x0110"), (0, False, "does not accept the class")],
)
def test_an_archive_that_takes_no_request_is_asked_again_in_ten_minutes_and_dead_in_words(
    box: Box, takes: int, speaks_of_it: bool, words: str
) -> None:
    with promising(Promiser(takes=takes), speaks_of_it=speaks_of_it) as archive:
        box.took("1.1")
        asker = box.ask(archive.port)
        # over: what is due before the end of an association is asked on the same one
        until(lambda: words in box.said() and asker._link is None)
        assert archive.associations == 1
        box.clock.now += ASKED_AGAIN_S
        until(lambda: archive.associations == 2)
        until(lambda: box.later() == {"1.1": "dead"})
        assert words in (box.journal.owed.listed(State.DEAD)[0].last_error or "")


def test_an_archive_that_is_away_costs_nothing_but_time(box: Box) -> None:
    with promising(Promiser()) as archive:
        port = archive.port
    box.took("1.1")
    asker = box.ask(port)
    until(lambda: asker._troubles > 3)
    box.clock.now += 2 * GIVE_UP_S
    until(lambda: asker._troubles > 6)
    assert box.states() == {"1.1": "delivered"}
    with promising(Promiser(), port=port):
        until(lambda: box.states() == {"1.1": "committed"})


def test_an_object_whose_file_is_gone_is_not_asked_about_and_holds_up_no_other(box: Box) -> None:
    with promising(Promiser()) as archive:
        box.took("1.1", "1.2")
        (box.state / "outgoing" / "1.1.dcm").unlink()
        box.ask(archive.port)
        until(lambda: box.states() == {"1.1": "delivered", "1.2": "committed"})
        assert archive.asked[0][1] == (reference("1.2"),)


def test_requests_of_senders_are_asked_by_the_one_that_relays_alone(box: Box) -> None:
    request = Request(transaction_uid="1.9.9", references=(reference("5.1"), reference("5.2")))
    box.journal.commitments.relay(
        request, calling_ae="CT1", host="10.0.0.5", answer_to="CT1@127.0.0.1:104"
    )

    def says(uid: str, asked: promises.Sequence[Reference]) -> promises.Dataset:
        return promises.answer(uid, asked[:1], {asked[1]: 0x0213})

    with promising(Promiser()) as other, promising(Promiser(says=says)) as archive:
        box.ask(other.port)
        box.ask(archive.port, relays=True)
        (told,) = until(lambda: box.journal.commitments.to_tell(9))
        assert [(f.reference, f.reason) for f in told.failed] == [(reference("5.2"), 0x0213)]
        assert other.asked == []
        ((uid, asked),) = archive.asked
        assert uid != "1.9.9"
        assert asked == request.references


def test_it_stops_while_it_waits_for_an_answer(box: Box) -> None:
    with promising(Promiser(says=lambda *_: None)) as archive:
        box.took("1.1")
        box.ask(archive.port)
        until(lambda: len(archive.asked) == 1)
    # the fixture stops it, and fails where it does not end


def test_an_archive_with_another_certificate_than_its_line_names_is_asked_nothing(
    box: Box, tmp_path: Path
) -> None:
    authority = Authority(tmp_path, "hospital")
    keys = {"tls": {"ca": authority.ca}, "certificate": "pacs.ward"}
    with promising(Promiser(), tls=shown(authority.issue("other.ward", "127.0.0.1"))) as archive:
        box.took("5.1")
        box.ask(archive.port, **keys)
        (refused,) = until(lambda: box.journal.events.of(HandshakeRefused))
        assert refused.event.subject == "pacs"
        assert "another certificate" in refused.event.text
        assert (archive.associations, archive.asked) == (0, [])
    with promising(Promiser(), tls=shown(authority.issue("pacs.ward"))) as archive:
        box.ask(archive.port, **keys)
        until(lambda: box.journal.owed.counts("pacs").committed == 1)
