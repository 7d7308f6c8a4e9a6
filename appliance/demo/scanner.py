"""A CT scanner for the demo: it makes a series of a phantom and sends instances by C-STORE.

Rules of this module:

1. What is made, `series`, is defined in `instances`.
2. `send` is a Storage SCU (PS3.4 B) on one association. What lies in a file is sent in the
   transfer syntax of that file: nothing is decompressed or compressed on the way. Only between
   uncompressed syntaxes the encoding may change, for a peer that knows implicit VR alone.
3. Files are read one by one. Folders are walked for Part 10 files (PS3.10 7.1); what is none, and
   a DICOMDIR, is skipped and counted.
4. A refused instance is counted with its status and the rest goes on; a lost association ends it.
5. TCP_NODELAY is on: Nagle's algorithm against delayed acknowledgements costs 40 ms an instance.
6. pynetdicom's reactor rests while instances are sent (see `_Rest`): otherwise it sometimes takes
   the answer away from the sender, which then waits for its timeout and aborts.
"""

from __future__ import annotations

import logging
import re
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from operator import length_hint
from pathlib import Path
from typing import Any, Final

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.filereader import read_file_meta_info
from pydicom.uid import (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MediaStorageDirectoryStorage,
)
from pynetdicom import AE, build_context, evt
from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RJ
from rich.console import Console
from rich.progress import Progress

from appliance.errors import PeerAway
from appliance.phantom.instances import series

__all__ = ["Address", "SendError", "SendSummary", "main", "send", "series"]

log = logging.getLogger(__name__)

NOT_SUPPORTED: Final = 0x0122
"""No presentation context was accepted for this SOP class and transfer syntax (PS3.7 C.5.9)."""
UNSENDABLE: Final = 0xA900
"""The file is no instance that can be sent: a UID is missing, or it is broken (PS3.4 B.2.3)."""

Pair = tuple[str, str]  # SOP class UID, transfer syntax UID
Progressed = Callable[[int, int], None]


class SendError(PeerAway):
    """Nothing (more) can be sent: no connection, rejected, aborted, or nothing to send."""

    code = "send_failed"


@dataclass(frozen=True, slots=True)
class Address:
    """A DICOM peer."""

    ae_title: str
    host: str
    port: int

    def __post_init__(self) -> None:
        if not re.fullmatch(r"(?=.*\S)[ -\[\]-~]{1,16}", self.ae_title):
            raise ValueError(f"an AE title has 1 to 16 printable characters, not {self.ae_title!r}")
        if not self.host or not 0 < self.port < 65536:
            raise ValueError(f"not a host and a port of 1 to 65535: {self.host!r}:{self.port}")

    @classmethod
    def parse(cls, text: str) -> Address:
        """`AE@HOST:PORT`, or ValueError."""
        found = re.fullmatch(r"([^@]+)@\[?([^@\]]+)\]?:(\d{1,5})", text)
        if found is None:
            raise ValueError(f"{text!r} is not AE@HOST:PORT, such as SCANSIDE@127.0.0.1:11112")
        return cls(found[1], found[2], int(found[3]))

    def __str__(self) -> str:
        return f"{self.ae_title}@{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class SendSummary:
    """How many were stored, which were not (SOP Instance UID or file, status), how many files
    were no instances, and how long it took."""

    sent: int
    failed: tuple[tuple[str, int], ...]
    seconds: float
    skipped: int = 0


def send(
    instances: Iterable[Dataset | Path],
    to: Address,
    *,
    calling: str = "SCANNER",
    progress: Progressed | None = None,
    total: int | None = None,
    timeout_s: float = 30.0,
) -> SendSummary:
    """Store all instances (data sets with file meta, files, folders) at `to`.

    `progress` is told (done, total) after each; total is 0 where the number is not known: pass it
    when `instances` is a plain generator. A generator of data sets must keep to the SOP class and
    transfer syntax of its first one. Raises SendError when there is nothing to send, no
    connection, a rejection, or when the association ends before the last instance.
    """
    items, pairs, known, skipped = _plan(instances)
    total = known if total is None else total
    if not pairs:
        raise SendError("there is nothing to send", remedy="Name a folder with DICOM files.")
    began = time.monotonic()
    association, why = _associate(to, calling, pairs, timeout_s)
    rest = _Rest.of(association)
    accepted = {(c.abstract_syntax, c.transfer_syntax[0]) for c in association.accepted_contexts}
    sent, failed = 0, []
    try:
        for number, item in enumerate(items, start=1):
            name, status = _store(association, item, number, accepted)
            if status is None:
                raise SendError(
                    f"{to} ended the association after {sent} of {total or 'some'} instances"
                    f"{why()}",
                    remedy="Read the peer's log; what it answered with success it has. Send again.",
                )
            # warnings (Bxxx) are stored as well: PS3.4 B.2.3
            if status == 0x0000 or status >> 12 == 0xB:
                sent += 1
            else:
                failed.append((name, status))
            if progress is not None:
                progress(number, total)
        association.release()
    except BaseException:
        association.abort()
        raise
    finally:
        rest.end()
    return SendSummary(sent, tuple(failed), time.monotonic() - began, skipped)


