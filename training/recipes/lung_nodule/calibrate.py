"""Fits the score's figures and the threshold on out-of-fold candidates.

    python -m training.recipes.lung_nodule.calibrate
        --fold R01-001=propose-fold-1[=cube-fold-1] ...
        [--classify classify] [--seeds 8] [--out heads.json] [--figures figures.json]

Rules.
1. Every candidate comes from a proposal network (and a cube network, where one is named) that never
   saw its host; the patch network sees no CT of ours at all; the lung network saw all of them. The
   implants have shapes of LIDC patients of val, whom no recipe draws from. The networks are the
   INT8 ones of their runs, in the backend the appliance would choose.
2. logit = heat + PATCH_WEIGHT * patch [+ cube]. Weights fitted on the folds of two hosts did not
   carry over to the third: .58 of the implants were found at one false finding a scan with them,
   .73 with the plain sum. From a quarter to two thirds the curve is flat (2026-11-28).
3. Scale and intercept of the sum are one logistic fit over all folds, which changes no order:
   positives are implants (weight 1) and the hosts' marked lesions (weight `--real-weight`), because
   implants flatter a network that was trained on implants.
4. The threshold is the lowest that lets through at most `--rate` false findings a scan of the
   pool, and at most MOST_OTHER findings beside the marked lesions in every unaltered host.
5. Intervals of the curve draw whole scans, those of shares are Wilson's. Real lesions stand apart:
   host by host (`real`), and together by who marked them (`real_lesions`). Marks of fewer than
   three radiologists count nowhere.
6. SPOTS of training.implant.hosts count as false. The curve without them stands beside it.
7. A finding is sure from the score on from which nine in ten candidates of the scans with implants
   are right (SURE; judge.calibration.sure_from). Printed beside it, host by host: what share would
   have been right of those that a fit on the other hosts calls sure. It promises nothing of a scan
   with fewer nodules: eight implants a scan make a candidate more often right than a patient does.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from training.errors import RunError, command
from training.implant.hosts import SPOT_MM, SPOTS
from training.judge.calibration import fit, sure_from
from training.judge.froc import Marks, froc, interval, rows_of, shares, verdicts_of
from training.judge.metrics import I64
from training.read.folders import work_folder
from training.read.volume import F64
from training.recipes.lung_nodule import bundle
from training.recipes.lung_nodule.fold_candidates import (
    Fold,
    Kept,
    cube_logits,
    kept,
    patch_logits,
    places_of,
)
from training.recipes.lung_nodule.proposals import onnx_backend
from training.recipes.lung_nodule.seen import refuse_seen

NOTES = (
    "Patches carry no patient, so a LIDC patient may be among them and among the shapes.",
    (
        "Sensitivities come from implants with shapes of LIDC patients of val, in scans that the "
        "networks never saw (the lung network saw them). Implants are easier than real nodules."
    ),
    (
        "Two spots of 3 to 4 mm in R01-001 that look like nodules, and that nobody has marked, "
        "count as false findings in each of its scans; figures without them say so."
    ),
)
"""What a card has to say of these figures."""
MOST_OTHER = 4
PATCH_WEIGHT = 0.5
SURE = 0.9


@dataclass(frozen=True)
class Judged:
    """A fold with the logits of its candidates."""

    fold: Fold
    of: Kept
    features: F64  # [n, 2 or 3]: heat, patch and perhaps cube logit
    verdicts: I64  # [n], see `Kept.verdicts`
    lesion: I64  # [n]: the marked lesion that a candidate of the unaltered host hits, else -1

    @property
    def logit(self) -> F64:
        """[n] rule 2."""
        weights = [1.0, PATCH_WEIGHT, 1.0][: self.features.shape[1]]
        return np.asarray(self.features @ weights, np.float64)

    @property
    def real(self) -> npt.NDArray[np.bool_]:
        """[n] of the unaltered host."""
        return np.asarray(self.of.scan == len(self.of.truth) - 1, np.bool_)


def judged(fold: Fold, classify: str, cube: str, threads: int) -> Judged:
    """A fold's candidates with the logits of these runs (`cube` may be empty)."""
    of = kept(fold, threads)
    runs: dict[bundle.Role, str] = {"classify": classify, **({"cube": cube} if cube else {})}
    files = {role: work_folder(run) / fold.network for role, run in runs.items()}
    if missing := [path for path in files.values() if not path.is_file()]:
        raise RunError(f"{missing[0]}: no such network; train and quantize it first")
    backend = onnx_backend(files, threads)
    columns = [of.heat, patch_logits(of.patches, backend)]
    if cube:
        columns.append(cube_logits(of.cubes, backend))
    scans = len(of.truth)
    verdicts = np.concatenate([of.verdicts(s) for s in range(scans)])
    own = of.scan == scans - 1
    lesion = np.full(len(of.scan), -1)
    lesion[own] = verdicts_of(of.center_lps_mm[own], of.heat[own], places_of(of.lesions))
    return Judged(fold, of, np.column_stack(columns), verdicts, lesion)


