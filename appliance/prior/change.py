"""Both cubes of a finding, measured again in the same way -> its sizes then and now, its change.

    cube of then, cube of now -> blurred alike -> today's network -> sizes -> growth.change

Rules
1. Both are measured by today's network (role `measure`) and by `interpret.measure`: what differs
   is the finding. The figures are the comparison's own, and never stand beside a report's.
2. Kernels differ: one scan reconstructed sharply and softly gives two sizes. So the sharper one is
   blurred first, along z and in its plane, to the point spread of the softer one, as both were
   measured when they were kept. Where one is unknown nothing is blurred, and the pair counts as one
   of two kernels, with a wide limit (growth, rule 3).
3. The blur is the discrete Gaussian, whose variance is what was asked for at any width (Lindeberg
   1990, IEEE TPAMI 12:234); beyond the cube its border goes on.
4. A body that leaves its cube or the images is not measured (interpret.measure, rule 5), nor is one
   in an entry that does not say where its images end: no change is said then.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from appliance.backend.protocol import Backend
from appliance.bundle.lines import SegmentProposeClassify
from appliance.bundle.manifest import Manifest
from appliance.comparison import Change, Sizes
from appliance.interpret import measure
from appliance.preprocess import plan, reference
from appliance.prior import growth
from appliance.prior.entry import CUBE, CUBE_MM, Cube, Entry, Facts
from appliance.records import Pair, Tensor, Vector
from appliance.report import Finding

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

AT_ONCE: Final = 8
"""Cubes in one run of the network: it bounds the memory that it takes."""
NO_BLUR_MM: Final = 0.05
"""Spreads that differ by less are the same."""
PERIOD: Final = 4 * CUBE
"""Over which the transfer function of the blur is sampled: its tails are far inside."""


@dataclass(frozen=True, slots=True)
class Measuring:
    """What measures today: a bundle of lung nodules, loaded."""

    manifest: Manifest
    backend: Backend


@dataclass(frozen=True, slots=True)
class Measured:
    """One finding of both exams."""

    then: Sizes
    now: Sizes
    change: Change | None
    """None where it was not measured in both."""


@dataclass(frozen=True, slots=True)
class _Sought:
    """measure.Sought of a cube that was kept."""

    place_lps_mm: Vector
    diameter_mm: float | None


def changes(
    pairs: Sequence[tuple[Cube, Cube]],
    prior: Entry,
    current: Entry,
    by: Measuring,
    *,
    days: int | None,
    rows: Sequence[growth.Repeated] = (),
) -> tuple[Measured, ...]:
    """Cubes of then and of now, of each finding, so many days apart (None: unknown) -> what was
    measured of each. Poisoned (`backend_failed`) where the network fails."""
    softer = softest(prior.facts.spread_mm, current.facts.spread_mm)
    before = sizes([then for then, _ in pairs], prior, softer, by)
    after = sizes([now for _, now in pairs], current, softer, by)
    kernel = same_kernel(prior.facts, current.facts)
    return tuple(
        Measured(
            a,
            b,
            growth.change(
                growth.Seen(a, _is_mass(then, prior), slices_mm(prior.facts)),
                growth.Seen(b, _is_mass(now, current), slices_mm(current.facts)),
                days,
                same_kernel=kernel,
                blurred=softer is not None,
                rows=rows,
            ),
        )
        for (then, now), a, b in zip(pairs, before, after, strict=True)
    )


def sizes(
    cubes: Sequence[Cube], entry: Entry, to_spread_mm: Pair | None, by: Measuring
) -> tuple[Sizes, ...]:
    """What is measured of cubes of one entry, blurred to this spread (z, in plane; None: as they
    are). Sizes of nothing where a body is not measured."""
    head = by.manifest.line_of(SegmentProposeClassify).measure
    edges = edges_of(entry)
    if head is None or edges is None:
        return tuple(Sizes() for _ in cubes)
    ops = plan.steps(by.manifest.networks["measure"].preprocess)
    if ops.cube is None or (ops.cube.size, ops.cube.spacing_mm) != (CUBE, CUBE_MM):
        return tuple(Sizes() for _ in cubes)
    own = {id(cube): _sought(cube) for cube in (*entry.cubes, *cubes)}
    found = [own[id(cube)] for cube in entry.cubes if cube.finding is not None]
    thin = slices_mm(entry.facts) <= growth.THIN_MM
    measured: list[Sizes] = []
    for first in range(0, len(cubes), AT_ONCE):
        part = cubes[first : first + AT_ONCE]
        hu = np.stack([blurred(cube.hu, entry.facts.spread_mm, to_spread_mm) for cube in part])
        values = reference.points(hu[:, None], ops.points)
        outputs = by.backend.infer("measure", Tensor(values, values.shape, None))
        sought = [(own[id(cube)], cube.grid) for cube in part]
        bodies = measure.bodies(outputs, sought, found, edges, head)
        measured += [_sizes(body, thin=thin) for body in bodies]
    return tuple(measured)


def blurred(hu: NDArray[np.int16], spread_mm: Pair | None, to_mm: Pair | None) -> F32:
    """HU of a cube [z, y, x] with this point spread (SD along z, in plane) -> with a wider one
    (rule 3); as it is where either is unknown."""
    values = hu.astype(np.float32)
    if spread_mm is None or to_mm is None:
        return values
    for axis, at in enumerate((0, 1, 1)):
        if to_mm[at] - spread_mm[at] < NO_BLUR_MM:
            continue
        sigma = math.sqrt(to_mm[at] ** 2 - spread_mm[at] ** 2) / CUBE_MM
        weights = _gaussian(values.shape[axis], sigma)
        values = np.moveaxis(np.tensordot(weights, values, axes=([1], [axis])), 0, axis)
    return np.ascontiguousarray(values, np.float32)


def softest(one: Pair | None, other: Pair | None) -> Pair | None:
    """The spread that both can be blurred to; None where one is unknown."""
    if one is None or other is None:
        return None
    return max(one[0], other[0]), max(one[1], other[1])


def same_kernel(one: Facts, other: Facts) -> bool:
    """Whether both were reconstructed with one kernel of one maker, and their spread is known."""
    known = one.kernel is not None and None not in (one.spread_mm, other.spread_mm)
    return known and (one.kernel, one.maker) == (other.kernel, other.maker)


def slices_mm(facts: Facts) -> float:
    """The larger of the distance of slices and their thickness."""
    return max(facts.spacing_mm[0], facts.thickness_mm or 0.0)


def edges_of(entry: Entry) -> measure.Edges | None:
    """Where the images of an exam end, as its report says; None where it does not."""
    seen, (_, down, across) = entry.report.coverage, entry.facts.spacing_mm
    if seen.fov_mm is None or seen.z_mm is None:
        return None
    (x0, y0, x1, y1), (low, high) = seen.fov_mm, seen.z_mm
    return measure.Edges(
        (x0 + across / 2, y0 + down / 2, low),
        ((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0)),
        (high - low, y1 - y0 - down, x1 - x0 - across),
    )


def finding_of(cube: Cube, entry: Entry) -> Finding | None:
    """The finding of the report that a cube is of; None: a candidate below the threshold."""
    return next((f for f in entry.report.findings if f.id == cube.finding), None)


def _is_mass(cube: Cube, entry: Entry) -> bool:
    finding = finding_of(cube, entry)
    return finding is not None and finding.kind == "mass"


def _sought(cube: Cube) -> _Sought:
    return _Sought(cube.center_lps_mm, cube.diameter_mm)


def _sizes(body: measure.Body | None, *, thin: bool) -> Sizes:
    """Rounded as in a report; of thick slices without a volume."""
    if body is None:
        return Sizes()
    return Sizes(
        volume_mm3=round(body.volume_mm3, 1) if thin else None,
        long_axis_mm=round(body.long_mm, 1),
        short_axis_mm=round(body.short_mm, 1),
        mean_axis_mm=body.mean_mm,
        density=body.density,
    )


def _gaussian(voxels: int, sigma: float) -> F32:
    """Weights [voxels, voxels] of the blur along one axis (rule 3); sigma in voxels."""
    angle = 2 * np.pi * np.fft.rfftfreq(PERIOD)
    kernel = np.fft.irfft(np.exp(sigma**2 * (np.cos(angle) - 1)), PERIOD)
    weights = np.zeros((voxels, voxels))
    for away in range(-voxels, voxels + 1):
        to = np.clip(np.arange(voxels) + away, 0, voxels - 1)
        weights[np.arange(voxels), to] += kernel[away % PERIOD]
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), np.float32)