def _plan(
    instances: Iterable[Dataset | Path],
) -> tuple[Iterable[Dataset | Path], set[Pair], int, int]:
    """(What to send, which contexts it needs, how many, how many files were skipped)."""
    hint = length_hint(instances, 0)
    if not isinstance(instances, Sequence):
        stream = iter(instances)
        first = next(stream, None)
        if first is None:
            return (), set(), 0, 0
        if isinstance(first, Dataset):
            return chain([first], stream), {_pair(first)}, hint, 0
        instances = [first, *stream]
    items: list[Dataset | Path] = []
    pairs: set[Pair] = set()
    skipped = 0
    for item in instances:
        if isinstance(item, Dataset):
            items.append(item)
            pairs.add(_pair(item))
            continue
        for path in _files(item):
            pair = _pair_of_file(path)
            if pair is None:
                skipped += 1
            else:
                items.append(path)
                pairs.add(pair)
    return items, pairs, len(items), skipped


def _files(path: Path) -> Iterator[Path]:
    if path.is_dir():
        yield from sorted(p for p in path.rglob("*") if p.is_file())
    elif path.is_file():
        yield path
    else:
        raise SendError(f"{path} does not exist", remedy="Name a file or a folder.")


def _pair(image: Dataset) -> Pair:
    meta = getattr(image, "file_meta", None)
    if meta is None or "TransferSyntaxUID" not in meta or "SOPClassUID" not in image:
        raise SendError(
            "a data set without SOP class or file meta cannot be sent",
            remedy="Set SOPClassUID and file_meta.TransferSyntaxUID.",
        )
    return str(image.SOPClassUID), str(meta.TransferSyntaxUID)


def _pair_of_file(path: Path) -> Pair | None:
    """The context that a Part 10 file needs; None for another file or a DICOMDIR."""
    try:
        with path.open("rb") as file:
            if file.read(132)[128:] != b"DICM":
                return None
    except OSError as error:
        raise SendError(
            f"{path}: {error.strerror}", remedy="Check the file and its rights."
        ) from error
    try:
        meta = read_file_meta_info(path)
        pair = str(meta.MediaStorageSOPClassUID), str(meta.TransferSyntaxUID)
    except Exception as error:  # noqa: BLE001 - pydicom raises many types on broken headers
        log.warning("%s is skipped: its file meta cannot be read (%s)", path, error)
        return None
    return None if pair[0] == MediaStorageDirectoryStorage else pair


def _associate(
    to: Address, calling: str, pairs: set[Pair], timeout_s: float
) -> tuple[Any, Callable[[], str]]:
    """An established association, and a function that words why it ended, if it did."""
    story: dict[str, str] = {}

    def opened(event: Any) -> None:
        story["opened"] = "yes"
        event.assoc.dul.socket.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    # the answer is read as a PDU: pynetdicom may lose it when the peer closes right after it
    def answered(event: Any) -> None:
        if isinstance(event.pdu, A_ASSOCIATE_AC):
            story["accepted"] = "yes"
        elif isinstance(event.pdu, A_ASSOCIATE_RJ):
            pdu = event.pdu
            story["rejected"] = f"{pdu.result_str}, {pdu.source_str}, {pdu.reason_str}"

    def gone(_: Any) -> None:
        story["gone"] = ": it aborted"

    entity = AE(ae_title=calling)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = timeout_s
    entity.connection_timeout = min(timeout_s, 10.0)
    if len(wanted := _contexts(pairs)) > 128:
        raise SendError(
            f"{len(wanted)} presentation contexts are more than the 128 of one association",
            remedy="Send fewer kinds of objects at once.",
        )
    association = entity.associate(
        to.host,
        to.port,
        # one context a pair: the peer may take some and refuse others
        contexts=[build_context(*pair) for pair in wanted],
        ae_title=to.ae_title,
        evt_handlers=[
            (evt.EVT_CONN_OPEN, opened),
            (evt.EVT_PDU_RECV, answered),
            (evt.EVT_ABORTED, gone),
        ],
    )
    if association.is_established:
        return association, lambda: story.get("gone", "")
    if "opened" not in story:
        raise SendError(
            f"no connection to {to.host}:{to.port}",
            remedy="Check that the receiver runs, its host and port, and the firewall.",
        )
    if "rejected" in story:
        raise SendError(
            f"{to} rejected the association of {calling}: {story['rejected']}",
            remedy=f"Check the AE title {to.ae_title}, and that the peer allows {calling}.",
        )
    if "accepted" in story:  # and no context: pynetdicom then aborts by itself
        raise SendError(
            f"{to} accepts none of the SOP classes and transfer syntaxes offered",
            remedy="Let it accept CT Image Storage in the transfer syntax of the files.",
        )
    raise SendError(
        f"{to} ended the association before it was established",
        remedy="Check that a DICOM receiver listens on that port, and read its log.",
    )