def fitted(folds: Sequence[Judged], real_weight: float) -> F64:
    """Scale and intercept of rule 3. The unaltered host gives its lesions alone: what else is in
    it, every scan with implants has as well."""
    logits, labels, weights = [], [], []
    for j in folds:
        lesions = j.real & (j.lesion >= 0)
        used = (~j.real & (j.verdicts != -2)) | lesions
        logits.append(j.logit[used])
        labels.append(((j.verdicts >= 0) | lesions)[used].astype(np.float64))
        weights.append(np.where(lesions, real_weight, 1.0)[used])
    return fit(np.concatenate(logits)[:, None], np.concatenate(labels), np.concatenate(weights))


def scores(logit: F64, figures: F64) -> F64:
    """Probability of each candidate, by scale and intercept."""
    return np.asarray(0.5 * (1 + np.tanh(0.5 * (logit * figures[0] + figures[1]))), np.float64)


def marks_of(j: Judged, score: F64, spots: bool = True) -> list[Marks]:
    """The fold's scans with implants; without `spots` what is at one of SPOTS is neither hit nor
    false.

    Of several findings that hit a nodule the one of the highest score counts.
    """
    found = []
    aside = j.of.aside if spots else j.of.aside | at_spots(j)
    for scan in range(len(j.of.truth) - 1):
        own = j.of.scan == scan
        verdicts = verdicts_of(
            j.of.center_lps_mm[own],
            score[own],
            places_of(j.of.truth[scan]),
            places_of([*j.of.lesions, *j.of.unsure]),
        )
        verdicts = np.where((verdicts == -1) & aside[own], -2, verdicts)
        found.append(Marks(score[own], verdicts, len(j.of.truth[scan])))
    return found


def at_spots(j: Judged) -> npt.NDArray[np.bool_]:
    """[n] whether a candidate is at one of SPOTS."""
    spots = np.array(SPOTS.get(j.fold.host, ())).reshape(-1, 3)
    away = np.linalg.norm(j.of.center_lps_mm[:, None] - spots[None], axis=2)
    return np.asarray((away <= SPOT_MM).any(axis=1), np.bool_)


def others(j: Judged, score: F64) -> F64:
    """Scores, best first, of what is neither a marked lesion, sure or not, nor at the mass in the
    unaltered host."""
    near = verdicts_of(
        j.of.center_lps_mm[j.real],
        score[j.real],
        places_of([]),
        places_of([*j.of.lesions, *j.of.unsure]),
    )
    return -np.sort(-score[j.real][(near == -1) & ~j.of.aside[j.real]])


