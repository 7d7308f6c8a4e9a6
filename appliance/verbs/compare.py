"""`scanside compare PRIOR CURRENT`: two folders of images laid over each other, from disk.

    folder -> analyze -> entry, each -> lines/compare -> points, identity, share, findings

Rules
1. Images are compared, ids are not: whose exams they are is judged by the lungs alone.
2. Of a folder the series counts that was analysed by a bundle which finds nodules; of several the
   one with most slices.
3. Dates that make no earlier exam (the same day, the wrong way round) are left out: then no rate is
   said. One and the same scan given twice is laid over itself, and nothing is said of findings.
4. Nothing is written: no journal, no entry. Finding numbers are those of `scanside analyze`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Final

from pydantic import Field, TypeAdapter, ValidationError
from rich.console import Console
from rich.table import Table

from appliance.bundle.manifest import Manifest
from appliance.compare.gather import Gathered
from appliance.comparison import Followed, Identity
from appliance.errors import Poisoned, ScansideError
from appliance.lines import compare
from appliance.lines.compare import Compared, Registration
from appliance.lines.followed import follows
from appliance.prior.entry import Entry, Image, Person
from appliance.prior.unseen import covers
from appliance.report import Millimetres3, Reason, Record, Status
from appliance.runtime.comparing import LAYING, CompareBundles
from appliance.series import pixels
from appliance.settings import Settings
from appliance.verbs.analyze import Analysed, analysed

NOBODY: Final = Person(key="-")
"""Whose exam it is: not asked (rule 1)."""
Finite = Annotated[float, Field(allow_inf_nan=False)]
POINTS: Final = TypeAdapter(list[tuple[Finite, Finite, Finite]])
FAR_MM: Final = 100_000.0
"""No scanner has a place so far from its origin: there are no images of it."""


class Laid(Record):
    """What is printed as JSON. Numbers of findings are of both folders' reports."""

    identity: Identity
    share: float = Field(ge=0, le=1)
    """Of keypoints in the lungs, those that match and agree."""
    keypoints: int = Field(ge=0)
    reasons: tuple[Reason, ...] = ()
    """Why nothing is said of findings."""
    points: tuple[Millimetres3 | None, ...] = ()
    """In PRIOR, LPS mm, of each point that was asked for; None: not known to be in its images."""
    findings: tuple[Followed, ...] = ()


def laid(prior: Path, current: Path, settings: Settings, points: Path | None = None) -> Laid:
    """Two folders compared; `points`: a JSON file of [[x, y, z], ...], LPS mm of CURRENT.

    ScansideError where a folder has no series to compare, or the file no points."""
    asked = [] if points is None else _points(points)
    bundles = CompareBundles(settings)
    try:
        then, now = (_entry(folder, settings, bundles) for folder in (prior, current))
        days = compare.days_between(then.facts.taken, now.facts.taken)
        if days is not None and days < 1:
            then, now = _undated(then), _undated(now)
        loaded = bundles.of(now.facts.bundle_digest)
        found = compare.compare(then, now, loaded, LAYING)
        registration = found.registration
        if registration is None:  # one scan twice
            registration = LAYING.register(then.image, now.image, loaded.displace)
        return _said(found, registration, then.image, asked)
    finally:
        bundles.close()


def show(found: Laid) -> None:
    """For a person, as a table."""
    console = Console()
    console.print(f"{found.identity}: {100 * found.share:.0f} % of {found.keypoints} points agree")
    for reason in found.reasons:
        console.print(reason.sentence())
    if found.findings:
        table = Table("now", "then", "state", "mm then", "mm now", "change")
        for one in found.findings:
            table.add_row(
                str(one.finding or "-"),
                str(one.prior_finding or "-"),
                ", ".join((one.state, *one.why)),
                str((one.then and one.then.mean_axis_mm) or "-"),
                str((one.now and one.now.mean_axis_mm) or "-"),
                str((one.change and one.change.verdict) or "-"),
            )
        console.print(table)
    for place in found.points:
        console.print("-" if place is None else " ".join(f"{v:.2f}" for v in place))


def _said(
    found: Compared,
    registration: Registration,
    prior: Image,
    asked: Sequence[Millimetres3],
) -> Laid:
    person = found.person or compare.judged(registration, LAYING)
    places: list[Millimetres3 | None] = []
    for point in asked:
        if max(map(abs, point)) > FAR_MM:
            places.append(None)
            continue
        x, y, z = (round(float(v), 2) for v in registration.to_prior([point])[0])
        known = person.verdict == "same" and covers(prior, (x, y, z), 0.0)
        places.append((x, y, z) if known else None)
    return Laid(
        identity=person.verdict,
        share=person.share or 0.0,
        keypoints=person.keypoints or 0,
        reasons=found.reasons,
        points=tuple(places),
        findings=found.findings,
    )


def _points(file: Path) -> list[Millimetres3]:
    try:
        return POINTS.validate_json(file.read_bytes())
    except (OSError, ValidationError) as e:
        text = e.strerror if isinstance(e, OSError) else "it is no list of [x, y, z]"
        raise ScansideError(
            f"{file}: {text}",
            code="no_points",
            remedy="Name a JSON file such as [[12.5, -40, 310]], in LPS millimetres of CURRENT.",
        ) from e


def _entry(folder: Path, settings: Settings, bundles: CompareBundles) -> Entry:
    """What would be kept of the exam in a folder (rule 2)."""
    every = analysed(folder, settings)
    fit = [
        (one, bundles.manifest(one.report.bundle.digest))
        for one in every
        if one.report.status is Status.ANALYSED and one.report.bundle is not None
    ]
    fit = [(one, manifest) for one, manifest in fit if follows(manifest)]
    if not fit:
        why = "; ".join(r.text for one in every for r in one.report.reasons[:1])
        raise ScansideError(
            f"{folder}: no series of it can be compared" + (f" ({why})" if why else ""),
            code="nothing_to_compare",
            remedy="Name a folder with a CT of the chest; `scanside analyze` says more of it.",
        )
    return _made(*max(fit, key=lambda pair: pair[0].report.series.slices))


def _made(one: Analysed, manifest: Manifest) -> Entry:
    """The entry of one analysed series, read again from disk in the order of its analysis."""
    wanted = {name.partition("/")[0] for name in one.result.facts.images}
    gathered = Gathered()
    for file in one.series.files:
        data = one.series.read(file)
        if pixels.header(data).sop_instance_uid in wanted:
            gathered.add(data)
    found = one.result
    try:
        return gathered.entry(manifest, found.masks, found.scores, one.report, NOBODY)
    except Poisoned as e:
        raise ScansideError(
            "the images changed while they were read",
            code="images_changed",
            remedy="Copy them to a folder that nobody writes to, and try again.",
        ) from e


def _undated(entry: Entry) -> Entry:
    return replace(entry, facts=entry.facts.model_copy(update={"taken": None}))


def as_json(found: Laid) -> str:
    """As it is printed."""
    return json.dumps(found.model_dump(mode="json"), indent=1)