class _Rest(threading.Event):
    """Takes the place of the event at which pynetdicom's reactor pauses, and holds it there.

    `send_c_store` clears that event and then reads a flag to know that the reactor has stopped.
    The reactor can have passed the event just before and reset the flag just after, so that it
    runs on and takes the response from the queue (seen about once in a few hundred instances of a
    fast peer). Here the reactor is known to wait, and nobody but `end` sets it free.
    """

    def __init__(self) -> None:
        super().__init__()
        self._reached = threading.Event()

    @classmethod
    def of(cls, association: Any) -> _Rest:
        rest = cls()
        association._reactor_checkpoint = rest
        while association.is_alive() and not rest._reached.wait(0.05):
            pass
        return rest

    def wait(self, timeout: float | None = None) -> bool:
        self._reached.set()
        return super().wait(timeout)

    def set(self) -> None:
        """Asked for after each message: not yet."""

    def end(self) -> None:
        super().set()


def _contexts(pairs: set[Pair]) -> list[Pair]:
    """One context a pair; implicit VR, the default of DICOM (PS3.5 10.1), beside explicit."""
    plain = {(c, str(ImplicitVRLittleEndian)) for c, s in pairs if s == ExplicitVRLittleEndian}
    return sorted(pairs | plain)


def _store(
    association: Any, item: Dataset | Path, number: int, accepted: set[Pair]
) -> tuple[str, int | None]:
    """Store one instance: its UID (or file) and the status; None where no answer came."""
    name = str(item) if isinstance(item, Path) else "?"
    try:
        image = dcmread(item) if isinstance(item, Path) else item
        name = str(image.get("SOPInstanceUID", "")) or name
        sop_class, syntax = _pair(image)
        if not image.get("SOPInstanceUID"):
            log.warning("%s has no SOP Instance UID and cannot be sent", name)
            return name, UNSENDABLE
        fallback = syntax == ExplicitVRLittleEndian and (
            (sop_class, str(ImplicitVRLittleEndian)) in accepted
        )
        if (sop_class, syntax) not in accepted and not fallback:
            return name, NOT_SUPPORTED
        if not association.is_established:
            return name, None
        answer = association.send_c_store(image, msg_id=(number - 1) % 65535 + 1)
    except RuntimeError:
        return name, None  # pynetdicom: the association is gone
    except Exception as error:  # noqa: BLE001 - pydicom raises many types on broken data sets
        log.warning("%s cannot be sent: %s", name, error)
        return name, UNSENDABLE
    return name, int(answer.Status) if "Status" in answer else None


def main(folder: Path, to: str, calling: str) -> int:
    """`scanside send`: the exit code (0 all stored, 1 not all, 2 wrong usage)."""
    out, err = Console(highlight=False), Console(stderr=True, highlight=False)
    try:
        address = Address.parse(to)
        Address(calling, address.host, address.port)
    except ValueError as error:
        err.print(str(error), markup=False)
        return 2
    try:
        with Progress(console=out, transient=True) as progress:
            task = progress.add_task("sending", total=None)
            summary = send(
                [folder],
                address,
                calling=calling,
                progress=lambda done, total: progress.update(task, completed=done, total=total),
            )
    except SendError as error:
        err.print(f"scanside: {error.one_line()}", markup=False, soft_wrap=True)
        return 1
    skipped = f", {summary.skipped} other files skipped" if summary.skipped else ""
    out.print(f"{summary.sent} sent to {address} in {summary.seconds:.1f} s{skipped}")
    for name, status in summary.failed[:5]:
        err.print(f"not stored, status 0x{status:04X}: {name}", markup=False, soft_wrap=True)
    if len(summary.failed) > 5:
        err.print(f"and {len(summary.failed) - 5} more were not stored")
    return 1 if summary.failed else 0
