"""`scanside replay ID`: recompute a past report from the kept inputs, and compare; of a comparison
with an earlier exam, see `replay_comparison`.

Same bundle, same inputs, same tuning, this machine's backend: the report must be equal apart from
times, revision, edition and supersedes. What differs is printed field by field; and where another
tuning is in force now, that is said too, for a new analysis may differ. A report of before release
0.2.0 has ids that are not made of the site key (`naming`): all else of it is compared.
"""

from __future__ import annotations

import sys
from typing import Any

from rich.console import Console

from appliance import line
from appliance.backend.protocol import Backend
from appliance.bundle.trust import Bundle
from appliance.comparison import Comparison
from appliance.errors import BundleRefused, ScansideError
from appliance.host import facts, memory
from appliance.naming import Naming, is_keyed
from appliance.reasons import Code
from appliance.records import Identity
from appliance.report import NOT_COMPARED, Report, Stage, Status, Times
from appliance.runtime.bundles import OpenBundles
from appliance.settings import Settings
from appliance.store import tunings
from appliance.store.journal import Journal
from appliance.store.kept import inputs
from appliance.store.site_key import site_key
from appliance.store.spool import Spool
from appliance.verbs import replay_comparison
from appliance.watching.tuning import Tuning

OF_ARRIVAL = frozenset(
    {
        Code.TRANSFER_ABORTED,
        Code.UNEXPECTED_COUNT,
        Code.SERIES_UID_REUSED,
        Code.BUNDLE_FALLBACK,
        Code.ALSO_SHOWN_IN,
    }
)
"""Limitations that no kept file of the series can show: what the verdict over the transfer adds
(series/complete.py), what else is on the device, and that another bundle should have been used."""


def main(settings: Settings, report_id: str) -> int:
    """0 the same, 1 not the same (the differences on stdout). report_id: or of a comparison."""
    if (compared := replay_comparison.past(settings, report_id)) is not None:
        return _compared(settings, compared)
    past, now = replay(settings, report_id)
    console = Console(highlight=False)
    said = other_tunings(settings, past)
    if now.same_as(past):
        console.print(f"report {report_id}: the same ({len(now.findings)} findings)")
        console.print(said, end="", soft_wrap=True)
        return 0
    console.print(f"report {report_id}: NOT the same")
    console.print(said, end="", soft_wrap=True)
    for name, before, after in differences(past, now):
        console.print(f"  {name}: was {before}, is {after}", markup=False)
    sys.stdout.flush()
    return 1


def _compared(settings: Settings, past: Comparison) -> int:
    """The same of a comparison."""
    now = replay_comparison.replay(settings, past)
    console = Console(highlight=False)
    found = replay_comparison.differences(past, now)
    what = f"comparison {past.comparison_id}"
    if not found:
        console.print(f"{what}: the same ({past.status}, {len(past.findings)} findings)")
        return 0
    console.print(f"{what}: NOT the same")
    for name, before, after in found:
        console.print(f"  {name}: was {before}, is {after}", markup=False)
    sys.stdout.flush()
    return 1


def replay(settings: Settings, report_id: str) -> tuple[Report, Report]:
    """(the report as committed, the report as computed now). ScansideError where its inputs,
    its series or its bundle are not on this device any more."""
    past, key = None, None
    if (journal := Journal.read(settings.state)) is not None:
        with journal:
            past, key = journal.reports.get(report_id), journal.reports.series_of(report_id)
    if past is None or key is None:
        raise ScansideError(
            f"there is no report {report_id}", code="no_report", remedy="Check its id."
        )
    names = inputs(settings.state, report_id)
    kept = Spool(settings.state).instances(key)
    if names is None or not set(names) <= kept.keys():
        raise ScansideError(
            f"the inputs of report {report_id} are not on this device any more",
            code="inputs_deleted",
            remedy="They were deleted by age or space ([retain] days); send the series again.",
        )
    if past.status is not Status.ANALYSED:
        raise ScansideError(
            f"report {report_id} is {past.status.value}: there is nothing to recompute",
            code="nothing_to_replay",
            remedy="Only analysed reports can be replayed.",
        )
    bundles = OpenBundles(settings)
    try:
        bundle, backend = _opened(bundles, past)
        files = sorted((kept[name] for name in names), key=lambda path: path.stat().st_mtime)
        # where there is less memory than then, it says so: refused as too large, not the same
        left = memory.limit().bytes()
        made_with = () if past.tuning is None else (_tuning(settings, past.tuning),)
        data = (path.read_bytes() for path in files)
        result = line.process(data, bundle, backend, left, made_with)
    finally:
        bundles.close()
    of_arrival = tuple(r for r in past.limitations if r.code in OF_ARRIVAL)
    identity = Identity(
        naming=Naming(site_key(settings.state)),
        publish_uids=settings.site.publish_uids,
        revision=past.revision,
        supersedes=None,
        preliminary=past.stage is Stage.PRELIMINARY,
        appliance=facts.version(),
        before=None if is_keyed(past.report_id) else past,
    )
    sealed = line.seal(result, identity, Times())
    return past, sealed.model_copy(update={"limitations": (*of_arrival, *sealed.limitations)})


def _opened(bundles: OpenBundles, past: Report) -> tuple[Bundle, Backend]:
    """The very bundle of the report, from the shelf."""
    entry = next(
        (e for e in bundles.shelf.list() if past.bundle and e.digest == past.bundle.digest), None
    )
    if entry is None:
        raise BundleRefused(
            f"the bundle of report {past.report_id} is not on the shelf any more",
            code="bundle_not_found",
        )
    opened = bundles.open(entry)
    return opened.bundle, opened.backend


def _tuning(settings: Settings, digest: str) -> Tuning:
    """The one that a report names, also where it was withdrawn since."""
    found = tunings.of_digest(settings.state, digest)
    if found is None:
        raise ScansideError(
            f"the tuning {digest[:12]} of this report is not on this device any more",
            code="tuning_not_found",
            remedy=f"Put back {tunings.NAME}, which was moved away or damaged, from a backup.",
        )
    return found


def other_tunings(settings: Settings, past: Report) -> str:
    """What is said where other tunings are in force than a report was made with; else empty."""
    now = {tuning.digest for tuning in tunings.in_force(settings.state)}
    if past.tuning is not None and past.tuning not in now:
        return "  the tuning of this report is not in force any more: a new analysis may differ\n"
    if now - {past.tuning}:
        return "  other tunings are in force now: a new analysis may differ\n"
    return ""


def differences(past: Report, now: Report) -> list[tuple[str, Any, Any]]:
    """(field, before, after) of everything that `same_as` compares and that differs."""
    left, right = past.model_dump(mode="json"), now.model_dump(mode="json")
    return [
        (name, left.get(name), right.get(name))  # what says nothing is not there
        for name in Report.model_fields
        if name not in NOT_COMPARED and left.get(name) != right.get(name)
    ]
