"""The heads of a bundle: how the raw outputs of a network are read. Data only.

A closed, versioned vocabulary. A head names the outputs that it reads and the figures of its rule;
`interpret` holds the rule's code. What belongs to one line is put together in bundle/lines.py.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from appliance.report import Record, absent


class SegmentHead(Record):
    """Logits -> mask: sigmoid >= threshold, parts of at least `min_ml`, closed by `close_mm`."""

    head: Literal["segment"] = "segment"
    version: Literal[1] = 1
    output: str
    threshold: float = Field(default=0.5, gt=0, lt=1)
    min_ml: float = Field(default=100.0, ge=0)
    close_mm: float = Field(default=9.0, ge=0)


class DetectHead(Record):
    """Heat-map logits and log diameters -> candidates (CenterNet, arXiv:1904.07850).

    Cell c lies at voxel (c + 0.5) * stride - 0.5. Local maxima over 3x3x3 cells, centre refined by
    the heat-weighted centroid of those cells, kept within the mask grown by `within_mm` (or by
    `within_radii` times the candidate's own radius, where that is more: the middle of a large
    nodule at the pleura lies outside), best `top_k`, neighbours nearer than the larger radius
    merged.
    """

    head: Literal["detect"] = "detect"
    version: Literal[1] = 1
    heat: str
    log_diameter: str
    stride: int = Field(ge=1)
    top_k: int = Field(ge=1, le=512)
    within_mm: float = Field(ge=0)
    within_radii: float = Field(default=0.0, ge=0)
    min_logit: float = -7.0


class ClassifyHead(Record):
    """Patch logits, averaged over the first `views` of the 8 flips and quarter turns."""

    head: Literal["classify"] = "classify"
    version: Literal[1] = 1
    output: str
    views: Literal[1, 2, 4, 8] = 8


class FrontalHead(Record):
    """Logit [n] -> score = sigmoid(logit): an image below `threshold` is taken for no frontal chest
    radiograph."""

    head: Literal["frontal"] = "frontal"
    version: Literal[1] = 1
    output: str
    threshold: float = Field(gt=0, lt=1)


class CubeHead(Record):
    """One logit a cube: the 3D branch of the classifier."""

    head: Literal["cube"] = "cube"
    version: Literal[1] = 1
    output: str


class MassHead(Record):
    """Masses, from a network that sees the whole chest: score = sigmoid(scale * heat logit + bias),
    fitted out of fold. Kept from `least_mm` on; a nodule candidate inside a mass is part of it."""

    head: Literal["mass"] = "mass"
    version: Literal[1] = 1
    detect: DetectHead
    scale: float
    bias: float
    threshold: float = Field(ge=0, le=1)
    least_mm: float = Field(default=25.0, ge=0)


class BodyHead(Record):
    """Logits [1, 1, z, y, x] of the bodies of masses: an output of the network of masses, on the
    grid that it sees. A voxel is of a body where sigmoid >= threshold."""

    head: Literal["body"] = "body"
    version: Literal[1] = 1
    output: str
    threshold: float = Field(default=0.5, gt=0, lt=1)


DISEASES = ("consolidated", "ground_glass", "emphysema")
"""Classes of diseased lung, in the order of the logits after that of none."""


class DiseaseHead(Record):
    """Logits [1, 4, z, y, x] of none and of DISEASES: an output of the network of lungs, on the
    grid that it sees. A voxel of the lungs is of the class of its largest logit. From the
    `diffuse_share` of both lungs on, disease is a limitation; it is fitted on painted lungs."""

    head: Literal["disease"] = "disease"
    version: Literal[1] = 1
    output: str
    diffuse_share: float = Field(gt=0, lt=1)


Density = Literal["solid", "part_solid", "ground_glass", "calcified"]
DENSITIES: tuple[Density, ...] = ("solid", "part_solid", "ground_glass", "calcified")


class MeasureHead(Record):
    """Logits of a finding's body [n, 1, z, y, x] and of its density class [n, 4] (DENSITIES), from
    cubes around the findings. A body is sigmoid >= threshold, the part at the cube's middle."""

    head: Literal["measure"] = "measure"
    version: Literal[1] = 1
    body: str
    density: str
    threshold: float = Field(default=0.5, gt=0, lt=1)


class DisplaceHead(Record):
    """Millimetres (z, y, x) [1, 3, z, y, x] from each cell of current to the same point of prior.

    Both inputs, `prior` and `current` [1, 1, z, y, x], are the same grid of `grid_mm`, HU from
    `low_hu` to `high_hu` as 0 to 1, filled up with 0 to multiples of `multiple` cells. The network
    is asked `passes` times: each time but the first with prior warped by what it has said so far.
    """

    head: Literal["displace"] = "displace"
    version: Literal[1] = 1
    output: str
    grid_mm: float = Field(default=8.0, gt=0)
    low_hu: float = -1000.0
    high_hu: float = 400.0
    multiple: int = Field(default=8, ge=1)
    passes: int = Field(default=1, ge=1, le=4)

    @model_validator(mode="after")
    def _in_order(self) -> DisplaceHead:
        if self.high_hu <= self.low_hu:
            raise ValueError("`high_hu` is not above `low_hu`")
        return self


VolumeFigure = Literal[
    "noise_hu",
    "texture_per_mm",
    "skin_hu_per_mm",
    "lung_edge_hu_per_mm",
    "tissue_hu",
    "air_hu",
    "lung_share",
    "diameter_mm",
    "step_hu",
    "metal_share",
]
"""What is measured of a volume (appliance/watching/quality.py)."""


class Limit(Record):
    """Between which values a figure of the images is usual, ends included; None: it has no end."""

    figure: VolumeFigure
    low: float | None = None
    high: float | None = None

    @model_validator(mode="after")
    def _in_order(self) -> Limit:
        if self.low is None and self.high is None:
            raise ValueError("a limit has an end")
        if self.low is not None and self.high is not None and self.high < self.low:
            raise ValueError("a limit ends before it begins")
        return self


class UsualOutput(Record):
    """How much a line finds in what it is meant for, at most. What is more is a limitation, unless
    disease explains it; no finding is dropped."""

    most_findings: int | None = Field(default=None, ge=1)
    most_share: float | None = Field(default=None, gt=0, le=1)
    """Of the candidates that the classifier scored, at or above the threshold."""
    share_of: int = Field(default=10, ge=1)
    """Under so many candidates nothing is said of their share."""


class Calibration(Record):
    """score = sigmoid(propose * heat logit + classify * patch logit + cube * cube logit + bias),
    fitted out of fold."""

    propose: float
    classify: float
    cube: float = 0.0
    bias: float
    threshold: float = Field(ge=0, le=1)
    sure_from: float | None = Field(default=None, ge=0, le=1, exclude_if=absent)
    """From which score on nine in ten out-of-fold candidates and more are right; a finding below it
    is unsure. None: nothing is said of scores. Of version 3 of the line."""
