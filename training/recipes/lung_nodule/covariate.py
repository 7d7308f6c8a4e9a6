"""Whether one covariate of the scan, its noise, makes a score mean the same in every scan.

    python -m training.recipes.lung_nodule.covariate
        --fold R01-001=propose-fold-1 --fold C3N-00247=propose-fold-2 ...
        [--classify student] [--seeds 2] [--out covariate.json]

Prints two curves, the plain sum's and the one with the covariate, and says which stays.

Rules, written before any run.
1. The covariate is ln(noise / 25 HU), chosen beforehand; noise is `noise_hu` of the appliance
   (appliance.quality.noise): the SD in soft tissue, which a box has of every series. One figure: it
   moves every score of a scan alike, so the order within a scan stays.
2. Scans are copies of the hosts with implants (COPIES): as they are, noisier, on thicker slices,
   smoothed, sharpened. What a copy changes is seen by the networks and by the measure of noise.
   The host's own lesions and its boxed mass count neither way.
3. Of each fold, scale and intercept, and the covariate's weight beside them, are fitted on the
   copies of all other folds and tested on its own: no host is in both. A fold is the run that left
   its hosts out.
4. It stays in only if CPM rises on what was left out and the 95 % interval of the gain, drawn over
   hosts and then over their copies, lies above 0, and nothing is lost at 1 and at 2 false findings
   a scan. Else the plain sum stays, and so says the last line.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from appliance.quality import noise, slices
from appliance.quality.implant import blurred_in_plane, correlated_noise
from training.errors import RunError, command
from training.implant.donors import cached_shapes
from training.implant.hosts import load_host, to_lps, with_implants
from training.judge.calibration import fit
from training.judge.froc import Marks, Places, froc, rows_of, verdicts_of
from training.judge.metrics import I64, between
from training.read.files import file_digest, whole
from training.read.folders import shared_folder, work_folder
from training.read.volume import F64, Volume, stack_of
from training.recipes.lung_nodule import bundle
from training.recipes.lung_nodule.calibrate import PATCH_WEIGHT
from training.recipes.lung_nodule.fold_candidates import Fold, at_mass, cut, patch_logits
from training.recipes.lung_nodule.proposal_patches import resliced
from training.recipes.lung_nodule.proposals import onnx_backend
from training.recipes.lung_nodule.seen import refuse_seen

USUAL_HU = 25.0
RATES = 1.0, 2.0
"""False findings a scan at which nothing may be lost (rule 4)."""
Alter = Callable[[np.random.Generator, Volume], Volume]


@dataclass(frozen=True)
class Scan:
    """A copy of a host with implants, n candidates of networks that never saw the host."""

    fold: str  # the run that left the host out
    host: str
    copy: str
    noise_hu: float
    logit: F64  # [n] the plain sum
    verdicts: I64  # [n], see `froc.verdicts_of`
    nodules: int

    @property
    def covariate(self) -> float:
        """Rule 1."""
        return float(np.log(self.noise_hu / USUAL_HU))


def _with(volume: Volume, hu: Any, spacing: Sequence[float] | None = None) -> Volume:
    z, y, x = (float(v) for v in (volume.spacing if spacing is None else spacing))
    # the first slice of thicker ones lies where their first half ends
    x0, y0, z0 = volume.origin
    origin = x0, y0, z0 + (z - volume.spacing[0]) / 2
    return Volume(volume.name, np.asarray(hu, np.float32), (z, y, x), origin)


def _noisier(hu: float) -> Alter:
    def alter(rng: np.random.Generator, volume: Volume) -> Volume:
        return _with(volume, volume.hu + hu * correlated_noise(rng, volume.hu.shape, 0.6))

    return alter


def _thicker(mm: float) -> Alter:
    def alter(_: np.random.Generator, volume: Volume) -> Volume:
        if volume.spacing[0] >= mm:
            return volume
        hu, spacing = resliced(volume.hu, np.array(volume.spacing), mm)
        return _with(volume, hu, spacing.tolist())

    return alter


def _smooth(_: np.random.Generator, volume: Volume) -> Volume:
    return _with(volume, blurred_in_plane(volume.hu, (0.8, 0.8)))


def _sharp(_: np.random.Generator, volume: Volume) -> Volume:
    soft = ndimage.gaussian_filter(volume.hu, (0, 0.8, 0.8))
    return _with(volume, volume.hu + 0.8 * (volume.hu - soft))


COPIES: Mapping[str, Alter] = {
    "as it is": lambda _, volume: volume,
    "noise of 20 HU": _noisier(20.0),
    "noise of 40 HU": _noisier(40.0),
    "slices of 3 mm": _thicker(3.0),
    "slices of 5 mm": _thicker(5.0),
    "smooth": _smooth,
    "sharp": _sharp,
}


def noise_of(volume: Volume) -> float:
    """`noise_hu` of a scan as the appliance measures it; RunError where too little tissue is in
    it."""
    samples = [slices.sample(plane) for plane in stack_of(volume).planes]
    found = noise.in_tissue(samples)
    if found is None or found <= 0:
        raise RunError(f"{volume.name}: too little soft tissue to measure its noise in")
    return found


def scans_of(fold: Fold, classify: str, threads: int) -> list[Scan]:
    """Every copy of a fold's host, kept in the work folder: networks and copies name the file."""
    files: dict[bundle.Role, Path] = {
        "segment": work_folder(fold.segment) / fold.network,
        "propose": work_folder(fold.propose) / fold.network,
        "classify": work_folder(classify) / fold.network,
    }
    if missing := [path for path in files.values() if not path.is_file()]:
        raise RunError(f"{missing[0]}: no such network; train and quantize it first")
    known = [str(fold), *map(file_digest, [*files.values(), Path(__file__)])]
    name = hashlib.sha256("".join(known).encode()).hexdigest()[:16]
    kept = work_folder("covariate") / f"{fold.host}-{name}.json"
    if not kept.exists():
        backend, cache = onnx_backend(files, threads), work_folder("cache")
        host = load_host(shared_folder(), fold.host, cache)
        shapes, rows = cached_shapes(shared_folder(), cache, "val"), []
        for seed in range(fold.seeds):
            volume, done = with_implants(host, shapes, seed)
            centers = np.array([to_lps(host.volume, one.center_mm) for one in done])
            truth = Places(centers.reshape(-1, 3), np.array([one.diameter_mm for one in done]))
            own = [*host.lesions, *host.unsure]
            ignored = Places(
                np.array([to_lps(host.volume, t.center_mm) for t in own]).reshape(-1, 3),
                np.array([t.diameter_mm for t in own]),
            )
            for copy, alter in COPIES.items():
                changed = alter(np.random.default_rng([977, seed]), volume)
                found = cut(changed, backend, fold)
                logit = found["heat"] + PATCH_WEIGHT * patch_logits(found["patches"], backend)
                at = found["center_lps_mm"]
                verdicts = verdicts_of(at, logit, truth, ignored)
                verdicts = np.where((verdicts == -1) & at_mass(host, at), -2, verdicts)
                measured = noise_of(changed)
                rows.append([copy, measured, logit.tolist(), verdicts.tolist(), len(done)])
                print(f"{fold.host}, {seed}, {copy}: {measured:.1f} HU", flush=True)
        with whole(kept) as file:
            file.write(json.dumps(rows).encode())
    return [
        Scan(fold.propose, fold.host, copy, hu, np.array(logit), np.array(verdicts, np.int64), n)
        for copy, hu, logit, verdicts, n in json.loads(kept.read_text())
    ]


