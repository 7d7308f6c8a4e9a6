"""A small entry that a script made, and whether two are the same."""

from __future__ import annotations

import uuid

import numpy as np

from appliance.naming import Naming
from appliance.prior.entry import (
    CUBE,
    CUBE_MM,
    IMAGE_MM,
    Cube,
    Entry,
    Facts,
    Image,
    ImageNames,
    Person,
)
from appliance.records import Grid
from appliance.report import (
    BackendRef,
    BundleRef,
    Report,
    Scored,
    SeriesKey,
    SeriesRef,
    Stage,
    Status,
    StudyRef,
)  # fmt: skip
from rigs.reports import DIGEST, NAMING


def grid(shape: tuple[int, int, int], mm: float, at: tuple[float, float, float]) -> Grid:
    """Aligned to the axes of the patient; `at` is its first voxel (LPS)."""
    matrix = np.eye(4)
    matrix[:3, :3] = np.eye(3)[::-1] * mm
    matrix[:3, 3] = at
    return Grid(shape, (mm, mm, mm), matrix)


def report(study: str = "1.2", *, naming: Naming = NAMING) -> Report:
    return Report(
        report_id=naming.report(SeriesKey(study, "1.2.3"), DIGEST, "b" * 64),
        input_digest="b" * 64,
        revision=1,
        status=Status.ANALYSED,
        stage=Stage.FINAL,
        study=StudyRef(pseudonym=naming.study(study)),
        series=SeriesRef(slices=10),
        bundle=BundleRef(name="lung-nodule", version="1.0.0", digest=DIGEST),
        backend=BackendRef(name="reference", precision="fp32"),
    )


def entry(patient_id: str = "a12", study: str = "1.2", *, naming: Naming = NAMING) -> Entry:
    """Of one small image and two cubes, the first with a body."""
    rng = np.random.default_rng(3)
    shape = (6, 8, 10)
    values = rng.permutation(np.arange(480) % 256).astype(np.uint8).reshape(shape)
    hu = rng.integers(-1000, 400, (2, CUBE, CUBE, CUBE)).astype(np.int16)
    hu[0, 0, 0, :2] = (-32768, 32767)
    cubes = grid((CUBE, CUBE, CUBE), CUBE_MM, (1.5, -2.25, 1 / 3))
    body = rng.random((CUBE, CUBE, CUBE)) < 0.2
    facts = Facts(
        person=Person(key=naming.patient("", patient_id), sex=naming.of_patient("sex", "F")),
        names=ImageNames(study_uid=study, series_uid="1.2.3", sop_class_uid="1.2.840"),
        pseudonym=naming.study(study),
        taken="20240102",
        spacing_mm=(1.25, 0.7, 0.7),
        bundle_digest=DIGEST,
        pixel_digest="c" * 64,
        spread_mm=(0.6, 0.5),
        candidates=(Scored(score=0.9, center_lps_mm=(1.0, 2.0, 3.0), diameter_mm=6.5),),
        threshold=0.5,
    )
    return Entry(
        facts,
        report(study, naming=naming),
        Image(values, values > 100, values > 20, grid(shape, IMAGE_MM, (0.1, 0.2, 0.3))),
        (
            Cube((1.0, 2.0, 3.0), 0.9, 1, 6.5, hu[0], cubes, body),
            Cube((9.0, 2.0, 3.0), 0.3, None, None, hu[1], cubes, None),
        ),
        digest="",
    )


def same(one: Entry, other: Entry) -> bool:
    """Apart from the digest."""
    grids = [(a.grid, b.grid) for a, b in zip(one.cubes, other.cubes, strict=True)]
    grids.append((one.image.grid, other.image.grid))
    arrays = [(a.hu, b.hu) for a, b in zip(one.cubes, other.cubes, strict=True)]
    arrays += [(a.body, b.body) for a, b in zip(one.cubes, other.cubes, strict=True)]
    arrays += [
        (getattr(one.image, n), getattr(other.image, n)) for n in ("values", "lungs", "covered")
    ]
    facts = [
        (a.center_lps_mm, a.score, a.finding, a.diameter_mm)
        == (b.center_lps_mm, b.score, b.finding, b.diameter_mm)
        for a, b in zip(one.cubes, other.cubes, strict=True)
    ]
    return (
        (one.facts, one.report) == (other.facts, other.report)
        and all(facts)
        and all(np.array_equal(a, b) for a, b in arrays)
        and all(
            (a.shape, a.spacing_mm) == (b.shape, b.spacing_mm)
            and np.array_equal(a.to_lps, b.to_lps)
            for a, b in grids
        )
    )


def named(number: int) -> uuid.UUID:
    """The id of a report."""
    return NAMING.report(SeriesKey("1.2", f"1.2.{number}"), DIGEST, "b" * 64)
