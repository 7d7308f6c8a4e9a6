"""What becomes of each instance that one association sends: the outcome table of `receive`, done.

Order for one instance: look at the reserve, write to incoming/, look into the file, give it its
name in the spool (durable), answer, and only then the journal and the hint, which the sender need
not wait for. A crash in between leaves the spool ahead of the journal, never behind it.
"""

from __future__ import annotations

import contextlib
import logging
import mmap
import os
import struct
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from appliance.dicom import association, pdu, policy
from appliance.dicom.association import SUCCESS, Announced, Answer, Notice
from appliance.errors import InstanceRefused, StateUnusable
from appliance.receive.books import AWAY
from appliance.receive.commitments import Commitments, addresses
from appliance.receive.duplicates import Comparison
from appliance.receive.fullness import Note
from appliance.receive.peek import CANNOT_UNDERSTAND, Peeked, peek
from appliance.report import SeriesKey
from appliance.settings import Settings
from appliance.store import events, hint
from appliance.store.files import DISK, Disk
from appliance.store.hint import Hint
from appliance.store.journal import Journal
from appliance.store.lock import locked
from appliance.store.rows import Outcome
from appliance.store.spool import Spool

LOG = logging.getLogger(__name__)
_T = TypeVar("_T")

OUT_OF_RESOURCES = 0xA700  # PS3.4 B.2.3
NOT_THE_SOP_CLASS = 0xA900
LOOK_AT_DISK_EVERY = 64 << 20


@dataclass(slots=True)
class _Series:
    """What one association brought of one series."""

    first_at: float
    last_at: float
    instances: int = 1
    journalled: int = 0
    """How many of them the journal knows."""