def features(scan: Scan, covariate: bool) -> F64:
    """[n, 1 or 2]: the sum, and the scan's covariate."""
    columns = [scan.logit, np.full(len(scan.logit), scan.covariate)]
    return np.column_stack(columns if covariate else columns[:1])


def fitted(scans: Sequence[Scan], covariate: bool) -> F64:
    """Weights of `features` and the intercept."""
    used = [scan.verdicts != -2 for scan in scans]
    x = np.concatenate([features(s, covariate)[u] for s, u in zip(scans, used, strict=True)])
    right = np.concatenate([s.verdicts[u] >= 0 for s, u in zip(scans, used, strict=True)])
    return fit(x, right.astype(np.float64))


def left_out(scans: Sequence[Scan], covariate: bool) -> list[Marks]:
    """Every scan with the scores of a fit on the other folds (rule 3), in the order given.

    RunError for fewer than two folds.
    """
    folds = {scan.fold for scan in scans}
    if len(folds) < 2:
        raise RunError("the covariate is tested on a fold left out: two folds or more")
    weights = {f: fitted([s for s in scans if s.fold != f], covariate) for f in folds}
    found = []
    for scan in scans:
        *slopes, intercept = weights[scan.fold]
        logit = features(scan, covariate) @ np.array(slopes) + intercept
        found.append(Marks(0.5 * (1 + np.tanh(0.5 * logit)), scan.verdicts, scan.nodules))
    return found


