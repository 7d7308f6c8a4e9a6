"""What archives were asked to promise: which answer counts, and what becomes of the deliveries."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pytest

from appliance.report import SeriesKey
from appliance.results.owed import File, Owed
from appliance.store.commitment import (
    ASKED_AGAIN_S,
    ASKED_AT_LEAST,
    GIVE_UP_S,
    Answer,
    Failed,
    Reference,
    Request,
    Taken,
)
from appliance.store.delivery import State
from appliance.store.journal import Journal, commitments
from appliance.store.journal.commitments import KEPT_S, Asked

PACS = ("pacs",)
REFS = {f"key-{n}": Reference(sop_class="1.2.840", sop_instance=f"1.2.{n}") for n in range(3)}
SCANNER = Request(transaction_uid="1.9.9", references=tuple(REFS.values()))


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def journal(tmp_path: Path, clock: Clock) -> Iterator[Journal]:
    """Three objects that the archive has taken."""
    with Journal.open(tmp_path, clock=clock) as opened:
        for key in REFS:
            opened.owed.add([Owed("pacs", key, None, File(PurePosixPath(f"outgoing/{key}")))])
        opened.owed.ack("pacs", list(REFS))
        yield opened


def answer(request: Request, *failed: int, reason: int = 0x0112) -> Answer:
    """failed: places of those references that are not kept."""
    return Answer(
        transaction_uid=request.transaction_uid,
        kept=tuple(one for n, one in enumerate(request.references) if n not in failed),
        failed=tuple(Failed(reference=request.references[n], reason=reason) for n in failed),
    )


def states(journal: Journal) -> list[str]:
    found = {row.key: state.value for state in State for row in journal.owed.listed(state)}
    return [found[key] for key in sorted(found)]


def due(journal: Journal) -> list[str]:
    return [row.key for row in journal.commitments.due("pacs", 10)]


def test_what_was_taken_is_asked_about_and_once_it_is_promised_no_more(journal: Journal) -> None:
    assert due(journal) == list(REFS)
    assert journal.commitments.due("pacs", 2)[-1].key == "key-1"
    assert journal.commitments.due("other", 10) == []
    request = journal.commitments.ask("pacs", REFS)
    assert request.references == tuple(REFS.values())
    assert due(journal) == []
    assert journal.commitments.take(answer(request), PACS) is Taken.COUNTS
    assert states(journal) == ["committed"] * 3
    assert journal.owed.counts("pacs").committed == 3
    assert journal.commitments.take(answer(request), PACS) is Taken.REPEATED
    assert journal.commitments.take(answer(request, 0, 1, 2), PACS) is Taken.REPEATED
    assert states(journal) == ["committed"] * 3


def test_what_waits_or_is_dead_or_has_no_file_is_not_asked_about(journal: Journal) -> None:
    journal.owed.again("pacs", ["key-0"])
    journal.owed.add([Owed("pacs", "bytes", SeriesKey("1", "2"), b"x")])
    journal.owed.ack("pacs", ["bytes"])
    assert due(journal) == ["key-1", "key-2"]


def test_a_forged_answer_changes_nothing(journal: Journal) -> None:
    request = journal.commitments.ask("pacs", REFS)
    take = journal.commitments.take
    forged = answer(request).model_copy(update={"transaction_uid": "2.25.1"})
    assert take(forged, PACS) is Taken.UNKNOWN
    assert take(answer(request), ("other", "third")) is Taken.UNKNOWN
    fewer = request.model_copy(update={"references": request.references[:2]})
    others = request.model_copy(
        update={"references": (*request.references[:2], Reference(sop_class="1", sop_instance="2"))}
    )
    for wrong in (fewer, others):
        assert take(answer(wrong), PACS) is Taken.OTHER_REFERENCES
    assert states(journal) == ["delivered"] * 3
    assert take(answer(request), PACS) is Taken.COUNTS, "and the true one still does"


def test_a_clock_that_is_set_kills_nothing(journal: Journal, clock: Clock) -> None:
    for _ in range(ASKED_AT_LEAST):
        clock.now += 2 * GIVE_UP_S
        assert journal.commitments.give_up("pacs") == 0
        journal.commitments.ask("pacs", REFS)
    assert journal.commitments.give_up("pacs") == 3


def test_a_denied_object_is_sent_again_and_asked_about_at_once_but_only_the_first_time(
    journal: Journal, clock: Clock
) -> None:
    request = journal.commitments.ask("pacs", REFS)
    assert journal.commitments.take(answer(request, 1), PACS) is Taken.COUNTS
    assert states(journal) == ["committed", "waiting", "committed"]
    assert due(journal) == []
    journal.owed.ack("pacs", ["key-1"])
    assert due(journal) == ["key-1"]
    again = journal.commitments.ask("pacs", {"key-1": REFS["key-1"]})
    assert again.transaction_uid != request.transaction_uid
    journal.commitments.take(answer(again, 0), PACS)
    journal.owed.ack("pacs", ["key-1"])
    assert due(journal) == []
    clock.now += ASKED_AGAIN_S
    assert due(journal) == ["key-1"]


@pytest.mark.parametrize("reason", [0x0110, 0x0131, 0x0213, 0x7777])
def test_a_reason_that_may_pass_is_asked_about_again_in_ten_minutes(
    journal: Journal, clock: Clock, reason: int
) -> None:
    request = journal.commitments.ask("pacs", REFS)
    journal.commitments.take(answer(request, 0, reason=reason), PACS)
    assert states(journal) == ["delivered", "committed", "committed"]
    clock.now += ASKED_AGAIN_S - 1
    assert due(journal) == []
    clock.now += 1
    assert due(journal) == ["key-0"]


@pytest.mark.parametrize(("reason", "words"), [(0x0119, "another SOP class"), (0x0122, "0x0122")])
def test_what_can_never_be_kept_is_dead_in_words_and_a_person_may_try_it_again(
    journal: Journal, reason: int, words: str
) -> None:
    request = journal.commitments.ask("pacs", REFS)
    journal.commitments.take(answer(request, 2, reason=reason), PACS)
    (dead,) = journal.owed.listed(State.DEAD)
    assert dead.key == "key-2"
    assert words in (dead.last_error or "")
    assert journal.owed.retry("alice", "key-2") == 1
    journal.owed.ack("pacs", ["key-2"])
    assert due(journal) == ["key-2"]


def test_an_archive_that_never_answers_is_asked_every_ten_minutes_for_a_day_then_it_is_dead(
    journal: Journal, clock: Clock
) -> None:
    asked = []
    begun = clock.now
    while clock.now < begun + GIVE_UP_S:
        assert journal.commitments.give_up("pacs") == 0
        if due(journal):
            asked.append(journal.commitments.ask("pacs", REFS))
        clock.now += 60
    assert len(asked) == GIVE_UP_S / ASKED_AGAIN_S
    assert journal.commitments.give_up("pacs") == 3
    assert states(journal) == ["dead"] * 3
    assert {row.last_error for row in journal.owed.listed(State.DEAD)} == {commitments.UNANSWERED}
    assert journal.commitments.give_up("pacs") == 0
    late = journal.commitments.take(answer(asked[0]), PACS)
    assert late is Taken.COUNTS, "a late promise is one"
    assert states(journal) == ["committed"] * 3


def test_a_request_that_was_not_taken_is_made_anew_after_its_pause(
    journal: Journal, clock: Clock
) -> None:
    request = journal.commitments.ask("pacs", REFS)
    journal.commitments.not_taken(request, "0x0211", pause_s=30.0)
    assert journal.commitments.take(answer(request), PACS) is Taken.UNKNOWN
    clock.now += 29
    assert due(journal) == []
    clock.now += 1
    assert due(journal) == list(REFS)
    for _ in range(ASKED_AT_LEAST):
        again = journal.commitments.ask("pacs", REFS)
        journal.commitments.not_taken(again, "0x0211", pause_s=30.0)
    clock.now += GIVE_UP_S
    journal.commitments.give_up("pacs")
    assert "0x0211" in (journal.owed.listed(State.DEAD)[0].last_error or "")


def test_what_lost_its_file_is_left_alone_for_ever(journal: Journal, clock: Clock) -> None:
    journal.commitments.leave("pacs", "key-0")
    clock.now += 2 * GIVE_UP_S
    assert due(journal) == ["key-1", "key-2"]
    assert journal.commitments.give_up("pacs") == 0
    assert states(journal) == ["delivered"] * 3


def test_a_denial_that_comes_when_the_object_is_committed_already_changes_nothing(
    journal: Journal, clock: Clock
) -> None:
    first = journal.commitments.ask("pacs", REFS)
    clock.now += ASKED_AGAIN_S
    second = journal.commitments.ask("pacs", REFS)
    journal.commitments.take(answer(second), PACS)
    assert journal.commitments.take(answer(first, 0, 1, 2), PACS) is Taken.COUNTS
    assert states(journal) == ["committed"] * 3


def test_a_promise_of_before_the_archive_denied_the_object_comes_too_late_for_it(
    journal: Journal, clock: Clock
) -> None:
    first = journal.commitments.ask("pacs", REFS)
    clock.now += ASKED_AGAIN_S
    second = journal.commitments.ask("pacs", REFS)
    journal.commitments.take(answer(second, 0), PACS)
    assert states(journal) == ["waiting", "committed", "committed"]
    assert journal.commitments.take(answer(first), PACS) is Taken.REPEATED
    assert states(journal) == ["waiting", "committed", "committed"], "it is sent again all the same"


def test_a_promise_of_after_the_archive_denied_the_object_counts(
    journal: Journal, clock: Clock
) -> None:
    first = journal.commitments.ask("pacs", REFS)
    clock.now += ASKED_AGAIN_S
    second = journal.commitments.ask("pacs", REFS)
    journal.commitments.take(answer(first, 0), PACS)
    assert states(journal) == ["waiting", "committed", "committed"]
    assert journal.commitments.take(answer(second), PACS) is Taken.COUNTS
    assert states(journal) == ["committed"] * 3


def relay(journal: Journal, request: Request = SCANNER, host: str = "10.0.0.5") -> Asked:
    return journal.commitments.relay(
        request, calling_ae="CT1", host=host, answer_to="CT1@10.0.0.5:104"
    )


def test_the_request_of_a_sender_is_asked_under_our_uid_and_answered_under_its_own(
    journal: Journal,
) -> None:
    assert relay(journal) is Asked.TAKEN
    (one,) = journal.commitments.to_relay(10)
    request = journal.commitments.ask_for(one, "pacs")
    assert request.transaction_uid != SCANNER.transaction_uid
    assert request.references == SCANNER.references
    assert journal.commitments.to_relay(10) == []
    assert journal.commitments.to_tell(10) == []
    assert journal.commitments.take(answer(SCANNER), PACS) is Taken.UNKNOWN
    assert journal.commitments.take(answer(request, 1), ("other",)) is Taken.UNKNOWN
    assert journal.commitments.take(answer(request, 1), PACS) is Taken.COUNTS
    (told,) = journal.commitments.to_tell(10)
    assert (told.transaction_uid, told.answer_to) == ("1.9.9", "CT1@10.0.0.5:104")
    assert told.failed == (Failed(reference=SCANNER.references[1], reason=0x0112),)
    assert states(journal) == ["delivered"] * 3, "our own objects are another matter"
    journal.commitments.told(told)
    assert journal.commitments.to_tell(10) == []


def test_the_same_request_twice_is_one_and_its_uid_stands_for_no_other(journal: Journal) -> None:
    assert relay(journal) is Asked.TAKEN
    assert relay(journal) is Asked.KNOWN
    other = SCANNER.model_copy(update={"references": SCANNER.references[:1]})
    assert relay(journal, other) is Asked.IN_USE
    assert relay(journal, other, host="10.0.0.6") is Asked.TAKEN
    assert len(journal.commitments.to_relay(10)) == 2


def test_after_a_day_without_an_answer_all_of_it_has_failed_and_nothing_is_promised(
    journal: Journal, clock: Clock
) -> None:
    relay(journal)
    (one,) = journal.commitments.to_relay(10)
    request = journal.commitments.ask_for(one, "pacs")
    clock.now += ASKED_AGAIN_S
    assert journal.commitments.to_relay(10) == [one], "it is asked again"
    clock.now += GIVE_UP_S - ASKED_AGAIN_S - 1
    assert journal.commitments.fail_late() == 0
    clock.now += 1
    assert journal.commitments.fail_late() == 1
    (told,) = journal.commitments.to_tell(10)
    assert told.failed is not None
    assert [(f.reference, f.reason) for f in told.failed] == [
        (one, 0x0110) for one in SCANNER.references
    ]
    journal.commitments.take(answer(request), PACS)
    assert journal.commitments.to_tell(10) == [told], "the first answer stands"


def test_a_sender_that_is_away_is_told_after_a_pause(journal: Journal, clock: Clock) -> None:
    relay(journal)
    (one,) = journal.commitments.to_relay(10)
    journal.commitments.take(answer(journal.commitments.ask_for(one, "pacs")), PACS)
    (told,) = journal.commitments.to_tell(10)
    assert told.failed == ()
    journal.commitments.not_told(told, pause_s=60.0)
    assert journal.commitments.to_tell(10) == []
    clock.now += 60
    assert journal.commitments.to_tell(10) == [told]


def test_no_more_than_so_many_requests_of_senders_wait(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commitments, "RELAYED_MOST", 1)
    assert relay(journal) is Asked.TAKEN
    assert relay(journal, host="10.0.0.6") is Asked.TOO_MANY
    (one,) = journal.commitments.to_relay(10)
    journal.commitments.told(one)
    assert relay(journal, host="10.0.0.6") is Asked.TAKEN
    monkeypatch.setattr(commitments, "RELAYED_MOST", 100)
    monkeypatch.setattr(commitments, "RELAYED_BYTES", 300)
    assert relay(journal, host="10.0.0.7") is Asked.TOO_MANY, "nor of so many bytes"


def test_what_is_old_goes_but_never_what_a_sender_waits_for(journal: Journal, clock: Clock) -> None:
    request = journal.commitments.ask("pacs", REFS)
    relay(journal)
    clock.now += KEPT_S
    journal.purge(float("-inf"))
    assert journal.commitments.take(answer(request, 0, reason=0x0110), PACS) is Taken.COUNTS
    clock.now += 1
    journal.purge(0.0)
    assert journal.commitments.take(answer(request), PACS) is Taken.UNKNOWN
    (one,) = journal.commitments.to_relay(10)
    journal.commitments.told(one)
    journal.purge(0.0)
    assert relay(journal) is Asked.TAKEN, "its UID is known no more"


KILLED = """
import os, pathlib, signal, sys
from appliance.store.commitment import Reference, Request
from appliance.store.journal import Journal
journal = Journal.open(pathlib.Path(sys.argv[1]))
named = Reference(sop_class="1.2.840", sop_instance="1.2.0")
request = Request(transaction_uid="1.9.9", references=(named,))
journal.commitments.relay(request, calling_ae="CT1", host="h", answer_to="CT1@10.0.0.5:104")
print(journal.commitments.ask("pacs", {"key-0": named}).transaction_uid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_was_asked_survives_kill_9(tmp_path: Path) -> None:
    with Journal.open(tmp_path) as opened:
        opened.owed.add([Owed("pacs", "key-0", None, File(PurePosixPath("outgoing/key-0")))])
        opened.owed.ack("pacs", ["key-0"])
    ended = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path)],
        stdout=subprocess.PIPE,
        env=dict(os.environ),
        check=False,
    )
    assert ended.returncode == -signal.SIGKILL
    uid = ended.stdout.decode().strip()
    with Journal.open(tmp_path) as opened:
        assert [one.transaction_uid for one in opened.commitments.to_relay(9)] == ["1.9.9"]
        kept = Answer(transaction_uid=uid, kept=(REFS["key-0"],), failed=())
        assert opened.commitments.take(kept, PACS) is Taken.COUNTS
        assert states(opened) == ["committed"]
