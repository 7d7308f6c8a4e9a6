"""What a structured report says of earlier exams: which comparisons, and when it waits for one.

Rules
- The comparison of a report is made beside the composing. One that is under way is waited for, but
  never longer than WAIT_S since it was owed: then the report is composed without it.
- What comes later is owed as a further report (results/pacs). Nothing is composed of it where the
  last report that was told says just that already, or where it counts no more.
- A finding has the tracking UID of its first sighting, as its comparison with the newest earlier
  exam says. One of a pair that a reader called wrong has its own. No UID is given twice: what was
  carried from the report before gives way.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from appliance.comparison import KeptComparison
from appliance.compose.told import Told
from appliance.report import Finding, Report
from appliance.results.pacs import Ordered
from appliance.results.sr.beside import which
from appliance.results.sr.case import Beside
from appliance.store import kept
from appliance.store.journal import Journal
from appliance.store.journal.pairs import Pair

WAIT_S: Final = 10.0
LOOK_S: Final = 0.1


@dataclass(frozen=True, slots=True)
class Waiting:
    """How a comparison is waited for. clock: seconds since 1970."""

    clock: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep

    def wait(self, journal: Journal, ordered: Ordered) -> None:
        """Until the comparison of a final report is there, WAIT_S after it was owed at most,
        whatever the clock does."""
        if ordered.stage != "final" or ordered.comparison is not None:
            return
        for _ in range(round(WAIT_S / LOOK_S)):
            row = journal.comparisons.row(ordered.report_id)
            if row is None or row.state != "waiting" or self.clock() - row.since >= WAIT_S:
                return
            self.sleep(LOOK_S)


def standing(state: Path, journal: Journal, ordered: Ordered) -> tuple[Beside, ...]:
    """The comparisons of a final report that count, each as it is kept."""
    if ordered.stage != "final":
        return ()
    wrong = journal.pairs.wrong(ordered.report_id)
    found = []
    for one in journal.comparisons.standing(ordered.report_id):
        name = kept.compared_name(one.comparison_id)
        record = kept.kept_record(state, one.report_id, name, KeptComparison)
        prior = None if record is None else record.prior
        places = () if one.prior is None else tuple(
            place
            for place, f in enumerate(one.findings)
            if Pair(one.prior.report_id, f.finding, f.prior_finding) in wrong
        )  # fmt: skip
        found.append(Beside(kept=KeptComparison(comparison=one, prior=prior), wrong=places))
    return tuple(found)


def why_nothing(ordered: Ordered, besides: Sequence[Beside], last: Told | None) -> str | None:
    """Why no further report is composed; None: it is, or another one is ordered."""
    if ordered.comparison is None:
        return None
    if all(one.kept.comparison.comparison_id != ordered.comparison for one in besides):
        return "the comparison with an earlier exam counts no more"
    if last is not None and last.beside == tuple(besides):
        return "the report says the comparison with the earlier exam already"
    return None


def tracked(
    report: Report, carried: dict[int, str], besides: Sequence[Beside]
) -> tuple[Finding, ...]:
    """The findings of a report, each with the UID under which it is followed. carried: finding ->
    the UID that it had in the report before."""
    first: dict[int, str] = {}
    for one in besides:
        if which(one.kept.comparison) != "newest":
            continue
        for place, followed in enumerate(one.kept.comparison.findings):
            own = next((f.tracking_uid for f in report.findings if f.id == followed.finding), None)
            uid = own if place in one.wrong else followed.tracking_uid
            if followed.finding is not None and uid is not None:
                first[followed.finding] = uid
    taken = set(first.values())
    return tuple(
        f.model_copy(
            update={
                "tracking_uid": first.get(f.id)
                or (f.tracking_uid if carried.get(f.id) in {None, *taken} else carried[f.id])
            }
        )
        for f in report.findings
    )
