"""Fits the score's figures and the threshold on real nodules of scans that no network saw.

    python -m training.recipes.lung_nodule.calibrate_scans --scans FOLDER
        --segment RUN --propose RUN --classify RUN [--out heads.json] [--figures figures.json]

FOLDER has one sub-folder a scan, as `luna16 --series` writes them: CT images, truth.json, and
origin.json, which says that the scan is of the data set's val split.

Rules.
1. No network learned from a scan here: the runs of lungs and proposals say their scans, and patches
   are cut from the data set's train split. A scan of another split than val is refused.
2. The sum is that of `calibrate`: heat + PATCH_WEIGHT * patch. Scale and intercept are one logistic
   fit over all candidates; the annotated nodules are the positives. What hits no nodule is false:
   the data set's own table of marks by fewer radiologists is not read.
3. The threshold is the lowest that lets through at most `--rate` false findings a scan; a finding
   is sure from the score on from which nine in ten candidates are right (judge.calibration).
4. The figures are of the very scans that the threshold was chosen on, and the card says so.
   LUNA16's subset9 (test) is for `training.evaluate`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from appliance.backend.protocol import Backend
from training.errors import DataError, RunError, command
from training.implant.hosts import size_class
from training.judge.calibration import fit, sure_from
from training.judge.froc import NOWHERE, Marks, Places, froc, interval, rows_of, shares, verdicts_of
from training.judge.metrics import I64, wilson
from training.read import origin
from training.read.folders import work_folder
from training.read.shared_series import known_lesions, read_series
from training.read.volume import F64
from training.recipes.lung_nodule import bundle
from training.recipes.lung_nodule.calibrate import PATCH_WEIGHT, SURE, scores
from training.recipes.lung_nodule.fold_candidates import Fold, cut, patch_logits
from training.recipes.lung_nodule.proposals import onnx_backend
from training.recipes.lung_nodule.seen import seen_by

NAME = "annotated nodules, scans of val that no network saw"
NOTE = (
    "Threshold and sensitivities are of the same scans of val, whose nodules three or four of four "
    "radiologists marked. Networks of masses, of disease and of measuring are not in this "
    "bundle: LUNA16 has nothing to judge them on."
)


@dataclass(frozen=True)
class Judged:
    """A scan with the candidates of its networks, n of them, and its annotated nodules."""

    name: str
    logit: F64  # [n] rule 2
    center_lps_mm: F64  # [n, 3]
    truth: Places
    ignored: Places

    def verdicts(self, score: F64) -> I64:
        """[n], see `froc.verdicts_of`."""
        return verdicts_of(self.center_lps_mm, score, self.truth, self.ignored)


def scans_of(folder: Path, runs: Sequence[str]) -> list[Path]:
    """The scans of a folder; DataError or RunError for one that rule 1 refuses."""
    paths = sorted(p for p in folder.iterdir() if p.is_dir()) if folder.is_dir() else []
    if not paths:
        raise DataError(f"{folder}: no scan in it; write some with luna16 --series, --split val")
    for path in paths:
        if (split := origin.of_series(str(path)).split) != "val":
            raise DataError(f"{path}: it is of split {split or 'unknown'}; only val calibrates")
    for run in runs:
        seen = {Path(host).name for host in seen_by(run)}
        if both := seen & {path.name for path in paths}:
            raise RunError(f"{run} learned from {min(both)}: it cannot be judged on it")
    return paths


def judged(path: Path, backend: Backend, fold: Fold) -> Judged:
    """A scan as the appliance's line sees it before any candidate is dropped."""
    found = cut(read_series(path), backend, fold)
    marks = known_lesions(path, str(path))
    logit = found["heat"] + PATCH_WEIGHT * patch_logits(found["patches"], backend)
    truth, ignored = (
        Places(
            np.array([m.center_lps_mm for m in some], np.float64).reshape(-1, 3),
            np.array([m.diameter_mm for m in some], np.float64),
        )
        if some
        else NOWHERE
        for some in ([m for m in marks if not m.ignore], [m for m in marks if m.ignore])
    )
    return Judged(path.name, logit, found["center_lps_mm"], truth, ignored)


