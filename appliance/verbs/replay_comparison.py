"""`scanside replay COMPARISON_ID`: recompute a comparison from the entries of both exams.

The same entries, the same bundles, this machine's backend: the comparison must be equal, apart from
when it was made, by which release, and what it superseded. The images are not needed, for nothing
but the entries goes into it; so this works for as long as they are kept.
"""

from __future__ import annotations

import uuid

from appliance.compare import beside
from appliance.compare.child import tracked_by
from appliance.compare.kept import of_report
from appliance.compare.line import Line
from appliance.compare.ports import Words
from appliance.comparison import Comparison
from appliance.errors import ScansideError
from appliance.naming import Naming
from appliance.prior.entry import Entry
from appliance.report import Report
from appliance.runtime.comparing import CompareBundles
from appliance.settings import Settings
from appliance.store.journal import Journal
from appliance.store.priors import Priors
from appliance.store.site_key import site_key


def past(settings: Settings, comparison_id: str) -> Comparison | None:
    """The comparison as it was published; None where there is none of this id."""
    if (journal := Journal.read(settings.state)) is None:
        return None
    with journal:
        return journal.comparisons.get(comparison_id)


def replay(settings: Settings, past: Comparison) -> Comparison:
    """The comparison as it is computed now. ScansideError where an entry, the report or a bundle is
    not on this device any more, and where nothing was compared with anything."""
    if past.prior is None:
        raise ScansideError(
            f"comparison {past.comparison_id} is of one exam alone: there is nothing to recompute",
            code="nothing_to_replay",
            remedy="Only what was compared with an earlier exam can be replayed.",
        )
    report, tracked = _journalled(settings, past)
    prior = _entry(settings, past.prior.report_id)
    current = _entry(settings, past.report_id)
    known = beside.read(settings.state, past.report_id, past.comparison_id)
    if known is not None and known.entry_digest != prior.digest:
        raise _gone("the entry of the earlier exam is another one now")
    bundles = CompareBundles(settings)
    try:
        line = Line(
            bundles,
            Naming(site_key(settings.state)),
            measured_by=past.measured_by.digest if past.measured_by else None,
            registered_by=past.bundle.digest if past.bundle else None,
            as_before=True,
        )
        words = Words(report, past.prior.which, tracked, past.committed)
        return line.pair(prior, current, words).comparison
    finally:
        bundles.close()


def differences(past: Comparison, now: Comparison) -> list[tuple[str, object, object]]:
    """(field, before, after) of everything that differs and may not."""
    left, right = past.model_dump(mode="json"), now.model_dump(mode="json")
    passing = {"supersedes", "appliance", "committed"}
    return [
        (name, left[name], right[name])
        for name in left
        if name not in passing and left[name] != right[name]
    ]


def _journalled(settings: Settings, past: Comparison) -> tuple[Report, dict[int, str | None]]:
    report, tracked = None, {}
    if (journal := Journal.read(settings.state)) is not None:
        with journal:
            report = journal.reports.get(past.report_id)
            if past.prior is not None:
                tracked = tracked_by(journal.comparisons.standing(past.prior.report_id))
    if report is None:
        raise _gone(f"report {past.report_id} is not on this device any more")
    return report, tracked


def _entry(settings: Settings, report_id: uuid.UUID) -> Entry:
    found = of_report(Priors(settings.state), report_id)
    if found is None:
        raise _gone(f"what was kept of report {report_id} is not on this device any more")
    return found


def _gone(text: str) -> ScansideError:
    return ScansideError(
        text,
        code="inputs_deleted",
        remedy="It went by age, for space, or by `scanside priors forget`: send the exam again.",
    )
