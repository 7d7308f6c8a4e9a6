"""What the network of frontal views is judged by: how much is kept, how much of each class is
refused.

Rules.
1. A picture is kept where its score reaches the threshold of the network that judged it.
2. Pictures of one CT are no cases of their own: their figures have the number of CTs and the worst
   of these beside them, and no interval. Those of val have Wilson's interval.
3. A threshold keeps a share of val, and each network has its own. What other shares (`KEPT`) would
   keep and refuse stands beside the one that was asked for.
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
from training.errors import RunError
from training.read.volume import F64
from training.recipes.chest_pneumonia.drawn_chests import lowest
from training.recipes.chest_pneumonia.frontal_lessons import FRONTAL, OTHERS
from training.recipes.chest_pneumonia.frontal_rule import falls_short
from training.recipes.chest_pneumonia.pneumonia_mnist import I64
from training.ship.provenance import figure
from training.ship.source_folder import read_json

PREFIX = "frontal_"
"""Of the name of each figure on a card."""
KEPT = (0.95, 0.99, 0.995)
"""Shares of val whose figures are printed side by side."""


@dataclass(frozen=True)
class Judged:
    """Scores by class of one source of pictures, by one network."""

    source: str
    scores: Mapping[str, F64]  # class -> [n]
    of_val: F64  # what the same network says of the frontal images of val [m]

    def threshold(self, keep: float) -> float:
        """That of the network, for this share of val."""
        return threshold_keeping(self.of_val, keep)

    def share(self, name: str, keep: float) -> float:
        """Kept of FRONTAL, refused of any other class."""
        kept = float((self.scores[name] >= self.threshold(keep)).mean())
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
    real: Judged,
    bodies: Sequence[Judged],
    labels: I64,
    folds: I64,
    keep: float,
    drawn: Mapping[str, float],
) -> dict[str, Any]:
    """Of val [n] with its labels and folds, of CTs that were left out, and the scores of drawn
    chests; at the threshold for `keep`, and under `by_share` at those for KEPT."""

    def at(share: float) -> dict[str, Any]:
        return {
            "threshold": real.threshold(share),
            "val": _of_val(real, labels, folds, share),
            "left_out": _of_bodies(bodies, share),
        }

    return {
        "keep": keep,
        **at(keep),
        "drawn": dict(drawn),
        "by_share": {f"{share:g}": at(share) for share in KEPT},
    }


def _of_val(real: Judged, labels: I64, folds: I64, keep: float) -> dict[str, Any]:
    kept = cross_fitted(real.scores[FRONTAL], folds, keep)
    found = {
        "kept": _counted(kept),
        "kept_with_pneumonia": _counted(kept[labels == 1]),
        "kept_without_it": _counted(kept[labels == 0]),
    }
    threshold = real.threshold(keep)
    for name in OTHERS:
        if name in real.scores:
            found[name] = _counted(real.scores[name] < threshold)
    return found


def _of_bodies(bodies: Sequence[Judged], keep: float) -> dict[str, Any]:
    found = {}
    for name in (FRONTAL, *OTHERS):
        have = [one for one in bodies if name in one.scores]
        if have:
            shares = [one.share(name, keep) for one in have]
            n = [len(one.scores[name]) for one in have]
            found[name] = {
                "share": float(np.average(shares, weights=n)),
                "n": sum(n),
                "bodies": len(have),
                "worst": min(shares),
                "worst_of": have[int(np.argmin(shares))].source,
            }
    return found


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
    for name, score in found["drawn"].items():
        lines.append(f"  drawn     {name}: {score:.4f}")
    for keep, one in found["by_share"].items():
        lines.append(f"for {keep} of val: threshold {one['threshold']:.6f}")
        for source in ("val", "left_out"):
            said = (f"{name} {its['share']:.4f} of {its['n']}" for name, its in one[source].items())
            lines.append(f"  {source}: {', '.join(said)}")
    short = falls_short(found)
    lines.append(f"It does not ship: {'; '.join(short)}." if short else "It ships.")
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
    _, score = lowest(found["drawn"])
    out[f"{PREFIX}threshold"] = round(found["threshold"], 4)
    out[f"{PREFIX}lowest_score_of_{len(found['drawn'])}_drawn_chests"] = round(score, 4)
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
    """What a run wrote; RunError where it did not, and of one that does not ship
    (frontal_rule.py)."""
    found = read_json(run / "metrics.json")["figures"]
    if short := falls_short(found):
        raise RunError(f"{run.name} does not ship: {'; '.join(short)} (docs/radiographs.md)")
    head = FrontalHead.model_validate(read_json(run / "frontal.json"))
    return Told((run / "float.onnx").read_bytes(), head, card(found), note(found))
