"""What is said of a series: events, results and reports, into the journal and the outbox.

    Followed -> result (inferred once) -> report, masks, messages and state: one transaction

Rules
- The same input is inferred once: what went out as `preliminary` is committed again as `final`.
- The same input never makes a new revision; other input supersedes what was said before.
- A series whose Series Instance UID another study has too is kept apart from it, and says so.
- Only what is analysed and final withdraws the report of another series of the study; each such
  report is withdrawn once, by the first better series.
- Nothing preliminary is said of an organ that reaches the end of the images: more may come. What
  has no such end, its kind says (Kind.ends_inside).
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, replace
from datetime import datetime, timezone

from appliance import line
from appliance.host import facts
from appliance.lines import choose
from appliance.lines.fold import Share
from appliance.lines.kind import Context
from appliance.naming import Naming
from appliance.reasons import SET_ASIDE
from appliance.records import Identity, Result
from appliance.report import Reason, Report, Stage, Status, Times
from appliance.results import destinations
from appliance.results.owed import SeriesEvent
from appliance.series import select
from appliance.settings import Settings
from appliance.store.bell import ring
from appliance.store.journal import Journal
from appliance.store.kept import keep
from appliance.store.rows import SeriesState
from appliance.store.site_key import register, site_key
from appliance.store.spool import Spool
from appliance.work import discarded, rivals
from appliance.work.followed import Followed

log = logging.getLogger("scanside.work")


@dataclass(frozen=True)
class Concluded:
    """A result and how it is to be committed."""

    result: Result
    preliminary: bool = False
    inferred_at: float | None = None
    withdraws: tuple[str, ...] = ()
    """Ids of the reports of other series that this one replaces."""


class Conclusions:
    """The journal's side of `work`."""

    def __init__(self, settings: Settings, journal: Journal, spool: Spool) -> None:
        self.settings = settings
        self.journal = journal
        self.spool = spool
        key = site_key(settings.state)
        register(journal, key, "work")
        self._naming = Naming(key)

    def owe_event(self, event: SeriesEvent, followed: Followed, slices: int) -> None:
        """`received` or `complete`."""
        at, naming, key = datetime.now(timezone.utc), self._naming, followed.key
        owed = destinations.of_event(event, key, naming=naming, slices=slices, at=at)
        self.journal.announce(key, owed, pseudonym=naming.study(key.study))
        self._wake()

    def preliminary(self, followed: Followed, digest: str | None) -> None:
        """What can be said before the verdict: only it refuses, and it knows the lungs' ends."""
        concluded = self._concluded(followed, digest)
        result = concluded.result
        if result.status is Status.ANALYSED and followed.ends_inside(digest, result) is not False:
            self.commit(followed, digest, replace(concluded, preliminary=True, withdraws=()))

    def final(
        self, followed: Followed, digest: str | None, limitations: tuple[Reason, ...]
    ) -> None:
        """What is said with the verdict, whose limitations are added."""
        concluded = self._concluded(followed, digest)
        result = concluded.result
        if result.status is Status.ANALYSED:
            result = replace(result, limitations=(*limitations, *result.limitations))
        self.commit(followed, digest, replace(concluded, result=result))

    def is_final(self, followed: Followed, share: Share) -> bool:
        """Whether the last word on just these images, for this bundle, has been said."""
        last = self.journal.reports.latest(followed.key, share.key)
        return last is not None and last.stage is Stage.FINAL and last.input_digest == share.digest

    def _concluded(self, followed: Followed, digest: str | None) -> Concluded:
        """The result of what is here; inferred again only if something came since."""
        opened = followed.opened[digest]
        fold = followed.fold or line.begin(())
        share = fold.share(opened.bundle if opened else None)
        reasons = followed.refused
        withdraws: tuple[str, ...] = ()
        mine = choose.summary(fold.header, share.outline)
        if opened is not None and mine is not None:
            reasons, withdraws = rivals.judged(self.journal, self.spool, followed.key, opened, mine)
        kept = followed.results.get(digest)
        if not reasons and kept is not None and kept[0].input_digest == share.digest:
            return Concluded(kept[0], inferred_at=kept[1], withdraws=withdraws)
        context = Context(reasons=reasons, memory_bytes=followed.memory_bytes)
        if opened is None:
            result = line.finish(fold, None, None, context)
        else:
            result = opened.finish(fold, context)
        if result.status is not Status.ANALYSED:
            return Concluded(result)
        followed.results[digest] = result, time.time()
        return Concluded(result, inferred_at=time.time(), withdraws=withdraws)

    def commit(self, followed: Followed, digest: str | None, concluded: Concluded) -> None:
        """Report, messages and state of the series, together. A replay changes nothing."""
        facts = replace(
            concluded.result.facts, study_uid=followed.key.study, series_uid=followed.uid
        )  # where no image had a readable header, the spool still knows whose they are
        limitations = concluded.result.limitations
        if self.journal.series.is_reused(followed.key):
            limitations = (select.reused_uid(), *limitations)
        result = replace(concluded.result, facts=facts, limitations=limitations)
        previous = self.journal.reports.latest(followed.key, digest)
        known = previous is not None and previous.input_digest == result.input_digest
        state: SeriesState = "open" if concluded.preliminary else _state(result)
        instances = None if concluded.preliminary else len(followed.seen)
        if (
            previous is not None
            and known
            and (concluded.preliminary or previous.stage is Stage.FINAL)
        ):
            if instances is not None:
                self.journal.series.set(followed.key, state, instances=instances)
            return
        withdrawn = list(concluded.withdraws)
        if previous is not None and (own := previous.supersedes if known else previous.report_id):
            withdrawn.insert(0, str(own))
        if not concluded.preliminary:
            withdrawn += discarded.left_over(self.journal, followed.key, followed.opened)
        report = self._sealed(followed, digest, replace(concluded, result=result), withdrawn)
        if not known:
            keep(self.settings.state, report, result, sorted(followed.seen))
        at = report.times.committed or datetime.now(timezone.utc)
        self.journal.commit_report(
            report,
            followed.key,
            owed=destinations.of_report(
                report,
                followed.key,
                naming=self._naming,
                withdraws=withdrawn[1:],
                at=at,
                completes=previous if known else None,
            ),
            series_state=state,
            instances=instances,
        )
        self._wake()
        log.info(
            "series %s: %s %s, %d findings",
            followed.uid, report.stage.value, report.status.value, len(report.findings),
        )  # fmt: skip

    def _wake(self) -> None:
        """The stages that deliver: something is owed."""
        for stage in sorted({one.stage for one in destinations.DESTINATIONS}):
            ring(self.settings.state, stage)

    def _sealed(
        self, followed: Followed, digest: str | None, concluded: Concluded, withdrawn: list[str]
    ) -> Report:
        released = [a.association.ended for a in self.journal.series.arrivals(followed.key)]
        now, input_digest = time.time(), concluded.result.input_digest
        return line.seal(
            concluded.result,
            Identity(
                naming=self._naming,
                publish_uids=self.settings.site.publish_uids,
                revision=self.journal.reports.next_revision(followed.key, digest, input_digest),
                supersedes=withdrawn[0] if withdrawn else None,
                preliminary=concluded.preliminary,
                appliance=facts.version(),
                before=self.journal.reports.of_input(followed.key, digest, input_digest),
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


def _state(result: Result) -> SeriesState:
    if result.status is Status.ANALYSED:
        return "analysed"
    if result.status is Status.FAILED:
        return "failed"
    return "set_aside" if result.reasons[0].code in SET_ASIDE else "refused"


def _utc(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, timezone.utc)
