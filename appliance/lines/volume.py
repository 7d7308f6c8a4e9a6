"""Slices of one volume: what all kinds of line share that see slices of CT. Pure.

    instance -> Plane (HU, oriented, resampled in its plane) -> Stack (in order of rising z)

Rules.
1. A plane is resampled to every in-plane spacing that any bundle of the series asks for. A bundle's
   own memory counts its own spacings; what the device holds counts all of them once.
2. Of a series with several phases the largest is analysed, and a limitation says so.
3. Where the images name a contrary body part, the whole series must, and what they show decides
   (lines/nodules.py); if they are not even slices in order, the body part leads the reasons.
4. A series that no bundle accepts is put in order as slices of CT, so that its report has facts.
   What is no CT is then not read.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from dataclasses import replace

from appliance.bundle import match
from appliance.bundle.accepts import Accepts
from appliance.bundle.manifest import Manifest
from appliance.errors import SeriesRefused
from appliance.lines.kind import Extent, Outline, Seen
from appliance.preprocess import fast, plan
from appliance.preprocess.spec import Resample
from appliance.reasons import Code
from appliance.records import Header, Plane, Stack
from appliance.report import Reason
from appliance.series import assemble, pixels, select
from appliance.series.pixels import Parsed

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
            seen = Seen(tuple(fast.plane(image, spacings) for image in pixels.images(instance)))
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

    def outline(
        self, images: Sequence[Plane], accepts: Accepts | None, *, unread: bool
    ) -> Outline[Stack]:
        if not images and unread:
            return Outline()  # the images' own reasons say it all
        phases = assemble.split(images)
        names = {plane.mark[0] for plane in max(phases, key=len, default=())}
        # `split` keeps one of each UID; that two have other pixels is for `assemble` to say
        stack = assemble.assemble([p for p in images if p.mark[0] in names], accepts)
        headers = {plane.header for plane in images}  # an image that came twice counts once
        contrary, every = _contrary(headers, accepts)
        if not isinstance(stack, Stack):
            if localizer := select.scout(headers, stack):
                return Outline(reasons=(localizer,))
            return Outline(reasons=(contrary, *stack) if contrary else stack)
        if contrary and not every:
            return Outline(reasons=(contrary,))
        return Outline(
            subject=stack,
            limitations=(
                *select.hints([plane.header for plane in stack.planes]),
                *stack.limitations,
                *(match.limits(accepts, headers) if accepts else ()),
                *_of_phases(len(phases)),
            ),
            uniform=not any(reason.code in HOLES for reason in stack.limitations),
            extent=Extent(
                spacing_mm=stack.spacing_mm,
                z_mm=plan.extent(stack),
                cover_mm=float(stack.z_mm[-1]),
                slices=len(stack.planes),
            ),
        )

    def against(self, images: Sequence[Plane], refusals: tuple[Reason, ...]) -> tuple[Reason, ...]:
        """A slice that was refused leaves a hole: the series is refused with it."""
        return refusals


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
    odd = sorted(
        (h for h in headers if of_part[h.body_part]), key=lambda h: (select.place(h), repr(h))
    )
    reason = of_part[odd[0].body_part] if odd else None
    if reason is None or len(odd) == len(headers):
        return reason, reason is not None
    number = odd[0].instance_number
    where = "image" if number is None else f"image {number}"
    text = f"{where}: {reason.text}" + (f" (and {len(odd) - 1} more like it)" if odd[1:] else "")
    return reason.model_copy(update={"text": text, "where": where}), False


def _of_phases(count: int) -> tuple[Reason, ...]:
    if count < 2:
        return ()
    text = f"the series holds {count} phases or acquisitions; one of them was analysed"
    return (Reason(code=Code.DYNAMIC, text=text, where="series"),)
