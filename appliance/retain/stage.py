"""Deletion: what was published goes when it is old or when space is needed; what is owed stays.

Rules
- Deletable is a series that `work` has judged (no longer open or complete), whose latest report of
  each bundle is final, and of which nothing is owed to any destination: all is delivered, or given
  up by a person. A series set aside needs no report. Everything else stays, however full the disk
  is: then `receive` answers A700 and the sender keeps its images.
- By age: all of those that did not change for `retain.days`, by time that this stage has itself
  seen pass (`store.age`): a wall clock that jumps by years deletes nothing early.
- By space: the oldest of the others, one after another, until `retain.target_free_mb` is free. Only
  where the journal says how many instances the judgement was about, so that a slice that came late
  and is not judged yet is never deleted with its series.
- Slices, then masks (`reports/<report_id>/`) and the name (`identities/`), then rows: a power cut
  between leaves rows, and the next run goes on from there.
- A series that nobody judged and that has no image goes by age: there is nothing to judge. It may
  have lost them to a person's hand.
- What lies in reports/ and identities/ for no series goes by age too: `work` may have put it there
  while its series was deleted, and nobody else would ever delete it.
- Where [web] names is off, all that lies in identities/ goes at once: nobody may be shown it.
- Composed objects for archives go by rules of their own (`outgoing`), and so do the entries of
  earlier exams (`entries`): by space these go after the series and before what archives are owed.
- The quarantine goes by age too, and first if space is short. Events and settled loose messages go
  by their stamps, but not before the wall clock was steady for `retain.days`.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from appliance.errors import ScansideError, StateUnusable
from appliance.retain import age, entries, outgoing
from appliance.settings import Retain, Settings
from appliance.store import identities
from appliance.store.conditions import DELETE
from appliance.store.files import DISK, Disk
from appliance.store.heartbeat import Heart, living
from appliance.store.journal import Journal
from appliance.store.rows import Kept, Series
from appliance.store.spool import Spool

LOG = logging.getLogger(__name__)
EVERY_S = 600.0
STALE_INCOMING_S = 3600.0
JUDGED = frozenset({"analysed", "set_aside", "refused", "failed"})


@dataclass(frozen=True, slots=True)
class Deletable:
    """A series that may go: at once because it is old, else as soon as space is needed."""

    kept: Kept
    aged: bool


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one run did, and what it could not do."""

    series: int
    quarantined: int
    free_mb: float
    short: bool
    """Less than the target is free, and nothing more may be deleted."""


def deletable(
    rows: Iterable[Kept], age_s: Callable[[str], float], settings: Retain
) -> list[Deletable]:
    """The series that may be deleted, oldest first; pure. `age_s`: of a thing (`thing_of`)."""
    found = []
    for kept in rows:
        series = kept.series
        published = kept.owed == 0 and (
            kept.final or (series.state == "set_aside" and not kept.reports)
        )
        if series.state not in JUDGED or not published:
            continue
        aged = age_s(thing_of(series)) > settings.days * age.DAY_S
        if aged or series.instances is not None:
            found.append(Deletable(kept, aged))
    return sorted(found, key=lambda d: (d.kept.series.last_at, d.kept.series.series_uid))


def empty(
    rows: Iterable[Kept], age_s: Callable[[str], float], settings: Retain, spool: Spool
) -> list[Series]:
    """The series that nobody judged, of which no image lies in the spool, and which are old."""
    return [
        one.series
        for one in rows
        if one.series.state not in JUDGED
        and one.owed == 0
        and age_s(thing_of(one.series)) > settings.days * age.DAY_S
        and not spool.instances(one.series.key)
    ]


