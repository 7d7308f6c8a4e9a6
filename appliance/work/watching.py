"""Counts what was reported into the library of scanners, when nothing else is to be done.

    final reports of the journal, in order -> quality.json beside each -> a row (store/library.py)

Rules
- Only while nothing waits for `work`, and one row a turn: a slice that comes meanwhile waits for
  the syncs of a few small files. Nothing of it lies on the way to the findings.
- Counted is a final report that was analysed or refused, and beside which quality is kept: the
  first one of an input, and the first one of a study and key. Not an earlier exam that was pushed,
  nor what this product has composed or drawn. So a resend and a revision count no more.
- A report is looked at once. After a file that was lost or damaged, and where the last report that
  was looked at is not here any more, the journal is looked at from its beginning: what is counted
  already, its row knows.
- A new key of a scanner that has sent another study before is an event, and is told once.
- Nothing here ends `work`: what the disk does not take is tried again after RETRY_S; a report that
  cannot be counted, and an act that cannot be obeyed, are passed over, and the log says so.
- What became of an act is a row of the audit (store/library.py): of one that was obeyed once that
  is on the disk, so that a power cut may take the answer, and never what it says.
"""

from __future__ import annotations

import logging
import math
import time
import uuid
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import datetime, timezone
from typing import Final, TypeVar

from appliance.errors import ScansideError, StateUnusable
from appliance.naming import MAKER, Naming
from appliance.quality import exchange, library, offered, told
from appliance.quality.exchange import Exchange, ExchangedRow
from appliance.quality.prior import SHIPPED
from appliance.reasons import Code
from appliance.report import Status
from appliance.results import device
from appliance.series.scanner import shown
from appliance.settings import Settings
from appliance.store import library as kept
from appliance.store import tunings
from appliance.store.events import NewProtocol
from appliance.store.files import DISK, Disk
from appliance.store.journal import Journal
from appliance.store.kept import QUALITY, kept_record
from appliance.store.library import Entry, Library, Listed, mark_of
from appliance.store.rows import AuditRow, FinalReport
from appliance.store.site_key import site_key
from appliance.watching.quality import SeriesQuality
from appliance.watching.row import Prior, Row
from appliance.watching.scanner import UNKNOWN, Scanner
from appliance.watching.told import Told
from appliance.work import tuned

log = logging.getLogger("scanside.work")

RETRY_S: Final = 60.0
READ_AT_ONCE: Final = 8
"""Files a turn, at the start."""
LOOKED_AT: Final = 25
"""Reports a turn, of which at most one is counted."""
EVENTS: Final = 100
ACTOR: Final = "work"
T = TypeVar("T")
_COUNTED: Final = frozenset({Status.ANALYSED.value, Status.NOT_ANALYSED.value})


