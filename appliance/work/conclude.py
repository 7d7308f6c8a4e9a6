"""What is said of a series: events, results and reports, into the journal and the outbox.

    Followed -> result (inferred once) -> report, masks, messages and state: one transaction

Rules
- The same input is inferred once: what went out as `preliminary` is committed again as `final`.
- The same input never makes a new revision; other input supersedes what was said before.
- A series whose Series Instance UID another study has too is kept apart from it, and says so.
- Each final report is judged with those of the other series of its study (`rivals`): what becomes
  of them is committed with it. Nothing preliminary is said of a series in whose place another
  stands.
- The in-room check (quality/verdict.py) is committed with its report and owed after it. It is of
  the images, whether or not another series stands in their place.
- What was measured of a series (quality/summary.py) is kept beside its report, and sent nowhere.
  After a preliminary report is committed, for should the process end between the two, the series is
  still open and is concluded again; before a final one, unless it is there already.
- Of a water phantom figures are measured, kept and owed with the report that sets it aside
  (`phantoms`).
- A final report that stands is to be compared with earlier exams, and one that stands no more is
  not (`earlier`): noted in the same transaction. An earlier exam that was pushed is owed nothing.
- Nothing preliminary is said of an organ that reaches the end of the images: more may come. What
  has no such end, its kind says (Kind.ends_inside).
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path

from appliance import line
from appliance.dicom import policy
from appliance.errors import ScansideError
from appliance.host import facts
from appliance.lines import choose
from appliance.lines.followed import follows
from appliance.lines.kind import Context
from appliance.naming import Naming
from appliance.quality import summary, verdict
from appliance.reasons import SET_ASIDE
from appliance.records import Identity, Result
from appliance.report import Reason, Report, SeriesKey, Stage, Status, Times
from appliance.results import destinations
from appliance.results.owed import Owed, SeriesEvent
from appliance.room.check import RoomCheck
from appliance.series import select
from appliance.series.standing import SeriesSummary, Standing
from appliance.settings import Settings
from appliance.store import tunings
from appliance.store.bell import COMPARE, ring
from appliance.store.journal import Journal
from appliance.store.kept import QUALITY, ROOM, keep, keep_record, kept_record
from appliance.store.rows import SeriesState, ToCompare
from appliance.store.site_key import register, site_key
from appliance.store.spool import Spool
from appliance.watching.qa import QaRecord
from appliance.watching.quality import SeriesQuality
from appliance.watching.tuning import Tuning
from appliance.work import discarded, earlier, identifying, late, phantoms
from appliance.work.followed import Followed
from appliance.work.rivals import Judged, Rivals, as_analysed, of_others

log = logging.getLogger("scanside.work")

SET_ASIDE_S = 600.0
"""So long after its last image a study of which all was set aside is told to archives."""


@dataclass(frozen=True)
class Concluded:
    """A result and how it is to be committed."""

    result: Result
    preliminary: bool = False
    inferred_at: float | None = None
    summary: SeriesSummary | None = None
    """For the choice between the series of the study; None where it was not analysed."""


class Conclusions:
    """The journal's side of `work`."""

    def __init__(self, settings: Settings, journal: Journal, spool: Spool) -> None:
        self.settings = settings
        self.journal = journal
        self.spool = spool
        key = site_key(settings.state)
        register(journal, key, "work")
        self._naming = Naming(key)
        self._destinations = destinations.of(settings.deliver)

    def owe_event(self, event: SeriesEvent, followed: Followed, slices: int) -> None:
        """`received` or `complete`."""
        if followed.silent:
            return
        at, naming, key = datetime.now(timezone.utc), self._naming, followed.key
        owed = destinations.of_event(
            event, key, naming=naming, slices=slices, at=at, to=self._destinations
        )
        self.journal.announce(key, owed, pseudonym=naming.study(key.study))
        self._wake()

    def preliminary(self, followed: Followed, digest: str | None) -> None:
        """What can be said before the verdict: only it refuses, and it knows the lungs' ends."""
        concluded = self._concluded(followed, digest)
        result = concluded.result
        if result.status is Status.ANALYSED and followed.ends_inside(digest, result) is not False:
            self.commit(followed, digest, replace(concluded, preliminary=True))

    def final(
        self, followed: Followed, digest: str | None, limitations: tuple[Reason, ...]
    ) -> None:
        """What is said with the verdict, whose limitations are added."""
        concluded = self._concluded(followed, digest)
        result = concluded.result
        if result.status is Status.ANALYSED:
            result = replace(result, limitations=(*limitations, *result.limitations))
        self.commit(followed, digest, replace(concluded, result=result))
        followed.concluded.add(digest)

    def _concluded(self, followed: Followed, digest: str | None) -> Concluded:
        """The result of what is here; inferred again only if something came since."""
        opened = followed.opened[digest]
        fold = followed.fold or line.begin(())
        share = fold.share(opened.bundle if opened else None)
        kept = followed.results.get(digest)
        if kept is not None and kept[0].input_digest == share.digest:
            result = line.renewed(kept[0], fold, opened.bundle if opened else None)
            summary = choose.summary(share.outline, result)
            return Concluded(result, inferred_at=kept[1], summary=summary)
        context = Context(
            reasons=followed.refused,
            memory_bytes=followed.memory_bytes,
            tunings=_tunings(self.settings.state),
        )
        if opened is None:
            result = line.finish(fold, None, None, context)
        else:
            result = opened.finish(fold, context)
        if result.status is not Status.ANALYSED:
            return Concluded(result)
        followed.results[digest] = result, time.time()
        summary = choose.summary(share.outline, result)
        return Concluded(result, inferred_at=time.time(), summary=summary)

    def outranked(self, followed: Followed) -> bool:
        """Whether for each bundle another series ranks better, so that this one is likely to be
        analysed for nothing."""
        return all(self._outranked(followed, digest) for digest in followed.opened)

    def _outranked(self, followed: Followed, digest: str | None) -> bool:
        opened, fold = followed.opened[digest], followed.fold
        if opened is None or digest is None or fold is None:
            return False
        mine = choose.summary(fold.share(opened.bundle).outline)
        others = self._rivals(followed, digest)
        return mine is not None and others.outrank(mine, opened.manifest.accepts)

    def _rivals(self, followed: Followed, digest: str) -> Rivals:
        return Rivals(self.journal, self.spool, self.settings.state, followed.key, digest)

    def commit(self, followed: Followed, digest: str | None, concluded: Concluded) -> None:
        """Report, messages and state of the series, together, and what changes for the other series
        of its study. A replay changes nothing."""
        facts = replace(
            concluded.result.facts, study_uid=followed.key.study, series_uid=followed.uid
        )  # where no image had a readable header, the spool still knows whose they are
        limitations = concluded.result.limitations
        if self.journal.series.is_reused(followed.key):
            limitations = (select.reused_uid(), *limitations)
        result = replace(concluded.result, facts=facts, limitations=limitations)
        concluded = replace(concluded, result=result)
        previous = self.journal.reports.latest(followed.key, digest)
        if previous is not None and previous.input_digest != concluded.result.input_digest:
            known, before = None, previous
        else:
            known, before = previous, None
        if known and concluded.preliminary:
            return
        judged = self._judged(followed, digest, concluded, before)
        if concluded.preliminary and judged.what.by is not None:
            return
        own = known.supersedes if known else before.report_id if before else None
        supersedes = own or next(iter(judged.replaced), None)
        analysed = self._sealed(followed, digest, concluded, supersedes)
        report = self._said(analysed, known, concluded, judged.what)
        instances = None if concluded.preliminary else len(followed.seen)
        if known and self.journal.comparisons.sent_again(known.report_id):
            ring(self.settings.state, COMPARE)
        if report is known and known.status is not Status.FAILED:
            late.note(self.journal, followed, digest, as_analysed(self.settings.state, known))
        if report is known and not judged.changes:
            self.journal.series.set(followed.key, _state(report), instances=instances)
            self._identify(followed.key, report)
            return
        if not known or report.edition > known.edition:
            keep(self.settings.state, report, concluded.result, sorted(followed.seen))
        if not concluded.preliminary:
            judged.keep(self.settings.state, concluded.summary, analysed)
            self._keep_quality(report, result)
        check = verdict.check(concluded.result)
        self._keep_check(report, check)
        of_phantom = phantoms.measured(followed, digest, report, self.settings, self._naming)
        at = report.times.committed or datetime.now(timezone.utc)
        owed = (
            *judged.owed(
                report, naming=self._naming, at=at, completes=known, to=self._destinations
            ),
            *self._owed_of(check, report, followed.key, at),
            *self._owed_of_phantom(of_phantom, followed.key, at),
        )
        self.journal.commit_report(
            report,
            followed.key,
            owed=() if followed.silent else owed,
            series_state="open" if concluded.preliminary else _state(report),
            instances=instances,
            restated=[(key, c.after, _state(c.after)) for key, c in judged.changes.items()],
            compares=self._compares(followed, digest, report, judged),
            withdrawn=_withdrawn(report, judged),
            silent=followed.silent,
        )
        self._wake()
        if concluded.preliminary:
            self._keep_quality(report, result)
        self._identify(followed.key, report)
        log.info(
            "series %s: %s %s, %d findings",
            followed.uid, report.stage.value, report.status.value, len(report.findings),
        )  # fmt: skip

    def _compares(
        self, followed: Followed, digest: str | None, report: Report, judged: Judged
    ) -> Iterator[ToCompare]:
        """The reports that are to be compared with earlier exams from now on."""
        opened = followed.opened.get(digest)
        if self.settings.priors.keep and opened is not None and follows(opened.manifest):
            again = [(key, c.after) for key, c in judged.changes.items() if c.by is None]
            yield from earlier.to_compare(
                [(followed.key, report), *again], prior_only=followed.silent
            )

    def is_silent(self, key: SeriesKey) -> bool:
        """Whether nothing is said of its study; what it is owed where it is an exam after all."""
        silent = earlier.is_silent(self.settings, self.journal, key.study)
        if not silent and policy.any_priors(self.settings):
            to = self._destinations
            if earlier.say_after_all(self.settings, self.journal, key.study, self._naming, to):
                self._wake()
        return silent

    def _keep_check(self, report: Report, check: RoomCheck | None) -> None:
        """The in-room check lies beside the report; one that is there already is not written
        again."""
        state, uid = self.settings.state, report.report_id
        if check is not None and kept_record(state, uid, ROOM, RoomCheck) != check:
            keep_record(state, uid, ROOM, check)

    def _keep_quality(self, report: Report, result: Result) -> None:
        """What was measured lies beside the report; what is there already is not written again."""
        state, uid = self.settings.state, report.report_id
        found = summary.of_series(result, self._naming)
        if found is not None and kept_record(state, uid, QUALITY, SeriesQuality) != found:
            keep_record(state, uid, QUALITY, found)

    def _owed_of(
        self, check: RoomCheck | None, report: Report, key: SeriesKey, at: datetime
    ) -> Iterator[Owed]:
        """What is owed of a check: after the findings, and never in their way."""
        if check is not None:
            yield from destinations.of_check(
                check, report, key, naming=self._naming, at=at, to=self._destinations
            )

    def _owed_of_phantom(
        self, record: QaRecord | None, key: SeriesKey, at: datetime
    ) -> Iterator[Owed]:
        if record is not None:
            yield from destinations.of_qa(
                record, key, naming=self._naming, at=at, to=self._destinations
            )

    def _identify(self, key: SeriesKey, report: Report) -> None:
        """Who the patient is, for the page of the room, once the report is on its way."""
        if self.settings.web.names:
            identifying.identify(self.settings.state, self.spool, key, report.report_id)

    def _judged(
        self, followed: Followed, digest: str | None, concluded: Concluded, before: Report | None
    ) -> Judged:
        """What becomes of the series, of the others of its study, and of its reports `before`."""
        key, opened = followed.key, followed.opened.get(digest)
        # what is said no more was withdrawn then
        gone = (before,) if before is not None and before.status is Status.ANALYSED else ()
        if not concluded.preliminary:
            gone = (*gone, *discarded.left_over(self.journal, key, followed.opened))
        if opened is None or digest is None:
            return Judged(key, own=gone)
        others = self._rivals(followed, digest)
        found = others.standing(concluded.summary, opened.manifest.accepts)
        changes = {} if concluded.preliminary else others.changes(found, self._named)
        return Judged(key, found.get(key, Standing()), changes, gone)

    def _said(
        self, analysed: Report, known: Report | None, concluded: Concluded, what: Standing
    ) -> Report:
        """The report of a series; `known` itself where that was final and nothing new is said."""
        report = analysed
        if concluded.summary is not None:
            report = choose.restated(analysed, what, self._named)
        if known is None or known.stage is not Stage.FINAL:
            return report
        if not _differs(known, report):
            return known
        return report.model_copy(update={"edition": known.edition + 1})

    def _named(self, key: SeriesKey) -> str:
        return str(self._naming.series(key))

    def owe_of_set_aside(self) -> None:
        """What archives are owed of studies of which nothing was analysed (SET_ASIDE_S)."""
        before = time.time() - SET_ASIDE_S
        for one in destinations.archives(self._destinations):
            for key, report in self.journal.unsaid(one.name, before):
                self.journal.owed.add(one.of_study_set_aside(report, key, naming=self._naming))

    def _wake(self) -> None:
        """The stages that deliver: something is owed."""
        for stage in sorted({one.stage for one in self._destinations}):
            ring(self.settings.state, stage)
        ring(self.settings.state, COMPARE)

    def _sealed(
        self,
        followed: Followed,
        digest: str | None,
        concluded: Concluded,
        supersedes: uuid.UUID | None,
    ) -> Report:
        released = [a.association.ended for a in self.journal.series.arrivals(followed.key)]
        now, input_digest = time.time(), concluded.result.input_digest
        known = self.journal.reports.of_input(followed.key, digest, input_digest)
        return line.seal(
            concluded.result,
            Identity(
                naming=self._naming,
                publish_uids=self.settings.site.publish_uids,
                revision=self.journal.reports.next_revision(followed.key, digest, input_digest),
                supersedes=str(supersedes) if supersedes else None,
                preliminary=concluded.preliminary,
                appliance=facts.version(),
                before=as_analysed(self.settings.state, known) if known else None,
            ),
            Times(
                first_slice=_utc(followed.first_at or None),
                last_slice=_utc(followed.last_at or None),
                released=_utc(max((at for at in released if at is not None), default=None)),
                complete=None if concluded.preliminary else _utc(now),
                prepared=_utc(followed.prepared_at or None),
                inferred=_utc(concluded.inferred_at),
                committed=_utc(now),
            ),
        )


def _withdrawn(report: Report, judged: Judged) -> list[uuid.UUID]:
    """The reports that stand no more once this one is committed."""
    gone = [one.report_id for one in judged.withdrawn]
    return gone if report.status is Status.ANALYSED else [*gone, report.report_id]


def _differs(before: Report, now: Report) -> bool:
    """Whether the same images, judged again, say something else of other series."""
    both = of_others(before), of_others(now)
    return None not in both and both[0] != both[1]


def _tunings(state: Path) -> tuple[Tuning, ...]:
    """Those in force. Nobody waits for a file that is damaged: a report says what it was made
    with."""
    try:
        return tunings.in_force(state)
    except ScansideError as e:
        log.error("no tuning is in force: %s", e.one_line())
        return ()


def _state(said: Result | Report) -> SeriesState:
    if said.status is Status.ANALYSED:
        return "analysed"
    if said.status is Status.FAILED:
        return "failed"
    return "set_aside" if said.reasons[0].code in SET_ASIDE else "refused"


def _utc(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, timezone.utc)
