"""What the 3D branch gains out of fold: candidates and free-response curves with and without it.

    python -m training.recipes.lung_nodule.judge_cube
        [--folds R01-001=propose-fold-1=cube-fold-1,...]

Rules. A fold is HOST=PROPOSE=CUBE, and neither network saw the host; scans, candidates, sums and
verdicts are those of `calibrate`, so what is compared is one term of the sum. The gain is drawn
over whole scans, paired. Marked lesions are ranked apart, in the unaltered host.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from training.errors import RunError, command
from training.judge.froc import RATES, Marks, froc
from training.judge.metrics import auc, between
from training.learn.checkpoint import fill, load_checkpoint
from training.learn.knobs import knobs_from_command_line
from training.networks import CubeNet
from training.read.folders import work_folder
from training.read.volume import F64
from training.recipes.lung_nodule.calibrate import (
    Judged,
    fitted,
    judged,
    lesions_of,
    marks_of,
    scores,
)
from training.recipes.lung_nodule.cube import logits_of, teacher_of
from training.recipes.lung_nodule.fold_candidates import Fold, Kept, cube_logits
from training.recipes.lung_nodule.folds import judged_runs
from training.recipes.lung_nodule.hybrid import RECIPE as HYBRID
from training.recipes.lung_nodule.proposals import onnx_backend


@dataclass(frozen=True)
class Knobs:
    """Everything that may be varied."""

    folds: str = ",".join(
        f"{host}={propose}={run}"
        for (host, propose), (_, run) in zip(
            judged_runs("propose"), judged_runs("cube"), strict=True
        )
    )
    classify: str = "classify"
    network: str = "last.pt"  # of the cube runs; or float.onnx, int8.onnx
    seeds: int = 8  # scans a host
    top: int = 96  # candidates kept of a scan
    tops: str = "24,48,96"  # so many of them are scored
    real_weight: float = 8.0  # of a marked lesion; implant 1
    samples: int = 500  # draws of scans
    threads: int = 1
    out: str = ""  # file for the figures


def average_precision(labels: F64, score: F64) -> float:
    """Area under precision over recall as the mean precision at each positive; ties in order."""
    order = np.argsort(-score, kind="stable")
    right = labels[order] > 0
    precision = np.cumsum(right) / np.arange(1, len(right) + 1)
    return float(precision[right].mean())


def logits(of: Kept, run: str, file: str) -> F64:
    """What a run says of each candidate: a student, its ONNX file, or a hybrid teacher."""
    path = work_folder(run) / file
    if path.suffix != ".pt":
        if not path.is_file():
            raise RunError(f"{path}: no such network; quantize the run first")
        return cube_logits(of.cubes, onnx_backend({"cube": path}))
    state = load_checkpoint(path)
    if state.get("recipe") == HYBRID:
        found = logits_of(teacher_of(run, state["knobs"]["hosts"]), of.patches, of.cubes)
    else:
        model = CubeNet()
        fill(model, state.get("ema", {}), path)
        model.eval()
        found = logits_of(lambda _, cubes: model(cubes), of.patches, of.cubes)
    return found.astype(np.float64)


def fewer(j: Judged, top: int) -> Judged:
    """The best `top` candidates of each scan; they stand best first."""
    first = np.searchsorted(j.of.scan, j.of.scan)
    few = np.arange(len(first)) - first < top
    arrays = {
        name: getattr(j.of, name)[few]
        for name in ("scan", "center_lps_mm", "diameter_mm", "heat", "patches", "cubes", "aside")
    }
    return replace(
        j,
        fold=replace(j.fold, top=top),
        of=replace(j.of, **arrays),
        features=j.features[few],
        verdicts=j.verdicts[few],
        lesion=j.lesion[few],
    )


def gain(before: Sequence[Marks], after: Sequence[Marks], samples: int) -> dict[str, list[float]]:
    """Of each rate and of CPM: before, after, and the interval of what was gained."""
    curve = partial(froc, samples=0)
    rng, draws = np.random.default_rng(0), []
    for _ in range(samples):
        pick = rng.integers(0, len(before), len(before))
        a, b = (curve([m[i] for i in pick]) for m in (before, after))
        both = zip([*a.sensitivity, a.cpm], [*b.sensitivity, b.cpm], strict=True)
        draws.append([y.value - x.value for x, y in both])
    first, second, drawn = curve(before), curve(after), np.array(draws)
    rows = {}
    names = [*(f"{rate:g} a scan" for rate in RATES), "cpm"]
    pairs = zip([*first.sensitivity, first.cpm], [*second.sensitivity, second.cpm], strict=True)
    for i, (name, (x, y)) in enumerate(zip(names, pairs, strict=True)):
        known = between(y.value - x.value, drawn[:, i])
        rows[name] = [round(v, 3) for v in (x.value, y.value, known.low, known.high)]
    return rows


def compared(folds: Sequence[Judged], k: Knobs) -> dict[str, Any]:
    """Folds with three columns of features: heat, patch, cube."""
    found: dict[str, list[F64]] = {}
    for name, columns in (("heat+patch", [0, 1]), ("heat+patch+cube", [0, 1, 2])):
        some = [replace(j, features=j.features[:, columns]) for j in folds]
        figures = fitted(some, k.real_weight)
        found[name] = [scores(j.logit, figures) for j in some]
        print(name, np.round(figures, 3).tolist())
    table: dict[str, Any] = {}
    for i, j in enumerate(folds):
        used = ~j.real & (j.verdicts != -2)
        labels = (j.verdicts[used] >= 0).astype(np.float64)
        single = dict(zip(("heat", "patch", "cube"), j.features.T, strict=True))
        each = single | {name: score[i] for name, score in found.items()}
        table[j.fold.host] = {
            name: {
                "auc": round(auc(labels, score[used]), 4),
                "ap": round(average_precision(labels, score[used]), 4),
                "ranks": [row["rank"] for row in lesions_of(j, score, 0.5)["lesions"]],
            }
            for name, score in each.items()
        }
        before, after = (marks_of(j, score[i]) for score in found.values())
        table[j.fold.host]["froc"] = gain(before, after, k.samples)
    pools = [
        [m for j, score in zip(folds, s, strict=True) for m in marks_of(j, score)]
        for s in found.values()
    ]
    table["all"] = {"froc": gain(pools[0], pools[1], k.samples)}
    return table


def main() -> None:
    """Candidates of every fold, logits of all three networks, the tables."""
    k = knobs_from_command_line(Knobs())
    folds = []
    for text in k.folds.split(","):
        host, propose, run = text.split("=")
        fold = Fold(host, propose, seeds=k.seeds, top=k.top)
        j = judged(fold, k.classify, "", k.threads)
        column = logits(j.of, run, k.network)
        folds.append(replace(j, features=np.column_stack([j.features, column])))
    figures: dict[str, Any] = {"knobs": asdict(k)}
    for top in map(int, k.tops.split(",")):
        figures[f"top {top}"] = compared([fewer(j, top) for j in folds], k)
        print(f"top {top}", json.dumps(figures[f"top {top}"]), flush=True)
    if k.out:
        Path(k.out).write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    command(main)
