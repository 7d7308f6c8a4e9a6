"""Slices of one volume: what all kinds of line share that see slices of CT. Pure.

    instance -> Plane (HU, oriented, resampled in its plane) -> Stack (in order of rising z)

Rules.
1. A plane is resampled to every in-plane spacing that any bundle of the series asks for. A bundle's
   own memory counts its own spacings; what the device holds counts all of them once.
2. Of a series with several phases the largest is analysed; acquisitions that adjoin are joined
   (series/phases.py). A limitation says so, and which findings lie within 10 mm of a seam.
3. Where the images name a contrary body part, the whole series must, and what they show decides
   (lines/nodules.py); if they are not even slices in order, the body part leads the reasons.
4. A series that no bundle accepts is put in order as slices of CT, so that its report has facts.
   What is no CT is then not read.
5. Slices that show a water phantom are no exam, whatever their headers and whichever bundle
   (quality/phantom.py): PHANTOM_QA alone, before anything else is said of them. The line of such
   phantoms takes them in order (lines/qa.py).
6. Images that do not belong to the series are set aside (series/foreign.py). One that was refused
   for another reason refuses the series.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from dataclasses import replace

import numpy as np

from appliance.bundle import match
from appliance.bundle.accepts import Accepts
from appliance.bundle.manifest import Manifest
from appliance.errors import SeriesRefused
from appliance.lines.kind import Extent, Outline, Seen
from appliance.preprocess import fast, plan
from appliance.preprocess.spec import Resample
from appliance.quality import phantom, series, slices
from appliance.reasons import Code
from appliance.records import Header, Plane, Stack
from appliance.report import Finding, Reason
from appliance.series import assemble, foreign, phases, pixels, pose, select
from appliance.series.foreign import Unread
from appliance.series.pixels import Parsed
from appliance.watching.quality import VolumeQuality

SEAM_MM = 10.0
"""How near to a seam a finding has to lie to be named with it."""
PHANTOM = Reason(code=Code.PHANTOM_QA, text="The images show a water phantom.", where="series")
HOLES = frozenset({Code.GAP_FILLED, Code.IRREGULAR_SPACING})


def in_plane_spacings(manifests: Iterable[Manifest | None]) -> tuple[float, ...]:
    """Every in-plane spacing (mm) that a network of these bundles is fed with; None asks none."""
    return tuple(
        sorted(
            {
                op.spacing_mm[1]
                for manifest in manifests
                if manifest is not None
                for network in manifest.networks.values()
                for op in network.preprocess
                if isinstance(op, Resample)
            }
        )
    )


class Slices:
    """kind.Reading of slices."""

    def images(
        self,
        instance: Parsed,
        manifests: Sequence[Manifest | None],
        memory_bytes: int | None,
    ) -> tuple[Seen[Plane], ...]:
        spacings = in_plane_spacings(manifests)
        seen: Seen[Plane]
        try:
            planes = (fast.plane(image, spacings) for image in pixels.images(instance))
            seen = Seen(tuple(replace(plane, facts=slices.facts(plane)) for plane in planes))
        except SeriesRefused as e:
            seen = Seen(reasons=(e.reason,))
        return (seen,) * len(manifests)

    def bytes_of(self, image: Plane, manifest: Manifest | None = None) -> int:
        own = image.resampled if manifest is None else in_plane_spacings([manifest])
        return image.native.nbytes + sum(image.resampled[mm].nbytes for mm in own)

    def trimmed(self, image: Plane, manifests: Sequence[Manifest | None]) -> Plane:
        wanted = in_plane_spacings(manifests)
        kept = {mm: plane for mm, plane in image.resampled.items() if mm in wanted}
        return replace(image, resampled=kept)

    def planes(self, images: Sequence[Plane]) -> tuple[Plane, ...]:
        return tuple(images)

    def measured(self, images: Sequence[Plane]) -> tuple[VolumeQuality, ...]:
        found = series.measured(images)
        return () if found is None else (found,)

    def outline(
        self, images: Sequence[Plane], accepts: Accepts | None, *, unread: Sequence[Unread]
    ) -> Outline[Stack]:
        if phantom.shows_water(images):
            return Outline(reasons=(PHANTOM,), uniform=True)
        return self.ordered(images, accepts, unread=unread)

    def ordered(
        self, images: Sequence[Plane], accepts: Accepts | None, *, unread: Sequence[Unread]
    ) -> Outline[Stack]:
        """The outline of slices of which it was asked before whether they show a phantom."""
        found = foreign.sort_out(images, unread)
        if not images and unread:
            return Outline(reasons=found.refusals)  # the images' own reasons say it all
        volume = phases.volume(found.planes)
        stack = assemble.assemble(volume.planes, accepts)
        headers = {plane.header for plane in found.planes}  # an image that came twice counts once
        contrary, every = _contrary(headers, accepts)
        if not isinstance(stack, Stack):
            if localizer := select.scout(headers, stack):
                return Outline(reasons=(*found.refusals, localizer))
            against = (contrary, *stack) if contrary else stack
            return Outline(reasons=(*found.refusals, *foreign.causes(found.aside), *against))
        if contrary and not every:
            return Outline(reasons=(*found.refusals, contrary))
        holed = bool(foreign.causes(found.aside))
        hole = next((r for r in stack.limitations if holed and r.code is Code.GAP_FILLED), None)
        first = pose.along(stack.planes[:1], np.array(stack.normal_lps))[0]
        return Outline(
            subject=replace(stack, seams_mm=tuple(float(at - first) for at in volume.seams_mm)),
            reasons=found.refusals,
            limitations=(
                *foreign.limitation(found.aside, found.every, hole),
                *select.hints([plane.header for plane in stack.planes]),
                *(reason for reason in stack.limitations if reason is not hole),
                *(match.limits(accepts, headers) if accepts else ()),
                *volume.limitations,
            ),
            uniform=not any(reason.code in HOLES for reason in stack.limitations),
            extent=Extent(
                spacing_mm=stack.spacing_mm,
                z_mm=plan.extent(stack),
                cover_mm=float(stack.z_mm[-1]),
                slices=len(stack.planes),
            ),
            images=tuple(plane.mark[0] for plane in stack.planes),
            foreign=frozenset() if found.refusals else found.marks,
        )


def at_seams(stack: Stack, findings: Sequence[Finding]) -> tuple[Reason, ...]:
    """Which findings lie at a seam of joined acquisitions (rule 2)."""
    origin, normal = np.array(stack.planes[0].geometry.position_lps_mm), np.array(stack.normal_lps)
    along = {f.id: float((np.array(f.place_lps_mm) - origin) @ normal) for f in findings}
    found = []
    for seam in stack.seams_mm:
        near = [str(number) for number, at in along.items() if abs(at - seam) <= SEAM_MM]
        if near:
            where = f"z {origin[2] + seam * normal[2]:.1f} mm"
            text = f"finding {', '.join(near)}: within {SEAM_MM:g} mm of the seam at {where}"
            found.append(Reason(code=Code.JOINED_ACQUISITIONS, text=text, where=where))
    return tuple(found)


class Unknown(Slices):
    """kind.Reading of a series that no bundle accepts (rule 4)."""

    def images(
        self,
        instance: Parsed,
        manifests: Sequence[Manifest | None],
        memory_bytes: int | None,
    ) -> tuple[Seen[Plane], ...]:
        if instance.header.modality != "CT":
            return (Seen(),) * len(manifests)
        return super().images(instance, manifests, memory_bytes)


def _contrary(headers: Set[Header], accepts: Accepts | None) -> tuple[Reason | None, bool]:
    """Why the part of the body that images name speaks against them, and whether each of them names
    such a part (rule 3)."""
    if accepts is None:
        return None, False
    of_part = {h.body_part: match.doubt(accepts, (h,)) for h in headers}
    odd = sorted((h for h in headers if of_part[h.body_part]), key=select.place)
    reason = of_part[odd[0].body_part] if odd else None
    if reason is None or len(odd) == len(headers):
        return reason, reason is not None
    number = odd[0].instance_number
    where = "image" if number is None else f"image {number}"
    text = f"{where}: {reason.text}" + (f" (and {len(odd) - 1} more like it)" if odd[1:] else "")
    return reason.model_copy(update={"text": text, "where": where}), False
