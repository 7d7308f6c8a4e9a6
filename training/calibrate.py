"""Fits the score's three figures and the threshold on out-of-fold candidates.

    python -m training.calibrate --fold R01-001=propose-no-r01 --fold C3N-00247=propose-no-c3n
        [--classify classify] [--seeds 8] [--out heads.json]

Rules. Every candidate comes from a proposal network that never saw its host, and the patch network sees no
CT of ours at all. Implants and the hosts' marked lesions are positives, hits of lesions that are likely but
unproven count neither way for false findings. The figures are a plain logistic fit; the threshold is the
score that lets through `--rate` false findings a scan.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from training.data import F32, F64, close, resample
from training.evaluate import Finding, Heads, Infer, Networks, Scan, find, froc, hits, sigmoid
from training.hosts import SIZES_MM, Host, load_host, to_lps, with_implants
from training.implants import Shape, cached_shapes
from training.networks import PatchNet, ProposeNet
from training.run import load_checkpoint, shared_folder, work_folder


@dataclass(frozen=True)
class Truth:
    """A nodule of an evaluation scan."""

    center_lps_mm: F64
    diameter_mm: float
    what: str  # kind and place, or `real`


def torch_infer(model: nn.Module) -> Infer:
    """A torch network as a function of arrays."""
    model.eval()

    def infer(image: F32) -> tuple[F32, ...]:
        with torch.no_grad():
            out = model(torch.from_numpy(np.ascontiguousarray(image)))
        return tuple(t.numpy() for t in out) if isinstance(out, tuple) else (out.numpy(),)

    return infer


def load(model: nn.Module, run: str) -> Infer:
    """The moving average of a run under the training work folder."""
    model.load_state_dict(load_checkpoint(work_folder(run) / "last.pt")["ema"])
    return torch_infer(model)


def scans_of(
    host: Host, lungs: F32, networks: Networks, heads: Heads, shapes: Sequence[Shape], seeds: int
) -> list[tuple[Scan, list[Truth]]]:
    """Seeded implant scans of one host and their findings; `lungs` is the host's truth at 3 mm."""
    mask = close(lungs > 0.5, heads.close_mm, 3.0)
    real = [Truth(to_lps(host.volume, t.center_mm), t.diameter_mm, "real") for t in host.lesions]
    out = []
    for seed in range(seeds):
        volume, implants = with_implants(host, shapes, seed)
        truth = [
            Truth(to_lps(host.volume, i.center_mm), i.diameter_mm, f"{i.kind} {i.place}")
            for i in implants
        ]
        findings = find(volume, networks, heads, mask)
        wanted = [(t.center_lps_mm, t.diameter_mm) for t in truth]
        verdicts = hits(findings, wanted, [(t.center_lps_mm, t.diameter_mm) for t in real])
        out.append((Scan(findings, verdicts, [t.diameter_mm for t in truth]), truth))
    return out


def fit(features: F64, labels: F64, rounds: int = 100, ridge: float = 1e-3) -> F64:
    """Logistic regression [n, k] -> k + 1 figures (the last is the intercept), by Newton's method."""
    x = np.column_stack([features, np.ones(len(features))])
    w = np.zeros(x.shape[1])
    for _ in range(rounds):
        p = sigmoid(x @ w)
        gradient = x.T @ (p - labels) + ridge * w
        hessian = (x * (p * (1 - p))[:, None]).T @ x + ridge * np.eye(len(w))
        step = np.linalg.solve(hessian, gradient)
        w -= step
        if np.abs(step).max() < 1e-9:
            break
    return np.asarray(w, np.float64)


