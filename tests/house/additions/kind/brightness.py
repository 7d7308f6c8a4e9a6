"""The line of brightness, from a stack of slices to findings: one network sees each slice. Pure.

    stack -> the middle of each slice -> its mean, 0 to 1 -> the brightest as findings

`Brightness` is the kind (lines/kind.py). It serves as an example: a small kind that is whole.

Rules.
1. A slice whose mean reaches the threshold is a finding; of more than `max_findings` the brightest
   stay, of two alike the lower one.
2. Its place is the region that the network saw: its middle, its width, and one slice distance.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from appliance.backend.profile import Shapes, of_slices
from appliance.backend.protocol import Backend
from appliance.bundle.lines import BrightSlices
from appliance.bundle.manifest import Manifest, Network
from appliance.errors import Poisoned
from appliance.lines.budget import USUAL_SIDE, USUAL_SLICES, Budget
from appliance.lines.kind import Analysis, Context
from appliance.lines.volume import Slices
from appliance.preprocess import plan
from appliance.preprocess.spec import Patch
from appliance.records import Stack, Tensor, Vector
from appliance.report import Coverage, Finding

AT_ONCE = 64
"""Slices in one run of the network: it bounds the memory that it takes."""


class Brightness(Slices):
    """kind.Kind of this line."""

    model = BrightSlices

    def ends_inside(self, coverage: Coverage) -> None:
        return None

    def analyse(
        self, subject: Stack, manifest: Manifest, backend: Backend, budget: Budget, context: Context
    ) -> Analysis:
        line, size = manifest.line_of(BrightSlices), _size(manifest)
        if text := budget.too_wide(AT_ONCE * size**2, 0):
            return Analysis(too_wide=text)
        ops = manifest.networks["classify"].preprocess
        centers = [plan.vector(plan.centre(plane)) for plane in subject.planes]
        means: list[float] = []
        for first in range(0, len(centers), AT_ONCE):
            patches = backend.gather(subject, ops, centers[first : first + AT_ONCE])
            means += _means(backend, patches, line).tolist()
        found = [i for i, mean in enumerate(means) if mean >= line.threshold]
        found = sorted(found, key=lambda i: (-means[i], i))[: line.max_findings]
        findings = tuple(
            _finding(number, subject, i, means[i], line.threshold, size)
            for number, i in enumerate(found, start=1)
        )
        return Analysis(findings=findings)

    def usual_bytes(self, manifest: Manifest) -> int:
        return USUAL_SLICES * USUAL_SIDE**2 * 2

    def profile(self, role: str, network: Network, manifest: Manifest) -> dict[str, Shapes]:
        return of_slices(role, network, AT_ONCE)

    def scores(
        self, images: NDArray[np.uint8], manifest: Manifest, backend: Backend
    ) -> tuple[NDArray[np.float64], float]:
        line, size = manifest.line_of(BrightSlices), _size(manifest)
        if images.ndim != 3 or images.shape[1:] != (size, size):
            raise ValueError(f"{manifest.name} sees {size} x {size}, not {images.shape[1:]}")
        grey = np.asarray(images[:, None] / 255, np.float32)
        return _means(backend, Tensor(grey, grey.shape, None), line), line.threshold

    def example(self, spacing_mm: Vector | None = None) -> tuple[bytes, ...]:
        from appliance.phantom import chest, instances  # noqa: PLC0415 - no stage needs the phantom

        body = chest.chest() if spacing_mm is None else chest.chest(spacing_mm=spacing_mm)
        return tuple(instances.packed(image) for image in instances.series(body))


def _size(manifest: Manifest) -> int:
    """Pixels on a side of the region that the network sees."""
    ops = manifest.networks["classify"].preprocess
    return next(op.size for op in ops if isinstance(op, Patch))


def _means(backend: Backend, patches: Tensor, line: BrightSlices) -> NDArray[np.float64]:
    """Of each patch its mean, [n]; Poisoned where the network gives something else."""
    means = backend.infer("classify", patches).get(line.output)
    if means is None or means.shape != patches.shape[:1]:
        raise Poisoned(f"network 'classify': no output {line.output!r} [n]", code="backend_failed")
    return np.clip(np.asarray(means, np.float64), 0, 1)


def _finding(
    number: int, stack: Stack, index: int, mean: float, threshold: float, size: int
) -> Finding:
    """The region in the middle of one slice."""
    plane = stack.planes[index]
    x, y, z = plan.vector(plan.centre(plane))
    slices, rows, columns = plan.native_spacing(stack)
    half_x, half_y, half_z = size * columns / 2, size * rows / 2, slices / 2
    return Finding(
        id=number,
        tracking_uid="",
        kind="brightness",
        score=round(mean, 4),
        threshold=threshold,
        center_lps_mm=(x, y, z),
        box_lps_mm=(x - half_x, y - half_y, z - half_z, x + half_x, y + half_y, z + half_z),
        key_image=index,
        key_sop_instance_uid=plane.header.sop_instance_uid,
    )