def run_once(
    settings: Settings,
    *,
    disk: Disk = DISK,
    look: Callable[[], age.Look] = age.look,
    progress: Callable[[], object] = lambda: None,
) -> Outcome:
    """One look over the state folder: delete by age, then by space. `progress`: before each."""
    spool = Spool(settings.state, disk)
    now = look()
    days_s = settings.retain.days * age.DAY_S
    spool.clear_incoming(STALE_INCOMING_S)
    with Journal.open(settings.state, lambda: now.wall) as journal:
        rows = journal.kept()
        left_over = _left_over(settings.state, rows)
        things = (
            *(thing_of(r.series) for r in rows),
            *(p.name for p, _ in spool.quarantined()),
            *(p.name for p in left_over),
            *(p.name for p in outgoing.files(settings.state)),
            *entries.names(settings),
        )
        ledger = _ledger(settings.state, now, things, disk)
        candidates = deletable(rows, ledger.age_s, settings.retain)
        journal.purge(now.wall - days_s if ledger.steady_s() > days_s else float("-inf"))
        quarantined = _clean_quarantine(spool, ledger, settings.retain, disk)
        if not settings.web.names:
            for path in identities.kept(settings.state):
                disk.remove(path)
        for path in left_over:
            old = ledger.age_s(path.name) > days_s
            if old and journal.reports.series_of(path.stem) is None:  # it may just have come
                if path.parent.name == identities.FOLDER:
                    disk.remove(path)
                else:
                    shutil.rmtree(path, ignore_errors=True)
        for series in empty(rows, ledger.age_s, settings.retain, spool):
            journal.forget(series)  # not where an image came meanwhile: its row has changed
        count = 0
        for candidate in candidates:
            progress()
            if not candidate.aged and _enough(disk, settings):
                continue
            count += _delete(spool, journal, settings.state, candidate.kept)
        entries.clean(settings, journal, ledger, disk)
        dropped = outgoing.clean(settings, journal, ledger, disk)
    free = disk.free_mb(settings.state)
    short = free < settings.retain.target_free_mb
    if count or quarantined or short:
        LOG.info(
            "deleted %d series and %d quarantined files, %.0f MB free", count, quarantined, free
        )
    if dropped:
        LOG.warning("gave up %d objects that no archive took in time", dropped)
    if short:
        LOG.warning("less than retain.target_free_mb is free and nothing more may be deleted")
    return Outcome(count, quarantined, free, short)


def main(
    settings: Settings,
    ready: Callable[[], object] | None = None,
    *,
    every_s: float = EVERY_S,
) -> int:
    """Run until SIGTERM or SIGINT; `ready` is called before the first look."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with living(settings.state, "retain") as heart:
        if ready is not None:
            ready()
        while True:
            heart.beat(DELETE)
            try:
                run_once(settings, progress=heart.go_on)
            except ScansideError as e:
                LOG.error("%s", e.one_line())
            except Exception:
                LOG.exception("a look over the state folder failed")
            if _stopped(stop, every_s, heart):
                return 0


def _stopped(stop: threading.Event, within_s: float, heart: Heart) -> bool:
    """Whether it is to stop before the next look."""
    end = time.monotonic() + within_s
    while (left := end - time.monotonic()) > 0:
        heart.beat()
        if stop.wait(min(left, heart.sleep_s)):
            return True
    return stop.is_set()


def _enough(disk: Disk, settings: Settings) -> bool:
    return disk.free_mb(settings.state) >= settings.retain.target_free_mb


def _delete(spool: Spool, journal: Journal, state: Path, kept: Kept) -> bool:
    series = kept.series
    if not spool.delete(series.key, series.instances):
        LOG.info("series %s has instances that are not judged yet: kept", series.series_uid)
        return False
    _delete_kept(spool, state, kept)
    if kept.reports:  # without their rows nobody would ever delete masks that came back
        with contextlib.suppress(FileNotFoundError):
            spool.disk.settle(state / "reports")
    if not journal.forget(series):
        return False
    _delete_kept(spool, state, kept)  # `work` may just have filed one there (journal.tidy)
    return True


def _delete_kept(spool: Spool, state: Path, kept: Kept) -> None:
    """What lies beside the reports of a series."""
    for report_id in kept.reports:
        shutil.rmtree(state / "reports" / report_id, ignore_errors=True)
        identities.forget(state, report_id, spool.disk)


def _left_over(state: Path, rows: Iterable[Kept]) -> list[Path]:
    """The folders of reports, and the names beside them, that no series has."""
    known = {report_id for kept in rows for report_id in kept.reports}
    found = identities.kept(state)
    with contextlib.suppress(FileNotFoundError):
        found += sorted((state / "reports").iterdir())
    return [path for path in found if path.stem not in known]


def thing_of(series: Series) -> str:
    """A series as it is: any change makes it young again."""
    return f"{series.series_uid} {series.updated!r} {series.last_at!r}"


def _ledger(state: Path, now: age.Look, things: Iterable[str], disk: Disk) -> age.Ledger:
    """One look more; a ledger that cannot be written ages nothing and hinders no deletion."""
    path = state / age.LEDGER_NAME
    ledger = age.read(path).seen(now, things)
    try:
        disk.write(path, ledger.model_dump_json().encode())
    except StateUnusable as e:
        LOG.error("%s", e.one_line())
    return ledger


def _clean_quarantine(spool: Spool, ledger: age.Ledger, settings: Retain, disk: Disk) -> int:
    count = 0
    for path, _ in spool.quarantined():
        old = ledger.age_s(path.name) > settings.days * age.DAY_S
        if not old and disk.free_mb(path.parent) >= settings.target_free_mb:
            break
        disk.remove(path)
        count += 1
    return count
