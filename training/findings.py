"""The first half of the nodule line on a volume that no DICOM file holds.

Rules. Each step is the appliance's own, on a CT with implants and on networks that no bundle holds
yet (a fold of a recipe). What findings are worth: `training.froc`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from appliance.backend.choose import choose
from appliance.backend.open import open_backend
from appliance.backend.protocol import Backend
from appliance.bundle.lines import SegmentProposeClassify
from appliance.bundle.manifest import Network
from appliance.interpret import detect, segment
from appliance.preprocess import plan
from appliance.records import Candidate, Geometry, Header, Mask, Plane, Stack
from training import source
from training.data import Volume


@dataclass(frozen=True)
class Finding:
    """One place with its score."""

    center_lps_mm: tuple[float, float, float]
    diameter_mm: float
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


def proposed(stack: Stack, backend: Backend, line: SegmentProposeClassify) -> tuple[Candidate, ...]:
    """The line's candidates before any is judged, best first; none without lungs."""
    lungs = lungs_of(stack, backend, line)
    if not lungs.voxels.any():
        return ()
    box = (lungs.grid, plan.box_of_mask(lungs, source.MARGIN_MM))
    image = backend.prepare(stack, source.OPS["propose"], box)
    return detect.candidates(backend.infer("propose", image), image, line.propose, lungs)
