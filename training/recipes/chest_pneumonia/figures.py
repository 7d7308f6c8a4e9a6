"""What pneumonia networks are judged by: out of fold, on the images as they are and shifted.

Rules.
1. Every image is judged by the network that left its fold out; so is every shifted copy of it.
   Folds are pooled: their networks were trained alike, and one threshold must do for all.
2. A threshold is Youden's, from the other folds, over the images and all their shifted copies: the
   largest sensitivity + specificity does not depend on how many of the patients are ill, which is
   74 % here and elsewhere another share, and the next machine is one of the shifted ones. It costs
   a little on the images as they are.
3. Two models are compared on the same draws of whole groups (paired bootstrap).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from training.errors import RunError
from training.judge.calibration import fit
from training.judge.metrics import auc, auc_estimate, auc_or_nan, paired, rates, youden
from training.read.volume import F32, F64
from training.recipes.chest_pneumonia.pneumonia_mnist import FOLDS, I64, Radiographs, shifted

SAMPLES = 500
"""Draws of a bootstrap."""
Judge = Callable[[F32], F32]
"""Images [n, 28, 28] in [0, 1] -> logits [n]."""
PLAIN = "plain"
COMPARED = (PLAIN, "alike", "soft")


def out_of_fold_logits(data: Radiographs, judges: Sequence[Judge]) -> dict[str, F64]:
    """Copy -> logits [n]; `judges[k]` never saw fold k."""
    found: dict[str, F64] = {}
    for fold, judge in enumerate(judges):
        rows = np.flatnonzero(data.folds == fold)
        images = np.asarray(data.images[rows] / np.float32(255), np.float32)
        for name, copy in shifted(images, data.labels[rows], seed=fold).items():
            found.setdefault(name, np.full(len(data), np.nan))[rows] = judge(copy)
    return found


def figures(data: Radiographs, judges: Sequence[Judge]) -> tuple[dict[str, Any], dict[str, F64]]:
    """Figures for a card, and the logits that they come from."""
    if len(judges) != FOLDS:
        raise ValueError(f"{len(judges)} networks for {FOLDS} folds")
    logits = out_of_fold_logits(data, judges)
    return of_logits(data.labels, data.folds, data.groups, logits), logits


def of_logits(labels: I64, folds: I64, groups: I64, logits: Mapping[str, F64]) -> dict[str, Any]:
    """AUC and calls of each copy [n] of the images, pooled over the folds; intervals hold 95 %."""
    plain = logits[PLAIN]
    thresholds = np.array([threshold_of(labels, logits, folds != f) for f in range(FOLDS)])
    cut = thresholds[folds]
    found = auc_estimate(labels, plain, SAMPLES, groups)
    each = rates(labels, plain >= cut)
    copies = {}
    for name, values in logits.items():
        calls = rates(labels, values >= cut)
        copies[name] = {
            "auc": _short(auc(labels, values)),
            "sensitivity": _short(calls.sensitivity.value),
            "specificity": _short(calls.specificity.value),
        }
    return {
        "n": len(labels),
        "auc": _short(found.value),
        "auc_ci": [_short(found.low), _short(found.high)],
        **{
            name: [_short(v) for v in (e.value, e.low, e.high)]
            for name, e in (
                ("acc", each.accuracy),
                ("sensitivity", each.sensitivity),
                ("specificity", each.specificity),
            )
        },
        "auc_by_fold": [_short(auc(labels[folds == f], plain[folds == f])) for f in range(FOLDS)],
        "thresholds": [_short(t) for t in thresholds],
        "copies": copies,
        "auc_of_copies": _short(float(np.mean([c["auc"] for c in copies.values()]))),
    }


def compared(
    labels: I64, groups: I64, first: Mapping[str, F64], second: Mapping[str, F64]
) -> dict[str, dict[str, float]]:
    """AUC of the second model minus that of the first, on COMPARED."""
    found = {}
    for name in COMPARED:
        d = paired(auc_or_nan, labels, first[name], second[name], SAMPLES, groups)
        each = (("difference", d.value), ("low", d.low), ("high", d.high), ("p", d.p))
        found[name] = {what: _short(value) for what, value in each}
    return found


def against(ours: Path, theirs: Path) -> dict[str, dict[str, float]]:
    """`compared` from what two runs kept: how far our AUC is above theirs.

    RunError where there is none, or where it is of other images or folds.
    """
    with np.load(_there(theirs)) as file:
        first = dict(file)
    with np.load(_there(ours)) as file:
        second = dict(file)
    for name in ("labels", "folds", "groups"):
        if not np.array_equal(first[name], second[name]):
            raise RunError(f"{theirs}: of other {name} than {ours}")
    return compared(second["labels"], second["groups"], first, second)


def _there(path: Path) -> Path:
    if not path.exists():
        raise RunError(f"{path}: not there; train and judge it first")
    return path


def threshold_of(
    labels: I64, logits: Mapping[str, F64], rows: npt.NDArray[np.bool_] | None = None
) -> float:
    """The logit to call from, by rule 2, chosen on `rows` [n] (all of them)."""
    some = np.ones(len(labels), bool) if rows is None else rows
    values = np.concatenate([copy[some] for copy in logits.values()])
    return youden(np.tile(labels[some], len(logits)), values)


def sigmoid(logits: F64) -> F64:
    """Logits as scores."""
    return np.asarray(1 / (1 + np.exp(-logits)), np.float64)


def calibrated(labels: I64, logits: Mapping[str, F64]) -> tuple[float, float, float]:
    """(scale, bias, threshold) of score = sigmoid(scale * logit + bias).

    The score is the probability where half of the patients are ill: each class weighs the same in
    the fit, which is of the images as they are. The threshold is that of rule 2 on the score.
    """
    share = labels.mean()
    weights = np.where(labels == 1, 0.5 / share, 0.5 / (1 - share))
    scale, bias = (
        float(v) for v in fit(logits[PLAIN][:, None], labels.astype(np.float64), weights)
    )
    cut = threshold_of(labels, logits)
    return scale, bias, float(1 / (1 + np.exp(-(scale * cut + bias))))


def table(name: str, found: Mapping[str, Any]) -> str:
    """The figures in lines."""
    low, high = found["auc_ci"]
    head = (
        f"{name}: AUC {found['auc']:.4f} ({low:.4f}-{high:.4f}), ACC {found['acc'][0]:.4f}, "
        f"sensitivity {found['sensitivity'][0]:.4f}, specificity {found['specificity'][0]:.4f}, "
        f"mean AUC of copies {found['auc_of_copies']:.4f}"
    )
    lines = [head]
    for copy, c in found["copies"].items():
        lines.append(
            f"  {copy:9s} AUC {c['auc']:.4f} sensitivity {c['sensitivity']:.3f} "
            f"specificity {c['specificity']:.3f}"
        )
    return "\n".join(lines)


def keep(path: Path, data: Radiographs, logits: Mapping[str, F64]) -> None:
    """Logits of every copy, beside what a comparison needs, as npz."""
    arrays: dict[str, Any] = {"labels": data.labels, "folds": data.folds, "groups": data.groups}
    np.savez(path, **arrays | dict(logits))


def _short(value: float | npt.NDArray[np.float64]) -> float:
    return round(float(value), 5)
