"""What the demo's terminal shows of a comparison: each nodule then and now, beside the truth.

Rules
- A nodule is asked about in so far as the reports found it: what no report lists is shown, and
  nothing is asked of it.
- Found in both exams it has to be `matched`, with the finding that it was. One that a report missed
  may be `not_comparable`, or matched with what was below the threshold, but never `new` or `gone`.
- One that is new or gone has to be called so, or `not_comparable`: that says no untruth.
- A change that is said has to be the true one. Where a nodule has grown, it has to be said.
- Of each course one nodule at least has to be told: grown, equal, new, gone. Else there was nothing
  to see.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from appliance.comparison import Change, Comparison, Followed, Sizes
from appliance.demo.table import HIT_MM
from appliance.phantom.chest import Nodule
from appliance.phantom.follow_up import Followed as Truth
from appliance.phantom.raster import Point
from appliance.report import Report

VERDICTS: Final = {"larger": "larger", "smaller": "smaller", "equal": "within_error"}
COURSES: Final = ("larger", "equal", "new", "gone")
STRANGER: Final = frozenset({"images_disagree", "identity_unsure"})
"""Of a comparison with somebody else one of these is the reason."""


@dataclass(frozen=True)
class Row:
    """One nodule, or one finding where none is."""

    truth: Truth | None
    said: Followed | None
    wrong: str | None
    """What of it is not as the truth is."""
    told: bool = False
    """The comparison says its course, as it is."""


def rows(
    truths: Sequence[Truth], comparison: Comparison, prior: Report, current: Report
) -> list[Row]:
    """The nodules in the order of the truth, then what is said of no nodule."""
    out, used = [], set()
    for truth in truths:
        then = _found(prior, truth.then, truth.place_then_lps_mm)
        now = _found(current, truth.now, truth.place_now_lps_mm)
        said = next((f for f in comparison.findings if _is_of(f, now, then)), None)
        if said is not None:
            used.add(id(said))
        out.append(_judged(truth, said, then, now))
    out += [Row(None, f, None) for f in comparison.findings if id(f) not in used]
    return out


def lacking(found: Iterable[Row]) -> list[str]:
    """All that is not as the truth is, in a sentence each."""
    found = list(found)
    out = [f"{_nodule(row.truth)}: {row.wrong}" for row in found if row.wrong and row.truth]
    told = {row.truth.change or row.truth.state for row in found if row.told and row.truth}
    out += [f"no nodule was told that is {course}" for course in COURSES if course not in told]
    return out


def stranger_compared(comparisons: Sequence[Comparison]) -> list[str]:
    """What is wrong with how a stranger was compared under another's id, in a sentence each."""
    if not comparisons:
        return ["nothing was said of comparing the stranger"]
    out = []
    for one in comparisons:
        codes = {reason.code.value for reason in one.reasons}
        if one.status == "compared":
            out.append("two people were compared")
        elif not codes & STRANGER:
            out.append(f"the stranger was not compared for another reason: {', '.join(codes)}")
    return out


def show(found: Sequence[Row], comparison: Comparison, console: Console) -> None:
    """The table, with how the exams were laid over each other."""
    ref, person, laid = comparison.prior, comparison.person, comparison.registered
    days = "unknown" if ref is None or ref.interval_days is None else f"{ref.interval_days} days"
    console.print(f"\ncomparison {comparison.comparison_id} · {comparison.status} · {days} apart")
    if person is not None and person.share is not None:
        console.print(f"  same person: {person.share:.2f} of {person.keypoints} places agree")
    if laid is not None:
        console.print(f"  laid over by {laid.method}{', weakly' if laid.weak else ''}")
    table = Table()
    for name in ("", "then ⌀ mm", "now ⌀ mm", "said", "volume (limit)", "truth (phantom)", ""):
        table.add_column(name, overflow="fold")
    for row in found:
        said = row.said
        table.add_row(
            "-" if said is None or said.finding is None else str(said.finding),
            _size(None if said is None else said.then),
            _size(None if said is None else said.now),
            "-" if said is None else " ".join((said.state, *said.why)),
            _change(said.change if said is not None else None),
            _nodule(row.truth),
            "[red]wrong[/red]" if row.wrong else "[green]✓[/green]" if row.told else "",
        )
    console.print(table)


def not_compared(comparison: Comparison, console: Console) -> None:
    """Why there is no comparison."""
    for reason in comparison.reasons:
        why = escape(reason.sentence())  # it may name a [[section]]
        console.print(f"  not compared: [yellow]{reason.code.value}[/yellow] {why}")


def _found(report: Report, nodule: Nodule | None, place: Point) -> int | None:
    """The finding on a nodule that was drawn; None: it was not, or was missed."""
    if nodule is None:
        return None
    reach = max(HIT_MM, nodule.diameter_mm / 2)
    near = [(math.dist(f.place_lps_mm, place), f.id) for f in report.findings]
    return min((n for n in near if n[0] <= reach), default=(0.0, None))[1]


def _is_of(said: Followed, now: int | None, then: int | None) -> bool:
    if now is not None:
        return said.finding == now
    return then is not None and said.finding is None and said.prior_finding == then


def _judged(truth: Truth, said: Followed | None, then: int | None, now: int | None) -> Row:
    asked = then is not None or now is not None
    if said is None:
        # what today's report missed is nobody's finding of today, and no more than that
        missed = truth.now is not None and now is None
        return Row(truth, None, "nothing is said of it" if asked and not missed else None)
    if truth.state == "matched" and None in (then, now):
        wrong = f"called {said.state}" if said.state in ("new", "gone") else None
        return Row(truth, said, wrong or _wrong_change(truth, said))
    if truth.state != "matched" and said.state == "not_comparable":
        return Row(truth, said, None)
    if said.state != truth.state:
        return Row(truth, said, f"called {' '.join((said.state, *said.why))}")
    if truth.state == "matched" and then not in (said.prior_finding, *said.merged_from):
        return Row(truth, said, f"taken for finding {said.prior_finding} of then, not {then}")
    wrong = _wrong_change(truth, said)
    if wrong is None and truth.change == "larger" and _verdict(said) is None:
        wrong = "its growth is not said"
    return Row(truth, said, wrong, told=wrong is None)


def _wrong_change(truth: Truth, said: Followed) -> str | None:
    verdict = _verdict(said)
    if verdict is None or truth.change is None or verdict == VERDICTS[truth.change]:
        return None
    return f"called {verdict}"


def _verdict(said: Followed) -> str | None:
    return said.change.verdict if said.change is not None else None


def _size(sizes: Sizes | None) -> str:
    return "-" if sizes is None or sizes.mean_axis_mm is None else f"{sizes.mean_axis_mm:.1f}"


def _change(change: Change | None) -> str:
    if change is None or change.verdict is None:
        return "-"
    out = change.verdict.replace("_", " ")
    if change.difference_percent is not None:
        out += f" {change.difference_percent:+.0f} %"
    if change.limit_percent is not None:
        out += f" ({change.limit_percent:.0f} %)"
    return out


def _nodule(truth: Truth | None) -> str:
    if truth is None:
        return "no nodule here"
    shown = truth.now or truth.then
    density = shown.density if shown is not None else ""
    if truth.then is not None and truth.now is not None and truth.change != "equal":
        size = f"{truth.then.diameter_mm:.1f} -> {truth.now.diameter_mm:.1f} mm"
    else:
        size = f"{shown.diameter_mm:.1f} mm" if shown is not None else ""
    return f"{truth.change or truth.state}: {size} {density}"
