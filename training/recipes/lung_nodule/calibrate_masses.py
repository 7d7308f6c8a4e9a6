"""Fits the mass score and its threshold on scans that the networks never saw.

    python -m training.recipes.lung_nodule.calibrate_masses --fold R01-001=mass-fold-1
        --fold A0002=mass-fold-1 --fold C3N-00247=mass-fold-2 ...
        [--seeds 6] [--out heads.json] [--figures figures.json]

Rules.
1. Every mark comes from a mass network that never saw its host, through the appliance's own steps;
   the lung network saw all hosts. Masses are implanted on the host's own slices, with shapes of
   LIDC patients that trained nothing; the host's boxed mass is one more.
2. A mark counts from `--least` mm on, as on a device. It hits where its centre lies within a mass
   of SURE_MM and more; a mark on a smaller one or on a marked lesion counts neither way, but
   lesions that would be called a mass are counted apart.
3. Scans without a mass are judged as well: hosts as they are, and with nodules of 4 to 15 mm.
4. Where the network draws masses, a mark that lies in the body of a better one is none, as on a
   device. How a hit is sized is told for its body, or for the diameter where it has none: the mean
   axis beside that of the implant's own outline, which is no larger than what can be seen of it
   (implant.masses, rule 3). So the figures of isolated masses are the sharper ones.
5. The score is a logistic fit of the heat logit; the threshold lets through at most `--rate` false
   masses a scan, and lies half way (in logits) to the score of the next hit above it.
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
from appliance.bundle.heads import Calibration, MassHead
from appliance.interpret import detect, mass, measure
from appliance.interpret.detect import sigmoid
from appliance.interpret.mass import Measured
from appliance.quality.implant import Shape
from appliance.records import Candidate, Vector
from training.errors import command
from training.implant.donors import cached_shapes
from training.implant.hosts import Target, load_host, to_lps, with_implants
from training.implant.masses import Mass, MassHost, with_masses
from training.implant.masses import load_host as load_mass_host
from training.judge.calibration import fit
from training.judge.froc import Marks, Places, froc, verdicts_of
from training.judge.metrics import wilson
from training.read.folders import shared_folder, work_folder
from training.read.volume import Volume, stack_of
from training.recipes.lung_nodule import bundle
from training.recipes.lung_nodule.proposals import lungs_of, onnx_backend
from training.recipes.lung_nodule.seen import refuse_seen

SURE_MM = 30.0
"""From here on it is a mass (Lung-RADS v2022)."""
NODULES_MM = 15.0
SIZES_MM = ((24.0, 30.0), (30.0, 45.0), (45.0, 65.0), (65.0, 120.0))
RATES = (0.1, 0.2, 0.5, 1.0, 2.0)
PLAIN = Calibration(propose=1, classify=1, bias=0, threshold=0.5)


@dataclass(frozen=True)
class Truth:
    """A mass of an evaluation scan."""

    target: Target
    what: str  # its place, or `real`
    mean_mm: float | None = None  # mean axis of what can be seen of it; None: nobody knows


@dataclass(frozen=True)
class Judged:
    """Marks of one scan, best first, and what they are worth."""

    host: str
    what: str  # masses, plain or nodules
    sized: list[Measured]  # with its body, where the network draws one
    verdicts: list[int]  # index of `truth`, -1 false, -2 neither
    truth: list[Truth]
    errors_mm: list[float]  # of each mark, from its truth's centre; NaN for the others

    @property
    def marks(self) -> list[Candidate]:
        """Without their bodies."""
        return [one.mass for one in self.sized]


def marks_of(volume: Volume, backend: Backend, head: MassHead) -> list[Measured]:
    """Every mark of at least `head.least_mm`, best first, by the appliance's own steps."""
    stack = stack_of(volume)
    lungs = lungs_of(stack, backend, bundle.line_model(PLAIN))
    image = backend.prepare(stack, bundle.OPS["mass"], None)
    outputs = backend.infer("mass", image)
    found = detect.candidates(outputs, image, head.detect, lungs)
    wide = [c for c in found if c.diameter_mm >= head.least_mm]
    draws = bundle.BODY_HEAD.output in outputs
    drawn = mass.parts(outputs, image, bundle.BODY_HEAD) if draws else None
    return list(mass.measured(wide, drawn, stack))


