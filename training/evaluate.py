"""Runs the nodule line on real CTs and on CTs with implants, and scores what it finds.

    python -m training.evaluate build/lung-nodule --series R01-001 C3N-00247 A0001
    python -m training.evaluate build/lung-nodule --folder DIR     (one DICOM series)

Rules.
1. `find` is the whole line in one function and follows the bundle's heads to the letter: what the
   appliance does, in numpy, so that recipes can judge networks before they are exported.
2. A hit is a finding whose centre lies within the nodule's radius, at least 5 mm. Findings that hit a
   known lesion are neither hits of implants nor false. A nodule is hit once; more hits count neither way.
3. Thresholds are chosen on train, val and out-of-fold data only; what is printed says which it was.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

from training.data import (
    F32,
    F64,
    Bool,
    Lesion,
    Volume,
    close,
    dilate,
    known_lesions,
    pad16,
    read_series,
    resample,
    series_folder,
    window,
)
from training.run import shared_folder

Infer = Callable[[F32], tuple[F32, ...]]


@dataclass(frozen=True)
class Heads:
    """What turns raw tensors into findings; the figures that go into a bundle's manifest."""

    a: float = 1.0  # of the heat logit
    b: float = 1.0  # of the patch logit
    c: float = 0.0
    threshold: float = 0.5  # on sigmoid(a * heat + b * patch + c)
    top_k: int = 24
    within_mm: float = 5.0  # of the closed lungs
    close_mm: float = 9.0
    min_ml: float = 100.0
    margin_mm: float = 8.0
    min_logit: float = -7.0
    views: int = 8
    patch: int = 48


@dataclass(frozen=True)
class Networks:
    """The three networks as functions of one float32 array."""

    lungs: Infer  # [1,1,Z,Y,X] -> logits of the same shape
    propose: Infer  # [1,1,Z,Y,X] -> heat logits, ln mm at a quarter of the size
    classify: Infer  # [N,1,48,48] -> logits [N]


@dataclass(frozen=True)
class Finding:
    """One candidate with its scores, best first."""

    center_lps_mm: tuple[float, float, float]
    diameter_mm: float
    heat: float
    patch: float
    score: float


def sigmoid(x: F64 | float) -> F64:
    """1 / (1 + exp(-x))."""
    return np.asarray(1 / (1 + np.exp(-np.asarray(x, np.float64))))


def closed_lungs(volume: Volume, lungs: Infer, heads: Heads) -> Bool:
    """The lung mask at 3 mm: parts of at least `min_ml`, closed."""
    image = window(resample(volume.hu, volume.spacing, [3.0] * 3))
    logits = lungs(np.asarray(pad16(image), np.float32)[None, None])[0][0, 0]
    mask = logits[: image.shape[0], : image.shape[1], : image.shape[2]] > 0
    labels, count = ndimage.label(mask)
    sizes = np.bincount(labels.ravel(), minlength=count + 1) * 27 / 1000
    keep = [i for i in range(1, count + 1) if sizes[i] >= heads.min_ml]
    return close(np.isin(labels, keep), heads.close_mm, 3.0)


