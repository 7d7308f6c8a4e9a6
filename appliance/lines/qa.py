"""The line of water phantoms: slices that show one, in order, are measured. Pure.

    stack -> WaterFigures

`WaterPhantoms` is the kind (lines/kind.py). It has no network, and what it is given as a backend is
asked nothing.

Rules.
1. What the images show chooses this line, not a header: every other line of slices sets a phantom
   aside as PHANTOM_QA (lines/volume.py), and then the same images are given to this one
   (Fold.again_for). Slices that show none are NO_PHANTOM.
2. A series has to be in order as any other: tilted gantry, mixed sizes and the like are refused.
3. What is measured is held against limits elsewhere (quality/passing.py), because some of them are
   what this scanner measured before.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from appliance.backend.profile import Shapes
from appliance.backend.protocol import Backend
from appliance.bundle.accepts import Accepts
from appliance.bundle.manifest import Manifest, Network
from appliance.bundle.water import WaterPhantom
from appliance.errors import BundleRefused
from appliance.lines.budget import Budget
from appliance.lines.kind import Analysis, Context, Outline
from appliance.lines.volume import Slices
from appliance.quality import phantom, water
from appliance.reasons import Code
from appliance.records import Plane, Stack, Vector
from appliance.report import Reason
from appliance.series.foreign import Unread

NO_PHANTOM = Reason(code=Code.NO_PHANTOM, text="The images show no water phantom.", where="series")
NOT_MEASURED = Reason(
    code=Code.NO_PHANTOM, text="In no image is the edge of the phantom a circle.", where="series"
)


class WaterPhantoms(Slices):
    """kind.Kind of this line."""

    model = WaterPhantom

    def outline(
        self, images: Sequence[Plane], accepts: Accepts | None, *, unread: Sequence[Unread]
    ) -> Outline[Stack]:
        """Rules 1 and 2."""
        if not phantom.shows_water(images):
            return Outline(reasons=(NO_PHANTOM,))
        return self.ordered(images, accepts, unread=unread)

    def ends_inside(self, coverage: object) -> None:
        return None

    def analyse(
        self, subject: Stack, manifest: Manifest, backend: Backend, budget: Budget, context: Context
    ) -> Analysis:
        figures = water.figures(subject.planes)
        return Analysis(reasons=(NOT_MEASURED,)) if figures is None else Analysis(water=figures)

    def usual_bytes(self, manifest: Manifest) -> int:
        return 0

    def profile(self, role: str, network: Network, manifest: Manifest) -> dict[str, Shapes]:
        raise BundleRefused(f"{manifest.name} has no network {role!r}", code="engine_axes")

    def scores(
        self, images: NDArray[np.uint8], manifest: Manifest, backend: Backend
    ) -> tuple[NDArray[np.float64], float]:
        raise ValueError(f"{manifest.name} sees whole series, and scores nothing")

    def example(self, spacing_mm: Vector | None = None) -> tuple[bytes, ...]:
        from appliance.phantom import instances  # noqa: PLC0415 - as in nodules
        from appliance.phantom import water as made  # noqa: PLC0415

        mm, finest = spacing_mm or (5.0, 0.98, 0.98), 0.98
        mm = mm[0], min(finest, mm[1]), min(finest, mm[2])  # of coarser pixels no rim is measured
        rows = round(300 / mm[1])
        whole = made.series(
            made.Water(), spacing_mm=mm, rows=rows, study_uid="2.25.3", series_uid="2.25.4"
        )
        return tuple(instances.packed(image) for image in whole)