def fitted(scans: Sequence[Judged]) -> F64:
    """Scale and intercept; RunError where no candidate hits a nodule, so that nothing can be
    fitted."""
    verdicts = np.concatenate([scan.verdicts(scan.logit) for scan in scans])
    logit = np.concatenate([scan.logit for scan in scans])
    used, right = verdicts != -2, verdicts >= 0
    if not right.any():
        raise RunError(
            f"no candidate of {len(scans)} scans hits one of their "
            f"{sum(len(scan.truth.diameters_mm) for scan in scans)} nodules: train longer"
        )
    return fit(logit[used][:, None], right[used].astype(np.float64))


def marks_of(scans: Sequence[Judged], figures: F64) -> list[Marks]:
    """Every scan's candidates with their scores and verdicts."""
    found = []
    for scan in scans:
        score = scores(scan.logit, figures)
        found.append(Marks(score, scan.verdicts(score), len(scan.truth.diameters_mm)))
    return found


def threshold_of(marks: Sequence[Marks], rate: float) -> float:
    """Rule 3, rounded up: nothing more gets through. 1 where not even the first is allowed."""
    least = froc(marks, [rate], samples=0).thresholds[0]
    return min(float(np.ceil(least * 1e4) / 1e4), 1.0) if np.isfinite(least) else 1.0


def published(scans: Sequence[Judged], marks: Sequence[Marks], threshold: float) -> dict[str, Any]:
    """The figures of the card."""
    curve = froc(marks)
    sizes = [size_class(float(mm)) for scan in scans for mm in scan.truth.diameters_mm]
    called = [set(m.verdicts[m.scores >= threshold].tolist()) for m in marks]
    found = [n in own for m, own in zip(marks, called, strict=True) for n in range(m.nodules)]
    false = sum(int(((m.verdicts == -1) & (m.scores >= threshold)).sum()) for m in marks)
    share = wilson(sum(found), len(found))
    return {
        "name": NAME,
        "scans": len(scans),
        "nodules": len(found),
        "curve": rows_of(curve),
        "cpm": round(curve.cpm.value, 4),
        "cpm_interval": interval(curve.cpm),
        "among_candidates": round(
            sum(len(set(m.verdicts[m.verdicts >= 0].tolist())) for m in marks) / len(found), 4
        ),
        "at_threshold": {
            "sensitivity": round(share.value, 4),
            "interval": interval(share),
            "fp_per_scan": round(false / len(scans), 3),
            "by_size": shares(found, sizes),
        },
    }


def main() -> None:
    """Candidates of every scan, one fit, the threshold, the figures."""
    parser = argparse.ArgumentParser(description="Fit the nodule line's score on real nodules.")
    parser.add_argument("--scans", type=Path, required=True)
    for role in ("segment", "propose", "classify"):
        parser.add_argument(f"--{role}", default=role, help="the run of this network")
    parser.add_argument("--network", default="int8.onnx", help="file in the runs' folders")
    parser.add_argument("--top", type=int, default=32, help="candidates of a scan")
    parser.add_argument("--rate", type=float, default=1.5, help="false findings a scan")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--figures", type=Path)
    given = parser.parse_args()
    paths = scans_of(given.scans, [given.segment, given.propose])
    files: dict[bundle.Role, Path] = {
        "segment": work_folder(given.segment) / given.network,
        "propose": work_folder(given.propose) / given.network,
        "classify": work_folder(given.classify) / given.network,
    }
    if missing := [path for path in files.values() if not path.is_file()]:
        raise RunError(f"{missing[0]}: no such network; train and quantize it first")
    backend = onnx_backend(files, given.threads)
    fold = Fold("", given.propose, given.segment, given.network, 0, given.top)
    scans = []
    for path in paths:
        scans.append(judged(path, backend, fold))
        print(f"{path.name}: {len(scans[-1].logit)} candidates", flush=True)
    figures = fitted(scans)
    marks = marks_of(scans, figures)
    threshold = threshold_of(marks, given.rate)
    scored = np.concatenate([m.scores[m.verdicts != -2] for m in marks])
    right = np.concatenate([m.verdicts[m.verdicts != -2] >= 0 for m in marks])
    scale, intercept = (float(v) for v in figures)
    heads = {
        "propose": round(scale, 6),
        "classify": round(scale * PATCH_WEIGHT, 6),
        "bias": round(intercept, 6),
        "threshold": threshold,
        "sure_from": round(sure_from(scored, right.astype(np.float64), SURE), 4),
        "top_k": given.top,
    }
    told = {"heads": heads, "notes": [NOTE], "of_scans": published(scans, marks, threshold)}
    print(json.dumps(told, indent=1))
    for target, content in ((given.out, heads), (given.figures, told)):
        if target:
            target.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    command(main)