def mean_axis(one: Mass, spacing: Vector) -> float:
    """Mean axis in mm of what can be seen of an implant, by the appliance's own rule."""
    level = np.pad(np.asarray(one.outline - 0.5, np.float32), 1, constant_values=-0.5)
    long_mm, short_mm, _ = measure.axes(measure.surface(level), spacing[1:])
    return (long_mm + short_mm) / 2


def judged(
    host: MassHost, what: str, sized: list[Measured], truth: list[Truth], beside: list[Target]
) -> Judged:
    """Rule 2 on one scan."""
    marks = [one.mass for one in sized]
    sure = [i for i, t in enumerate(truth) if t.target.diameter_mm >= SURE_MM]
    aside = [t.target for t in truth if t.target.diameter_mm < SURE_MM] + beside
    verdicts = verdicts_of(
        [c.center_lps_mm for c in marks],
        [c.logits["propose"] for c in marks],
        balls(host, [truth[i].target for i in sure]),
        balls(host, aside),
    )
    errors = [
        float(
            np.linalg.norm(to_lps(host.volume, truth[sure[v]].target.center_mm) - c.center_lps_mm)
        )
        if v >= 0
        else float("nan")
        for c, v in zip(marks, verdicts, strict=True)
    ]
    of = [sure[v] if v >= 0 else int(v) for v in verdicts]
    return Judged(host.volume.name, what, sized, of, truth, errors)


def balls(host: MassHost, targets: Sequence[Target]) -> Places:
    """Targets as balls in patient millimetres."""
    at = [to_lps(host.volume, t.center_mm) for t in targets]
    return Places(
        np.array(at, np.float64).reshape(-1, 3), np.array([t.diameter_mm for t in targets])
    )


