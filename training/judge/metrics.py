"""Figures that recipes, evaluation and cards share.

Rules.
1. Each takes plain arrays and returns plain numbers. Labels are 0 or 1; scores grow with belief; a
   case is called where its score is at least the threshold.
2. An interval holds 95 %. It is a percentile bootstrap (Efron 1979) with a fixed seed over what is
   independent: cases, or whole scans or patients where they hold several; for plain proportions
   it is Wilson's (1927).
3. A threshold is chosen on other cases than those it is judged on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from appliance.results.share import Z95
from appliance.results.share import wilson as score_interval

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Estimate:
    """A figure and its 95 % interval."""

    value: float
    low: float
    high: float


def resampled(
    statistic: Callable[[I64], float],
    n: int,
    samples: int = 1000,
    seed: int = 0,
    groups: npt.ArrayLike | None = None,
) -> F64:
    """The statistic of `samples` draws with replacement of n indices, or of whole `groups` [n].

    NaN says that a draw has no figure (one class only); those draws are left out.
    """
    rng = np.random.default_rng(seed)
    members: list[I64] = []
    if groups is not None:
        _, which = np.unique(np.asarray(groups), return_inverse=True)
        members = [np.flatnonzero(which == g) for g in range(which.max() + 1)]
    found = []
    for _ in range(samples):
        if members:
            pick = np.concatenate([members[g] for g in rng.integers(0, len(members), len(members))])
        else:
            pick = rng.integers(0, n, n)
        found.append(statistic(pick))
    values = np.array(found, np.float64)
    return values[~np.isnan(values)]


def between(value: float, draws: F64) -> Estimate:
    """A figure with the middle 95 % of its draws; NaN where there is none."""
    if not len(draws):
        return Estimate(value, float("nan"), float("nan"))
    low, high = np.quantile(draws, [0.025, 0.975])
    return Estimate(value, float(low), float(high))


def estimate(
    statistic: Callable[[I64], float],
    n: int,
    samples: int = 1000,
    seed: int = 0,
    groups: npt.ArrayLike | None = None,
) -> Estimate:
    """A statistic of n cases (it gets their indices) with its bootstrap interval."""
    return between(statistic(np.arange(n)), resampled(statistic, n, samples, seed, groups))


def wilson(successes: int, n: int) -> Estimate:
    """A proportion with the score interval of Wilson (1927); NaN in [0, 1] where n is 0."""
    if n == 0:
        return Estimate(float("nan"), 0.0, 1.0)
    return Estimate(successes / n, *score_interval(successes / n, n))


def auc(labels: npt.ArrayLike, scores: npt.ArrayLike) -> float:
    """Area under the ROC curve as the Mann-Whitney statistic (ties count half)."""
    y, s = np.asarray(labels).astype(bool), np.asarray(scores, dtype=np.float64)
    _, inverse, counts = np.unique(s, return_inverse=True, return_counts=True)
    rank = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    n1, n0 = int(y.sum()), int((~y).sum())
    if n1 == 0 or n0 == 0:
        raise ValueError("auc needs both classes")
    return float((rank[y].sum() - n1 * (n1 + 1) / 2) / (n1 * n0))


def auc_or_nan(labels: npt.ArrayLike, scores: npt.ArrayLike) -> float:
    """`auc`, NaN where there is one class only: what a bootstrap draws may have none."""
    return auc(labels, scores) if len(np.unique(np.asarray(labels).astype(bool))) == 2 else np.nan


def auc_estimate(
    labels: npt.ArrayLike,
    scores: npt.ArrayLike,
    samples: int = 1000,
    groups: npt.ArrayLike | None = None,
) -> Estimate:
    """AUC with its interval over cases, or over whole groups (patients, scans)."""
    y, s = np.asarray(labels).astype(bool), np.asarray(scores, np.float64)
    return estimate(lambda pick: auc_or_nan(y[pick], s[pick]), len(y), samples, groups=groups)


@dataclass(frozen=True)
class Difference:
    """A statistic of the second model minus that of the first, on the same draws of cases."""

    value: float
    low: float
    high: float
    p: float  # two-sided: twice the share of draws on the other side of 0, at least 2 / (draws + 1)


def paired(
    statistic: Callable[[npt.ArrayLike, npt.ArrayLike], float],
    labels: npt.ArrayLike,
    first: npt.ArrayLike,
    second: npt.ArrayLike,
    samples: int = 1000,
    groups: npt.ArrayLike | None = None,
) -> Difference:
    """Paired bootstrap of two models' scores: `statistic(labels, scores)`, such as `auc_or_nan`."""
    y, a, b = np.asarray(labels), np.asarray(first, np.float64), np.asarray(second, np.float64)

    def gain(pick: I64) -> float:
        return statistic(y[pick], b[pick]) - statistic(y[pick], a[pick])

    draws = resampled(gain, len(y), samples, groups=groups)
    both = between(gain(np.arange(len(y))), draws)
    beyond = min((draws <= 0).sum(), (draws >= 0).sum())
    p = min(1.0, 2 * (float(beyond) + 1) / (len(draws) + 1))
    return Difference(both.value, both.low, both.high, p)


