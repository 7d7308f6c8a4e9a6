"""Two exams of one chest as entries, drawn from formulas: lungs, vessels, balls of known size.

An exam is the chest moved by a shift, so the registration of two of them is exact. The network that
measures is the one that ships.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from appliance.backend.choose import choose
from appliance.backend.open import open_backend
from appliance.bundle import trust
from appliance.comparison import Identity
from appliance.lines.compare import Bundles, Laying, Loaded
from appliance.naming import Naming
from appliance.prior.entry import (
    CUBE,
    CUBE_MM,
    HIGH_HU,
    IMAGE_MM,
    LOW_HU,
    MOST_CUBES,
    Cube,
    Entry,
    Facts,
    Image,
    ImageNames,
    Person,
)
from appliance.records import Grid, Vector
from appliance.report import (
    BackendRef,
    BundleRef,
    Coverage,
    Finding,
    Report,
    Scored,
    SeriesKey,
    SeriesRef,
    Stage,
    Status,
    StudyRef,
)

F64 = NDArray[np.float64]
NAMING = Naming(b"k" * 32)
FACTORY = Path(__file__).parents[2] / "appliance" / "factory" / "bundles"
LUNG_HU, TISSUE_HU, VESSEL_HU = -850.0, 40.0, 40.0
LUNGS = ((-45.0, 0.0, 0.0), (45.0, 0.0, 0.0))
SEMI_MM = (36.0, 46.0, 50.0)
BOX_MM = ((-86.0, -56.0, -60.0), (86.0, 56.0, 60.0))
"""What the image holds, before the shift: lowest and highest x, y, z."""
THRESHOLD = 0.4


@dataclass(frozen=True)
class Ball:
    """A body in the chest, and what the detector says of it."""

    center: Vector
    diameter: float = 10.0
    hu: float = TISSUE_HU
    score: float = 0.9
    """From THRESHOLD on it is a finding, from half of it a candidate with a cube; 0: not seen."""
    kind: Literal["nodule", "mass"] = "nodule"


@dataclass(frozen=True)
class Exam:
    """How an exam was made."""

    balls: Sequence[Ball] = ()
    shift: Vector = (0.0, 0.0, 0.0)
    taken: str | None = "20240101"
    sharp_mm: float = 0.5
    """SD of the point spread, alike in all directions."""
    noise_hu: float = 0.0
    seed: int = 0
    facts: dict[str, Any] = field(default_factory=dict)
    """Of entry.Facts, in place of what would stand there."""
    covered_z: tuple[float, float] = (-1000.0, 1000.0)
    cubes: int = MOST_CUBES
    """That are kept."""


def entry(exam: Exam, name: str = "a") -> Entry:
    """What is kept of an exam; `name` tells two of them apart."""
    rng = np.random.default_rng([exam.seed, *name.encode()])
    low, high = (np.add(end, exam.shift) for end in BOX_MM)
    grid = _grid(low, [round(float(n)) for n in ((high - low) / IMAGE_MM)[::-1]], IMAGE_MM)
    hu = drawn(exam, grid, rng, coarse=True)
    values = np.clip(np.rint((hu - LOW_HU) * 255 / (HIGH_HU - LOW_HU)), 0, 255).astype(np.uint8)
    z = _places()[..., 2]
    covered = (z >= exam.covered_z[0]) & (z <= exam.covered_z[1])
    image = Image(np.where(covered, values, 0).astype(np.uint8), _lungs(), covered, grid)
    report = _report(exam, name)
    facts = Facts(
        **{
            "person": Person(key="p" * 64),
            "names": ImageNames(study_uid="1.2", series_uid="1.3", sop_class_uid="1.4"),
            "pseudonym": report.study.pseudonym,
            "taken": exam.taken,
            "spacing_mm": (1.25, 0.7, 0.7),
            "thickness_mm": 1.25,
            "kernel": "B30f",
            "maker": "SIEMENS",
            "bundle_digest": "b" * 64,
            "pixel_digest": hashlib.sha256(values.tobytes() + name.encode()).hexdigest(),
            "spread_mm": (exam.sharp_mm, exam.sharp_mm),
            "candidates": tuple(
                Scored(score=b.score, center_lps_mm=_moved(b, exam)) for b in _seen(exam, 0.001)
            ),
            "threshold": THRESHOLD,
            **exam.facts,
        }
    )
    digest = hashlib.sha256(facts.model_dump_json().encode() + values.tobytes()).hexdigest()
    return Entry(facts, report, image, tuple(_cubes(exam, report, rng)), digest)


def drawn(exam: Exam, grid: Grid, rng: np.random.Generator, *, coarse: bool = False) -> F64:
    """HU [z, y, x] of the chest on a grid."""
    at = _points(grid) - exam.shift
    soft = exam.sharp_mm + (0.5 if coarse else 0.0)
    hu = _whole(soft).copy() if coarse else _empty(at, soft)
    for ball in exam.balls:
        away = np.linalg.norm(at - ball.center, axis=-1)
        near = away < ball.diameter / 2 + 5 * soft
        share = _blurred_ball(away[near], ball.diameter / 2, soft)
        hu[near] += share * (ball.hu - hu[near])
    return hu + rng.normal(0, exam.noise_hu, hu.shape) if exam.noise_hu else hu


@lru_cache(maxsize=8)
def _whole(soft: float) -> F64:
    """What is kept of the image without any body: a shift moves it with its grid."""
    return _empty(_places(), soft)


@lru_cache(maxsize=1)
def _places() -> F64:
    """LPS mm of the image's voxels, before the shift."""
    low, high = (np.array(end) for end in BOX_MM)
    return _points(_grid(low, [round(float(n)) for n in ((high - low) / IMAGE_MM)[::-1]], IMAGE_MM))


