"""One series with implants through the line of its bundle: which of them are found.

    stack -> found (untouched) -> places -> altered stack -> found -> judged
                                                          -> with each candidate tuning, in a trial

Rules.
1. The altered series is a Stack in this process: it has no bytes, no Report, no row and no file.
   What leaves this module are figures (watching/probe.py).
2. Sizes, places and shapes are fixed by the seed before any network sees the altered series. The
   lungs and the findings of the untouched one say where an implant may lie: in the lungs, at
   vessels too, and at no finding.
3. Each analysis is that of the bundle's own kind, at its own operating point: what is found is what
   would be reported. The untouched series is analysed here too and not taken from its report, which
   another backend may have made: the difference between two backends is caused by no implant.
4. A series that is not analysed here, that is looked at for masses alone, or in which nothing fits,
   gets no implants: None.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from appliance.backend.protocol import Backend
from appliance.bundle.manifest import Manifest
from appliance.lines import kinds
from appliance.lines.budget import Budget
from appliance.lines.kind import NO_CONTEXT, Analysis
from appliance.preprocess import fast
from appliance.quality import insert, probed, tuning
from appliance.quality.implant import Shape, draw_kind
from appliance.quality.probed import Ball
from appliance.quality.trial import IMPLANTS
from appliance.reasons import Code
from appliance.records import Mask, Plane, Stack
from appliance.report import Finding
from appliance.series import pixels
from appliance.watching.probe import SIZES_MM, Tuned

LUNGS: Final = "lungs"
"""The mask of the lungs, as the kind names it."""
LARGEST_MM: Final = 15.0
"""Of an implant of the last class of size."""


@dataclass(frozen=True, slots=True)
class Prober:
    """What looks for implants: a bundle that is open in this process, and its shapes."""

    manifest: Manifest
    backend: Backend
    shapes: tuple[Shape, ...]
    """Ascending in diameter."""
    memory_bytes: int | None = None
    """For a series and its analysis; None where the machine does not say."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of the implants of one series."""

    sizes_mm: tuple[float, ...]
    found: tuple[bool, ...]
    beside: int
    extra: int
    tuned: tuple[Tuned, ...] = ()


def stack_of(images: Iterable[bytes], manifest: Manifest) -> Stack | None:
    """The images that were analysed, in order; None where they are no volume for this bundle any
    more. SeriesRefused where one cannot be read."""
    planes: list[Plane] = []
    for data in images:
        planes += (fast.plane(image, ()) for image in pixels.images(pixels.parse(data)))
    outline = kinds.of(manifest).outline(planes, manifest.accepts, unread=())
    stack = outline.subject
    if outline.reasons or not isinstance(stack, Stack):
        return None
    return stack


def probe(
    prober: Prober, stack: Stack, seed: int, candidates_mm: Sequence[float] = ()
) -> Outcome | None:
    """Put implants into a series and look for them; None by rule 4. `candidates_mm`: of a trial,
    for which a series must have room for all implants. Poisoned where the backend fails."""
    untouched = analysed(prober, stack)
    lungs = None if untouched is None else lungs_of(untouched)
    if untouched is None or lungs is None:
        return None
    made = with_implants(stack, lungs, untouched.findings, prober.shapes, seed)
    if made is None:
        return None
    altered, implants = made
    plain = analysed(prober, altered)
    if plain is None:
        return None
    judged = probed.judged(plain.findings, implants, untouched.findings)
    tuned = []
    for mm in candidates_mm if len(implants) == IMPLANTS else ():
        found = analysed(prober, altered, tuning.tuned(prober.manifest, mm))
        if found is None:
            return None
        with_it = probed.judged(found.findings, implants, untouched.findings)
        tuned.append(Tuned(soften_mm=mm, found=with_it.found, beside=with_it.beside))
    return Outcome(
        sizes_mm=tuple(round(one.diameter_mm, 2) for one in implants),
        found=judged.found,
        beside=judged.beside,
        extra=judged.extra,
        tuned=tuple(tuned),
    )


def analysed(prober: Prober, stack: Stack, manifest: Manifest | None = None) -> Analysis | None:
    """What the line says of a stack, None where it does not analyse it, or looks for masses alone.
    manifest: in place of the bundle's own."""
    used = manifest or prober.manifest
    if any(reason.code is Code.MASSES_ONLY for reason in stack.limitations):
        return None
    budget = Budget(held(stack), prober.memory_bytes)
    if budget.too_many():
        return None
    found = kinds.of(used).analyse(stack, used, prober.backend, budget, NO_CONTEXT)
    return None if found.reasons or found.too_wide else found


def held(stack: Stack) -> int:
    """Bytes of its pixels."""
    return sum(
        plane.native.nbytes + sum(one.nbytes for one in plane.resampled.values())
        for plane in stack.planes
    )


def lungs_of(analysis: Analysis) -> Mask | None:
    """The mask of the lungs; None where the kind draws none."""
    return next((mask for mask in analysis.masks if mask.name == LUNGS), None)


def with_implants(
    stack: Stack, lungs: Mask, findings: Sequence[Finding], shapes: Sequence[Shape], seed: int
) -> tuple[Stack, tuple[Ball, ...]] | None:
    """The altered series and the truth (rule 2); None where nothing fits, or its slices are not
    evenly spaced."""
    taken = [(one.place_lps_mm, one.diameter_mm or 0.0) for one in findings]
    rng = np.random.default_rng([2012, seed])
    try:
        placed = insert.places(lungs, taken, sizes(seed), seed)
        wanted = [replace(one, kind=draw_kind(rng, one.diameter_mm)) for one in placed]
        altered, truth = insert.implants(stack, shapes, wanted, seed)
    except ValueError:
        return None
    if not truth:
        return None
    return altered, tuple(Ball(one.center_lps_mm, one.diameter_mm) for one in truth)


def sizes(seed: int) -> tuple[float, ...]:
    """Diameters of the implants of a series, mm: of each class of size in turn, even in their
    logarithm."""
    rng = np.random.default_rng([2011, seed])
    out = []
    for number in range(IMPLANTS):
        low, high = SIZES_MM[number % len(SIZES_MM)]
        out.append(float(np.exp(rng.uniform(np.log(low), np.log(high or LARGEST_MM)))))
    return tuple(out)
