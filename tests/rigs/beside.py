"""A report that was compared with an earlier exam: its row, its comparison and what is kept beside
it, written as the child that compares writes them. For tests of who shows it."""

from __future__ import annotations

import uuid
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from appliance.compare.beside import packed
from appliance.comparison import (
    Change,
    Comparison,
    Followed,
    Interval,
    KeptComparison,
    Person,
    PriorImages,
    PriorRef,
    Registered,
    Sizes,
)
from appliance.prior.shown import Shown
from appliance.records import Grid
from appliance.report import Report, SeriesKey
from appliance.store import kept
from appliance.store.files import DISK
from appliance.store.journal import Journal
from appliance.store.rows import ToCompare

PRIOR = uuid.UUID(int=77)
"""The earlier report."""
SIZE = 48
IMAGES = PriorImages(
    study_uid="1.2.77",
    series_uid="1.2.77.1",
    sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
    key_images=((1, "1.2.77.1.5"), (2, "1.2.77.1.6"), (3, "1.2.77.1.7")),
    date="20250105",
)
THEN = Sizes(
    volume_mm3=512.0, long_axis_mm=11.0, short_axis_mm=9.0, mean_axis_mm=10.0, density="solid"
)
NOW = Sizes(
    volume_mm3=1024.0, long_axis_mm=13.5, short_axis_mm=11.5, mean_axis_mm=12.5, density="solid"
)
LARGER = Change(
    verdict="larger",
    decided_by="volume",
    difference_percent=100.0,
    limit_percent=25.0,
    difference_mm=2.5,
    limit_mm=1.5,
    rate_per_year=Interval(value=0.69, low=0.47, high=0.92),
    doubling_days=Interval(value=365.0, low=275.0, high=540.0),
    over_1_5_mm=True,
    over_25_percent=True,
)
FINDINGS = (
    Followed(
        finding=1, prior_finding=2, tracking_uid="2.25.4711", state="matched",
        distance_mm=1.2, then=THEN, now=NOW, change=LARGER,
    ),
    Followed(finding=2, state="not_comparable", why=("outside_cover", "too_thick"), now=NOW),
    Followed(prior_finding=1, tracking_uid="2.25.4712", state="gone", then=THEN),
)  # fmt: skip
"""Matched, not comparable, gone."""


def comparison(
    of: Report, findings: tuple[Followed, ...] = FINDINGS, **more: object
) -> Comparison:  # fmt: skip
    """of: today's report."""
    values: dict[str, object] = {
        "comparison_id": uuid.uuid5(of.report_id, "comparison"),
        "report_id": of.report_id,
        "study": of.study.pseudonym,
        "status": "compared",
        "prior": PriorRef(
            study="7" * 32, report_id=PRIOR, which=("newest", "oldest"), interval_days=364
        ),
        "person": Person(verdict="same", share=0.83, keypoints=380),
        "registered": Registered(method="network", weak=False, residual_mm=0.7),
        "findings": findings,
        **more,
    }
    return Comparison.model_validate(values)


def wait(journal: Journal, key: SeriesKey, of: Report) -> None:
    """The row of a report that is to be compared."""
    digest = of.bundle.digest if of.bundle else ""
    journal.comparisons.note(
        [ToCompare(str(of.report_id), key.study, key.series, digest, prior_only=False)]
    )


def commit(state: Path, journal: Journal, said: Comparison) -> Comparison:
    """A comparison of a report whose row waits, with its cubes."""
    record = KeptComparison(comparison=said, prior=IMAGES if said.prior else None)
    kept.keep_record(state, said.report_id, kept.compared_name(said.comparison_id), record)
    cubes = packed([(ball(12.0), ball(16.0)) for _ in said.findings])
    DISK.write(kept.cubes_path(state, said.report_id, said.comparison_id), cubes)
    assert journal.comparisons.commit(said.report_id, [said], superseded=(), owed=())
    return said


def ball(radius_mm: float, way: tuple[int, int, int] = (1, 1, 1)) -> Shown:
    """A ball of 0 HU in air, a third of the cube to the head, the back and the left of its middle.
    way: of the axes z, y, x of the cube, -1 for one that runs the other way."""
    away: NDArray[np.float64] = (np.indices((SIZE,) * 3) - 32.0) * 0.8
    hu = np.where(np.linalg.norm(away, axis=0) < radius_mm, 0, -900).astype(np.int16)
    matrix = np.eye(4)
    matrix[:3, :3] = 0
    matrix[2, 0], matrix[1, 1], matrix[0, 2] = (0.8 * w for w in way)
    turned = tuple(axis for axis, w in enumerate(way) if w < 0)
    return Shown(np.flip(hu, turned), Grid((SIZE,) * 3, (0.8,) * 3, matrix))