def candidates(
    volume: Volume, mask: Bool, propose: Infer, heads: Heads, fine: F32 | None = None
) -> list[tuple[F64, float, float]]:
    """(LPS mm, diameter, heat logit) of the best `top_k` maxima within the grown lungs."""
    if not mask.any():
        return []
    if fine is None:
        fine = resample(volume.hu, volume.spacing, [1.25] * 3)
    margin = int(np.ceil(heads.margin_mm / 3.0))
    low, high = [], []
    for axis in range(3):
        hit = np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis)))
        first, last = max(hit[0] - margin, 0), min(hit[-1] + 1 + margin, mask.shape[axis])
        low.append(int(np.floor(first * 3.0 / 1.25 + 1e-6)))
        high.append(min(int(np.ceil(last * 3.0 / 1.25 - 1e-6)), fine.shape[axis]))
    part = fine[low[0] : high[0], low[1] : high[1], low[2] : high[2]]
    image = np.asarray(pad16(window(part)), np.float32)
    heat, size = (out[0, 0] for out in propose(image[None, None]))
    p = sigmoid(heat).astype(np.float32)
    peaks = np.argwhere((p == ndimage.maximum_filter(p, 3)) & (heat >= heads.min_logit))
    grown = dilate(mask, heads.within_mm, 3.0)
    found: list[tuple[F64, float, float]] = []
    around = np.stack(np.meshgrid(*[np.arange(-1, 2)] * 3, indexing="ij"), -1).reshape(-1, 3)
    edge = np.asarray(volume.origin) - 0.5 * np.asarray(volume.spacing[::-1])
    for cell in sorted(peaks.tolist(), key=lambda q: -float(heat[tuple(q)])):
        near = np.array(cell) + around
        near = near[((near >= 0) & (near < p.shape)).all(1)]
        weight = p[near[:, 0], near[:, 1], near[:, 2]]
        at = (near * weight[:, None]).sum(0) / weight.sum()
        voxel = (at + 0.5) * 4 - 0.5 + low
        mm = (voxel + 0.5) * 1.25
        index = np.floor(mm / 3.0).astype(int)
        if (index < 0).any() or (index >= mask.shape).any() or not grown[tuple(index)]:
            continue
        lps = edge + mm[::-1]
        diameter = float(np.exp(size[tuple(cell)]))
        if any(np.linalg.norm(lps - f[0]) < max(diameter, f[1]) / 2 for f in found):
            continue
        found.append((lps, diameter, float(heat[tuple(cell)])))
        if len(found) == heads.top_k:
            break
    return found


def patches(volume: Volume, points: Sequence[F64], side: int) -> F32:
    """Native axial patches [N,side,side], windowed; pixel side // 2 is the nearest one."""
    out = np.full((len(points), side, side), -1000.0, np.float32)
    half = side // 2
    for i, lps in enumerate(points):
        z, y, x = (int(v) for v in np.floor(volume.zyx(lps) + 0.5))
        plane = volume.hu[int(np.clip(z, 0, len(volume.hu) - 1))]
        y0, x0 = y - half, x - half
        ys = slice(max(y0, 0), min(y0 + side, plane.shape[0]))
        xs = slice(max(x0, 0), min(x0 + side, plane.shape[1]))
        out[i, ys.start - y0 : ys.stop - y0, xs.start - x0 : xs.stop - x0] = plane[ys, xs]
    return window(out)


def eight(images: F32) -> list[F32]:
    """The flips and quarter turns of [N,Y,X]."""
    turned = [np.rot90(images, q, (1, 2)) for q in range(4)]
    return [np.ascontiguousarray(v) for t in turned for v in (t, t[:, :, ::-1])]


def find(volume: Volume, networks: Networks, heads: Heads, mask: Bool | None = None) -> list[Finding]:
    """The line: lungs, proposals, patch scores. Every candidate, best first, threshold not applied."""
    if mask is None:
        mask = closed_lungs(volume, networks.lungs, heads)
    raw = candidates(volume, mask, networks.propose, heads)
    if not raw:
        return []
    images = patches(volume, [r[0] for r in raw], heads.patch)
    logits = np.mean([networks.classify(view[:, None])[0] for view in eight(images)], axis=0)
    found = []
    for (lps, diameter, heat), patch in zip(raw, logits, strict=True):
        score = float(sigmoid(heads.a * heat + heads.b * float(patch) + heads.c))
        x, y, z = (float(v) for v in lps)
        found.append(Finding((x, y, z), diameter, heat, float(patch), score))
    return sorted(found, key=lambda f: -f.score)


def hits(
    findings: Sequence[Finding], truth: Sequence[tuple[F64, float]], ignored: Sequence[tuple[F64, float]]
) -> list[int]:
    """For each finding the nodule it hits (index), -1 false, -2 neither (ignored or hit before)."""
    taken: set[int] = set()
    out = []
    for finding in findings:
        at = np.array(finding.center_lps_mm)
        near = [(float(np.linalg.norm(at - c)), i) for i, (c, d) in enumerate(truth) if np.linalg.norm(at - c) <= max(d / 2, 5.0)]
        if near:
            index = min(near)[1]
            out.append(-2 if index in taken else index)
            taken.add(index)
        elif any(np.linalg.norm(at - c) <= max(d / 2, 5.0) + 3 for c, d in ignored):
            out.append(-2)
        else:
            out.append(-1)
    return out


