"""Whether a water phantom, and so its scanner, is as it should be.

    figures, limits, Expected  -> codes         judged
    earlier records, settings  -> Expected      expected

Rules.
1. A code for each figure that is farther off than the bundle's line allows (bundle/lines.py:
   WaterPhantom); a figure that could not be measured has none.
2. Water, its scale and uniformity have values of their own: 0 HU, 1000 HU above air, the middle.
   Diameter, noise and response depend on phantom and protocol: they are held against the median of
   the first FIRST records of this protocol, once there are LEAST of them, and the diameter against
   that of the settings where they say one ([qa]). The first ones stay the first, so a slow drift is
   not learnt. Before there are so many, the three are measured and not judged.
3. CUPPING is the uniformity of all four edges at once; then UNIFORMITY is said as well. With a
   bubble an edge may be missing, and no cupping is said.
4. A phantom that is tilted by more than it may be is not called out of round.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from appliance.bundle.water import WaterPhantom
from appliance.watching.qa import Expected, QaCode, QaRecord, WaterFigures
from appliance.watching.scanner import Scanner

FIRST, LEAST = 5, 3


def judged(figures: WaterFigures, limits: WaterPhantom, wanted: Expected) -> tuple[QaCode, ...]:
    """What is wrong, in the order of QaCode; nothing: it passed."""
    found = set(_of_water(figures, limits)) | set(_of_protocol(figures, limits, wanted))
    found |= set(_of_place(figures, limits))
    return tuple(code for code in QaCode if code in found)


def expected(
    earlier: Sequence[QaRecord], scanner: Scanner, diameter_mm: float | None = None
) -> Expected:
    """What a phantom of this protocol is held against (rule 2). earlier: what was measured before,
    of any scanner, the oldest first; diameter_mm: of the settings."""
    own = [one.figures for one in earlier if one.figures is not None and one.scanner == scanner]
    first = own[:FIRST] if len(own) >= LEAST else []

    def usual(values: Iterable[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return round(float(np.median(known)), 3) if len(known) >= LEAST else None

    return Expected(
        diameter_mm=diameter_mm or usual(one.diameter_mm for one in first),
        noise_hu=usual(one.noise_hu for one in first),
        response_50_per_mm=usual(one.response_50_per_mm for one in first),
        response_10_per_mm=usual(one.response_10_per_mm for one in first),
        earlier=len(first),
    )


def _of_water(figures: WaterFigures, limits: WaterPhantom) -> Iterator[QaCode]:
    if abs(figures.water_hu) > limits.water_hu:
        yield QaCode.WATER_HU
    if _off(figures.scale, 1.0, limits.scale):
        yield QaCode.HU_SCALE
    if _off(figures.uniformity_hu, 0.0, limits.uniformity_hu):
        yield QaCode.UNIFORMITY
    edges = [edge for edge in figures.edges_hu if edge is not None]
    alike = len({edge > 0 for edge in edges}) == 1
    if alike and _off(figures.cupping_hu, 0.0, limits.uniformity_hu):
        yield QaCode.CUPPING


def _of_protocol(figures: WaterFigures, limits: WaterPhantom, wanted: Expected) -> Iterator[QaCode]:
    noise = wanted.noise_hu
    if noise is not None:
        share = figures.noise_hu / noise - 1
        if share > limits.noise_share or share < -limits.noise_share / 2:
            yield QaCode.NOISE
    if _off(figures.diameter_mm, wanted.diameter_mm, limits.diameter_mm):
        yield QaCode.DIAMETER
    of_response = (
        (figures.response_50_per_mm, wanted.response_50_per_mm),
        (figures.response_10_per_mm, wanted.response_10_per_mm),
    )
    if any(_off(one, usual, limits.response_per_mm) for one, usual in of_response):
        yield QaCode.RESPONSE


def _of_place(figures: WaterFigures, limits: WaterPhantom) -> Iterator[QaCode]:
    tilted = figures.tilt_deg is not None and figures.tilt_deg > limits.tilt_deg
    if tilted:
        yield QaCode.TILT
    elif figures.out_of_round_mm > limits.out_of_round_mm:
        yield QaCode.NOT_ROUND
    if figures.off_centre_mm > limits.off_centre_mm:
        yield QaCode.OFF_CENTRE
    if figures.bubble_mm > limits.bubble_mm:
        yield QaCode.BUBBLE


def _off(value: float | None, usual: float | None, most: float) -> bool:
    return value is not None and usual is not None and abs(value - usual) > most
