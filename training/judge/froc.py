"""Free-response curves: which findings hit, and how many false ones each sensitivity costs.

Rules.
1. A hit is a finding whose centre lies within the nodule's radius, at least 5 mm. A nodule is hit
   once, by its best finding; further hits and findings near an ignored lesion count neither way.
2. Scans are pooled: false findings a scan and found nodules of all, whichever scan they lie in.
   Scans are what is independent, so intervals draw whole scans.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from training.judge.metrics import F64, I64, Estimate, between, wilson

RATES = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
"""False findings a scan at which CPM averages the sensitivity (Setio et al. 2017)."""


@dataclass(frozen=True)
class Finding:
    """One place with its score."""

    center_lps_mm: tuple[float, float, float]
    diameter_mm: float
    score: float


@dataclass(frozen=True)
class Marks:
    """Findings of one scan."""

    scores: F64  # [n]
    verdicts: I64  # [n]: the nodule it hits, -1 false, -2 neither (see `verdicts_of`)
    nodules: int


@dataclass(frozen=True)
class Places:
    """Balls in one scan: centres [n, 3] and diameters [n] in mm."""

    centers_mm: F64
    diameters_mm: F64


NOWHERE = Places(np.zeros((0, 3)), np.zeros(0))


def verdicts_of(
    at_mm: npt.ArrayLike,
    scores: npt.ArrayLike,
    truth: Places,
    ignored: Places = NOWHERE,
    least_mm: float = 5.0,
    beside_mm: float = 3.0,
) -> I64:
    """For each finding [n, 3] the nodule it hits (the nearest in reach), -1 false, -2 neither.

    Reach is the radius, at least `least_mm` (0: the rule of Setio et al. 2017); an ignored lesion
    reaches `beside_mm` further. Equal scores keep their order.
    """
    at = np.asarray(at_mm, np.float64).reshape(-1, 3)
    out = np.full(len(at), -1, np.int64)
    reach = np.maximum(truth.diameters_mm / 2, least_mm)
    aside = np.maximum(ignored.diameters_mm / 2, least_mm) + beside_mm
    taken: set[int] = set()
    for i in np.argsort(-np.asarray(scores, np.float64), kind="stable"):
        far = np.linalg.norm(truth.centers_mm - at[i], axis=1)
        far = np.where(far <= reach, far, np.inf)
        if np.isfinite(far).any():
            nodule = int(np.argmin(far))
            out[i] = -2 if nodule in taken else nodule
            taken.add(nodule)
        elif (np.linalg.norm(ignored.centers_mm - at[i], axis=1) <= aside).any():
            out[i] = -2
    return out


@dataclass(frozen=True)
class Froc:
    """A free-response curve at some rates; intervals over scans."""

    rates: tuple[float, ...]  # false findings a scan
    sensitivity: tuple[Estimate, ...]
    thresholds: tuple[float, ...]  # inf where not even the first finding is allowed
    cpm: Estimate  # mean sensitivity over the rates


def froc(
    scans: Sequence[Marks],
    rates: Sequence[float] = RATES,
    interpolate: bool = False,
    samples: int = 1000,
    seed: int = 0,
) -> Froc:
    """Sensitivity at most so many false findings a scan, pooled over scans (Setio et al. 2017).

    Each figure is reached by the threshold beside it: equal scores are taken together or not at
    all. `interpolate` reads between thresholds instead, as LUNA16's own script does; use it only to
    stand beside figures that were made so. ValueError without scans.
    """
    if not scans:
        raise ValueError("froc needs a scan")
    scores = np.concatenate([s.scores for s in scans])
    verdicts = np.concatenate([s.verdicts for s in scans])
    of = np.repeat(np.arange(len(scans)), [len(s.scores) for s in scans])
    order = np.argsort(-scores, kind="stable")
    order = order[verdicts[order] != -2]
    scores, hit, of = scores[order], verdicts[order] >= 0, of[order]
    ends = np.flatnonzero(np.append(scores[1:] != scores[:-1], True)) if len(scores) else of
    nodules, wanted = np.array([s.nodules for s in scans]), np.asarray(rates, np.float64)

    def curve(times: F64) -> tuple[F64, I64]:
        """Sensitivity and number of cuts allowed at each rate; scan i counts times[i]."""
        weight = times[of]
        false = np.append(0, np.cumsum(weight * ~hit)[ends]) / times.sum()
        found = np.append(0, np.cumsum(weight * hit)[ends]) / max(times @ nodules, 1e-9)
        allowed = np.searchsorted(false, wanted + 1e-9, side="right") - 1
        if interpolate:
            return np.interp(wanted, false, found), allowed
        return found[allowed], allowed

    whole, allowed = curve(np.ones(len(scans)))
    rng, draws = np.random.default_rng(seed), []
    for _ in range(samples):
        pick = np.bincount(rng.integers(0, len(scans), len(scans)), minlength=len(scans))
        if pick @ nodules:
            draws.append(curve(pick.astype(np.float64))[0])
    drawn = np.array(draws).reshape(-1, len(wanted))
    levels = np.append(np.inf, scores[ends])
    return Froc(
        tuple(float(r) for r in rates),
        tuple(between(float(v), drawn[:, i]) for i, v in enumerate(whole)),
        tuple(float(levels[a]) for a in allowed),
        between(float(whole.mean()), drawn.mean(axis=1)),
    )


def rows_of(curve: Froc) -> list[dict[str, Any]]:
    """A curve for a report: rate, sensitivity with its interval, threshold (None: infinite)."""
    return [
        {
            "fp_per_scan": rate,
            "sensitivity": round(found.value, 4),
            "interval": interval(found),
            "threshold": round(threshold, 4) if np.isfinite(threshold) else None,
        }
        for rate, found, threshold in zip(
            curve.rates, curve.sensitivity, curve.thresholds, strict=True
        )
    ]


def interval(of: Estimate) -> list[float]:
    """Both ends, for a report."""
    return [round(of.low, 4), round(of.high, 4)]


def shares(found: Sequence[bool], classes: Sequence[str]) -> dict[str, dict[str, Any]]:
    """How many nodules of each class were found, with Wilson's interval."""
    out = {}
    for name in sorted(set(classes)):
        those = [f for f, c in zip(found, classes, strict=True) if c == name]
        share = wilson(sum(those), len(those))
        out[name] = {
            "found": sum(those),
            "of": len(those),
            "sensitivity": round(share.value, 4),
            "interval": interval(share),
        }
    return out
