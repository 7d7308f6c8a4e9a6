"""Runs the nodule line on real CTs and on CTs with implants, and scores what it finds.

    python -m training.evaluate build/lung-nodule --series R01-001 C3N-00247 A0001
    python -m training.evaluate build/lung-nodule --folder DIR     (one DICOM series)

Rules.
1. `find` is the whole line in one function and follows the bundle's heads to the letter: what the
   appliance does, in numpy, so that recipes can judge networks before they are exported.
2. A hit is a finding whose centre lies within the nodule's radius, at least 5 mm. Findings that hit
   a known lesion are neither hits of implants nor false. A nodule is hit once; more hits count
   neither way.
3. Thresholds are chosen on train, val and out-of-fold data only; what is printed says which it was.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from appliance.backend.cpu import CpuBackend, Run, load_onnxruntime
from appliance.backend.protocol import Backend
from appliance.bundle.manifest import Calibration, Network, SegmentProposeClassify
from appliance.interpret import classify, detect, segment
from appliance.preprocess import plan
from appliance.records import Candidate, Geometry, Header, Mask, Plane, Stack
from training import source
from training.data import F64, Lesion, Volume, known_lesions, read_series, series_folder
from training.loop import shared_folder


@dataclass(frozen=True)
class Finding:
    """One candidate with its scores."""

    center_lps_mm: tuple[float, float, float]
    diameter_mm: float
    heat: float
    patch: float
    score: float


def stack_of(volume: Volume) -> Stack:
    """A volume as the appliance's stack of planes."""
    dz, dy, dx = volume.spacing
    x, y, z = volume.origin
    planes = []
    for k, hu in enumerate(volume.hu):
        place = Geometry((x, y, z + k * dz), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (dy, dx))
        header = Header("", str(k), "", "")
        planes.append(Plane(header, 0, place, hu, {}, False, ""))
    heights = np.arange(len(planes), dtype=np.float64) * dz
    return Stack(tuple(planes), heights, (0.0, 0.0, 1.0), volume.spacing)


def torch_backend(models: Mapping[source.Role, nn.Module]) -> Backend:
    """The appliance's CPU backend around torch networks, for recipes that have exported nothing
    yet."""
    import torch  # noqa: PLC0415 - exported networks are judged without it

    def run(role: source.Role, model: nn.Module) -> Run:
        names = [port.name for port in source.network(role, "0" * 64).outputs]
        model.eval()

        def infer(image: Any) -> Mapping[str, Any]:
            with torch.no_grad():
                out = model(torch.from_numpy(image))
            values = out if isinstance(out, tuple) else (out,)
            return {n: v.numpy() for n, v in zip(names, values, strict=True)}

        return infer

    runs: dict[str, Run] = {role: run(role, model) for role, model in models.items()}
    return CpuBackend("onnxruntime", _networks(), runs)


def onnx_backend(folder: Path, threads: int = 1) -> Backend:
    """The exported networks of a source folder under onnxruntime."""
    networks = _networks()
    files: dict[str, bytes] = {r: (folder / name).read_bytes() for r, name in source.FILES.items()}
    return CpuBackend("onnxruntime", networks, load_onnxruntime(networks, files, threads))


def _networks() -> dict[str, Network]:
    return {role: source.network(role, "0" * 64) for role in source.FILES}


def lungs_of(stack: Stack, backend: Backend, line: SegmentProposeClassify) -> Mask:
    """The closed lung mask at 3 mm."""
    image = backend.prepare(stack, source.OPS["segment"], None)
    return segment.mask(backend.infer("segment", image), image, line.segment)


def find(volume: Volume, backend: Backend, line: SegmentProposeClassify) -> list[Finding]:
    """Every candidate of the line, best first; the threshold is not applied."""
    stack = stack_of(volume)
    lungs = lungs_of(stack, backend, line)
    if not lungs.voxels.any():
        return []
    box = (lungs.grid, plan.box_of_mask(lungs, source.MARGIN_MM))
    image = backend.prepare(stack, source.OPS["propose"], box)
    found = detect.candidates(backend.infer("propose", image), image, line.propose, lungs)
    if found:
        centers = [c.center_lps_mm for c in found]
        views = backend.gather(stack, source.OPS["classify"], centers, line.classify.views)
        logits = classify.logits(backend.infer("classify", views), line.classify)
        found = classify.scored(found, logits, line.calibration)
    return [_finding(c) for c in found]


def _finding(c: Candidate) -> Finding:
    return Finding(
        c.center_lps_mm, c.diameter_mm, c.logits["propose"], c.logits["classify"], c.score
    )


def hits(
    findings: Sequence[Finding],
    truth: Sequence[tuple[F64, float]],
    ignored: Sequence[tuple[F64, float]],
) -> list[int]:
    """For each finding the nodule it hits (index), -1 false, -2 neither (ignored or hit before)."""
    taken: set[int] = set()
    out = []
    for finding in findings:
        at = np.array(finding.center_lps_mm)
        near = [
            (float(np.linalg.norm(at - c)), i)
            for i, (c, d) in enumerate(truth)
            if np.linalg.norm(at - c) <= max(d / 2, 5.0)
        ]
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
    pool = [
        (f.score, v) for s in scans for f, v in zip(s.findings, s.verdicts, strict=True) if v != -2
    ]
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


def read_line(folder: Path) -> SegmentProposeClassify:
    """The heads of a source folder, from its heads.json."""
    stored = json.loads((folder / "heads.json").read_text())
    calibration = Calibration(
        propose=stored["a"], classify=stored["b"], bias=stored["c"], threshold=stored["threshold"]
    )
    return source.line(calibration, stored["top_k"])


def report(
    volume: Volume, findings: Sequence[Finding], lesions: Sequence[Lesion], threshold: float
) -> str:
    """A table of the findings above the threshold (at least 12 rows), with the lesions they hit."""
    lines = [f"{volume.name}: {sum(f.score >= threshold for f in findings)} findings"]
    for rank, f in enumerate(findings, 1):
        if f.score < threshold and rank > 12:
            break
        at = np.array(f.center_lps_mm)
        near = [
            e for e in lesions if np.linalg.norm(at - e.center_lps_mm) <= max(e.diameter_mm / 2, 10)
        ]
        mark = ("CANCER " if near[0].cancer else "") + near[0].what if near else ""
        lines.append(
            f"  {rank:2d} {'*' if f.score >= threshold else ' '} score {f.score:.3f}"
            f" heat {f.heat:6.2f} patch {f.patch:6.2f} d {f.diameter_mm:4.1f}"
            f" at {np.round(at, 0).astype(int).tolist()} {mark}"
        )
    return "\n".join(lines)


def main() -> None:
    """Prints the findings of the named series."""
    parser = argparse.ArgumentParser(description="Findings of a source folder's networks.")
    parser.add_argument("source", type=Path)
    parser.add_argument("--series", nargs="*", default=[], help="names of shared CT series")
    parser.add_argument("--folder", type=Path, nargs="*", default=[], help="DICOM folders")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    backend, line = onnx_backend(given.source), read_line(given.source)
    shared = shared_folder()
    places = [(series_folder(shared, s), s) for s in given.series] + [(f, "") for f in given.folder]
    for folder, name in places:
        volume = read_series(folder)
        findings = find(volume, backend, line)
        if given.json:
            print(json.dumps({"series": volume.name, "findings": [asdict(f) for f in findings]}))
        else:
            lesions = known_lesions(shared, name) if name else []
            print(report(volume, findings, lesions, line.calibration.threshold))


if __name__ == "__main__":
    main()
