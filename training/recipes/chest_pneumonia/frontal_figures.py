"""What the network of frontal views is judged by: how much is kept, how much of each class is
refused.

Rules.
1. A picture is kept where its score reaches the threshold of the network that judged it.
2. Pictures of one CT are no cases of their own: their figures have the number of CTs and the worst
   of these beside them, and no interval. Those of val have Wilson's interval.
3. A threshold is chosen on val, and each network has its own. That which ships keeps a share of
   val, and is lowered as far as REFUSED of each class of AGAINST of val stay refused: an ill child
   that is withheld weighs more than an odd view that is scored, as all were before. What plain
   shares of val (`KEPT`) would keep and refuse stands beside it.
4. Everything said of val is cross-fitted: a fold is held against the threshold of the others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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

Bools = np.ndarray[Any, np.dtype[np.bool_]]
PREFIX = "frontal_"
"""Of the name of each figure on a card."""
KEPT = (0.95, 0.99, 0.995)
"""Shares of val whose figures are printed side by side."""
REFUSED = 0.95
AGAINST = ("turned", "upside_down", "inverted", "blank")
"""Of val, and of nothing that is part of a chest the right way up."""
Rule = Callable[[Mapping[str, F64]], float]
"""Scores of val by class -> threshold."""


@dataclass(frozen=True)
class Judged:
    """Scores by class of one source of pictures, by one network."""

    source: str
    scores: Mapping[str, F64]  # class -> [n]
    of_val: Mapping[str, F64]  # the same of val, by the same network

    def share(self, name: str, rule: Rule) -> float:
        """Kept of FRONTAL, refused of any other class, by the network's own threshold."""
        kept = float((self.scores[name] >= rule(self.of_val)).mean())
        return kept if name == FRONTAL else 1 - kept


def keeping(share: float) -> Rule:
    """The largest score that at least this share of frontal images reach."""

    def rule(scores: Mapping[str, F64]) -> float:
        order = np.sort(scores[FRONTAL])
        return float(order[int(np.floor((1 - share) * len(order)))])

    return rule


def shipping(keep: float) -> Rule:
    """That of `keeping`, lowered as rule 3 says."""

    def rule(scores: Mapping[str, F64]) -> float:
        least = []
        for name in AGAINST:
            order = np.sort(scores[name])
            least.append(float(order[min(int(np.ceil(REFUSED * len(order))), len(order) - 1)]))
        return min(keeping(keep)(scores), max(least))

    return rule


def cross_fitted(scores: Mapping[str, F64], folds: I64, rule: Rule) -> dict[str, Bools]:
    """Class -> whether each is kept by the threshold of the other folds [n]. What is made of each
    image of val has its fold; blanks are dealt out."""
    of_class = {
        name: folds if len(s) == len(folds) else np.arange(len(s)) % (folds.max() + 1)
        for name, s in scores.items()
    }
    kept = {name: np.zeros(len(s), bool) for name, s in scores.items()}
    for fold in np.unique(folds):
        threshold = rule({name: s[of_class[name] != fold] for name, s in scores.items()})
        for name, s in scores.items():
            out = of_class[name] == fold
            kept[name][out] = s[out] >= threshold
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
    chests; at the threshold that ships, and under `by_share` at those for KEPT."""

    def at(rule: Rule) -> dict[str, Any]:
        return {
            "threshold": rule(real.of_val),
            "val": _of_val(real, labels, folds, rule),
            "left_out": _of_bodies(bodies, rule),
        }

    return {
        "keep": keep,
        **at(shipping(keep)),
        "drawn": dict(drawn),
        "by_share": {f"{share:g}": at(keeping(share)) for share in KEPT},
    }


def _of_val(real: Judged, labels: I64, folds: I64, rule: Rule) -> dict[str, Any]:
    every = cross_fitted(real.of_val, folds, rule)
    kept = every[FRONTAL]
    return {
        "kept": _counted(kept),
        "kept_with_pneumonia": _counted(kept[labels == 1]),
        "kept_without_it": _counted(kept[labels == 0]),
        **{name: _counted(~every[name]) for name in OTHERS if name in every},
    }


def _of_bodies(bodies: Sequence[Judged], rule: Rule) -> dict[str, Any]:
    found = {}
    for name in (FRONTAL, *OTHERS):
        have = [one for one in bodies if name in one.scores]
        if have:
            shares = [one.share(name, rule) for one in have]
            n = [len(one.scores[name]) for one in have]
            found[name] = {
                "share": float(np.average(shares, weights=n)),
                "n": sum(n),
                "bodies": len(have),
                "worst": min(shares),
                "worst_of": have[int(np.argmin(shares))].source,
            }
    return found


def _counted(hits: Bools) -> dict[str, Any]:
    found, ends = share.of(int(hits.sum()), len(hits))
    return {
        "share": found,
        "low": ends[0] if ends else None,
        "high": ends[1] if ends else None,
        "n": len(hits),
    }


def table(found: Mapping[str, Any]) -> str:
    """The figures in lines."""
    lines = [f"threshold {found['threshold']:.6f}, for {found['keep']:g} of val or more"]
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
        "What tells frontal views: learned from train of PneumoniaMNIST and projections of CTs of "
        f"eight adults. Its threshold keeps {found['keep']:g} of val or more: it is lowered as far "
        f"as {REFUSED:g} of val turned, upside down, inverted, and of blanks stay refused. All "
        "that is said of val is cross-fitted over its folds. Pictures of a CT are judged by "
        "doubles that left it and another one out: they are many pictures of few patients, so they "
        "have no interval, and that of "
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
    if "drawn" not in found:
        raise RunError(f"{run.name} is of an older recipe: train it under another --name")
    if short := falls_short(found):
        raise RunError(f"{run.name} does not ship: {'; '.join(short)} (docs/radiographs.md)")
    head = FrontalHead.model_validate(read_json(run / "frontal.json"))
    return Told((run / "float.onnx").read_bytes(), head, card(found), note(found))