def compared(scans: Sequence[Scan], samples: int = 1000) -> dict[str, Any]:
    """Both curves on what was left out, the gain with its interval, and the verdict of rule 4."""
    plain, with_it = (left_out(scans, covariate) for covariate in (False, True))
    of_host: dict[str, list[int]] = {}
    for i, scan in enumerate(scans):
        of_host.setdefault(scan.host, []).append(i)
    hosts, rng, draws = list(of_host.values()), np.random.default_rng(0), []
    for _ in range(samples):
        picked = [hosts[i] for i in rng.integers(0, len(hosts), len(hosts))]
        pick = [own[i] for own in picked for i in rng.integers(0, len(own), len(own))]
        before, after = (froc([m[i] for i in pick], samples=0) for m in (plain, with_it))
        draws.append(after.cpm.value - before.cpm.value)
    curves = [froc(marks) for marks in (plain, with_it)]
    at = [froc(marks, RATES, samples=0).sensitivity for marks in (plain, with_it)]
    gain = between(curves[1].cpm.value - curves[0].cpm.value, np.array(draws))
    lost = any(after.value < before.value for before, after in zip(*at, strict=True))
    return {
        "scans": len(scans),
        "hosts": sorted(of_host),
        "copies": sorted({scan.copy for scan in scans}),
        "plain": {"cpm": round(curves[0].cpm.value, 4), "curve": rows_of(curves[0])},
        "with_noise": {"cpm": round(curves[1].cpm.value, 4), "curve": rows_of(curves[1])},
        "gain": [round(v, 4) for v in (gain.value, gain.low, gain.high)],
        "stays": bool(gain.value > 0 and gain.low > 0 and not lost),
    }


def as_text(found: Mapping[str, Any]) -> str:
    """Both curves side by side, the gain and the verdict."""
    lines = ["false a scan   plain sum   with noise"]
    for a, b in zip(found["plain"]["curve"], found["with_noise"]["curve"], strict=True):
        rate, before, after = a["fp_per_scan"], a["sensitivity"], b["sensitivity"]
        lines.append(f"{rate:12g}   {before:9.4f}   {after:10.4f}")
    lines.append(f"{'CPM':>12}   {found['plain']['cpm']:9.4f}   {found['with_noise']['cpm']:10.4f}")
    gain, low, high = found["gain"]
    lines.append(f"gain {gain:.4f} ({low:.4f} to {high:.4f}), {found['scans']} scans left out")
    said = "the covariate stays in" if found["stays"] else "the plain sum stays"
    return "\n".join([*lines, said])


def main() -> None:
    """Copies of every fold's hosts, both fits, both curves."""
    parser = argparse.ArgumentParser(description="Test one covariate of the scan out of fold.")
    parser.add_argument("--fold", action="append", required=True, help="HOST=PROPOSE")
    parser.add_argument("--segment", default="disease")
    parser.add_argument("--classify", default="student", help="run of the patch network")
    parser.add_argument("--network", default="int8.onnx", help="file in the runs' folders")
    parser.add_argument("--seeds", type=int, default=2, help="sets of implants of a host (2)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    if given.seeds < 1:
        parser.error("a seed or more")
    scans: list[Scan] = []
    for text in given.fold:
        host, _, propose = text.partition("=")
        refuse_seen(host, propose)
        fold = Fold(host, propose, given.segment, given.network, given.seeds)
        scans += scans_of(fold, given.classify, given.threads)
    found = compared(scans)
    print(as_text(found))
    if given.out is not None:
        given.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    command(main)
