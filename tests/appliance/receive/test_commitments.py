"""Storage commitment at the listener: who may answer and ask, and that only a true answer counts.
Real peers; the receiver is a child process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path, PurePosixPath

import pytest
from pydicom.uid import CTImageStorage
from pynetdicom import AE

from appliance.dicom.association import Notice
from appliance.dicom.commitment import PUSH_MODEL_INSTANCE, written_request
from appliance.dicom.policy import Grants
from appliance.dicom.syntaxes import EXPLICIT_LE
from appliance.receive.commitments import Commitments
from appliance.report import Record
from appliance.results.owed import File, Owed
from appliance.store import bell
from appliance.store.commitment import Reference, Request
from appliance.store.delivery import State
from appliance.store.events import AssociationRefused, CommitmentRefused
from appliance.store.journal import Journal, event_log
from rigs import promises
from rigs.receiver import ALLOW, PROGRAM, Receiver, StartReceiver

FIRST = Reference(sop_class="1.2.840.10008.5.1.4.1.1.88.34", sop_instance="1.2.3.1")
SECOND = Reference(sop_class="1.2.840.10008.5.1.4.1.1.66.4", sop_instance="1.2.3.2")
BOTH = (FIRST, SECOND)
DELIVER = """
[[deliver]]
name = "{name}"
host = "{host}"
called_ae = "{ae}"
ae_title = "SCANSIDE"
commitment = {commitment}
"""
PACS = DELIVER.format(name="pacs", host="127.0.0.1", ae="PACS", commitment="true")
AWAY = DELIVER.format(name="away", host="127.0.0.2", ae="PACS", commitment="true")
SILENT = DELIVER.format(name="silent", host="127.0.0.1", ae="SILENT", commitment="false")
RELAY = 'commitment = "relay"\n'
SCANNER = ALLOW + 'commitment = "CT1@127.0.0.1:10104"\n'


class Asked(Record):
    """What an archive was asked."""

    pacs: Request
    away: Request


def asked(one: Receiver) -> Asked:
    """Two objects that two archives took, and were asked about."""
    with one.journal() as journal:
        requests = {}
        for name in ("pacs", "away"):
            for key in ("sr", "seg"):
                journal.owed.add([Owed(name, key, None, File(PurePosixPath(f"outgoing/{key}")))])
            journal.owed.ack(name, ["sr", "seg"])
            requests[name] = journal.commitments.ask(name, {"sr": FIRST, "seg": SECOND})
    return Asked(**requests)


def states(one: Receiver, name: str = "pacs") -> dict[str, str]:
    with one.journal() as journal:
        return {
            row.key: state.value
            for state in State
            for row in journal.owed.listed(state)
            if row.destination == name
        }


UNTOUCHED = {"sr": "delivered", "seg": "delivered"}


def test_what_an_archive_promises_is_committed_and_what_it_denies_is_sent_again(
    receiver: StartReceiver,
) -> None:
    one = receiver(more=ALLOW + PACS + AWAY)
    uid = asked(one).pacs.transaction_uid
    said = promises.answer(uid, [FIRST], {SECOND: 0x0112})
    with bell.hearing(one.state, "deliver") as heard:
        assert promises.tell(one.port, said) == 0
        assert states(one) == {"sr": "committed", "seg": "waiting"}
        heard.settimeout(60)
        assert heard.recv(10), "who sends it again is woken"
    assert promises.tell(one.port, said) == 0, "an archive may repeat what it said"
    assert states(one) == {"sr": "committed", "seg": "waiting"}
    assert states(one, "away") == UNTOUCHED
    assert one.events(CommitmentRefused) == []
    assert set(one.outcomes(2)) == {"released"}


def test_a_forged_answer_frees_nothing(receiver: StartReceiver) -> None:
    one = receiver(more=ALLOW + PACS + AWAY + SILENT)
    requests = asked(one)
    uid, other = requests.pacs.transaction_uid, requests.away.transaction_uid
    stranger = Reference(sop_class=FIRST.sop_class, sop_instance="1.2.3.9")
    for said, code in (
        (promises.answer("2.25.1", BOTH), "unknown"),
        (promises.answer(other, BOTH), "unknown"),  # it is another archive's
        (promises.answer(uid, [FIRST]), "other_references"),
        (promises.answer(uid, [*BOTH, stranger]), "other_references"),
        (promises.answer(uid, [FIRST, stranger]), "other_references"),
        (promises.answer(uid, [FIRST, FIRST]), "commitment_malformed"),
        (promises.answer(uid, BOTH, {SECOND: 0x0110}), "commitment_malformed"),
        (promises.answer(uid, []), "commitment_malformed"),
    ):
        assert promises.tell(one.port, said) == 0x0115
        assert one.events(CommitmentRefused)[0].code == code
    truth = promises.answer(uid, BOTH)
    assert promises.tell(one.port, truth, event_type=2) == 0x0115
    assert promises.tell(one.port, truth, event_type=3) == 0x0113
    assert states(one) == states(one, "away") == UNTOUCHED
    assert promises.tell(one.port, truth) == 0, "and the true one still counts"
    assert states(one) == {"sr": "committed", "seg": "committed"}


@pytest.mark.parametrize("scp", [True, False])
def test_only_a_destination_that_is_asked_may_answer_and_from_its_own_address(
    scp: bool, receiver: StartReceiver
) -> None:
    one = receiver(more=ALLOW + PACS + AWAY + SILENT)
    uid = asked(one).pacs.transaction_uid
    truth = promises.answer(uid, BOTH)
    for calling, host in (
        ("CT1", "127.0.0.1"),  # an allowed sender
        ("SILENT", "127.0.0.1"),  # a destination that is asked nothing
        ("OTHER", "127.0.0.1"),
        ("PACS", "127.0.0.3"),  # its name at another address
    ):
        assert promises.call(one.port, calling, scp=scp, host=host) is None
    assert promises.tell(one.port, truth, called="WRONG") is None
    assert promises.tell(one.port, truth, host="127.0.0.2") == 0x0115, "it is `away` there"
    assert promises.call(one.port, "PACS") is None, "who asks for no role may not answer"
    assert states(one) == UNTOUCHED
    assert {refused.subject for refused in one.events(AssociationRefused)} >= {"OTHER", "SILENT"}


def test_an_archive_may_answer_and_nothing_else(receiver: StartReceiver) -> None:
    one = receiver(more=ALLOW + PACS)
    ae = AE(ae_title="PACS")
    ae.add_requested_context(CTImageStorage)
    ae.add_requested_context("1.2.840.10008.1.1")
    association = ae.associate("127.0.0.1", one.port, ae_title="SCANSIDE")
    assert [c.abstract_syntax for c in association.accepted_contexts] == ["1.2.840.10008.1.1"]
    assert association.send_c_echo().Status == 0
    association.release()


def test_without_a_word_of_it_in_the_settings_commitment_is_not_offered(
    receiver: StartReceiver,
) -> None:
    one = receiver(more=SCANNER + SILENT)
    for scp in (False, True):
        assert promises.call(one.port, "CT1", scp=scp) is None


def test_refusals_of_an_hour_are_rationed(
    receiver: StartReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = receiver(more=ALLOW + PACS + AWAY)
    association = promises.call(one.port, "PACS", scp=True)
    for n in range(event_log.RATION + 5):
        status, _ = association.send_n_event_report(
            promises.answer(f"2.25.{n + 1}", BOTH), 1, promises.StorageCommitmentPushModel,
            promises.StorageCommitmentPushModelInstance,
        )  # fmt: skip
        assert status.Status == 0x0115
    association.release()
    assert len(one.events(CommitmentRefused)) == event_log.RATION


# Relay: what a scanner asks us.


def relayed(one: Receiver) -> list[tuple[str, str, tuple[Reference, ...]]]:
    with one.journal() as journal:
        rows = journal.commitments.to_relay(100)
    return [(row.transaction_uid, row.answer_to, row.references) for row in rows]


def test_the_request_of_a_scanner_is_in_the_journal_before_it_is_answered(
    receiver: StartReceiver,
) -> None:
    one = receiver(RELAY, more=SCANNER + PACS)
    with bell.hearing(one.state, "deliver") as heard:
        assert promises.ask(one.port, promises.request("1.9.9", BOTH)) == 0
        assert relayed(one) == [("1.9.9", "CT1@127.0.0.1:10104", BOTH)]
        heard.settimeout(60)
        assert heard.recv(10), "who asks the archive is woken"
    assert promises.ask(one.port, promises.request("1.9.9", BOTH)) == 0
    assert promises.ask(one.port, promises.request("1.9.9", [FIRST])) == 0x0115
    assert promises.ask(one.port, promises.request("1.9.8", BOTH), action_type=2) == 0x0123
    assert promises.ask(one.port, promises.request("1.9.8", [FIRST, FIRST])) == 0x0115
    assert len(relayed(one)) == 1


def test_a_scanner_without_an_address_for_the_answer_is_refused_and_told_why(
    receiver: StartReceiver,
) -> None:
    one = receiver(RELAY, more=ALLOW + PACS)
    assert promises.ask(one.port, promises.request("1.9.9", BOTH)) == 0x0124
    (refused,) = one.events(CommitmentRefused)
    assert "[[dicom.allow]]" in refused.text
    assert relayed(one) == []


def test_an_archive_cannot_ask_and_a_scanner_cannot_answer(receiver: StartReceiver) -> None:
    one = receiver(RELAY, more=SCANNER + PACS + AWAY)
    uid = asked(one).pacs.transaction_uid
    assert promises.call(one.port, "PACS") is None
    assert promises.tell(one.port, promises.answer(uid, BOTH), calling="CT1") is None
    association = promises.call(one.port, "CT1")
    association.accepted_contexts[0]._as_scp = True  # it answers without the role
    status, _ = association.send_n_event_report(
        promises.answer(uid, BOTH), 1, promises.StorageCommitmentPushModel,
        promises.StorageCommitmentPushModelInstance,
    )  # fmt: skip
    assert status.Status == 0x0211
    association.release()
    assert states(one) == UNTOUCHED


KILLS = """
import os, signal
from appliance.store.journal.commitments import Commitments
relay = Commitments.relay
def killed(self, *args, **more):
    {before}
    relay(self, *args, **more)
    os.kill(os.getpid(), signal.SIGKILL)
