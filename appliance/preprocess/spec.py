"""The op vocabulary of `preprocess` in a manifest: closed and versioned.

Each op is data. `reference.py` defines it in numpy, `fast.py` and every backend match it within
the tolerance stated there. An unknown op is refused by name (bundle/manifest.py).

Rules of resampling. In the plane, grids are edge-aligned: n = round(N * spacing / target) voxels,
source coordinate of voxel i is (i + 0.5) * target / spacing - 0.5. When it shrinks, a voxel is the
average over its exact interval (area); when it grows, linear with the edge repeated. Across planes
the same, from the planes' positions along the normal: linear between neighbours when it grows; when
it shrinks, each plane owns the interval between the midpoints to its neighbours.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from appliance.report import Millimetres3, Record


class Rescale(Record):
    """Stored values to HU: slope * value + intercept (PS3.3 C.11.1.1.2); padding to -1000 HU."""

    op: Literal["rescale"] = "rescale"
    version: Literal[1] = 1


class Orient(Record):
    """Flip and swap axes so that index directions are nearest +z (head), +y (back), +x (left)."""

    op: Literal["orient"] = "orient"
    version: Literal[1] = 1
    to: Literal["LPS"] = "LPS"


class Resample(Record):
    """To a regular grid of this spacing (z, y, x), by the rules above."""

    op: Literal["resample"] = "resample"
    version: Literal[1] = 1
    spacing_mm: Millimetres3


class Crop(Record):
    """To the box around a mask that an earlier network of the line made, with a margin."""

    op: Literal["crop"] = "crop"
    version: Literal[1] = 1
    to: Literal["segment"] = "segment"
    margin_mm: float = Field(ge=0)


class Soften(Record):
    """A Gaussian of this SD along every axis, on what was resampled or gathered; 0: as it is.

    Its weights are those of the discrete Gaussian (Lindeberg, IEEE PAMI 1990;12:234-254), whose SD
    is exact however wide the voxels are. A volume's edges are repeated, and a crop changes no
    voxel; a cube and a patch see what lies around them, and a patch only its own plane.
    """

    op: Literal["soften"] = "soften"
    version: Literal[1] = 1
    sd_mm: float = Field(ge=0, le=4)


class Pad(Record):
    """At the end of each axis up to a multiple; `value` is in the unit of the ops before it."""

    op: Literal["pad"] = "pad"
    version: Literal[1] = 1
    multiple: int = Field(ge=1)
    value: float = 0.0


class Window(Record):
    """clip((hu - low) / (high - low), 0, 1)."""

    op: Literal["window"] = "window"
    version: Literal[1] = 1
    low: float
    high: float


class ZScore(Record):
    """(value - mean) / std with fixed figures from training."""

    op: Literal["zscore"] = "zscore"
    version: Literal[1] = 1
    mean: float
    std: float = Field(gt=0)


class Patch(Record):
    """Axial patches of `size` native pixels around candidates, in the nearest plane.

    The patch's pixel (size // 2, size // 2) is the pixel nearest the candidate. Outside: -1000 HU.
    """

    op: Literal["patch"] = "patch"
    version: Literal[1] = 1
    size: int = Field(ge=8, le=512)


class Cube(Record):
    """Cubes of `size` voxels of `spacing_mm` on the series' own axes around candidates.

    The middle of the cube, (size - 1) / 2, is the candidate. Values are linear between native
    voxels (trilinear, the planes at their positions along the normal). Outside: -1000 HU.
    """

    op: Literal["cube"] = "cube"
    version: Literal[1] = 1
    size: int = Field(ge=8, le=128)
    spacing_mm: float = Field(gt=0)


class Display(Record):
    """Stored values of one radiograph -> grey values 0..1 as they are to be shown, bones bright:
    Modality LUT, VOI LUT, presentation (PS3.4 N.2); projection.py has the rules."""

    op: Literal["display"] = "display"
    version: Literal[1] = 1


class Collimation(Record):
    """To the collimated field: the collimator's and shutter's tags, then uniform borders."""

    op: Literal["collimation"] = "collimation"
    version: Literal[1] = 1


class Square(Record):
    """The middle square of the field's short edge, averaged over areas to `size` pixels."""

    op: Literal["square"] = "square"
    version: Literal[1] = 1
    size: int = Field(ge=8, le=1024)


Op = Annotated[
    Rescale
    | Orient
    | Resample
    | Crop
    | Soften
    | Pad
    | Window
    | ZScore
    | Patch
    | Cube
    | Display
    | Collimation
    | Square,
    Field(discriminator="op"),
]
RADIOGRAPH_OPS = frozenset({"display", "collimation", "square", "zscore"})
"""Those of which an op list for one radiograph is made."""
