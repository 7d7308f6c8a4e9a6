"""An archive as a real peer on a loopback port: pynetdicom, answering as a test tells it to."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from appliance.deliver import offer

SR_3D = offer.COMPREHENSIVE_3D_SR
ENHANCED, COMPREHENSIVE = offer.CLASSES["sr"][:2]
ALL = offer.classes(("sr", "seg", "sc"))
TITLE = "PACS"


def written(path: Path, uid: str, sop_class: str = SR_3D, *, filler: int = 0) -> Path:
    """A small object of this class, as a Part 10 file; filler: bytes more in it."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = sop_class, uid
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made = Dataset()
    made.file_meta = meta
    made.SOPClassUID, made.SOPInstanceUID = sop_class, uid
    made.PatientName, made.PatientID = "Doe^Jane", "1"
    made.StudyInstanceUID, made.SeriesInstanceUID = "1.2", "1.2.3"
    made.ContentLabel = "A" * 16
    made.add_new(0x00420011, "OB", bytes(filler))
    path.parent.mkdir(parents=True, exist_ok=True)
    made.save_as(path, enforce_file_format=True)
    return path


@dataclass(frozen=True)
class Came:
    """One C-STORE, as the archive heard it."""

    uid: str
    sop_class: str
    syntax: str
    data: bytes
    association: int


@dataclass
class Archive:
    """What it is told to do, and what it saw."""

    port: int = 0
    answer: Callable[[str], int] = lambda _uid: 0x0000
    """SOP Instance UID -> status."""
    abort: Callable[[str], bool] = lambda _uid: False
    """Whether it ends the association in place of an answer."""
    holds: threading.Event = field(default_factory=threading.Event)
    """Cleared: it takes an object and does not answer."""
    came: list[Came] = field(default_factory=list)
    associations: int = 0
    released: int = 0

    def __post_init__(self) -> None:
        self.holds.set()

    @property
    def uids(self) -> list[str]:
        return [one.uid for one in self.came]

    def _stored(self, event: Any) -> int:
        uid = str(event.request.AffectedSOPInstanceUID)
        data = event.request.DataSet.getvalue()
        syntax = str(event.context.transfer_syntax)
        sop_class = str(event.request.AffectedSOPClassUID)
        self.came.append(Came(uid, sop_class, syntax, data, self.associations))
        if self.abort(uid):
            event.assoc.abort()
            return 0xC000
        self.holds.wait()
        return self.answer(uid)

    def _accepted(self, _event: Any) -> None:
        self.associations += 1

    def _released(self, _event: Any) -> None:
        self.released += 1


@contextmanager
def serving(
    archive: Archive | None = None,
    *,
    classes: Sequence[str] = ALL,
    syntaxes: Sequence[str] = (ExplicitVRLittleEndian, ImplicitVRLittleEndian),
    callers: Sequence[str] = (),
    port: int = 0,
    tls: ssl.SSLContext | None = None,
) -> Iterator[Archive]:
    """The archive, from listening to the end of the block. callers: whom it lets in; empty: all."""
    archive = archive or Archive()
    entity = AE(ae_title=TITLE)
    entity.require_called_aet = True
    entity.maximum_associations = 1000  # those that it does not answer last
    entity.require_calling_aet = list(callers)
    for one in (Verification, *classes):
        entity.add_supported_context(one, list(syntaxes))
    handlers = [
        (evt.EVT_C_STORE, archive._stored),
        (evt.EVT_ACCEPTED, archive._accepted),
        (evt.EVT_RELEASED, archive._released),
    ]
    server = entity.start_server(
        ("127.0.0.1", port), block=False, evt_handlers=handlers, ssl_context=tls
    )
    assert server is not None
    archive.port = server.server_address[1]
    try:
        yield archive
    finally:
        archive.holds.set()
        server.shutdown()
        server.server_close()
        for one in server.active_associations:
            if one.is_established:
                one.abort()
