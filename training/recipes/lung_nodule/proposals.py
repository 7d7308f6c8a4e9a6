"""The first half of the nodule line on a volume that no DICOM file holds: lungs, then proposals.

Rules. Each step is the appliance's own, on a CT with implants and on networks that no bundle holds
yet (a fold of a recipe). What findings are worth: `training.judge.froc`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from appliance.backend.choose import choose
from appliance.backend.open import open_backend
from appliance.backend.protocol import Backend
from appliance.bundle.lines import SegmentProposeClassify
from appliance.bundle.manifest import Network
from appliance.interpret import detect, segment
from appliance.preprocess import plan
from appliance.records import Candidate, Mask, Stack
from training.recipes.lung_nodule import bundle


def onnx_backend(files: Mapping[bundle.Role, Path], threads: int = 0) -> Backend:
    """The backend the appliance would choose, with networks that no bundle holds yet."""
    networks: dict[bundle.Role, bytes] = {role: path.read_bytes() for role, path in files.items()}
    entries: dict[str, Network] = {r: bundle.network_of(r, data) for r, data in networks.items()}
    return open_backend(choose("auto"), entries, {str(r): networks[r] for r in networks}, threads)


def lungs_of(stack: Stack, backend: Backend, line: SegmentProposeClassify) -> Mask:
    """The closed lung mask at 3 mm."""
    image = backend.prepare(stack, bundle.OPS["segment"], None)
    return segment.mask(backend.infer("segment", image), image, line.segment)


def proposed(stack: Stack, backend: Backend, line: SegmentProposeClassify) -> tuple[Candidate, ...]:
    """The line's candidates before any is judged, best first; none without lungs."""
    lungs = lungs_of(stack, backend, line)
    if not lungs.voxels.any():
        return ()
    box = (lungs.grid, plan.box_of_mask(lungs, bundle.MARGIN_MM))
    image = backend.prepare(stack, bundle.OPS["propose"], box)
    return detect.candidates(backend.infer("propose", image), image, line.propose, lungs)
