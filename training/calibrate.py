"""Fits the score's three figures and the threshold on out-of-fold candidates.

    python -m training.calibrate --fold R01-001=propose-no-r01 --fold C3N-00247=propose-no-c3n
        [--classify classify] [--seeds 8] [--out heads.json]

Rules. Every candidate comes from a proposal network that never saw its host, and the patch network
sees no CT of ours at all; the lung network saw all of them. The networks are the INT8 ones of their
runs, in the backend the appliance would choose. Positives are implants (weight 1) and
the hosts' marked lesions (weight `--real-weight`), because implants flatter the network that was
trained on implants. The figures are a plain logistic fit; the threshold is the score that lets
through `--rate` false findings a scan.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from appliance.backend.protocol import Backend
from appliance.bundle.manifest import Calibration, SegmentProposeClassify
from appliance.interpret.detect import sigmoid
from training import source
from training.data import F64
from training.findings import Finding, Scan, find, froc, hits, onnx_backend
from training.hosts import SIZES_MM, Host, load_host, to_lps, with_implants
from training.loop import shared_folder, work_folder
from training.shapes import Shape, cached_shapes


@dataclass(frozen=True)
class Truth:
    """A nodule of an evaluation scan."""

    center_lps_mm: F64
    diameter_mm: float
    what: str  # kind and place, or `real`


def scans_of(
    host: Host, backend: Backend, line: SegmentProposeClassify, shapes: Sequence[Shape], seeds: int
) -> list[tuple[Scan, list[Truth]]]:
    """Seeded implant scans of one host and what is found in them."""
    real = [Truth(to_lps(host.volume, t.center_mm), t.diameter_mm, "real") for t in host.lesions]
    out = []
    for seed in range(seeds):
        volume, implants = with_implants(host, shapes, seed)
        truth = [
            Truth(to_lps(host.volume, i.center_mm), i.diameter_mm, f"{i.kind} {i.place}")
            for i in implants
        ]
        findings = find(volume, backend, line)
        wanted = [(t.center_lps_mm, t.diameter_mm) for t in truth]
        verdicts = hits(findings, wanted, [(t.center_lps_mm, t.diameter_mm) for t in real])
        out.append((Scan(findings, verdicts, [t.diameter_mm for t in truth]), truth))
    return out


def fit(features: F64, labels: F64, weights: F64 | None = None, ridge: float = 1e-3) -> F64:
    """Logistic regression [n, k] -> k + 1 figures, the last the intercept; Newton's method."""
    each = np.ones(len(features)) if weights is None else weights
    x = np.column_stack([features, np.ones(len(features))])
    w = np.zeros(x.shape[1])
    for _ in range(100):
        p = 0.5 * (1 + np.tanh(0.5 * (x @ w)))
        gradient = x.T @ (each * (p - labels)) + ridge * w
        hessian = (x * (each * p * (1 - p))[:, None]).T @ x + ridge * np.eye(len(w))
        step = np.linalg.solve(hessian, gradient)
        w -= step
        if np.abs(step).max() < 1e-9:
            break
    return np.asarray(w, np.float64)


def rescored(scan: Scan, calibration: Calibration) -> Scan:
    """The same candidates under other figures, best first."""
    c = calibration
    new = [
        replace(f, score=sigmoid(c.propose * f.heat + c.classify * f.patch + c.bias))
        for f in scan.findings
    ]
    order = sorted(range(len(new)), key=lambda i: -new[i].score)
    return Scan([new[i] for i in order], [scan.verdicts[i] for i in order], scan.diameters)


def rows(scans: Sequence[Scan]) -> tuple[F64, F64]:
    """Features (heat, patch) and labels of every candidate that counts."""
    pairs = [
        ((f.heat, f.patch), float(v >= 0))
        for s in scans
        for f, v in zip(s.findings, s.verdicts, strict=True)
        if v != -2
    ]
    return np.array([p[0] for p in pairs]), np.array([p[1] for p in pairs])


def by_size(scans: Sequence[Scan], threshold: float) -> dict[str, str]:
    """Found of all, for each size class, at a threshold."""
    table = {}
    for low, high in SIZES_MM:
        found = total = 0
        for s in scans:
            taken = {
                v
                for f, v in zip(s.findings, s.verdicts, strict=True)
                if v >= 0 and f.score >= threshold
            }
            wanted = [i for i, d in enumerate(s.diameters) if low <= d < high]
            found, total = found + len(taken & set(wanted)), total + len(wanted)
        table[f"{low:g}-{high:g} mm"] = f"{found}/{total}"
    return table


def by_kind(pairs: Sequence[tuple[Scan, list[Truth]]], threshold: float) -> dict[str, str]:
    """Found of all, for each density and each place, at a threshold."""
    counts: dict[str, list[int]] = {}
    for scan, truth in pairs:
        taken = {
            v
            for f, v in zip(scan.findings, scan.verdicts, strict=True)
            if v >= 0 and f.score >= threshold
        }
        for i, t in enumerate(truth):
            for word in t.what.split():
                entry = counts.setdefault(word, [0, 0])
                entry[0] += i in taken
                entry[1] += 1
    return {k: f"{v[0]}/{v[1]}" for k, v in sorted(counts.items())}


