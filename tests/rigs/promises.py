"""Peers of storage commitment on loopback ports: pynetdicom as an archive that answers, and as a
scanner that asks (PS3.4 J)."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from pydicom.dataset import Dataset
from pynetdicom import AE, build_role, evt
from pynetdicom.pdu import P_DATA_TF
from pynetdicom.sop_class import (
    StorageCommitmentPushModel,  # type: ignore[attr-defined]
    StorageCommitmentPushModelInstance,  # type: ignore[attr-defined]
)

from appliance.deliver.offer import COMPREHENSIVE_3D_SR
from appliance.store.commitment import Reference

PACS, SCANNER = "PACS", "CT1"


def item(one: Reference, reason: int | None = None) -> Dataset:
    """One item of a sequence of references."""
    made = Dataset()
    made.ReferencedSOPClassUID, made.ReferencedSOPInstanceUID = one.sop_class, one.sop_instance
    if reason is not None:
        made.FailureReason = reason
    return made


def request(transaction_uid: str, references: Sequence[Reference]) -> Dataset:
    """The data set of an N-ACTION."""
    made = Dataset()
    made.TransactionUID = transaction_uid
    made.ReferencedSOPSequence = [item(one) for one in references]
    return made


def answer(
    transaction_uid: str, kept: Sequence[Reference], failed: Mapping[Reference, int] | None = None
) -> Dataset:
    """The data set of an N-EVENT-REPORT. failed: with their reasons."""
    made = Dataset()
    made.TransactionUID = transaction_uid
    if kept:
        made.ReferencedSOPSequence = [item(one) for one in kept]
    if failed:
        made.FailedSOPSequence = [item(one, reason) for one, reason in failed.items()]
    return made


def call(
    port: int, calling: str, called: str = "SCANSIDE", *, scp: bool = False, host: str = "127.0.0.1"
) -> Any:
    """An association about commitment alone; None where it is not let in, or the class is refused.

    scp: with the role of who answers, on a new association, as archives do (PS3.4 J.3.3.1.3).
    host: from which address.
    """
    ae = AE(ae_title=calling)
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 60
    ae.add_requested_context(StorageCommitmentPushModel)
    roles = [build_role(StorageCommitmentPushModel, scp_role=True)] if scp else []
    association = ae.associate(
        "127.0.0.1", port, ae_title=called, ext_neg=roles, bind_address=(host, 0)
    )
    if not association.is_established:
        return None
    if not association.accepted_contexts:
        association.release()
        return None
    return association


def tell(port: int, said: Dataset, *, calling: str = PACS, event_type: int | None = None,
         called: str = "SCANSIDE", host: str = "127.0.0.1") -> int | None:  # fmt: skip
    """Be an archive that answers on an association of its own: the status, or None where it is not
    let in."""
    association = call(port, calling, called, scp=True, host=host)
    if association is None:
        return None
    kind = event_type or (2 if "FailedSOPSequence" in said else 1)
    status, _ = association.send_n_event_report(
        said, kind, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
    )
    association.release()
    return int(status.Status)


def ask(port: int, asked: Dataset, *, calling: str = SCANNER, action_type: int = 1) -> int | None:
    """Be a scanner that asks: the status, or None where it is not let in."""
    association = call(port, calling)
    if association is None:
        return None
    status, _ = association.send_n_action(
        asked, action_type, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
    )
    association.release()
    return int(status.Status) if "Status" in status else -1


def named(one: Dataset) -> Reference:
    return Reference(
        sop_class=str(one.ReferencedSOPClassUID), sop_instance=str(one.ReferencedSOPInstanceUID)
    )


Said = Callable[[str, Sequence[Reference]], "Dataset | None"]
"""(Transaction UID, what is asked) -> what is answered; None: nothing."""


def all_kept(transaction_uid: str, asked: Sequence[Reference]) -> Dataset:
    return answer(transaction_uid, asked)


@dataclass
class Promiser:
    """An archive that is asked to promise: what it is told to say, and what it heard."""

    says: Said = all_kept
    calls: int | None = None
    """The port on which it answers, on an association of its own; None: on the same one."""
    waits: bool = False
    """Whether it answers only once its response to the request is on its way."""
    takes: int = 0x0000
    """Its status of N-ACTION."""
    port: int = 0
    asked: list[tuple[str, tuple[Reference, ...]]] = field(default_factory=list)
    statuses: list[int | None] = field(default_factory=list)
    """What was answered to what it said."""
    associations: int = 0
    stored: list[str] = field(default_factory=list)
    """SOP Instance UIDs that it was sent, in order."""
    loses: Callable[[str], bool] = lambda _uid: False
    """Whether it answers success to an object and has it not."""
    _threads: list[threading.Thread] = field(default_factory=list)
    _to_say: dict[Any, Dataset] = field(default_factory=dict)

    def _requested(self, event: Any) -> tuple[int, None]:
        found = event.action_information
        references = tuple(named(one) for one in found.ReferencedSOPSequence)
        self.asked.append((str(found.TransactionUID), references))
        if self.takes == 0:
            said = self.says(str(found.TransactionUID), references)
            if said is not None and self.waits:
                self._to_say[event.assoc] = said
            elif said is not None:
                self._begin_to_speak(event.assoc, said)
        return self.takes, None

    def _sent(self, event: Any) -> None:
        if isinstance(event.pdu, P_DATA_TF) and event.assoc in self._to_say:
            self._begin_to_speak(event.assoc, self._to_say.pop(event.assoc))

    def _begin_to_speak(self, association: Any, said: Dataset) -> None:
        speaks = threading.Thread(target=self._speak, args=(association, said))
        self._threads.append(speaks)
        speaks.start()

    def _stored(self, event: Any) -> int:
        uid = str(event.request.AffectedSOPInstanceUID)
        if not self.loses(uid):
            self.stored.append(uid)
        return 0x0000

    def kept(self, transaction_uid: str, asked: Sequence[Reference]) -> Dataset:
        """To be said by an archive that knows what it has: 0112 for all else."""
        has = [one for one in asked if one.sop_instance in self.stored]
        return answer(transaction_uid, has, {one: 0x0112 for one in asked if one not in has})

    def _speak(self, association: Any, said: Dataset) -> None:
        if self.calls is not None:
            self.statuses.append(tell(self.calls, said))
            return
        kind = 2 if "FailedSOPSequence" in said else 1
        status, _ = association.send_n_event_report(
            said, kind, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
        )
        self.statuses.append(int(status.Status) if "Status" in status else None)

    def _accepted(self, _event: Any) -> None:
        self.associations += 1


@contextmanager
def promising(
    promiser: Promiser,
    *,
    speaks_of_it: bool = True,
    port: int = 0,
    tls: ssl.SSLContext | None = None,
) -> Iterator[Promiser]:
    """The archive, from listening to the end of the block. speaks_of_it: it knows the class."""
    entity = AE(ae_title=PACS)
    entity.add_supported_context("1.2.840.10008.1.1")
    entity.add_supported_context(COMPREHENSIVE_3D_SR)
    if speaks_of_it:
        entity.add_supported_context(StorageCommitmentPushModel)
    handlers = [
        (evt.EVT_N_ACTION, promiser._requested),
        (evt.EVT_C_STORE, promiser._stored),
        (evt.EVT_ACCEPTED, promiser._accepted),
        (evt.EVT_PDU_SENT, promiser._sent),
    ]
    server = entity.start_server(
        ("127.0.0.1", port), block=False, evt_handlers=handlers, ssl_context=tls
    )
    assert server is not None
    promiser.port = server.server_address[1]
    try:
        yield promiser
    finally:
        for one in promiser._threads:
            one.join(60)
        server.shutdown()


@dataclass
class Hearer:
    """A scanner that takes answers: what it heard, and its status."""

    port: int = 0
    answers: int = 0x0000
    heard: list[tuple[int, Dataset]] = field(default_factory=list)

    def _event(self, event: Any) -> tuple[int, None]:
        self.heard.append((event.request.EventTypeID, event.event_information))
        return self.answers, None


@contextmanager
def hearing(
    hearer: Hearer, *, port: int = 0, tls: ssl.SSLContext | None = None
) -> Iterator[Hearer]:
    """The scanner, from listening to the end of the block; whoever calls has to be the SCP."""
    entity = AE(ae_title=SCANNER)
    entity.add_supported_context(StorageCommitmentPushModel, scu_role=False, scp_role=True)
    handlers = [(evt.EVT_N_EVENT_REPORT, hearer._event)]
    server = entity.start_server(
        ("127.0.0.1", port), block=False, evt_handlers=handlers, ssl_context=tls
    )
    assert server is not None
    hearer.port = server.server_address[1]
    try:
        yield hearer
    finally:
        server.shutdown()