@dataclass(frozen=True)
class Scan:
    """Findings of one scan with their verdicts (see `hits`) and the number of its nodules."""

    findings: list[Finding]
    verdicts: list[int]
    diameters: list[float]


def froc(scans: Sequence[Scan], rates: Sequence[float]) -> list[tuple[float, float, float]]:
    """(false findings a scan, sensitivity, threshold) at each of `rates`, pooled over scans."""
    pool = [(f.score, v) for s in scans for f, v in zip(s.findings, s.verdicts, strict=True) if v != -2]
    pool.sort(key=lambda p: -p[0])
    nodules = sum(len(s.diameters) for s in scans)
    rows = []
    for rate in rates:
        allowed, false, true, threshold = rate * len(scans), 0, 0, 1.0
        for score, verdict in pool:
            if verdict == -1:
                if false + 1 > allowed:
                    break
                false += 1
            else:
                true += 1
            threshold = score
        rows.append((rate, true / max(nodules, 1), threshold))
    return rows


def lesions_of(shared: Path, name: str) -> list[Lesion]:
    """Marked lesions of a series; empty where there are none."""
    return known_lesions(shared, name)


def onnx_networks(source: Path, threads: int = 1) -> Networks:
    """The exported networks under onnxruntime."""
    import onnxruntime  # noqa: PLC0415 - a recipe may judge torch networks without it

    def load(name: str) -> Infer:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(
            str(source / name), options, providers=["CPUExecutionProvider"]
        )

        def infer(image: F32) -> tuple[F32, ...]:
            return tuple(session.run(None, {"image": image}))

        return infer

    return Networks(load("lungs.onnx"), load("propose.onnx"), load("classify.onnx"))


def read_heads(source: Path) -> Heads:
    """heads.json of a source folder."""
    stored = json.loads((source / "heads.json").read_text())
    known = {k: v for k, v in stored.items() if k in Heads.__dataclass_fields__}
    return Heads(**known)


def report(volume: Volume, findings: Sequence[Finding], lesions: Sequence[Lesion], heads: Heads) -> str:
    """A table of the findings above the threshold, and where the known lesions rank."""
    lines = [f"{volume.name}: {sum(f.score >= heads.threshold for f in findings)} findings"]
    for rank, f in enumerate(findings, 1):
        if f.score < heads.threshold and rank > 12:
            break
        at = np.array(f.center_lps_mm)
        near = [e for e in lesions if np.linalg.norm(at - e.center_lps_mm) <= max(e.diameter_mm / 2, 10)]
        mark = ("CANCER " if near[0].cancer else "") + near[0].what if near else ""
        lines.append(
            f"  {rank:2d} {'*' if f.score >= heads.threshold else ' '} score {f.score:.3f} heat {f.heat:6.2f}"
            f" patch {f.patch:6.2f} d {f.diameter_mm:4.1f} at {np.round(at, 0).astype(int).tolist()} {mark}"
        )
    return "\n".join(lines)


def main() -> None:
    """Prints the findings of the named series."""
    parser = argparse.ArgumentParser(description="Findings of a source folder's networks.")
    parser.add_argument("source", type=Path)
    parser.add_argument("--series", nargs="*", default=[])
    parser.add_argument("--folder", type=Path, nargs="*", default=[])
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    networks, heads = onnx_networks(given.source), read_heads(given.source)
    shared = shared_folder()
    places = [(series_folder(shared, s), s) for s in given.series] + [(f, "") for f in given.folder]
    for folder, name in places:
        volume = read_series(folder)
        findings = find(volume, networks, heads)
        if given.json:
            print(json.dumps({"series": volume.name, "findings": [asdict(f) for f in findings]}))
        else:
            print(report(volume, findings, lesions_of(shared, name) if name else [], heads))


if __name__ == "__main__":
    main()