Commitments.relay = killed
"""


@pytest.mark.parametrize("moment", ["before", "after"])
def test_kill_9_around_the_journal_never_loses_what_was_acknowledged(
    moment: str, receiver: StartReceiver
) -> None:
    one = receiver(RELAY, more=SCANNER + PACS)
    one.stop()
    before = "os.kill(os.getpid(), signal.SIGKILL)" if moment == "before" else "pass"
    port_file = one.state / "run" / "receive.port"
    port_file.unlink(missing_ok=True)
    with one.log.open("ab") as log:
        dying = subprocess.Popen(
            [sys.executable, "-c", KILLS.format(before=before) + PROGRAM, str(one.config)],
            stderr=log,
            start_new_session=True,
        )
    one.process = dying
    while not port_file.exists():
        assert dying.poll() is None, one.log.read_text()
    one.port = int(port_file.read_text())
    assert promises.ask(one.port, promises.request("1.9.9", BOTH)) == -1, "it gets no answer"
    assert len(relayed(one)) == (moment == "after")
    one.stop()
    one.start()
    assert promises.ask(one.port, promises.request("1.9.9", BOTH)) == 0, "and asks again"
    assert [uid for uid, _, _ in relayed(one)] == ["1.9.9"]


def test_while_the_journal_is_away_nothing_is_acknowledged(tmp_path: Path) -> None:
    there: list[Journal] = []
    service = Commitments(
        tmp_path,
        lambda: there[0] if there else None,
        calling_ae="CT1",
        host="127.0.0.1",
        grants=Grants(asks=True, answer_to="CT1@127.0.0.1:104"),
    )
    sink = service.begin(Notice(False, 1, PUSH_MODEL_INSTANCE, EXPLICIT_LE))
    request = Request(transaction_uid="1.9.9", references=BOTH)
    sink.write(memoryview(written_request(request, EXPLICIT_LE)))
    assert sink.finish().status == 0x0110
    with Journal.open(tmp_path) as journal:
        there.append(journal)
        assert sink.finish().status == 0
        with journal._db.look() as db:
            db.execute("PRAGMA query_only = 1")  # what a full disk looks like to a writer
        other = request.model_copy(update={"transaction_uid": "1.9.8"})
        again = service.begin(Notice(False, 1, PUSH_MODEL_INSTANCE, EXPLICIT_LE))
        again.write(memoryview(written_request(other, EXPLICIT_LE)))
        assert again.finish().status == 0x0110
