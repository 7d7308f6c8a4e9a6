"""The nodule line on a volume, and what its findings are worth.

Rules.
1. `find` is the appliance's own line, piece by piece, on a volume that no DICOM file holds (a CT
   with implants) and on networks that no bundle holds yet (a fold of a recipe).
2. A hit is a finding whose centre lies within the nodule's radius, at least 5 mm. Findings that hit
   an ignored lesion are neither hits nor false. A nodule is hit once; more hits count neither way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from appliance.backend.choose import choose
from appliance.backend.open import open_backend
from appliance.backend.protocol import Backend
from appliance.bundle.manifest import Network, SegmentProposeClassify
from appliance.interpret import classify, detect, segment
from appliance.preprocess import plan
from appliance.records import Candidate, Geometry, Header, Mask, Plane, Stack
from training import source
from training.data import F64, Volume


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


def onnx_backend(files: Mapping[source.Role, Path], threads: int = 0) -> Backend:
    """The backend the appliance would choose, with networks that no bundle holds yet."""
    entries: dict[str, Network] = {role: source.network(role, "0" * 64) for role in files}
    networks: dict[str, bytes] = {role: path.read_bytes() for role, path in files.items()}
    return open_backend(choose("auto"), entries, networks, threads)


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