class Intake:
    """One association's service: who may, where its instances go, what the journal hears of it."""

    def __init__(
        self,
        settings: Settings,
        journal: Journal,
        spool: Spool,
        *,
        host: str,
        tell: Callable[[Note], None] = lambda _: None,
        stand_in: Callable[[], Journal] | None = None,
        durable: Callable[[], Journal | None] | None = None,
        shown: Collection[str] = (),
        disk: Disk = DISK,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """durable: the journal itself, where another one may stand in for it. shown: the names of
        the peer's certificate."""
        self.spool = spool
        self._settings = settings
        self._journal = journal
        self._disk = disk
        self._clock = clock
        self._host = host
        self._tell = tell
        self._stand_in = stand_in
        self._durable = durable or (lambda: journal)
        self._shown = shown
        self._grants = policy.SENDER
        self._commitments: Commitments | None = None
        self._id = ""
        self._calling = ""
        self._series: dict[SeriesKey, _Series] = {}
        self._again: set[SeriesKey] = set()  # of which it sent what is here
        self._unannounced: SeriesKey | None = None
        self._reserve_recorded = False
        self._headers_told: set[tuple[str, str, tuple[str, ...]]] = set()

    def requested(self, request: pdu.Request) -> policy.Rejection | None:
        """Decide by the policy; a refusal is journalled with the setting to change."""
        dicom, calling = self._settings.dicom, request.calling_ae
        decision = policy.decide(
            dicom,
            calling_ae=calling,
            called_ae=request.called_ae,
            host=self._host,
            archives=policy.archives(self._settings, addresses, calling_ae=calling),
            shown=self._shown,
        )
        if not decision.allowed:
            return self._not_let_in(request, decision)
        self._grants = decision.grants
        run = self.spool.root / "run"
        try:
            self._disk.make_folder(run)
            with locked(run / "associations.lock"):  # so that no two take the last place
                full = self._asked(lambda journal: self._admitted(journal, request))
        except StateUnusable as e:  # a full disk: the sender asks again later
            LOG.error("association refused: %s", e.one_line())
            return policy.TEMPORARY_CONGESTION
        if full is not None:
            return self._not_let_in(request, full)
        self._calling = calling
        self._tell(Note.ACCEPTED)
        LOG.info("%s, %s, %s", decision.text, policy.plain(request.implementation), self._id)
        return None

    def negotiated(self, request: pdu.Request) -> list[policy.Context]:
        """What this peer may do here."""
        return policy.negotiate(request.contexts, request.roles, self._grants)

    def notice(self, notice: Notice) -> association.Sink:
        """A request or an answer of storage commitment."""
        if self._commitments is None:
            self._commitments = Commitments(
                self._settings.state,
                self._durable,
                calling_ae=policy.plain(self._calling.strip()),
                host=self._host,
                grants=self._grants,
            )
        return self._commitments.begin(notice)

    def _admitted(self, journal: Journal, request: pdu.Request) -> policy.Decision | None:
        """None: the association has its row; else why there is no room for it."""
        senders = [(one.calling_ae, one.host) for one in journal.series.open_associations()]
        full = policy.room(
            self._settings.dicom, senders, calling_ae=request.calling_ae, host=self._host
        )
        if full is None:
            self._id = journal.series.association_opened(
                calling_ae=request.calling_ae, called_ae=request.called_ae, host=self._host
            )
        return full

    def _not_let_in(
        self, request: pdu.Request, decision: policy.Decision
    ) -> policy.Rejection | None:
        """Said in log, journal and status, but for a question of our own doctor."""
        dicom = self._settings.dicom
        if policy.is_doctor(dicom, calling_ae=request.calling_ae, host=self._host):
            LOG.info("the doctor asked whether anybody answers here")
        else:
            if decision.rejection == policy.LOCAL_LIMIT_EXCEEDED:
                self._tell(Note.SHARE_TAKEN if decision.of_share else Note.ALL_TAKEN)
            LOG.warning("%s; %s", decision.text, decision.remedy)
            self._record(
                events.AssociationRefused(
                    subject=policy.plain(request.calling_ae),
                    text=decision.text,
                    remedy=decision.remedy,
                    host=self._host,
                    called_ae=policy.plain(request.called_ae),
                )
            )
        return decision.rejection

    def _asked(self, question: Callable[[Journal], _T]) -> _T:
        """What the journal says; where it is damaged, what stands in for it from now on."""
        try:
            return question(self._journal)
        except StateUnusable as e:
            if e.code not in AWAY or self._stand_in is None:
                raise
            self._journal = self._stand_in()
            return question(self._journal)

    def begin(self, announced: Announced) -> association.Sink:
        """A file in incoming/ for the data set, or nothing where the reserve is reached."""
        if self.short():
            return _Nowhere(self.reserve_reached())
        try:
            return _File(self, announced)
        except OSError as e:
            return _Nowhere(self._refused(announced.sop_instance, _disk_failed(e)))

    def short(self) -> bool:
        return self._disk.free_mb(self.spool.root) < self._settings.retain.reserve_mb

    def reserve_reached(self) -> Answer:
        """A700, told to the journal once an association."""
        reserve = self._settings.retain.reserve_mb
        if not self._reserve_recorded:
            self._reserve_recorded = True
            LOG.error("less than retain.reserve_mb = %d is free: instances are refused", reserve)
            self._record(
                events.DiskReserve(subject=self._calling, reserve_mb=reserve, host=self._host)
            )
        return Answer(OUT_OF_RESOURCES, "disk reserve reached")

    def keep(self, announced: Announced, temp: Path, file: int) -> Answer:
        """The data set is complete in `temp`: the outcome table of this module."""
        comparison = Comparison(self.spool.root / "run" / "decoding.lock")
        facts: Peeked | None = None
        try:
            facts = _checked(announced, file)
            outcome = self.spool.store(
                temp, facts.study, facts.series, facts.sop_instance, comparison.same
            )
        except InstanceRefused as e:
            self._note_header(facts, comparison.changed, refused=True)
            return self._refused(announced.sop_instance, e, temp, comparison.digests)
        except (StateUnusable, OSError) as e:
            return self._refused(announced.sop_instance, _disk_failed(e), temp)
        key = SeriesKey(facts.study or "", facts.series or "")  # it was stored: it has both
        (self._note if outcome == "stored" else self._again.add)(key)
        self._note_header(facts, comparison.changed, refused=False)
        return Answer(SUCCESS)

    def answered(self) -> None:
        """The first instance of a series reaches the journal, each one wakes `work`."""
        if self._commitments is not None:
            self._commitments.answered()
        key, self._unannounced = self._unannounced, None
        if key is None:
            return
        series = self._series[key]
        if not series.journalled:
            try:
                self._arrived(key, series)
            except StateUnusable as e:  # it is in the spool, which is what counts; told again later
                LOG.error("%s", e.one_line())
        self._hint(Hint(study=key.study, series=key.series))

    def ended(self, outcome: Outcome) -> None:
        """Everything this association brought, then its end, then the hint."""
        try:
            for key, series in self._series.items():
                if series.journalled < series.instances:
                    self._arrived(key, series)
            self._exams_after_all()
            self._journal.series.association_ended(self._id, outcome)
        except StateUnusable as e:  # `work` counts what is in the spool and finds this process gone
            LOG.error("%s", e.one_line())
        self._hint(Hint(association=self._id))

    def _exams_after_all(self) -> None:
        """Earlier exams that it sent once more are exams."""
        for key in self._again - self._series.keys():
            senders = self._journal.series.senders(key.study)
            if policy.makes_exams(self._settings, self._calling, senders):
                now = self._clock()
                self._arrived(key, _Series(now, now, instances=0))
                self._hint(Hint(study=key.study, series=key.series))

    def _note(self, key: SeriesKey) -> None:
        now = self._clock()
        self._unannounced = key
        if series := self._series.get(key):
            series.last_at = now
            series.instances += 1
        else:
            self._series[key] = _Series(now, now)

    def _note_header(
        self, facts: Peeked | None, changed: tuple[str, ...], *, refused: bool
    ) -> None:
        """Another header than the one that is kept: told once a series and kind of change."""
        if not changed or facts is None:
            return
        event = events.HeaderChanged(
            subject=facts.series or "",
            study=facts.study or "",
            instance=facts.sop_instance or "",
            changed=changed,
            refused=refused,
            association=self._id,
        )
        of = (event.study, event.subject, changed)
        if of not in self._headers_told:
            self._headers_told.add(of)
            self._record(event)

    def _arrived(self, key: SeriesKey, series: _Series) -> None:
        self._journal.series.arrived(
            self._id,
            key,
            calling_ae=self._calling,
            instances=series.instances,
            at=series.last_at,
            first_at=series.first_at,
        )
        series.journalled = series.instances

    def _record(self, event: events.Event) -> None:
        """Journalled; the answer to the peer does not depend on it."""
        try:
            self._journal.events.add(event)
        except StateUnusable as e:
            LOG.error("%s", e.one_line())

    def _refused(
        self,
        sop: str,
        error: InstanceRefused,
        temp: Path | None = None,
        digests: dict[str, str] | None = None,
    ) -> Answer:
        """Quarantine what we cannot understand, drop the rest, tell the journal."""
        quarantine = None
        if temp is not None and temp.exists():
            try:
                if error.status == CANNOT_UNDERSTAND:
                    quarantine = self.spool.quarantine(temp, error.one_line()).name
                else:
                    temp.unlink()
            except (StateUnusable, OSError) as e:
                LOG.error("%s", e)
        subject = "".join(c for c in sop[:64] if c in "0123456789.")
        LOG.warning("instance %s refused: %s", subject, error.one_line())
        self._record(
            events.InstanceRefused(
                subject=subject,
                status=f"{error.status:04X}",
                code=error.code,
                text=error.text,
                association=self._id,
                quarantine=quarantine,
                **(digests or {}),
            )
        )
        return Answer(error.status, error.text)

    def _hint(self, told_to_work: Hint) -> None:
        hint.send(self.spool.root, told_to_work)


class _File:
    """A sink that writes a Part 10 file into incoming/."""

    def __init__(self, intake: Intake, announced: Announced) -> None:
        self._intake = intake
        self._announced = announced
        self._path = intake.spool.incoming_path()
        self._unlooked = 0
        self._failed: Answer | None = None
        self._handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self.write(memoryview(file_meta(announced)))

    def write(self, piece: memoryview) -> None:
        if self._failed is not None:
            return
        self._unlooked += len(piece)
        if self._unlooked > LOOK_AT_DISK_EVERY:
            self._unlooked = 0
            if self._intake.short():
                self._failed = self._intake.reserve_reached()
                return
        try:
            while piece:
                piece = piece[os.write(self._handle, piece) :]
        except OSError as e:
            LOG.error("%s: %s", self._path.name, e.strerror)
            self._failed = Answer(OUT_OF_RESOURCES, "the disk failed")

    def finish(self) -> Answer:
        try:
            if self._failed is not None:
                self._path.unlink(missing_ok=True)
                return self._failed
            return self._intake.keep(self._announced, self._path, self._handle)
        finally:
            os.close(self._handle)

    def drop(self) -> None:
        os.close(self._handle)
        with contextlib.suppress(OSError):
            self._path.unlink()


class _Nowhere:
    """A sink for what is refused before it comes: read to its end, then answered."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer

    def write(self, piece: memoryview) -> None:
        pass

    def finish(self) -> Answer:
        return self._answer

    def drop(self) -> None:
        pass


def _checked(announced: Announced, file: int) -> Peeked:
    """The data set's own word, which must be the command's too."""
    facts = peek(memoryview(mmap.mmap(file, 0, access=mmap.ACCESS_READ)))
    for name, claimed, is_so in (
        ("SOP class", announced.sop_class, facts.sop_class),
        ("SOP instance", announced.sop_instance, facts.sop_instance),
    ):
        if is_so is not None and claimed != is_so:
            raise InstanceRefused(
                f"{name} of command and data set differ",
                status=NOT_THE_SOP_CLASS,
                code="not_as_announced",
                remedy="The sender's command and data set contradict: report it to its vendor.",
            )
    return facts


def _disk_failed(error: Exception) -> InstanceRefused:
    return InstanceRefused(
        f"not stored: {error}",
        status=OUT_OF_RESOURCES,
        code="disk_failed",
        remedy=StateUnusable.remedy,
    )


def file_meta(announced: Announced) -> bytes:
    """Preamble, prefix and File Meta Information (PS3.10 7.1), explicit VR little endian."""
    elements = b"".join(
        (
            struct.pack("<HH2sHI", 0x0002, 0x0001, b"OB", 0, 2) + b"\0\1",
            _element(0x0002, b"UI", announced.sop_class),
            _element(0x0003, b"UI", announced.sop_instance),
            _element(0x0010, b"UI", announced.transfer_syntax),
            _element(0x0012, b"UI", pdu.IMPLEMENTATION_CLASS_UID),
            _element(0x0013, b"SH", pdu.implementation_version()),
        )
    )
    group = struct.pack("<HH2sHI", 0x0002, 0x0000, b"UL", 4, len(elements))
    return bytes(128) + b"DICM" + group + elements


def _element(number: int, vr: bytes, text: str) -> bytes:
    data = text.encode("ascii", errors="replace")[:64]
    data += (b"\0" if vr == b"UI" else b" ") * (len(data) % 2)
    return struct.pack("<HH2sH", 0x0002, number, vr, len(data)) + data
