"""A series of slices in order, with its lungs -> all that was measured.

Figures are rounded to what means something, so that two machines whose libraries add in another
order say the same.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from appliance.quality import body, contrast, hounsfield, noise, steps
from appliance.quality import lungs as lungs_
from appliance.records import Mask, Pair, Plane, Stack
from appliance.room.check import RoomValues
from appliance.watching.quality import VolumeQuality


def values(stack: Stack, lungs: Mask, *, lungs_side_cm2: float) -> RoomValues | None:
    """All values of a series; None where its slices were not measured when they arrived."""
    slices = [plane.facts for plane in stack.planes if plane.facts is not None]
    if len(slices) < len(stack.planes):
        return None
    samples = [one.sample for one in slices if one.sample is not None]
    ends = lungs_.ends_cm2(lungs)
    step = steps.largest(slices, np.asarray(stack.z_mm), _heights_mm(stack, lungs))
    noise_hu = noise.in_tissue(samples)
    tissue_hu = hounsfield.tissue(samples)
    blood_hu = contrast.blood(stack, lungs)
    return RoomValues(
        lungs_feet_cm2=_rounded(ends[0] if ends else None, 1),
        lungs_head_cm2=_rounded(ends[1] if ends else None, 1),
        lungs_side_cm2=_rounded(lungs_side_cm2, 1),
        body_edge_percent=_rounded(body.edge_percent(samples), 0),
        step_mm=_rounded(step[0] if step else None, 1),
        step_most_mm=_rounded(steps.limit_mm(stack.spacing_mm[0]) if step else None, 1),
        step_z_mm=_rounded(_z_mm(stack, step[1]) if step else None, 1),
        noise_hu=_rounded(noise_hu, 1),
        noise_thick_hu=_rounded(
            None if noise_hu is None else noise.as_thick(noise_hu, _thickness_mm(stack)), 1
        ),
        texture=_rounded(noise.texture(samples, stack.spacing_mm[2]), 2),
        air_noise_hu=_rounded(noise.in_air(samples), 1),
        air_hu=_rounded(hounsfield.air(samples), 0),
        tissue_hu=_rounded(tissue_hu, 1),
        blood_hu=_rounded(blood_hu, 0),
        contrast=contrast.given(blood_hu, tissue_hu),
    )


def measured(planes: Sequence[Plane]) -> VolumeQuality | None:
    """Noise and texture of these slices, in whatever order; None where they were not measured when
    they arrived."""
    found = [plane.facts.sample for plane in planes if plane.facts is not None]
    samples = [one for one in found if one is not None]
    noise_hu = noise.in_tissue(samples)
    if len(found) < len(planes) or noise_hu is None:
        return None
    lagged = np.sum([one.lagged for one in samples], axis=0)
    alike = float(np.clip(lagged[1] / lagged[0], 0.01, 0.99)) if lagged[0] > 0 else 0.5
    grain_mm = planes[0].geometry.spacing_mm[1] / (2 * np.sqrt(-np.log(alike)))
    per_mm = round(float(1 / (4 * np.sqrt(np.pi) * grain_mm)), 4)
    return VolumeQuality(noise_hu=round(noise_hu, 2), texture_per_mm=per_mm)


def _heights_mm(stack: Stack, lungs: Mask) -> Pair:
    """The ends of the lungs, mm along the normal from the first slice."""
    planes = np.flatnonzero(lungs.voxels.any(axis=(1, 2)))
    if not len(planes):
        return 0.0, 0.0
    first, normal = stack.planes[0].geometry.position_lps_mm, np.array(stack.normal_lps)
    low, high = (
        float(
            (lungs.grid.to_lps @ np.array([k, 0, 0, 1.0]))[:3] @ normal - np.array(first) @ normal
        )
        for k in planes[[0, -1]]
    )
    return low, high


def _z_mm(stack: Stack, index: int) -> float:
    return stack.planes[index].geometry.position_lps_mm[2]


def _thickness_mm(stack: Stack) -> float:
    """Slice Thickness (0018,0050) of most slices, else their distance."""
    said = [p.header.thickness_mm for p in stack.planes if p.header.thickness_mm]
    return float(np.median(said)) if said else stack.spacing_mm[0]


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits) + 0.0
