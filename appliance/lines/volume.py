"""Slices of one volume: what all kinds of line share that see slices of CT. Pure.

    instance -> Plane (HU, oriented, resampled in its plane) -> Stack (in order of rising z)

Rules.
1. A plane is resampled to every in-plane spacing that any bundle of the series asks for. A bundle's
   own memory counts its own spacings; what the device holds counts all of them once.
2. Of a series with several phases the largest is analysed, and a limitation says so.
3. A series that no bundle accepts is put in order as slices of CT, so that its report has facts.
   What is no CT is then not read.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from appliance.bundle.accepts import Accepts
from appliance.bundle.manifest import Manifest
from appliance.errors import SeriesRefused
from appliance.lines.kind import Extent, Outline, Seen
from appliance.preprocess import fast, plan
from appliance.preprocess.spec import Resample
from appliance.reasons import Code
from appliance.records import Plane, Stack
from appliance.report import Reason
from appliance.series import assemble, pixels
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
        if not isinstance(stack, Stack):
            return Outline(reasons=stack)
        return Outline(
            subject=stack,
            limitations=(*stack.limitations, *_of_phases(len(phases))),
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
    """kind.Reading of a series that no bundle accepts (rule 3)."""

    def images(
        self,
        instance: Parsed,
        manifests: Sequence[Manifest | None],
        memory_bytes: int | None,
    ) -> tuple[Seen[Plane], ...]:
        if instance.header.modality != "CT":
            return (Seen(),) * len(manifests)
        return super().images(instance, manifests, memory_bytes)


def _of_phases(count: int) -> tuple[Reason, ...]:
    if count < 2:
        return ()
    text = f"the series holds {count} phases or acquisitions; one of them was analysed"
    return (Reason(code=Code.DYNAMIC, text=text, where="series"),)