def threshold_of(folds: Sequence[Judged], score: Sequence[F64], rate: float) -> float:
    """Rule 3."""
    pool = [m for j, s in zip(folds, score, strict=True) for m in marks_of(j, s)]
    least = froc(pool, [rate], samples=0).thresholds[0]
    for j, s in zip(folds, score, strict=True):
        rest = others(j, s)
        if len(rest) > MOST_OTHER:
            least = max(least, float(np.nextafter(rest[MOST_OTHER], 1)))
    return least


def doubt_of(folds: Sequence[Judged], score: Sequence[F64], threshold: float) -> dict[str, Any]:
    """Rule 7: `sure_from`, and by host how many of its candidates a fit on the others calls sure
    and what share of them is right."""
    found: dict[str, tuple[F64, F64]] = {}
    for j, s in zip(folds, score, strict=True):
        marks = marks_of(j, s)
        scored = np.concatenate([m.scores[m.verdicts != -2] for m in marks])
        right = np.concatenate([m.verdicts[m.verdicts != -2] >= 0 for m in marks])
        found[j.fold.host] = (scored, right.astype(np.float64))

    def from_which(hosts: Sequence[str]) -> float:
        pooled = [np.concatenate([found[h][i] for h in hosts]) for i in (0, 1)]
        least = max(sure_from(pooled[0], pooled[1], SURE), threshold)
        return float(min(np.ceil(least * 1e4) / 1e4, 1.0))

    left_out = {}
    for host, (scored, right) in found.items():
        sure = scored >= from_which([h for h in found if h != host])
        reported = scored >= threshold
        left_out[host] = {
            "reported": int(reported.sum()),
            "sure": int((sure & reported).sum()),
            "right_of_sure": round(float(right[sure].mean()), 3) if sure.any() else None,
            "right_of_unsure": round(float(right[reported & ~sure].mean()), 3)
            if (reported & ~sure).any()
            else None,
        }
    return {"sure_from": from_which(list(found)), "left_out": left_out}


def lesions_of(j: Judged, score: F64, threshold: float) -> dict[str, Any]:
    """The unaltered host: rank and score of each marked lesion, and how many others there are."""
    own, rows = score[j.real], []
    hit = verdicts_of(j.of.center_lps_mm[j.real], own, places_of(j.of.lesions))
    for number, lesion in enumerate(j.of.lesions):
        best = own[hit == number]
        rows.append(
            {
                "center_lps_mm": [round(v, 1) for v in lesion["center_lps_mm"]],
                "diameter_mm": lesion["diameter_mm"],
                "marked_by": "engineers" if lesion.get("by_eye") else "radiologists",
                "rank": int((own > best[0]).sum()) + 1 if len(best) else None,
                "score": round(float(best[0]), 3) if len(best) else None,
                "found": bool((best >= threshold).any()),
            }
        )
    return {"lesions": rows, "others": int((others(j, score) >= threshold).sum())}