@dataclass(frozen=True)
class Rates:
    """Shares of right calls with Wilson's intervals."""

    sensitivity: Estimate
    specificity: Estimate
    accuracy: Estimate


def rates(labels: npt.ArrayLike, called: npt.ArrayLike) -> Rates:
    """Sensitivity, specificity and accuracy of calls [n] (bool)."""
    y, c = np.asarray(labels).astype(bool), np.asarray(called).astype(bool)
    return Rates(
        wilson(int((y & c).sum()), int(y.sum())),
        wilson(int((~y & ~c).sum()), int((~y).sum())),
        wilson(int((y == c).sum()), len(y)),
    )


def cuts(labels: npt.ArrayLike, scores: npt.ArrayLike) -> tuple[F64, F64, F64]:
    """Every way to cut: thresholds rising [k + 1], sensitivity, specificity.

    Thresholds lie half way between neighbouring scores, where a new case is least likely to lie on
    one; the first calls all (-inf), the last none (inf). ValueError without both classes.
    """
    y, s = np.asarray(labels).astype(bool), np.asarray(scores, np.float64)
    if y.all() or not y.any():
        raise ValueError("a threshold needs both classes")
    values, inverse = np.unique(s, return_inverse=True)
    yes = np.bincount(inverse[y], minlength=len(values))
    no = np.bincount(inverse[~y], minlength=len(values))
    below_yes = np.concatenate([[0], np.cumsum(yes)])
    below_no = np.concatenate([[0], np.cumsum(no)])
    middles = values[:-1] + (values[1:] - values[:-1]) / 2
    thresholds = np.concatenate([[-np.inf], middles, [np.inf]])
    return thresholds, 1 - below_yes / yes.sum(), below_no / no.sum()


def youden(labels: npt.ArrayLike, scores: npt.ArrayLike) -> float:
    """Threshold of the largest sensitivity + specificity (Youden 1950); the lowest of equals."""
    thresholds, sensitivity, specificity = cuts(labels, scores)
    return float(thresholds[np.argmax(np.round(sensitivity + specificity, 12))])


def most_accurate(labels: npt.ArrayLike, scores: npt.ArrayLike) -> float:
    """Threshold of the most right calls; the lowest of equals."""
    thresholds, sensitivity, specificity = cuts(labels, scores)
    share = float(np.asarray(labels).astype(bool).mean())
    right = sensitivity * share + specificity * (1 - share)
    return float(thresholds[np.argmax(np.round(right, 12))])


def keeps_sensitivity(labels: npt.ArrayLike, scores: npt.ArrayLike, least: float = 0.95) -> float:
    """The highest threshold that still calls this share of the positives."""
    thresholds, sensitivity, _ = cuts(labels, scores)
    return float(thresholds[np.flatnonzero(sensitivity >= least - 1e-12)[-1]])


def out_of_fold(
    labels: npt.ArrayLike,
    scores: npt.ArrayLike,
    folds: npt.ArrayLike,
    choose: Callable[[npt.ArrayLike, npt.ArrayLike], float] = youden,
) -> tuple[Bool, dict[str, float]]:
    """Calls [n], each by the threshold chosen on the other folds, and each fold's threshold."""
    y, s, f = np.asarray(labels), np.asarray(scores, np.float64), np.asarray(folds)
    names = np.unique(f)
    if len(names) < 2:
        raise ValueError("out of fold needs two folds or more")
    called, thresholds = np.zeros(len(y), bool), {}
    for name in names:
        chosen = choose(y[f != name], s[f != name])
        called[f == name] = s[f == name] >= chosen
        thresholds[str(name)] = chosen
    return called, thresholds


