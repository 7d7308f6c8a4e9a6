"""The child of `work` that keeps entries of exams and compares them with earlier ones.

    python -m appliance.compare.child  < settings as JSON

    rows that wait -> entry (kept, durable) -> earlier exams of the person -> compared -> kept
        beside the report -> row done, comparison, messages: one transaction -> `publish` is woken

Rules
1. `work` starts it at the lowest priority and does not wait for it. It ends when nothing came for
   LINGER_S, or between two rows when it is OLD_S old; a commit rings its bell (bell.COMPARE).
2. A comparison is a function of two entries and the bundles: one that is made late, or again after
   a kill, has the same id and is not said twice.
3. Each step is durable before the next: the entry, the files beside the report, then the row. A
   kill between two of them makes the same again.
4. An earlier exam that comes late makes the exams after it wait again; so does one that is
   withdrawn. What is said then supersedes what was said before, as far as that is another thing.
5. An exam that raises is tried again at the next start, TRIES times in all; then that is said
   (`compare_failed`), and it is dead. One that ended the process itself counts too: its name stands
   in run/compare.hand. A state folder that fails counts as no try.
6. What is wrong about a person (`ALARMING`) is a row of the audit with the comparison, once.
7. What a person had forgotten while it was compared is not said: the next start begins anew.
8. No text of a header gets into a log: errors are told by their kind, and by their text only where
   it is ours.
"""

from __future__ import annotations

import logging
import select
import sys
import time
import uuid
from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import datetime, timezone
from typing import Final

from appliance.compare import beside
from appliance.compare.chosen import chosen, later
from appliance.compare.gather import Gatherer
from appliance.compare.kept import KeptExams
from appliance.compare.line import Line
from appliance.compare.ports import Comparing, Exams, Listed, Made, Making, Words
from appliance.comparison import Comparison, Which
from appliance.errors import StateUnusable, told
from appliance.host.memory import give_back
from appliance.naming import Naming
from appliance.prior.entry import Entry
from appliance.prior.patient import NotKept
from appliance.reasons import Code
from appliance.report import Report, Stage, Status
from appliance.results import destinations
from appliance.results.owed import Owed
from appliance.runtime import as_child
from appliance.runtime.comparing import CompareBundles
from appliance.settings import Settings
from appliance.store import bell
from appliance.store.files import DISK, Disk
from appliance.store.in_hand import Hand
from appliance.store.journal import Journal
from appliance.store.journal.comparisons import ALARMING
from appliance.store.journal.pairs import Pair
from appliance.store.lock import alone
from appliance.store.priors import Priors
from appliance.store.rows import ToCompare
from appliance.store.site_key import fingerprint, site_key
from appliance.store.spool import Spool

log = logging.getLogger("scanside.compare")

TRIES: Final = 3
LINGER_S: Final = 60.0
OLD_S: Final = 900.0
UNNOTED_S: Final = 86400.0
UNREADABLE: Final = "what is kept of earlier exams of this person cannot be read"
NO_PRIOR: Final = "no earlier exam of this person is kept"
PASSING: Final = frozenset({"supersedes", "appliance", "committed"})
"""Fields in which a comparison that is made again may differ and is the same."""


