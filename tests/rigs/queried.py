"""Archives that are asked for earlier exams, what lies in them, and the stage `fetch` in a thread.

Rules
- Orthanc (rigs/orthanc.py) and dcmqrscp of dcmtk are the real ones; what neither does on purpose,
  such as to name another patient than was asked for, is done by an archive of pynetdicom.
- They store to a real `receive` of their own state folder.
"""

from __future__ import annotations

import io
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from appliance.dicom import retrieve
from appliance.dicom.requestor import Limits
from appliance.fetch.stage import Fetcher, Pace
from appliance.settings import Settings
from appliance.store import bell, fetching
from appliance.store.events import PriorsAsked
from appliance.store.fetching import STAGE, Wanted
from appliance.store.heartbeat import Heart, living
from appliance.store.journal import Journal
from appliance.store.patience import Patience
from rigs.peers import HANG_S, free_port, until
from rigs.programs import program

WHO = "Z-4711"
"""The id of whom the tests ask for; no log and no event may show it."""
TODAY = "2.25.100"
QUICK = Pace(Patience(0.02, 0.1, 5), Limits(HANG_S, HANG_S, HANG_S))


@dataclass(frozen=True)
class Scan:
    """One CT series in a study of its own."""

    study: str
    date: str
    images: int = 3
    patient_id: str = WHO
    modality: str = "CT"
    number: int = 1
    issuer: str = ""
    character_set: str = ""

    @property
    def series(self) -> str:
        return f"{self.study}.{self.number}"

    def instances(self) -> Iterator[Dataset]:
        for n in range(1, self.images + 1):
            made = Dataset()
            made.file_meta = FileMetaDataset()
            made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID = CTImageStorage
            made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
            uid = f"{self.series}.{n}"
            made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID = uid
            made.StudyInstanceUID, made.SeriesInstanceUID = self.study, self.series
            if self.character_set:
                made.SpecificCharacterSet = self.character_set
            made.PatientID, made.PatientName = self.patient_id, "Doe^Jane"
            made.PatientBirthDate, made.PatientSex, made.AccessionNumber = "", "", ""
            if self.issuer:
                made.IssuerOfPatientID = self.issuer
            made.StudyDate, made.StudyTime, made.StudyID = self.date, "120000", "1"
            made.Modality, made.InstanceNumber, made.SeriesNumber = self.modality, n, self.number
            made.Rows = made.Columns = 2
            made.BitsAllocated, made.BitsStored, made.HighBit = 16, 16, 15
            made.PixelRepresentation, made.SamplesPerPixel = 0, 1
            made.PhotometricInterpretation = "MONOCHROME2"
            made.PixelData = n.to_bytes(8, "little")
            yield made

    def files(self) -> Iterator[bytes]:
        for one in self.instances():
            buffer = io.BytesIO()
            one.save_as(buffer, enforce_file_format=True)
            yield buffer.getvalue()


@contextmanager
def dcmqrscp(folder: Path, scans: Iterable[Scan], listener: int) -> Iterator[int]:
    """dcmtk's archive, called PACS, which knows SCANSIDE at the port `listener`: its own port."""
    index, command = program("dcmqridx"), program("dcmqrscp")
    held, port = folder / "held", free_port()
    held.mkdir()
    for scan in scans:
        paths = []
        for data in scan.files():
            paths.append(held / f"{scan.series}.{len(paths)}.dcm")
            paths[-1].write_bytes(data)
        subprocess.run([index, str(held), *map(str, paths)], check=True, timeout=HANG_S)
    config = folder / "dcmqrscp.cfg"
    config.write_text(
        f"NetworkTCPPort = {port}\nMaxPDUSize = 16384\nMaxAssociations = 4\n"
        f"HostTable BEGIN\nbox = (SCANSIDE, localhost, {listener})\nHostTable END\n"
        "VendorTable BEGIN\nVendorTable END\n"
        f"AETable BEGIN\nPACS {held} RW (200, 1024mb) ANY\nAETable END\n"
    )
    with (folder / "dcmqrscp.log").open("wb") as log:
        child = subprocess.Popen([command, "-c", str(config)], stdout=log, stderr=log)
    try:
        until(lambda: _listens(port))
        yield port
    finally:
        child.terminate()
        child.wait(HANG_S)