def rescored(scan: Scan, heads: Heads) -> Scan:
    """The same candidates under other figures, best first."""
    new = [
        replace(f, score=float(sigmoid(heads.a * f.heat + heads.b * f.patch + heads.c)))
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
                v for f, v in zip(s.findings, s.verdicts, strict=True) if v >= 0 and f.score >= threshold
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
            v for f, v in zip(scan.findings, scan.verdicts, strict=True) if v >= 0 and f.score >= threshold
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
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--top", type=int, default=48)
    parser.add_argument("--rate", type=float, default=2.0, help="false findings a scan at the threshold")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--figures", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    cache = work_folder("cache")
    shapes = cached_shapes(shared_folder(), cache)
    heads = Heads(top_k=given.top)
    patch = load(PatchNet(), given.classify)
    pairs: list[tuple[Scan, list[Truth]]] = []
    reals: dict[str, list[Finding]] = {}
    hosts: dict[str, Host] = {}
    for fold in given.fold:
        name, _, run = fold.partition("=")
        host = hosts[name] = load_host(shared_folder(), name, cache)
        with np.load(cache / f"{name}-lungs.npz") as file:
            lungs = resample(file["mask"].astype(np.float32), [1.5] * 3, [3.0] * 3)
        networks = Networks(lambda x: (x,), load(ProposeNet(), run), patch)
        pairs += scans_of(host, lungs, networks, heads, shapes, given.seeds)
        mask = close(lungs > 0.5, heads.close_mm, 3.0)
        reals[name] = find(host.volume, networks, heads, mask)
        print(f"{name}: {given.seeds} scans", flush=True)
    scans = [p[0] for p in pairs]
    a, b, c = (float(v) for v in fit(*rows(scans)))
    fitted = replace(heads, a=a, b=b, c=c)
    scans = [rescored(s, fitted) for s in scans]
    rates = [0.125, 0.25, 0.5, 1, 2, 4, 8]
    curve = froc(scans, rates)
    threshold = froc(scans, [given.rate])[0][2]
    fitted = replace(fitted, threshold=round(threshold, 3))
    pairs = [(s, p[1]) for s, p in zip(scans, pairs, strict=True)]
    figures = {
        "froc": [{"fp_per_scan": r, "sensitivity": round(s, 3), "threshold": round(t, 4)} for r, s, t in curve],
        "at_threshold": {"rate": given.rate, "size": by_size(scans, threshold), "kind": by_kind(pairs, threshold)},
        "heads": asdict(fitted),
        "folds": given.fold,
        "implants": sum(len(s.diameters) for s in scans),
    }
    per = len(scans) // len(given.fold)
    figures["by_host"] = {
        f.partition("=")[0]: [
            {"fp_per_scan": r, "sensitivity": round(s, 3)} for r, s, _ in froc(scans[i * per : (i + 1) * per], rates)
        ]
        for i, f in enumerate(given.fold)
    }
    figures["real"] = {n: real_ranks(hosts[n], found, fitted) for n, found in reals.items()}
    print(json.dumps(figures, indent=1))
    if given.out:
        given.out.write_text(json.dumps(asdict(fitted), indent=1) + "\n")
    if given.figures:
        given.figures.write_text(json.dumps(figures, indent=1) + "\n")


def real_ranks(host: Host, findings: Sequence[Finding], heads: Heads) -> dict[str, object]:
    """The unaltered host under a network that never saw it: rank and score of each marked lesion."""
    scan = rescored(Scan(list(findings), [-1] * len(findings), []), heads)
    ranks = []
    for lesion in host.lesions:
        at = to_lps(host.volume, lesion.center_mm)
        near = [
            (i, f.score)
            for i, f in enumerate(scan.findings, 1)
            if np.linalg.norm(np.array(f.center_lps_mm) - at) <= max(lesion.diameter_mm / 2, 6.0)
        ]
        ranks.append({"diameter_mm": lesion.diameter_mm, "rank": near[0][0] if near else None, "score": round(near[0][1], 3) if near else None})
    return {"lesions": ranks, "findings": sum(f.score >= heads.threshold for f in scan.findings)}


if __name__ == "__main__":
    main()