def _empty(at: F64, soft: float) -> F64:
    """HU of a chest without any body."""
    lungs = _in_lungs(at)
    hu = np.where(lungs, LUNG_HU, TISSUE_HU)
    for y, z, width in ((-25.0, 20.0, 2.0), (12.0, -25.0, 1.5), (28.0, 10.0, 1.0)):
        away = np.hypot(at[..., 1] - y, at[..., 2] - z)
        share = _share(width - away, soft)
        hu = np.where(lungs, np.maximum(hu, hu + share * (VESSEL_HU - LUNG_HU)), hu)
    return np.asarray(hu)


@lru_cache(maxsize=1)
def _lungs() -> NDArray[np.bool_]:
    """The lungs on the grid of the image."""
    return _in_lungs(_places())


@dataclass(frozen=True)
class Shifted:
    """The exact registration of two exams, as good as it is said to be."""

    shift: Vector
    error: Vector = (0.0, 0.0, 0.0)
    """That is added to what is true."""
    method: Literal["network", "demons"] = "demons"
    weak: bool = False
    residual_mm: float | None = 0.5
    share: float = 0.95
    keypoints: int = 200
    mirrored_share: float | None = None

    def to_prior(self, points: ArrayLike) -> F64:
        return np.asarray(points, np.float64) + self.shift + self.error

    def to_current(self, points: ArrayLike) -> F64:
        return np.asarray(points, np.float64) - self.shift - self.error

    def jacobian(self, points: ArrayLike, /) -> F64:
        return np.broadcast_to(np.eye(3), (len(np.asarray(points)), 3, 3))

    def weak_at(self, points: ArrayLike) -> NDArray[np.bool_]:
        return np.full(len(np.asarray(points)), self.weak)


def laying(prior: Exam, current: Exam, **more: Any) -> Laying:
    """An exact registration, nothing refined, judged by the share alone."""
    shift = tuple(float(v) for v in np.subtract(prior.shift, current.shift))
    registration = Shifted(shift, **more)  # type: ignore[arg-type]

    def judged(share: float, keypoints: int, mirrored: float | None) -> Identity:
        if keypoints < 50:
            return "identity_unsure"
        if share >= 0.4:
            return "same"
        if mirrored is not None and mirrored >= 0.4:
            return "laterality"
        return "images_disagree" if share < 0.25 else "identity_unsure"

    return Laying(
        register=lambda prior, current, displace: registration,
        locate=lambda laid, prior, current, center, body: laid.to_prior([center])[0],
        judged=judged,
    )


@lru_cache(maxsize=1)
def bundles() -> Bundles:
    """The network that ships, alone of its bundle."""
    loaded = trust.check((FACTORY / "lung-nodule.scanside").read_bytes())
    manifest = loaded.bundle.manifest
    backend = open_backend(
        choose("auto"),
        {"measure": manifest.networks["measure"]},
        {"measure": loaded.networks["measure"]},
        1,
    )
    return Bundles(Loaded(loaded.bundle.ref, manifest, backend))