def _listens(port: int) -> bool:
    with suppress(OSError), closing(socket.create_connection(("127.0.0.1", port), 1)):
        return True
    return False


@dataclass
class Odd:
    """An archive that does as it is told."""

    answers: Callable[[Dataset], Iterable[Dataset]] = lambda _keys: ()
    """What was asked -> what it answers, whether that fits or not."""
    moves: Callable[[Dataset], int] = lambda _keys: 0x0000
    """What is to be moved -> status; nothing is ever stored."""
    find_status: int = 0x0000
    asked: list[Dataset] = field(default_factory=list)
    moved: list[Dataset] = field(default_factory=list)
    to: list[str] = field(default_factory=list)
    open: int = 0
    most_open: int = 0
    port: int = 0

    def _find(self, event: Any) -> Iterator[tuple[int, Dataset | None]]:
        keys = event.identifier
        self.asked.append(keys)
        for answer in self.answers(keys):
            yield 0xFF00, answer
        if self.find_status:
            yield self.find_status, None

    def _move(self, event: Any) -> Iterator[Any]:
        self.moved.append(event.identifier)
        self.to.append(str(event.move_destination))
        status = self.moves(event.identifier)
        if status == retrieve.NO_DESTINATION:
            yield None, None
            return
        yield "127.0.0.1", self.port, {"contexts": []}
        yield 0
        if status:
            yield status, None

    def _opened(self, _event: Any) -> None:
        self.open += 1
        self.most_open = max(self.most_open, self.open)

    def _closed(self, _event: Any) -> None:
        self.open -= 1


@contextmanager
def serving(
    archive: Odd,
    port: int | None = None,
    classes: tuple[str, ...] = retrieve.CLASSES,
    tls: ssl.SSLContext | None = None,
) -> Iterator[Odd]:
    ae = AE("PACS")
    for one in (Verification, *classes):
        ae.add_supported_context(one)
    handlers = [
        (evt.EVT_C_FIND, archive._find),
        (evt.EVT_C_MOVE, archive._move),
        (evt.EVT_ACCEPTED, archive._opened),
        (evt.EVT_CONN_CLOSE, archive._closed),
    ]
    archive.port = port or free_port()
    server = ae.start_server(
        ("127.0.0.1", archive.port), block=False, ssl_context=tls, evt_handlers=handlers
    )
    try:
        yield archive
    finally:
        assert server is not None
        server.shutdown()


@dataclass
class Fetched:
    """The stage in a thread, and what it says."""

    settings: Settings
    fetcher: Fetcher
    heart: Heart
    journal: Journal

    def ask(self, patient_id: str = WHO, issuer: str = "", study: str = TODAY) -> None:
        fetching.ask(self.settings.state, Wanted(patient_id=patient_id, issuer=issuer, study=study))

    def outcome(self, count: int = 1) -> PriorsAsked:
        """The latest event, once there are as many."""
        until(lambda: len(self.journal.events.of(PriorsAsked, 50)) >= count)
        return self.journal.events.of(PriorsAsked, 1)[0].event

    def answered(self) -> bool:
        """Whether nothing waits any more."""
        return fetching.waiting(self.settings.state) == []


@contextmanager
def fetch(settings: Settings, pace: Pace = QUICK) -> Iterator[Fetched]:
    state = settings.state
    with ExitStack() as stack:
        heart = stack.enter_context(living(state, STAGE))
        journal = stack.enter_context(Journal.open(state))
        heard = stack.enter_context(bell.hearing(state, STAGE))
        fetcher = Fetcher(settings, journal, heard, heart, pace=pace)
        errors: list[BaseException] = []

        def run() -> None:
            try:
                fetcher.run()
            except BaseException as e:  # noqa: BLE001 - the test looks at it
                errors.append(e)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        try:
            yield Fetched(settings, fetcher, heart, journal)
        finally:
            fetcher.stop()
            thread.join(HANG_S)
            assert not thread.is_alive()
            assert errors == []


def settings_of(state: Path, *ports: int, title: str = "PACS", **more: Any) -> Settings:
    """One archive a port; more: lines of each."""
    rows = [
        {"name": f"pacs{n}" if n else "pacs", "address": f"{title}@127.0.0.1:{port}", **more}
        for n, port in enumerate(ports)
    ]
    return Settings.model_validate({"state": state, "priors": {"query": rows}})
