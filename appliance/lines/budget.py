"""Whether there is memory for a series: figures come in, a sentence comes out. Pure.

The memory of a machine is no fact of the input. So a refusal names the figures, and the digest of
what was refused is not that of its pixels: the same series, analysed where there is more memory,
has another report_id and never contradicts a report of its own name.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from appliance.records import Vector

MAX_BYTES = 4 << 30
"""Of the pixels that one fold holds, as decoded and as resampled: over 3000 images of 512 x 512.
Never more, however much memory there is."""

BYTES_INFERRED, BYTES_LABELLED = 48, 48
"""What one voxel of a network's input takes at most, and one that is labelled for a mask. Measured
with the first factory bundle, 96^3 to 224^3 voxels: 25 to 45 while a network runs (onnxruntime and
OpenVINO), which its library then keeps; some 30 for labels and masks."""

USUAL_SLICES, USUAL_SIDE, USUAL_MM, USUAL_LUNGS_MM = 400, 512, (400, 360, 360), (300, 230, 320)
"""A usual chest CT, and the box around its lungs (z, y, x)."""


@dataclass(frozen=True, slots=True)
class Budget:
    """What a series holds of the memory, and how much there is for it."""

    held: int
    """Bytes of its pixels, as decoded and as resampled."""
    memory_bytes: int | None = None
    """What it may hold together with its analysis; None where the machine does not say."""

    def too_many(self) -> str | None:
        """Why so many bytes of pixels cannot be held; None where they can."""
        if self.held > MAX_BYTES:
            return f"its pixels need more than {MAX_BYTES >> 20} MB of memory"
        if self.memory_bytes is not None and self.held > self.memory_bytes:
            left = f"the {self.memory_bytes >> 20} MB of memory that this device has left"
            return f"its pixels need more than {left}"
        return None

    def too_wide(self, inferred: int, labelled: int) -> str | None:
        """Why so many voxels cannot be analysed beside the pixels; None where they can."""
        need = self.held + inferred * BYTES_INFERRED + labelled * BYTES_LABELLED
        if self.memory_bytes is None or need <= self.memory_bytes:
            return None
        left = f"this device has {self.memory_bytes >> 20} MB left"
        return f"its analysis needs {need >> 20} MB of memory, {left}"


def usual(
    resampled_mm: Iterable[float],
    segment_mm: Vector,
    propose_mm: Vector,
    *,
    mass_mm: Vector | None = None,
    drawn: bool = False,
    diseased: bool = False,
    cube_voxels: int = 0,
) -> int:
    """Bytes that a usual chest CT takes: native pixels, the in-plane spacings that its slices are
    resampled to, the grids of two networks and of a third, all in mm, and cubes. `drawn`: what the
    third draws is labelled as well. `diseased`: the first also says classes of disease."""
    planes = sum(USUAL_MM[1] * USUAL_MM[2] * 4 / mm**2 for mm in resampled_mm)
    labelled = math.prod(USUAL_MM) / math.prod(segment_mm)
    proposed = math.prod(USUAL_LUNGS_MM) / math.prod(propose_mm)
    held = USUAL_SLICES * (USUAL_SIDE**2 * 2 + planes)
    masses = math.prod(USUAL_MM) / math.prod(mass_mm) if mass_mm else 0
    inferred = (labelled + proposed + masses + cube_voxels) * BYTES_INFERRED
    labelled += (masses if drawn else 0) + (labelled if diseased else 0)
    return round(held + inferred + labelled * BYTES_LABELLED)
