"""What the network of frontal views is judged by: how much is kept, how much of each class is
refused.

Rules.
1. A picture is kept where its score reaches the threshold of the network that judged it.
2. Pictures of one CT are no cases of their own: their figures have the number of CTs and the worst
   of these beside them, and no interval. Those of val have Wilson's interval.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from appliance.bundle.heads import FrontalHead
from appliance.bundle.manifest import Figure
from appliance.results import share
from training.read.volume import F64
from training.recipes.chest_pneumonia.frontal_lessons import FRONTAL, OTHERS
from training.recipes.chest_pneumonia.pneumonia_mnist import I64
from training.ship.provenance import figure
from training.ship.source_folder import read_json

PREFIX = "frontal_"
"""Of the name of each figure on a card."""
KEPT = (0.95, 0.98, 0.99, 0.995)
"""Shares of val of which the cross-fitted figure is printed."""


@dataclass(frozen=True)
class Judged:
    """Scores by class of one source of pictures, and the threshold of the network that gave
    them."""

    source: str
    scores: Mapping[str, F64]  # class -> [n]
    threshold: float

    def share(self, name: str) -> float:
        """Kept of FRONTAL, refused of any other class."""
        kept = float((self.scores[name] >= self.threshold).mean())
        return kept if name == FRONTAL else 1 - kept


def threshold_keeping(scores: F64, keep: float) -> float:
    """The largest score that at least a share `keep` of these reach."""
    order = np.sort(scores)
    return float(order[int(np.floor((1 - keep) * len(order)))])


def cross_fitted(scores: F64, folds: I64, keep: float) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Whether each is kept by the threshold of the other folds [n]."""
    kept = np.zeros(len(scores), bool)
    for fold in np.unique(folds):
        out = folds == fold
        kept[out] = scores[out] >= threshold_keeping(scores[~out], keep)
    return kept


def figures(
    real: Judged, bodies: Sequence[Judged], labels: I64, folds: I64, keep: float
) -> dict[str, Any]:
    """Of val [n] with its labels and folds, and of CTs that were left out."""
    kept = cross_fitted(real.scores[FRONTAL], folds, keep)
    of_val = {
        "kept": _counted(kept),
        "kept_with_pneumonia": _counted(kept[labels == 1]),
        "kept_without_it": _counted(kept[labels == 0]),
    }
    for name in OTHERS:
        if name in real.scores:
            of_val[name] = _counted(real.scores[name] < real.threshold)
    of_bodies: dict[str, Any] = {}
    for name in (FRONTAL, *OTHERS):
        have = [one for one in bodies if name in one.scores]
        if have:
            shares = [one.share(name) for one in have]
            n = [len(one.scores[name]) for one in have]
            of_bodies[name] = {
                "share": float(np.average(shares, weights=n)),
                "n": sum(n),
                "bodies": len(have),
                "worst": min(shares),
                "worst_of": have[int(np.argmin(shares))].source,
            }
    curve = {
        f"{k:g}": {
            "kept": float(cross_fitted(real.scores[FRONTAL], folds, k).mean()),
            "threshold": threshold_keeping(real.scores[FRONTAL], k),
        }
        for k in KEPT
    }
    return {
        "keep": keep,
        "threshold": real.threshold,
        "val": of_val,
        "left_out": of_bodies,
        "val_by_share": curve,
    }


def _counted(hits: np.ndarray[Any, np.dtype[np.bool_]]) -> dict[str, Any]:
    found, ends = share.of(int(hits.sum()), len(hits))
    return {
        "share": found,
        "low": ends[0] if ends else None,
        "high": ends[1] if ends else None,
        "n": len(hits),
    }


def table(found: Mapping[str, Any]) -> str:
    """The figures in lines."""
    lines = [f"threshold {found['threshold']:.6f}, for {found['keep']:g} of val"]
    for name, one in found["val"].items():
        what = name if name.startswith("kept") else f"refused: {name}"
        lines.append(
            f"  val       {what:24s} {one['share']:.4f} ({one['low']:.3f} to {one['high']:.3f}), "
            f"{one['n']}"
        )
    for name, one in found["left_out"].items():
        what = "kept: frontal" if name == FRONTAL else f"refused: {name}"
        lines.append(
            f"  left out  {what:24s} {one['share']:.4f}, {one['n']} of {one['bodies']} CTs, least "
            f"{one['worst']:.3f} ({one['worst_of']})"
        )
    for keep, one in found["val_by_share"].items():
        lines.append(f"  for {keep}: {one['kept']:.4f} kept, threshold {one['threshold']:.6f}")
    return "\n".join(lines)


def card(found: Mapping[str, Any]) -> dict[str, Figure | float]:
    """The figures of a card."""
    out: dict[str, Figure | float] = {}
    for name, one in found["val"].items():
        what = name if name.startswith("kept") else f"refused_{name}"
        ends = [round(one["low"], 4), round(one["high"], 4)]
        out[f"{PREFIX}val_{what}"] = figure(round(one["share"], 4), ends, one["n"])
    for name, one in found["left_out"].items():
        what = "kept" if name == FRONTAL else f"refused_{name}"
        out[f"{PREFIX}left_out_ct_{what}"] = figure(round(one["share"], 4), None, one["n"])
        out[f"{PREFIX}left_out_ct_{what}_worst_ct"] = round(one["worst"], 4)
    return out


def note(found: Mapping[str, Any]) -> str:
    """What a card says of where the network comes from, and of its figures."""
    return (
        f"What tells frontal views: learned from train of PneumoniaMNIST and projections of CTs of "
        f"eight adults; its threshold keeps {found['keep']:g} of val. Kept of val is cross-fitted "
        "over the folds of val. Pictures of a CT are judged by doubles that left it and another "
        "one out: they are many pictures of few patients, so they have no interval, and that of "
        "the worst CT stands beside."
    )


@dataclass(frozen=True)
class Told:
    """A finished run of `frontal`."""

    network: bytes
    head: FrontalHead
    card: Mapping[str, Figure | float]
    note: str


def read(run: Path) -> Told:
    """What a run wrote; RunError where it did not."""
    found = read_json(run / "metrics.json")["figures"]
    head = FrontalHead.model_validate(read_json(run / "frontal.json"))
    return Told((run / "float.onnx").read_bytes(), head, card(found), note(found))