def _report(exam: Exam, name: str) -> Report:
    key = SeriesKey(f"1.2.{sum(name.encode())}", "1.3")
    low, high = (np.add(end, exam.shift) for end in BOX_MM)
    number = uuid.uuid5(uuid.NAMESPACE_OID, name)
    return Report(
        report_id=number,
        input_digest="c" * 64,
        revision=1,
        status=Status.ANALYSED,
        stage=Stage.FINAL,
        coverage=Coverage(
            lungs="covered",
            z_mm=(float(low[2]), float(high[2])),
            fov_mm=(float(low[0]), float(low[1]), float(high[0]), float(high[1])),
        ),
        study=StudyRef(pseudonym=NAMING.study(key.study)),
        series=SeriesRef(slices=154, spacing_mm=(1.25, 0.7, 0.7)),
        bundle=BundleRef(name="lung-nodule", version="1.0.0", digest="b" * 64),
        backend=BackendRef(name="test", precision="fp32"),
        findings=tuple(
            Finding(
                id=i,
                tracking_uid=NAMING.tracking(number, i),
                kind=b.kind,
                score=b.score,
                threshold=THRESHOLD,
                center_lps_mm=_moved(b, exam),
                box_lps_mm=(0, 0, 0, 1, 1, 1),
                diameter_mm=b.diameter,
                key_image=0,
            )
            for i, b in enumerate(_seen(exam, THRESHOLD), start=1)
        ),
    )


def _cubes(exam: Exam, report: Report, rng: np.random.Generator) -> list[Cube]:
    made = []
    for i, ball in enumerate(_seen(exam, THRESHOLD / 2)[: exam.cubes], start=1):
        center = _moved(ball, exam)
        first = np.subtract(center, (CUBE - 1) / 2 * CUBE_MM)
        grid = _grid(first, [CUBE] * 3, CUBE_MM)
        hu = np.rint(drawn(exam, grid, rng)).astype(np.int16)
        finding = i if ball.score >= THRESHOLD else None
        made.append(Cube(center, ball.score, finding, ball.diameter, hu, grid, None))
    return made


def _seen(exam: Exam, least: float) -> list[Ball]:
    """What reaches a score, the highest first."""
    return sorted((b for b in exam.balls if b.score >= least), key=lambda b: -b.score)


def _moved(ball: Ball, exam: Exam) -> Vector:
    x, y, z = (round(float(v), 2) for v in np.add(ball.center, exam.shift))
    return x, y, z


def _grid(first: ArrayLike, shape: Sequence[int], spacing: float) -> Grid:
    matrix = np.zeros((4, 4))
    matrix[[2, 1, 0], [0, 1, 2]] = spacing
    matrix[:3, 3], matrix[3, 3] = first, 1
    return Grid((shape[0], shape[1], shape[2]), (spacing,) * 3, matrix)


def _points(grid: Grid) -> F64:
    """LPS mm [z, y, x, 3] of the voxels."""
    z, y, x = (np.arange(n) for n in grid.shape)
    index = np.stack(np.meshgrid(z, y, x, indexing="ij"), axis=-1)
    return np.asarray(index @ grid.to_lps[:3, :3].T + grid.to_lps[:3, 3])


def _in_lungs(at: F64) -> NDArray[np.bool_]:
    inside = [np.linalg.norm((at - middle) / SEMI_MM, axis=-1) < 1 for middle in LUNGS]
    return np.asarray(np.logical_or(*inside))


def _share(depth: F64, soft_mm: float) -> F64:
    """A flat surface behind a Gaussian, so deep below it."""
    return np.asarray(special.ndtr(depth / soft_mm))


def _blurred_ball(away: F64, radius: float, soft_mm: float) -> F64:
    """A ball behind a Gaussian, so far from its middle: the integral in closed form."""
    d = np.maximum(away, 1e-3)
    near, far = (radius - d) / soft_mm, (radius + d) / soft_mm
    rim = (np.exp(-(near**2) / 2) - np.exp(-(far**2) / 2)) / np.sqrt(2 * np.pi)
    return np.asarray(special.ndtr(near) + special.ndtr(far) - 1 - soft_mm / d * rim)
