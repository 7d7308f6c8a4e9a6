"""What a structured report says of its findings beside an earlier exam.

Rules
1. What was measured then stands in the group of the finding (TID 1410), as measurements with names
   of our own scheme, which say which earlier exam is meant: viewers merge groups of one tracking
   UID and list every number. Each is inferred from the key image of then, where there is one. The
   mean axis comes first: OHIF draws five figures of a finding, of which the fourth is today's mean.
2. Figures of a comparison are of both exams measured again in the same way, and say so. They never
   take the name of a figure of the report.
3. State, why not, and the change with its limit are one comment of the group. What is gone, or
   below the threshold today, has no group, so it is a comment of the whole document, as is what
   the exam was compared with, or why it was not: viewers break on a group without coordinates.
4. It is said what was measured and never what that means: no category, no judgement, no advice.
5. A pair that a reader called wrong says so; its figures stay.

Code values have at most 16 characters (PS3.5, SH).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

from pydicom.sr.coding import Code

from appliance.comparison import Change, Comparison, Followed, Which
from appliance.results.sr.case import Beside, Case, Reference
from appliance.results.sr.scheme import SCHEME

MM, MM3 = Code("mm", "UCUM", "millimeter"), Code("mm3", "UCUM", "cubic millimeter")
PERCENT, YEARLY, DAY = (
    Code("%", "UCUM", "percent"),
    Code("/a", "UCUM", "per year"),
    Code("d", "UCUM", "day"),
)
MEASURED: Final[dict[str, tuple[str, Code]]] = {
    "volume": ("Volume in the {which} earlier exam", MM3),
    "mean-axis": ("Mean axis in the {which} earlier exam", MM),
    "vol-diff": ("Volume, difference to the {which} earlier exam", PERCENT),
    "mean-diff": ("Mean axis, difference to the {which} earlier exam", MM),
    "rate": ("Rate ln(V2/V1) since the {which} earlier exam", YEARLY),
    "doubling": ("Doubling time since the {which} earlier exam", DAY),
    "interval": ("Days since the {which} earlier exam", DAY),
}
_STATES: Final = {
    "matched": "matched",
    "new": "new: not there then",
    "gone": "gone: not there today",
    "not_comparable": "not comparable",
}
_WHY: Final = {
    "outside_cover": "the other exam does not show this place",
    "too_thick": "the slices of the other exam are too thick for this size",
    "list_full": "the list of the other exam was full",
    "seen_in_pixels": "the images of the other exam show something there that is in no list",
    "too_small": "it is too small to be sure",
    "diseased": "the lung around it is diseased",
    "registration_weak": "the exams could not be laid over each other exactly here",
    "ambiguous": "several findings fit it",
}
_VERDICTS: Final = {
    "larger": "larger",
    "smaller": "smaller",
    "within_error": "within the error of measuring",
    None: "no change is said",
}
AGAIN: Final = (
    "Figures beside an earlier exam are of both exams measured again in the same way, and may "
    "differ from those of the reports. A limit is the error of measuring twice."
)


def which(comparison: Comparison) -> Which:
    """As what the earlier exam is named; the only one is the newest."""
    known = comparison.prior.which if comparison.prior else ()
    return "oldest" if known == ("oldest",) else "newest"


def named(of: Which, what: str) -> tuple[Code, Code]:
    """Name and unit of a measurement."""
    meaning, unit = MEASURED[what]
    return Code(f"{of}-{what}", SCHEME, meaning.format(which=of)), unit


def of_finding(case: Case, finding: int) -> Iterator[tuple[Beside, Followed]]:
    """What is said of one finding of the report."""
    for beside in case.beside:
        for followed in beside.kept.comparison.findings:
            if followed.finding == finding:
                yield beside, followed


def key_image(beside: Beside, followed: Followed) -> Reference | None:
    """Where the earlier finding is drawn in the earlier exam."""
    prior = beside.kept.prior
    uid = None if prior is None else dict(prior.key_images).get(followed.prior_finding or 0)
    if prior is None or uid is None:
        return None
    return Reference(prior.study_uid, prior.series_uid, prior.sop_class_uid, uid)


def references(case: Case) -> Iterator[Reference]:
    """The images of earlier exams that the measurements are inferred from."""
    for finding in case.report.findings:
        for beside, followed in of_finding(case, finding.id):
            image = key_image(beside, followed)
            if image is not None and any(figures(beside, followed)):
                yield image


def measurements(case: Case, finding: int) -> Iterator[Any]:
    """highdicom's, for the group of a finding (rule 1)."""
    from highdicom import sr  # noqa: PLC0415 - rule 3 of sr.case

    for beside, followed in of_finding(case, finding):
        image = key_image(beside, followed)
        images = [] if image is None else [
            sr.SourceImageForMeasurement(image.sop_class_uid, image.sop_instance_uid)
        ]  # fmt: skip
        for name, unit, value in figures(beside, followed):
            yield sr.Measurement(name, value, unit, referenced_images=images or None)


