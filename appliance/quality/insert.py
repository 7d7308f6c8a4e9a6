"""Implants of known place and size in a series that is in memory: what a probe of the box looks for.

    stack -> Look -> implants -> altered Stack, truth

Rules.
1. An implant is put into the scanner's own pixels as `implant` puts it: partial volume of the slices
   themselves; and with the series' own point spread and noise (`look`).
2. The series that was given is not touched: slices that an implant reaches are new ones, the others
   are shared. What is altered has a digest of its own, so that nobody takes it for a slice that
   came from a scanner, and no facts of its quality: it is in no library.
3. The same series, shapes, places and seed give the same bytes.
4. Only evenly spaced slices of at least two: ValueError for others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from appliance.quality.implant import Shape
from appliance.records import Mask, Stack, Vector


@dataclass(frozen=True, slots=True)
class Look:
    """How a series shows what is in it."""

    noise_hu: float
    grain_mm: float
    """SD of the Gaussian that gives white noise the texture of the series' own, in the plane."""
    spread_mm: float
    """SD of its point spread in the plane."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """An implant that is asked for."""

    diameter_mm: float
    """Of the sphere of equal volume."""
    centers_lps_mm: tuple[Vector, ...]
    """Where it may go; the first at which it can be seen is taken."""
    kind: str = "solid"
    """One of implant.KINDS."""


@dataclass(frozen=True, slots=True)
class Inserted:
    """The truth of one implant."""

    center_lps_mm: Vector
    diameter_mm: float
    kind: str


def look(stack: Stack) -> Look:
    """Point spread and noise of a series, measured in its own pixels."""
    raise NotImplementedError


def places(
    lungs: Mask,
    taken: Sequence[tuple[Vector, float]],
    diameters_mm: Sequence[float],
    seed: int,
    tries: int = 40,
) -> tuple[Wanted, ...]:
    """Places for implants of these sizes in the lungs, clear of what is `taken` (centre LPS mm and
    diameter: findings, lesions) and of each other."""
    raise NotImplementedError


def implants(
    stack: Stack,
    shapes: Sequence[Shape],
    wanted: Sequence[Wanted],
    seed: int,
    seen: Look | None = None,
) -> tuple[Stack, tuple[Inserted, ...]]:
    """The series with these implants, and what is in it: fewer than wanted where some would not be
    seen anywhere. `shapes` ascend in diameter; `seen`: None measures it (`look`)."""
    raise NotImplementedError