def scans_of(
    name: str, backend: Backend, head: MassHead, shapes: Sequence[Shape], seeds: int
) -> list[Judged]:
    """One host as it is, with nodules, and with masses, each judged."""
    shared, cache = shared_folder(), work_folder("cache")
    host, small = load_mass_host(shared, name, cache), load_host(shared, name, cache)
    real = [Truth(t, "real") for t in host.masses]
    lesions = list(host.lesions)
    found = [judged(host, "plain", marks_of(host.volume, backend, head), real, lesions)]
    for seed in range(seeds // 2):
        volume, nodules = with_implants(small, shapes, seed)
        beside = [Target(n.center_mm, n.diameter_mm) for n in nodules if n.diameter_mm > NODULES_MM]
        marks = marks_of(volume, backend, head)
        found.append(judged(host, "nodules", marks, real, lesions + beside))
    for seed in range(seeds):
        volume, masses = with_masses(host, shapes, seed)
        truth = real + [
            Truth(Target(m.center_mm, m.diameter_mm), m.place, mean_axis(m, volume.spacing))
            for m in masses
        ]
        found.append(judged(host, "masses", marks_of(volume, backend, head), truth, lesions))
    return found


def scored(head: MassHead, mark: Candidate) -> float:
    """Score of a mark under the head's figures."""
    return sigmoid(head.scale * mark.logits["propose"] + head.bias)


def fitted(head: MassHead, scans: Sequence[Judged], rate: float) -> MassHead:
    """Rule 5."""
    pairs = [(c.logits["propose"], float(v >= 0)) for s in scans for c, v in pairs_of(s) if v != -2]
    x, y = np.array([[p[0]] for p in pairs]), np.array([p[1] for p in pairs])
    scale, bias = (float(v) for v in fit(x, y, ridge=0.1))
    lines = scale * x[:, 0] + bias
    allowed = int(rate * len(scans) + 1e-9)
    false = -np.sort(-lines[y == 0])
    low = float(false[allowed]) if len(false) > allowed else float(lines.min()) - 1
    above = lines[(y == 1) & (lines > low)]
    cut = low if not len(above) else 0.5 * (low + float(above.min()))
    return replaced(head, scale=scale, bias=bias, threshold=round(sigmoid(cut), 4))


def replaced(head: MassHead, **changes: float) -> MassHead:
    """The head with other figures, checked again."""
    return MassHead.model_validate({**head.model_dump(), **changes})


def pairs_of(scan: Judged) -> list[tuple[Candidate, int]]:
    """Marks with their verdicts."""
    return list(zip(scan.marks, scan.verdicts, strict=True))


def as_marks(head: MassHead, scans: Sequence[Judged]) -> list[Marks]:
    """The scans as `training.judge.froc` reads them."""
    return [
        Marks(
            np.array([scored(head, c) for c in s.marks], np.float64),
            np.array(s.verdicts, np.int64),
            sum(t.target.diameter_mm >= SURE_MM for t in s.truth),
        )
        for s in scans
    ]


def found(scan: Judged, head: MassHead) -> list[tuple[Candidate, int]]:
    """What a device would report: marks whose score reaches the threshold, and their verdicts."""
    return [(c, v) for c, v in pairs_of(scan) if scored(head, c) >= head.threshold]


def sensitivity(scans: Sequence[Judged], head: MassHead) -> dict[str, str]:
    """Found of all implanted masses, with Wilson's interval, by size and by place."""
    rows: dict[str, list[bool]] = {}
    for scan in scans:
        taken = {v for _, v in found(scan, head)}
        for i, t in enumerate(scan.truth):
            if t.what == "real":
                continue
            size = next(f"{a:g}-{b:g} mm" for a, b in SIZES_MM if t.target.diameter_mm < b)
            names = [size] if t.target.diameter_mm < SURE_MM else ["all", size, t.what]
            for name in names:
                rows.setdefault(name, []).append(i in taken)
    table = {}
    for name, hits in sorted(rows.items()):
        share = wilson(sum(hits), len(hits))
        table[name] = f"{sum(hits)}/{len(hits)} ({share.low:.2f}-{share.high:.2f})"
    return table


def false_masses(scans: Sequence[Judged], head: MassHead) -> dict[str, str]:
    """False masses of scans, by host and by what was implanted."""
    rows: dict[str, list[int]] = {}
    for scan in scans:
        count = sum(v == -1 for _, v in found(scan, head))
        for name in ("all", scan.host, scan.what):
            rows.setdefault(name, []).append(count)
    return {name: f"{sum(c)} in {len(c)} scans" for name, c in sorted(rows.items())}


def false_marks(scans: Sequence[Judged], head: MassHead) -> list[dict[str, Any]]:
    """Each false mass that a device would report, to be looked at."""
    return [
        {
            "host": s.host,
            "in": s.what,
            "score": round(scored(head, c), 3),
            "center_lps_mm": [round(x, 1) for x in c.center_lps_mm],
            "diameter_mm": round(c.diameter_mm, 1),
        }
        for s in scans
        for c, v in found(s, head)
        if v == -1
    ]


def real_masses(scans: Sequence[Judged], head: MassHead) -> list[dict[str, Any]]:
    """The boxed mass of each host as it is: rank, score, how far off and how large."""
    rows = []
    for scan in (s for s in scans if s.what == "plain"):
        for i, t in enumerate(scan.truth):
            ranks = [n for n, v in enumerate(scan.verdicts) if v == i]
            row: dict[str, Any] = {"host": scan.host, "diameter_mm": round(t.target.diameter_mm, 1)}
            if ranks:
                mark = scan.marks[ranks[0]]
                row["rank"] = ranks[0] + 1
                row["score"] = round(scored(head, mark), 3)
                row["off_mm"] = round(scan.errors_mm[ranks[0]], 1)
                row["found_mm"] = round(mark.diameter_mm, 1)
                if (body := scan.sized[ranks[0]].body) is not None:
                    row["body"] = {
                        "mean_axis_mm": body.mean_mm,
                        "long_axis_mm": round(body.long_mm, 1),
                        "volume_ml": round(body.volume_mm3 / 1000, 1),
                    }
            rows.append(row)
    return rows


def lesions_called(scans: Sequence[Judged], head: MassHead) -> dict[str, int]:
    """Marked lesions, none of them a mass, that hosts as they are would be reported with as one."""
    return {s.host: sum(v == -2 for _, v in found(s, head)) for s in scans if s.what == "plain"}


def sizes(scans: Sequence[Judged], head: MassHead) -> dict[str, Any]:
    """Rule 4: of implants that a device would report, how far the mean axis is off as a share of
    the true one (median and 90th percentile of the absolute error, and median bias), for all and by
    place, and why some have no body."""
    rows: dict[str, list[float]] = {}
    drawn, whys = 0, dict[str, int]()
    for scan in scans:
        for one, v in zip(scan.sized, scan.verdicts, strict=True):
            true = scan.truth[v].mean_mm if v >= 0 else None
            if true is None or scored(head, one.mass) < head.threshold:
                continue
            drawn += one.body is not None
            if one.why is not None:
                whys[one.why.split(",")[0]] = whys.get(one.why.split(",")[0], 0) + 1
            size = one.mass.diameter_mm if one.body is None else one.body.mean_mm
            for name in ("all", scan.truth[v].what):
                rows.setdefault(name, []).append(size / true - 1)
    return {
        "with_a_body": f"{drawn} of {len(rows.get('all', []))}",
        "without_because": dict(sorted(whys.items())),
        "mean_axis_off": {
            name: {
                "n": len(off),
                "median": round(float(np.median(np.abs(off))), 3),
                "90_percent": round(float(np.quantile(np.abs(off), 0.9)), 3),
                "bias": round(float(np.median(off)), 3),
            }
            for name, off in sorted(rows.items())
        },
    }


def summary(scans: Sequence[Judged], head: MassHead) -> dict[str, Any]:
    """Every figure, out of fold."""
    hits = [
        (s.errors_mm[n], c.diameter_mm / s.truth[v].target.diameter_mm)
        for s in scans
        for n, (c, v) in enumerate(pairs_of(s))
        if v >= 0 and s.truth[v].what != "real" and scored(head, c) >= head.threshold
    ]
    off, ratio = (np.array([h[i] for h in hits]) for i in range(2))
    curve = froc(as_marks(head, scans), RATES)
    return {
        "scans": len(scans),
        "froc": [
            {"fp_per_scan": r, "sensitivity": round(e.value, 3), "low": round(e.low, 3)}
            for r, e in zip(curve.rates, curve.sensitivity, strict=True)
        ],
        "found": sensitivity(scans, head),
        "false": false_masses(scans, head),
        "false_marks": false_marks(scans, head),
        "off_mm_50_90": [round(float(q), 1) for q in np.quantile(off, [0.5, 0.9])],
        "diameter_ratio_10_50_90": [
            round(float(q), 2) for q in np.quantile(ratio, [0.1, 0.5, 0.9])
        ],
        "sizes": sizes(scans, head),
        "real": real_masses(scans, head),
        "lesions_called_masses": lesions_called(scans, head),
    }


def main() -> None:
    """Marks of every fold, the fit, the table, heads.json."""
    parser = argparse.ArgumentParser(description="Out-of-fold calibration of the mass score.")
    parser.add_argument("--fold", action="append", required=True, help="HOST=RUN that left it out")
    parser.add_argument("--segment", default="segment")
    parser.add_argument("--seeds", type=int, default=6, help="scans with masses a host (6)")
    parser.add_argument("--rate", type=float, default=0.2, help="false masses a scan allowed (0.2)")
    parser.add_argument("--least", type=float, default=25.0, help="mm; smaller marks are none (25)")
    parser.add_argument("--network", default="int8.onnx", help="or float.onnx, to compare")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--figures", type=Path)
    given = parser.parse_args()
    folds = [fold.partition("=")[::2] for fold in given.fold]
    for name, run in folds:
        refuse_seen(name, run)
    shapes = cached_shapes(shared_folder(), work_folder("cache"), "val")
    head = bundle.mass_head(1.0, 0.0, 0.0, given.least)
    scans: list[Judged] = []
    for name, run in folds:
        files: dict[bundle.Role, Path] = {
            "segment": work_folder(given.segment) / given.network,
            "mass": work_folder(run) / given.network,
        }
        scans += scans_of(name, onnx_backend(files, given.threads), head, shapes, given.seeds)
        print(f"{name}: {len(scans)} scans", flush=True)
    head = fitted(head, scans, given.rate)
    heads = {
        "scale": head.scale,
        "bias": head.bias,
        "threshold": head.threshold,
        "least_mm": head.least_mm,
        "within_mm": head.detect.within_mm,
    }
    figures = {
        "heads": heads,
        "folds": given.fold,
        "network": given.network,
        "rate": given.rate,
        **summary(scans, head),
    }
    print(json.dumps(figures, indent=1))
    for path, content in ((given.out, heads), (given.figures, figures)):
        if path:
            path.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    command(main)