def figures(beside: Beside, followed: Followed) -> Iterator[tuple[Code, Code, float]]:
    """Name, unit and value of all that was measured then, and of the change; the mean axis first
    (rule 1)."""
    comparison, then, change = beside.kept.comparison, followed.then, followed.change
    if followed.state != "matched" or comparison.prior is None:
        return
    rate = None if change is None else change.rate_per_year
    doubling = None if change is None else change.doubling_days
    found = {
        "mean-axis": None if then is None else then.mean_axis_mm,
        "volume": None if then is None else then.volume_mm3,
        "vol-diff": None if change is None else change.difference_percent,
        "mean-diff": None if change is None else change.difference_mm,
        "rate": None if rate is None else rate.value,
        "doubling": None if doubling is None else doubling.value,
        "interval": comparison.prior.interval_days,
    }
    for what, value in found.items():
        if value is not None:
            yield *named(which(comparison), what), round(float(value), 4)


def comments(case: Case, finding: int) -> Iterator[str]:
    """Of one finding, a sentence for each earlier exam (rule 3)."""
    for beside, followed in of_finding(case, finding):
        said = [_STATES[followed.state], *(_WHY[why] for why in followed.why)]
        if followed.prior_finding is not None:
            said.append(f"with its finding {followed.prior_finding}")
        if followed.seen_below_threshold:
            said.append("then below the threshold of its report")
        if followed.merged_from:
            said.append(f"merged from earlier findings {_numbers(followed.merged_from)}")
        if followed.split_into:
            said.append(f"split into findings {_numbers(followed.split_into)}")
        if followed.change is not None:
            said += _change(followed.change)
        if _place(beside, followed) in beside.wrong:
            said.append("a reader called this pair wrong")
        yield f"Beside the {which(beside.kept.comparison)} earlier exam: {', '.join(said)}"


def remarks(besides: Iterable[Beside]) -> Iterator[str]:
    """Of the whole document: what the exam was compared with, or why not, and what is gone."""
    figures_are_said = False
    for beside in besides:
        comparison = beside.kept.comparison
        if comparison.status == "not_compared":
            for reason in comparison.reasons:
                yield f"Not compared with an earlier exam: {reason.sentence()}"
            continue
        figures_are_said = True
        of, prior = which(comparison), comparison.prior
        days = None if prior is None else prior.interval_days
        apart = "an unknown time" if days is None else "1 day" if days == 1 else f"{days} days"
        said = f"Compared with the {of} earlier exam that is kept, {apart} before"
        yield said if prior is None else f"{said} (report {prior.report_id})"
        if comparison.registered is not None and comparison.registered.weak:
            yield f"Parts of it and of the {of} earlier exam could not be laid over each other"
        for followed in comparison.findings:
            if followed.finding is None:
                yield f"Beside the {of} earlier exam: {_earlier_alone(followed)}"
    if figures_are_said:
        yield AGAIN


def _earlier_alone(followed: Followed) -> str:
    said = [f"its finding {followed.prior_finding} is {_STATES[followed.state]}"]
    said += [_WHY[why] for why in followed.why]
    if followed.seen_below_threshold:
        said.append("today below the threshold of the report")
    if followed.then is not None and followed.then.mean_axis_mm is not None:
        said.append(f"then {followed.then.mean_axis_mm:.1f} mm")
    return ", ".join(said)


def _change(change: Change) -> Iterator[str]:
    yield _VERDICTS[change.verdict]
    for name, by, unit, value, limit in (
        ("volume", "volume", "%", change.difference_percent, change.limit_percent),
        ("mean axis", "mean_axis", "mm", change.difference_mm, change.limit_mm),
    ):
        if value is not None:
            within = [] if limit is None else [f"limit {limit:.3g} {unit}"]
            decides = ["this decides"] if change.decided_by == by else []
            more = f" ({', '.join(within + decides)})" if within + decides else ""
            yield f"{name} {value:+.3g} {unit}{more}"
    if (rate := change.rate_per_year) is not None:
        yield f"rate ln(V2/V1) {rate.value:+.2f} a year (95 %: {rate.low:+.2f} to {rate.high:+.2f})"
    if (days := change.doubling_days) is not None:
        yield f"doubling time {days.value:.0f} days (95 %: {days.low:.0f} to {days.high:.0f})"
    elif change.doubling_not_under_days is not None:
        yield f"doubling time not under {change.doubling_not_under_days:.0f} days"
    if change.over_1_5_mm is not None:
        yield "more than 1.5 mm" if change.over_1_5_mm else "not more than 1.5 mm"
    if change.over_25_percent is not None:
        yield "more than 25 % of volume" if change.over_25_percent else "not more than 25 %"
    if change.solid_part_not_measured:
        yield "the solid part alone was not measured"


def _place(beside: Beside, followed: Followed) -> int:
    return beside.kept.comparison.findings.index(followed)


def _numbers(numbers: Iterable[int]) -> str:
    return ", ".join(str(n) for n in numbers)