def main() -> None:
    """Candidates of every fold, the fit, the table, heads.json."""
    parser = argparse.ArgumentParser(description="Out-of-fold calibration of the nodule score.")
    parser.add_argument("--fold", action="append", required=True, help="HOST=RUN that left it out")
    parser.add_argument("--classify", default="classify")
    parser.add_argument("--segment", default="segment")
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--top", type=int, default=24, help="candidates kept a scan")
    parser.add_argument("--rate", type=float, default=2.0, help="false findings a scan allowed")
    parser.add_argument(
        "--real-weight", type=float, default=8.0, help="of a marked lesion; implant 1"
    )
    parser.add_argument("--network", default="int8.onnx", help="or float.onnx, to compare")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--figures", type=Path)
    given = parser.parse_args()
    cache = work_folder("cache")
    shapes = cached_shapes(shared_folder(), cache)
    line = source.line(Calibration(propose=1, classify=1, bias=0, threshold=0.5), given.top)
    pairs: list[tuple[Scan, list[Truth]]] = []
    reals: dict[str, tuple[Host, list[Finding]]] = {}
    for fold in given.fold:
        name, _, run = fold.partition("=")
        host = load_host(shared_folder(), name, cache)
        runs: dict[source.Role, str] = {
            "segment": given.segment,
            "propose": run,
            "classify": given.classify,
        }
        files = {role: work_folder(of) / given.network for role, of in runs.items()}
        backend = onnx_backend(files, given.threads)
        pairs += scans_of(host, backend, line, shapes, given.seeds)
        reals[name] = host, find(host.volume, backend, line)
        print(f"{name}: {given.seeds} scans", flush=True)
    features, labels = rows([p[0] for p in pairs])
    lesions = np.array(
        [(f.heat, f.patch) for h, found in reals.values() for f in of_lesions(h, found)]
    )
    weights = np.concatenate([np.ones(len(labels)), np.full(len(lesions), given.real_weight)])
    a, b, c = (
        float(v)
        for v in fit(
            np.concatenate([features, lesions.reshape(-1, 2)]),
            np.concatenate([labels, np.ones(len(lesions))]),
            weights,
        )
    )
    fitted = Calibration(propose=a, classify=b, bias=c, threshold=0.5)
    pairs = [(rescored(s, fitted), truth) for s, truth in pairs]
    threshold = froc([p[0] for p in pairs], [given.rate])[0][2]
    heads = {"a": a, "b": b, "c": c, "threshold": round(threshold, 3), "top_k": given.top}
    figures = {"heads": heads, "folds": given.fold, **summary(pairs, threshold, given.rate)}
    per = len(pairs) // len(given.fold)
    figures["by_host"] = {
        name: curve([p[0] for p in pairs[i * per : (i + 1) * per]]) for i, name in enumerate(reals)
    }
    figures["real"] = {n: real_ranks(h, f, fitted, threshold) for n, (h, f) in reals.items()}
    print(json.dumps(figures, indent=1))
    for path, content in ((given.out, heads), (given.figures, figures)):
        if path:
            path.write_text(json.dumps(content, indent=1) + "\n")


RATES = (0.125, 0.25, 0.5, 1, 2, 4, 8)


def curve(scans: Sequence[Scan]) -> list[dict[str, float]]:
    """Sensitivity at RATES false findings a scan."""
    return [
        {"fp_per_scan": r, "sensitivity": round(s, 3), "threshold": round(t, 4)}
        for r, s, t in froc(scans, RATES)
    ]


def summary(
    pairs: Sequence[tuple[Scan, list[Truth]]], threshold: float, rate: float
) -> dict[str, object]:
    """The pooled figures of the out-of-fold scans."""
    scans = [p[0] for p in pairs]
    sizes = [
        (f.diameter_mm / s.diameters[v])
        for s in scans
        for f, v in zip(s.findings, s.verdicts, strict=True)
        if v >= 0
    ]
    return {
        "scans": len(scans),
        "implants": sum(len(s.diameters) for s in scans),
        "froc": curve(scans),
        "at_threshold": {
            "fp_per_scan": rate,
            "by_size": by_size(scans, threshold),
            "by_kind": by_kind(pairs, threshold),
        },
        "diameter_ratio_10_50_90": [
            round(float(q), 2) for q in np.quantile(sizes, [0.1, 0.5, 0.9])
        ],
    }


def of_lesions(host: Host, findings: Sequence[Finding]) -> list[Finding]:
    """The best candidate of each marked lesion, where there is one."""
    best = []
    for lesion in host.lesions:
        at = to_lps(host.volume, lesion.center_mm)
        reach = max(lesion.diameter_mm / 2, 6.0)
        near = [f for f in findings if np.linalg.norm(np.array(f.center_lps_mm) - at) <= reach]
        best += near[:1]
    return best


def real_ranks(
    host: Host, findings: Sequence[Finding], calibration: Calibration, threshold: float
) -> dict[str, object]:
    """The unaltered host under a network that never saw it: rank and score of each lesion."""
    scan = rescored(Scan(list(findings), [-1] * len(findings), []), calibration)
    ranks = []
    for lesion in host.lesions:
        at = to_lps(host.volume, lesion.center_mm)
        near = [
            (rank, round(f.score, 3))
            for rank, f in enumerate(scan.findings, 1)
            if np.linalg.norm(np.array(f.center_lps_mm) - at) <= max(lesion.diameter_mm / 2, 6.0)
        ]
        rank, score = near[0] if near else (None, None)
        ranks.append({"diameter_mm": lesion.diameter_mm, "rank": rank, "score": score})
    return {"lesions": ranks, "findings": sum(f.score >= threshold for f in scan.findings)}


if __name__ == "__main__":
    main()