class Watching:
    """The library of one state folder, whose only writer this is."""

    def __init__(self, settings: Settings, journal: Journal, disk: Disk = DISK) -> None:
        self._settings, self._journal = settings, journal
        self._naming = Naming(site_key(settings.state))
        self._library, self._disk = Library(settings.state, disk), disk
        self._entries: dict[str, Entry] = {}
        """By the name of their files."""
        self._unread: list[str] | None = None
        self._cursor: str | None = None
        self._turn = 0
        """Of counting, over all rows."""
        self._brought: tuple[ExchangedRow, ...] = ()
        self._heard: tuple[int, str] | None = None
        """The head of the audit when its acts were looked at last."""
        self._more, self._again_at = True, 0.0
        self._untold = True
        """Whether the entries may be others than watch.json says."""

    def wait_s(self) -> float:
        """Seconds until there is something to do that nobody rings for."""
        if self._again_at:
            return max(0.0, self._again_at - time.monotonic())
        return 0.0 if self._more else math.inf

    def turn(self) -> None:
        """One step, if there is one. Never raises."""
        if self._again_at > time.monotonic():
            return
        self._again_at = 0.0
        try:
            self._more = self._step()
        except StateUnusable as e:
            self._again_at = time.monotonic() + RETRY_S
            self._unread = None  # what is on the disk counts, not what was to be written
            log.warning("scanners are watched again in %.0f s: %s", RETRY_S, e.one_line())
        except Exception:  # nobody's findings wait for a library
            self._again_at = time.monotonic() + RETRY_S
            self._unread = None
            log.exception("scanners are watched again in %.0f s", RETRY_S)

    def _step(self) -> bool:
        """Whether there may be another."""
        if self._unread is None:
            self._begin()
        if self._unread:
            return self._read()
        return self._obey() or self._count() or self._tell()

    # What is there.

    def _begin(self) -> None:
        self._library.clear_temporary()
        self._entries, self._heard, self._untold = {}, None, True
        self._unread = list(self._library.names())
        self._cursor = self._library.cursor()
        self._brought = tuple(_brought(self._library.imported()))

    def _read(self) -> bool:
        """Some files; one that cannot be read is set aside, and learnt anew from the journal."""
        for _ in range(min(READ_AT_ONCE, len(self._unread or ()))):
            name = (self._unread or []).pop()
            entry = self._library.read(name)
            if entry is not None:
                self._entries[name] = entry
                self._turn = max(self._turn, entry.turn)
                continue
            log.error("%s cannot be read: it is set aside, and learnt anew", name)
            self._journal.audit.add(ACTOR, kept.DAMAGED, file=name)
            self._library.move_cursor(None)
            self._library.set_aside(name)
            self._cursor = None
        return True

    # What a person has decided.

    def _obey(self) -> bool:
        head = self._journal.audit.head()
        if head == self._heard:
            return False
        acts = self._journal.audit.of(kept.ACTS_AND_ANSWERS)
        for entry in [one for one in self._entries.values() if not one.former]:
            for act in kept.pending(acts, entry)[:1]:
                self._obeyed(entry, act)
                return True
        for act in kept.pending_of_tunings(acts)[:1]:
            self._withdrawn(act)
            return True
        self._heard = head
        self._brought = tuple(_brought(self._library.imported()))
        return False

    def _obeyed(self, entry: Entry, act: AuditRow) -> None:
        """The entry as the act leaves it, which it has heard then, and the answer to who decided
        it. What cannot be obeyed changes nothing of it."""
        done = self._tried(act, lambda: self._as_decided(entry, act))
        if isinstance(done, ScansideError):
            self._refuse(act, done, row=entry.id)
            self._put(entry.model_copy(update={"heard": act.hash}))
            return
        row, text = done
        self._put(entry.model_copy(update={"row": row, "heard": act.hash}))
        self._answer(act, kept.OBEYED, row=entry.id, text=text)
        log.info("row %s: %s by %s", entry.id, act.action, act.actor)

    def _as_decided(self, entry: Entry, act: AuditRow) -> tuple[Row, str]:
        """The row after an act, and what was done, in words. ScansideError where nothing is open,
        and as work/tuned.py says."""
        row, at = entry.row, _utc(act.at)
        if act.action in tuned.ACTS:
            listed = Listed(tuple(self._entries.values()))
            return row, tuned.obey(self._settings.state, act, entry, listed, self._disk)
        alarms = library.require_open(row, entry.id)
        if act.action == kept.ACKNOWLEDGE:
            return library.acknowledged(row, at), ""
        # the one that began first; not by date, for the clock may have gone back
        alarm = max(alarms, key=lambda one: one.studies)
        row, old = library.accepted(row, alarm, at)
        former = {"former": act.hash[:8], "row": old, "heard": act.hash}
        self._put(entry.model_copy(update=former))
        return row, ""

    def _withdrawn(self, act: AuditRow) -> None:
        """A tuning that has no row; it is answered, and so decided of once."""
        digest = act.detail["tuning"]
        done = self._tried(act, lambda: tuned.withdraw(self._settings.state, act, self._disk))
        if isinstance(done, ScansideError):
            self._refuse(act, done, tuning=digest)
        else:
            self._answer(act, kept.OBEYED, tuning=digest, text=done)
        self._untold = True

    def _tried(self, act: AuditRow, do: Callable[[], T]) -> T | ScansideError:
        """What is done of an act, or why it cannot be. StateUnusable is none of that: it is tried
        again."""
        try:
            return do()
        except StateUnusable:
            raise
        except ScansideError as e:
            log.error("%s by %s cannot be obeyed: %s", act.action, act.actor, e.one_line())
            return e
        except Exception:  # it must not keep all that comes after it from being counted
            log.exception("%s by %s cannot be obeyed", act.action, act.actor)
            return ScansideError("`work` cannot obey it")

    def _refuse(self, act: AuditRow, error: ScansideError, **about: object) -> None:
        why = {"code": error.code, "text": error.text, "remedy": error.remedy}
        self._answer(act, kept.REFUSED, **about, **why)

    def _answer(self, act: AuditRow, action: str, **detail: object) -> None:
        self._journal.audit.add(ACTOR, action, act=act.action, of=act.hash, **detail)

    # What was reported.

    def _count(self) -> bool:
        """Look at some reports, until one was counted; False where there was none."""
        finals = self._journal.reports.finals_after(self._cursor, LOOKED_AT)
        for final in finals:
            self._cursor = final.report_id
            try:
                if self._counted(final):
                    break
            except StateUnusable:
                raise
            except Exception:  # one report must not end `work`, nor be tried for ever
                log.exception("report %s cannot be counted", final.report_id)
        if finals:
            self._library.move_cursor(self._cursor)
        return bool(finals)

    def _counted(self, final: FinalReport) -> bool:
        """Count one report, if it counts; whether it did."""
        if final.silent or final.status not in _COUNTED or final.code == Code.OWN_RESULT.value:
            return False
        digest = mark_of(final.input_digest)
        if any(entry.knows_input(digest) for entry in self._entries.values()):
            return False
        state = self._settings.state
        measured = kept_record(state, uuid.UUID(final.report_id), QUALITY, SeriesQuality)
        if measured is None or measured.scanner.maker.casefold() == MAKER.casefold():
            return False
        study = mark_of(self._naming.study(final.study_uid))
        at = _utc(final.created)
        entry = self._entry(measured.scanner, study, at)
        if entry.knows_study(study):
            return False
        counted = library.counted(entry.row, measured, at, self._prior(measured.scanner))
        self._put(entry.counted(counted.row, self._turn + 1, study, digest))
        self._turn += 1
        for alarm in counted.alarms:
            log.warning("row %s: %s, %s", entry.id, alarm.statistic.value, alarm.cause.value)
        for old in kept.over(self._entries.values()):
            self._library.remove(old)
            del self._entries[old.name]
        return True

    def _entry(self, key: Scanner, study: bytes, at: datetime) -> Entry:
        """The row of this key: the one that is there, else an empty one."""
        today = [one for one in self._entries.values() if not one.former]
        # by its key: under another site key a row that is there has the name that it had
        for entry in today:
            if entry.row.key == key:
                return entry
        scanner = self._naming.row(key.modality, key.maker, key.model, key.serial)
        acts = self._journal.audit.of(kept.ACTS)
        made = Entry(
            id=self._naming.row(*key.model_dump().values()),
            scanner=scanner,
            heard=acts[-1].hash if acts else "",
            row=library.empty(key, at),
        )
        named = {key.maker, key.model, key.serial} != {UNKNOWN}
        others = [one for one in today if one.scanner == scanner]
        if named and any(one.row.n > one.knows_study(study) for one in others):
            self._say_new(made)
        return made

    def _say_new(self, entry: Entry) -> None:
        """Told before the row is written: a power cut between says it again, under one key."""
        at = datetime.now(timezone.utc)
        name = self._settings.site.device
        said = device.of_new_protocol(entry.id, entry.scanner, device=name, at=at)
        self._journal.owed.add([said])
        known = {one.event.subject for one in self._journal.events.of(NewProtocol, EVENTS)}
        if entry.id not in known:
            self._journal.events.add(NewProtocol(subject=entry.id, scanner=entry.scanner))

    def _prior(self, key: Scanner) -> Prior:
        return exchange.prior_of(shown(key), self._brought, SHIPPED)

    def _put(self, entry: Entry) -> None:
        self._untold = True
        self._library.put(entry)
        self._entries[entry.name] = entry

    # What may leave.

    def _tell(self) -> bool:
        """watch.json, once nothing is left to count; so this is the end of a step."""
        if not self._untold:
            return False
        today = [one for one in self._entries.values() if not one.former]
        today.sort(key=lambda one: (not one.row.alarms, -one.turn, one.id))
        in_force = tunings.readable(self._settings.state) or ()
        lone = offered.without_row(in_force, (one.row for one in today))
        now = Told(
            rows=tuple(told.of_row(one.id, one.row) for one in today),
            tunings=tuple(one.digest for one in lone),
        )
        if now != Told() or kept.told(self._settings.state) != Told():
            self._library.tell(now)
        self._untold = False
        return False


def _brought(files: Iterable[bytes]) -> Iterable[ExchangedRow]:
    for data in files:
        with suppress(ValueError):
            yield from Exchange.stored(data).rows


def _utc(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, timezone.utc)