def published(folds: Sequence[Judged], score: Sequence[F64], threshold: float) -> dict[str, Any]:
    """The figures of the folds."""
    each = [marks_of(j, s) for j, s in zip(folds, score, strict=True)]
    pool = [m for marks in each for m in marks]
    rows = [row for j in folds for truth in j.of.truth for row in truth]
    seen, ratios = [], []
    for j, marks in zip(folds, each, strict=True):
        for scan, m in enumerate(marks):
            called = set(m.verdicts[m.scores >= threshold].tolist())
            seen += [number in called for number in range(m.nodules)]
            sizes = j.of.diameter_mm[j.of.scan == scan]
            truth = j.of.truth[scan]
            pairs = zip(m.verdicts, sizes, strict=True)
            ratios += [size / truth[v]["diameter_mm"] for v, size in pairs if v >= 0]
    curve = froc(pool)
    without = [m for j, s in zip(folds, score, strict=True) for m in marks_of(j, s, spots=False)]
    top = max(j.fold.top for j in folds)
    real = {j.fold.host: lesions_of(j, s, threshold) for j, s in zip(folds, score, strict=True)}
    own = [row for of_host in real.values() for row in of_host["lesions"]]
    return {
        "scans": len(pool),
        "implants": len(rows),
        "froc": rows_of(curve),
        "froc_without_spots": rows_of(froc(without)),
        "cpm": round(curve.cpm.value, 4),
        "cpm_interval": interval(curve.cpm),
        "among_candidates": {"a_scan": top, **_all(froc(pool, [top]))},
        "at_threshold": {
            "sensitivity": round(float(np.mean(seen)), 4),
            "fp_per_scan": round(
                sum(int(((m.verdicts == -1) & (m.scores >= threshold)).sum()) for m in pool)
                / len(pool),
                3,
            ),
            **{f"by_{name}": shares(seen, [r[name] for r in rows]) for name in CLASSES},
        },
        "by_host": {j.fold.host: rows_of(froc(m)) for j, m in zip(folds, each, strict=True)},
        "diameter_ratio_10_50_90": [
            round(float(q), 2) for q in np.quantile(ratios, [0.1, 0.5, 0.9])
        ],
        "real": real,
        "real_lesions": shares([row["found"] for row in own], [row["marked_by"] for row in own]),
    }


CLASSES = ("size", "kind", "place")


def _all(curve: Any) -> dict[str, Any]:
    found = curve.sensitivity[0]
    return {"sensitivity": round(found.value, 4), "interval": interval(found)}


def main() -> None:
    """Candidates of each fold, one fit, the threshold, the figures."""
    parser = argparse.ArgumentParser(description="Fit the nodule line's score.")
    parser.add_argument("--fold", action="append", required=True, help="HOST=PROPOSE[=CUBE]")
    parser.add_argument("--segment", default="segment")
    parser.add_argument("--classify", default="classify", help="run of the patch network")
    parser.add_argument("--network", default="int8.onnx", help="file in the runs' folders")
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--top", type=int, default=32)
    parser.add_argument("--within", type=float, default=5.0, help="mm around the lung mask")
    parser.add_argument("--rate", type=float, default=1.5, help="false findings a scan")
    parser.add_argument("--real-weight", type=float, default=8.0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--figures", type=Path)
    given = parser.parse_args()
    if given.seeds < 1 or len(given.fold) < 2:
        parser.error("two folds or more, and a seed or more")
    folds, cubes = [], []
    for text in given.fold:
        host, propose, cube = (*text.split("="), "", "")[:3]
        for run in filter(None, (propose, cube)):
            refuse_seen(host, run)
        cubes.append(bool(cube))
        fold = Fold(
            host, propose, given.segment, given.network, given.seeds, given.top, given.within
        )
        folds.append(judged(fold, given.classify, cube, given.threads))
        print(f"{host}: {len(folds[-1].of.heat)} candidates", flush=True)
    if any(cubes) and not all(cubes):
        parser.error("a cube network for every fold or for none")
    scale, intercept = (float(v) for v in fitted(folds, given.real_weight))
    score = [scores(j.logit, np.array([scale, intercept])) for j in folds]
    # rounded up: nothing more gets through
    threshold = float(np.ceil(threshold_of(folds, score, given.rate) * 1e4) / 1e4)
    doubt = doubt_of(folds, score, threshold)
    heads = {
        "propose": round(scale, 6),
        "classify": round(scale * PATCH_WEIGHT, 6),
        **({"cube": round(scale, 6)} if all(cubes) else {}),
        "bias": round(intercept, 6),
        "threshold": threshold,
        "sure_from": doubt["sure_from"],
        "top_k": given.top,
    }
    figures = {
        "heads": heads,
        "folds": given.fold,
        "notes": NOTES,
        **published(folds, score, threshold),
        "certainty": doubt,
    }
    print(json.dumps(figures, indent=1))
    for path, content in ((given.out, heads), (given.figures, figures)):
        if path:
            path.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    command(main)