class Comparer:
    """All rows that wait."""

    def __init__(
        self,
        settings: Settings,
        journal: Journal,
        exams: Exams,
        making: Making,
        comparing: Comparing,
        naming: Naming,
        disk: Disk = DISK,
    ) -> None:
        self._state = settings.state
        self._journal = journal
        self._exams = exams
        self._making = making
        self._comparing = comparing
        self._naming = naming
        self._disk = disk
        self._hand = Hand(settings.state, "compare")
        self._to = destinations.of(settings.deliver)
        self._tried: set[str] = set()

    def recover(self) -> None:
        """What ended the process before counts as tried (rule 5)."""
        if (last := self._hand.last()) is not None:
            row = self._journal.comparisons.row(last)
            if row is not None and row.state == "waiting":
                self._failed(row, "comparing ended its process")
            self._hand.clear()

    def run(self, until: Callable[[], bool] = lambda: False) -> int:
        """Do all that waits and was not tried; how many comparisons were said. `until` is asked
        between two rows."""
        count = 0
        while not until() and (row := self._next()) is not None:
            if row.state == "withdrawn":
                self._exams.remove(uuid.UUID(row.report_id))
                self._journal.comparisons.withdrawn(row.report_id)
                continue
            try:
                with self._hand.holding(row.report_id):
                    count += self._one(row)
            except StateUnusable:
                raise
            except Exception as e:  # noqa: BLE001 - whatever it is, the next exam goes on
                self._tried.add(row.report_id)
                count += self._failed(row, told(e))
        return count

    def _next(self) -> ToCompare | None:
        rows = self._journal.comparisons.to_do()
        return next((row for row in rows if row.report_id not in self._tried), None)

    def _one(self, row: ToCompare) -> int:
        """One exam: its entry, and what it is compared with."""
        report = self._journal.reports.get(row.report_id)
        if report is None or (report.status, report.stage) != (Status.ANALYSED, Stage.FINAL):
            self._tried.add(row.report_id)  # it was withdrawn in this very moment
            return 0
        entry = self._entry(row, report)
        if row.prior_only:
            return self._end(row, [])
        if isinstance(entry, NotKept):
            why = Code.NO_PATIENT_ID
            said = self._comparing.nothing(why, entry.text, None, self._words(report))
            return self._end(row, [said])
        kept = self._exams.of_person(entry.facts.person.key)
        made = []
        for one in chosen(_listed(entry), kept.listed):
            prior = self._exams.of_report(one.exam.report_id)
            if prior is None:
                self._tried.add(row.report_id)  # it went in this very moment
                return 0
            words = self._words(report, one.which, one.exam.report_id)
            made.append(self._comparing.pair(prior, entry, words))
        if not made:
            why = Code.PRIOR_UNREADABLE if kept.unreadable else Code.NO_PRIOR
            text = UNREADABLE if kept.unreadable else NO_PRIOR
            made = [self._comparing.nothing(why, text, entry, self._words(report))]
        return self._end(row, made, used=[entry, *(m.prior for m in made if m.prior is not None)])

    def _entry(self, row: ToCompare, report: Report) -> Entry | NotKept:
        """What is kept of the exam, or kept now; and the exams after it are compared anew."""
        if self._journal.comparisons.of_report(report.report_id):  # its images may be gone
            known = self._exams.of_report(report.report_id)
            if known is not None:
                return known
        made = self._making(row, report)
        if isinstance(made, NotKept):
            log.info("nothing is kept of report %s: %s", row.report_id, made.code)
            return made
        self._exams.keep(made)
        after = later(_listed(made), self._exams.of_person(made.facts.person.key).listed)
        again = self._journal.comparisons.again(str(one.report_id) for one in after)
        if again:
            log.info("%d later exams are compared with report %s too", again, row.report_id)
        return made

    def _end(
        self,
        row: ToCompare,
        made: Sequence[Made],
        *,
        used: Sequence[Entry] = (),
        dead: str | None = None,
    ) -> int:
        """Keep, supersede, owe and end the row; how many comparisons are said. used: the entries
        that it was made of, which must still be kept (rule 7)."""
        report_id = uuid.UUID(row.report_id)
        report = self._journal.reports.get(row.report_id)
        before = {c.comparison_id: c for c in self._journal.comparisons.standing(report_id)}
        now = {one.comparison.comparison_id for one in made}
        gone = [] if row.prior_only else [uid for uid in before if uid not in now]
        said: list[Made] = []
        for one in made:
            if not _is_said(one.comparison, before):
                first = gone[min(len(said), len(gone) - 1)] if gone else None
                comparison = one.comparison.model_copy(update={"supersedes": first})
                said.append(Made(comparison, one.prior, one.cubes))
        with self._exams.held():
            if not all(self._exams.holds(one) for one in used):
                self._tried.add(row.report_id)
                return 0
            for (
                one
            ) in said:  # under the lock: nothing may be written of whom `forget` was done with
                beside.keep(self._state, one, self._disk)
            ended = self._journal.comparisons.commit(
                report_id,
                [one.comparison for one in said],
                superseded=gone,
                owed=self._owed(row, said, gone, 1 if report is None else report.edition),
                audited=[_alarm(c) for one in said if _alarms(c := one.comparison)],
                dead=dead,
            )
        if ended and said:
            bell.ring(self._state, "publish")
        return len(said) if ended else 0

    def _owed(
        self, row: ToCompare, said: Sequence[Made], gone: Sequence[uuid.UUID], edition: int
    ) -> Iterator[Owed]:
        """What everybody is owed of what is said; the first message names all that counts no more.
        It is made within the transaction, so it looks into no journal."""
        for number, one in enumerate(said):
            yield from destinations.of_comparison(
                one.comparison,
                row.key,
                withdrawn=gone if number == 0 else (),
                naming=self._naming,
                at=one.comparison.committed or datetime.now(timezone.utc),
                edition=edition,
                to=self._to,
            )

    def _words(
        self,
        report: Report,
        which: tuple[Which, ...] = (),
        prior: uuid.UUID | None = None,
    ) -> Words:
        tracked: dict[int, str | None] = {}
        if prior is not None:
            tracked = tracked_by(
                self._journal.comparisons.standing(prior), self._journal.pairs.wrong(prior)
            )
        return Words(report, which, tracked, datetime.now(timezone.utc))

    def _failed(self, row: ToCompare, why: str) -> int:
        """A try that failed; after the last one that is said, unless something stands already: not
        what was said beside an exam of which nothing is kept any more, as of a withdrawn one."""
        times = self._journal.comparisons.failed(row.report_id, why)
        log.warning("report %s, try %d: %s", row.report_id, times, why)
        if times < TRIES:
            return 0
        report = self._journal.reports.get(row.report_id)
        stands = [
            one
            for one in self._journal.comparisons.standing(row.report_id)
            if one.prior is None or self._exams.of_report(one.prior.report_id) is not None
        ]
        if report is None or row.prior_only or stands:
            made = [Made(one) for one in stands]
        else:
            text = f"the comparison failed {times} times"
            words = self._words(report)
            made = [self._comparing.nothing(Code.COMPARE_FAILED, text, None, words)]
        return self._end(row, made, dead=why)


