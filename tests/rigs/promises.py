"""Peers of storage commitment on loopback ports: pynetdicom as an archive that answers, and as a
scanner that asks (PS3.4 J)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydicom.dataset import Dataset
from pynetdicom import AE, build_role
from pynetdicom.sop_class import (
    StorageCommitmentPushModel,  # type: ignore[attr-defined]
    StorageCommitmentPushModelInstance,  # type: ignore[attr-defined]
)

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
