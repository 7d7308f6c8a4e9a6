"""A series of slices in order -> all that was measured: with its lungs for the in-room check
(`values`), without them for the watch over the scanner (`measured`). Of numbers that were taken of
each slice, but for the blood in a few planes.

Figures are rounded to what means something, so that two machines whose libraries add in another
order say the same.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from appliance.quality import body, contrast, hounsfield, noise, sharpness, steps
from appliance.quality import lungs as lungs_
from appliance.quality.slices import height_mm
from appliance.records import Mask, Pair, Plane, SliceFacts, Stack
from appliance.room.check import Contrast, RoomValues
from appliance.watching.quality import VolumeQuality


def values(stack: Stack, lungs: Mask, *, lungs_side_cm2: float) -> RoomValues | None:
    """All values of a series; None where its slices were not measured when they arrived."""
    slices = _facts(stack.planes)
    if slices is None:
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
        texture_per_mm=_rounded(noise.texture(samples), 3),
        lung_edge_hu_per_mm=_rounded(sharpness.lung_edge(samples), 0),
        air_noise_hu=_rounded(noise.in_air(samples), 1),
        air_hu=_rounded(hounsfield.air(samples), 0),
        tissue_hu=_rounded(tissue_hu, 1),
        blood_hu=_rounded(blood_hu, 0),
        contrast=contrast.given(blood_hu, tissue_hu),
    )


def measured(planes: Sequence[Plane], given: Contrast = "unknown") -> VolumeQuality | None:
    """All that the watch over the scanner keeps of these slices, in whatever order they are and
    whether or not they make a volume. given: contrast medium. None where they were not measured
    when they arrived, and where nothing can be said of them."""
    once = {plane.mark: plane for plane in planes}
    height = {mark: height_mm(plane.geometry) for mark, plane in once.items()}
    marks = sorted(once, key=lambda mark: (height[mark], mark))
    slices = _facts([once[mark] for mark in marks])
    if slices is None:
        return None
    samples = [one.sample for one in slices if one.sample is not None]
    found = VolumeQuality(
        noise_hu=_rounded(noise.in_tissue(samples), 2),
        texture_per_mm=_rounded(noise.texture(samples), 4),
        skin_hu_per_mm=_rounded(sharpness.skin(samples), 1),
        lung_edge_hu_per_mm=_rounded(sharpness.lung_edge(samples), 1),
        tissue_hu=_rounded(hounsfield.mode(samples), 1),
        air_hu=_rounded(hounsfield.air(samples), 1),
        lung_share=_rounded(lungs_.share(samples), 4),
        diameter_mm=_rounded(body.diameter_mm(samples), 1),
        step_hu=_rounded(steps.typical_hu(slices, np.array([height[mark] for mark in marks])), 2),
        metal_share=_rounded(body.metal_share(samples), 6),
        contrast=given,
    )
    return None if found == VolumeQuality(contrast=given) else found


def _facts(planes: Sequence[Plane]) -> list[SliceFacts] | None:
    """What each of these slices said of itself; None where one did not."""
    found = [plane.facts for plane in planes if plane.facts is not None]
    return found if len(found) == len(planes) else None


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