def fit_temperature(logits: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """T in [0.05, 20] for which softmax(logits / T) is most likely (Guo et al. 2017).

    `logits` [n] (binary, sigmoid) or [n, classes]. The slope of the likelihood in 1 / T only rises,
    so halving finds its zero; classes that are split without an error end at the lower bound.
    """
    z = np.asarray(logits, np.float64)
    z = np.column_stack([np.zeros(len(z)), z]) if z.ndim == 1 else z
    z = z - z.max(axis=1, keepdims=True)
    wanted = z[np.arange(len(z)), np.asarray(labels).astype(int)]

    def slope(a: float) -> float:
        p = np.exp(a * z)
        p /= p.sum(axis=1, keepdims=True)
        return float(((p * z).sum(axis=1) - wanted).mean())

    low, high = 1 / 20, 1 / 0.05
    for _ in range(60):
        middle = (low * high) ** 0.5
        low, high = (low, middle) if slope(middle) > 0 else (middle, high)
    return float((low * high) ** -0.5)


def reliability(
    labels: npt.ArrayLike, probabilities: npt.ArrayLike, bins: int = 15
) -> list[tuple[int, float, float]]:
    """(cases, mean probability, share of positives) of each bin of equal width that holds any."""
    y, p = np.asarray(labels).astype(bool), np.asarray(probabilities, np.float64)
    which = np.minimum((p * bins).astype(int), bins - 1)
    rows = [which == b for b in np.unique(which)]
    return [(int(r.sum()), float(p[r].mean()), float(y[r].mean())) for r in rows]


def ece(labels: npt.ArrayLike, probabilities: npt.ArrayLike, bins: int = 15) -> float:
    """Expected calibration error of the positive class (Naeini et al. 2015, eq. 3 as the mean)."""
    rows = reliability(labels, probabilities, bins)
    return sum(n * abs(p - share) for n, p, share in rows) / sum(n for n, _, _ in rows)


def dice(a: npt.ArrayLike, b: npt.ArrayLike) -> float:
    """2 |a and b| / (|a| + |b|) of two masks; 1 where both are empty."""
    one, other = np.asarray(a).astype(bool), np.asarray(b).astype(bool)
    total = int(one.sum()) + int(other.sum())
    return 2 * int((one & other).sum()) / total if total else 1.0


def hausdorff_mm(
    a: npt.ArrayLike, b: npt.ArrayLike, spacing_mm: Sequence[float], percent: float = 95.0
) -> float:
    """Hausdorff distance of two masks' surfaces in mm (Huttenlocher et al. 1993).

    The larger of the two directed `percent` percentiles; 100 is the plain distance. Surface: voxels
    with a face on the outside, taken at their centres; `spacing_mm` in the order of the axes. 0
    where both are empty, inf where one is.
    """
    one, other = np.asarray(a).astype(bool), np.asarray(b).astype(bool)
    if not one.any() or not other.any():
        return 0.0 if one.any() == other.any() else float("inf")
    filled = np.argwhere(one | other)
    box = tuple(slice(i, j) for i, j in zip(filled.min(0), filled.max(0) + 1, strict=True))
    rims = [m[box] & ~ndimage.binary_erosion(m[box]) for m in (one, other)]
    away = [ndimage.distance_transform_edt(~rim, sampling=spacing_mm) for rim in rims]
    return float(
        max(np.percentile(away[1][rims[0]], percent), np.percentile(away[0][rims[1]], percent))
    )


@dataclass(frozen=True)
class Agreement:
    """Errors (found - truth) of a measure, in its unit or, where relative, as parts of truth."""

    n: int
    mean: float  # bias
    sd: float  # ddof 1; NaN for one case
    median: float
    mean_absolute: float
    median_absolute: float
    low: float  # limits of agreement, mean -+ 1.96 sd (Bland and Altman 1986)
    high: float


def agreement(found: npt.ArrayLike, truth: npt.ArrayLike, relative: bool = False) -> Agreement:
    """Errors [n] of diameters or axes (mm) or volumes (mm3, better `relative`); n is 1 or more."""
    right = np.asarray(truth, np.float64)
    errors = np.asarray(found, np.float64) - right
    if not errors.size:
        raise ValueError("agreement needs a case")
    errors = errors / right if relative else errors
    mean = float(errors.mean())
    sd = float(errors.std(ddof=1)) if errors.size > 1 else float("nan")
    return Agreement(
        errors.size,
        mean,
        sd,
        float(np.median(errors)),
        float(np.abs(errors).mean()),
        float(np.median(np.abs(errors))),
        mean - Z95 * sd,
        mean + Z95 * sd,
    )