def tracked_by(
    comparisons: Sequence[Comparison], wrong: Collection[Pair] = ()
) -> dict[int, str | None]:
    """Finding of a report -> tracking UID of its first sighting, as its comparison with the newest
    earlier exam says; None where a reader called that pair wrong."""
    for one in comparisons:
        if one.prior is not None and "newest" in one.prior.which:
            earlier = one.prior.report_id
            return {
                f.finding: None
                if Pair(earlier, f.finding, f.prior_finding) in wrong
                else f.tracking_uid
                for f in one.findings
                if f.finding is not None
            }
    return {}


def _listed(entry: Entry) -> Listed:
    return Listed(entry.report.report_id, entry.facts, entry.digest)


def _is_said(made: Comparison, before: dict[uuid.UUID, Comparison]) -> bool:
    """Whether just this was said and still counts."""
    known = before.get(made.comparison_id)
    both = [None if c is None else c.model_dump(exclude=set(PASSING)) for c in (made, known)]
    return both[0] == both[1]


def _alarms(comparison: Comparison) -> bool:
    return any(reason.code in ALARMING for reason in comparison.reasons)


def _alarm(comparison: Comparison) -> tuple[str, dict[str, object]]:
    """Action and detail of the audit's row: ids of reports, and nothing of the patient."""
    code = next(r.code for r in comparison.reasons if r.code in ALARMING)
    prior = comparison.prior.report_id if comparison.prior else "-"
    detail: dict[str, object] = {
        "comparison": str(comparison.comparison_id),
        "report": str(comparison.report_id),
        "prior": str(prior),
    }
    return code.value, detail


def note_unnoted(journal: Journal, follows: Callable[[str], bool]) -> int:
    """Reports that stand and that nobody noted (Journal.uncompared) are noted; how many. Those of
    more than UNNOTED_S ago only give entries for later exams, and nothing is said of them.

    follows: whether the bundle of this digest finds what can be followed.
    """
    now, rows = datetime.now(timezone.utc), []
    for key, report in journal.uncompared():
        if report.bundle is None or not follows(report.bundle.digest):
            continue
        at = report.times.committed
        old = at is None or (now - at).total_seconds() > UNNOTED_S
        digest = report.bundle.digest
        rows.append(ToCompare(str(report.report_id), key.study, key.series, digest, old))
    journal.comparisons.note(rows)
    return len(rows)


def built(settings: Settings, journal: Journal) -> Comparer:
    """With the bundles, the entries and the images of this device."""
    key = site_key(settings.state)
    naming, bundles = Naming(key), CompareBundles(settings)
    note_unnoted(journal, bundles.follows)
    bundles.warm()
    exams = KeptExams(Priors(settings.state), fingerprint(key), journal)
    making = Gatherer(settings, Spool(settings.state), naming, bundles.manifest)
    return Comparer(settings, journal, exams, making, Line(bundles, naming), naming)


def _compared(settings: Settings) -> str:
    """Until nothing came for a while, or it is old."""
    began, count = time.monotonic(), 0

    def old() -> bool:
        return time.monotonic() - began > OLD_S

    with (
        alone(settings.state, bell.COMPARE),
        Journal.awaited(settings.state) as journal,
        bell.hearing(settings.state, bell.COMPARE) as rung,
    ):
        comparer = built(settings, journal)
        comparer.recover()
        while True:
            count += comparer.run(old)
            give_back()  # it may wait long, and lies beside the line
            if old() or not select.select([rung], [], [], LINGER_S)[0]:
                break
            bell.take(rung)
    return f"said {count} comparisons"


def main() -> int:
    """0 when nothing came for a while; 1 where the state folder does not let it."""
    return as_child.run(log, _compared)


if __name__ == "__main__":
    sys.exit(main())
