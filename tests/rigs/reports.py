"""A report to commit, and a time: fixtures for a conftest to import."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import datetime, timezone

import pytest

from appliance.naming import Naming
from appliance.report import (
    BackendRef,
    BundleRef,
    Finding,
    Report,
    SeriesKey,
    SeriesRef,
    Stage,
    Status,
    StudyRef,
)

DIGEST = "a" * 64
NAMING = Naming(bytes(range(32)))
"""Of a site whose key is known."""


@pytest.fixture
def make_report() -> Callable[..., Report]:
    """series uid, revision, ... -> an analysed report with one finding."""

    def make(
        series: str = "1.2.3",
        *,
        images: str = "b" * 64,
        revision: int = 1,
        stage: Stage = Stage.FINAL,
        supersedes: uuid.UUID | None = None,
    ) -> Report:
        finding = Finding(
            id=1,
            tracking_uid="2.25.1",
            kind="nodule",
            score=0.9,
            threshold=0.5,
            center_lps_mm=(0.0, 0.0, 0.0),
            box_lps_mm=(0.0, 0.0, 0.0, 1.0, 1.0, 1.0),
            key_image=0,
        )
        return Report(
            report_id=NAMING.report(SeriesKey("1.2", series), DIGEST, images),
            input_digest=images,
            revision=revision,
            supersedes=supersedes,
            status=Status.ANALYSED,
            stage=stage,
            study=StudyRef(pseudonym=NAMING.study("1.2")),
            series=SeriesRef(slices=10),
            bundle=BundleRef(name="lung-nodule", version="1.0.0", digest=DIGEST),
            backend=BackendRef(name="reference", precision="fp32"),
            findings=(finding,),
        )

    return make


@pytest.fixture
def noon() -> datetime:
    return datetime(2024, 5, 1, 12, tzinfo=timezone.utc)
