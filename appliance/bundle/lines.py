"""The kinds of line of a bundle, as a manifest says them. Data only, closed and versioned.

A line is what a bundle makes of a series: its networks by role and how their outputs are read
(bundle/heads.py). `kind` names it; what the appliance does then is in appliance/lines/, one module
a kind. Whoever needs to know how one line differs from another asks its model here (`OfLine`),
never which kind it is.

To add a kind: one model here that is an `OfLine`, in the union `Line`; its roles in `Role`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from typing import Annotated, Any, Literal, Protocol

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from appliance.bundle.accepts import Accepts
from appliance.bundle.exams import Compare
from appliance.bundle.heads import (
    BodyHead,
    Calibration,
    ClassifyHead,
    CubeHead,
    DetectHead,
    DiseaseHead,
    FrontalHead,
    Limit,
    MassHead,
    MeasureHead,
    SegmentHead,
    UsualOutput,
)
from appliance.bundle.water import WaterPhantom
from appliance.preprocess.spec import RADIOGRAPH_OPS
from appliance.report import ConformalBounds, Record, absent

Role = Literal["segment", "propose", "classify", "cube", "mass", "measure", "displace", "frontal"]
EVERY = 512
"""The most findings that any line may report."""
ADDED: Mapping[int, tuple[str, ...]] = {
    2: ("cube", "mass", "measure"),
    3: ("body", "one_lung_share", "disease"),
    4: ("usual_input", "usual_output"),
}
"""What each version of the line of lung nodules added, each of it optional."""


class OfLine(Protocol):
    """What every line says of itself."""

    @property
    def takes_images(self) -> bool:
        """Whether series are for it: what takes none is matched with none, and `work` opens it for
        none. Then its kind is not among lines/kinds.KINDS."""
        ...

    @property
    def reports(self) -> bool:
        """Whether what it says of a series is a report. What says none is chosen by what the images
        show, once they are here, and never by a header (lines/qa.py)."""
        ...

    @property
    def sees_slices(self) -> bool:
        """Whether it sees the slices of a volume: then `accepts` has their figures."""
        ...

    @property
    def finds_organ(self) -> bool:
        """Whether its networks find the organ, so that the images may overrule a body part."""
        ...

    @property
    def finds(self) -> tuple[str, ...]:
        """The kinds of finding that it may report (report.PLACE_OF)."""
        ...

    @property
    def least_score(self) -> float:
        """The score from which on something is a finding."""
        ...

    @property
    def needs_appliance(self) -> str:
        """The first version of the appliance that knows this version of the line; 0.0.0: each."""
        ...

    def reads(self) -> dict[str, set[str]]:
        """Role -> the outputs that its head reads."""
        ...

    def inputs(self, role: str) -> int:
        """How many inputs the network of this role has: one image, or a pair of prior and
        current, say."""
        ...

    def fed_as(self, role: str) -> str:
        """The role whose input the network of this role is given: its own, but where two networks
        see one image."""
        ...

    def allows(self, role: str, ops: Set[str]) -> bool:
        """Whether the network of this role may have just these ops."""
        ...

    def every_finding(self) -> OfLine:
        """The same line without a threshold: it reports every candidate, for whoever judges it."""
        ...

    def limits(self, accepts: Accepts) -> tuple[str, ...]:
        """What a card says of its limits, one sentence each."""
        ...


class SegmentProposeClassify(Record):
    """The line of lung nodules; its versions differ in what they may have (ADDED).

    Version 3: the network of masses also draws them (`body`), so their size is that of the body at
    the network's own grid; and of two lungs the smaller counts as missing where its volume is less
    than `one_lung_share` of the larger one's, so the report names its side. The network of lungs
    also says where they are diseased (`disease`), so the report tells how much of each lung is, and
    which findings are unsure because of it.

    Version 4: images whose figures lie beyond `usual_input`, and more findings than `usual_output`
    says, are a limitation (interpret/unusual.py).
    """

    kind: Literal["segment-propose-classify-measure"] = "segment-propose-classify-measure"
    version: Literal[1, 2, 3, 4] = 1
    segment: SegmentHead
    propose: DetectHead
    classify: ClassifyHead
    calibration: Calibration
    cube: CubeHead | None = None
    mass: MassHead | None = None
    measure: MeasureHead | None = None
    body: BodyHead | None = None
    one_lung_share: float | None = Field(default=None, gt=0, lt=1)
    disease: DiseaseHead | None = None
    usual_input: tuple[Limit, ...] | None = Field(default=None, exclude_if=absent)
    usual_output: UsualOutput | None = Field(default=None, exclude_if=absent)
    max_findings: int = Field(default=32, ge=1)

    @model_validator(mode="after")
    def _of_its_version(self) -> SegmentProposeClassify:
        """What a version added is not in a line of an earlier one."""
        for version, names in ADDED.items():
            added = [name for name in names if getattr(self, name) is not None]
            if self.version < version and added:
                raise ValueError(f"version {self.version} of the line has no {added[0]!r}")
        if self.version < 3 and self.calibration.sure_from is not None:
            raise ValueError(f"version {self.version} of the line has no 'sure_from'")
        if self.body is not None and self.mass is None:
            raise ValueError("`body` is read from the network of masses, so the line needs `mass`")
        figures = [limit.figure for limit in self.usual_input or ()]
        if len(set(figures)) != len(figures):
            raise ValueError("`usual_input` has two limits of one figure")
        return self

    @model_serializer(mode="wrap")
    def _without_what_came_later(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Earlier appliances know no key of version 3, so earlier lines are written without."""
        said: dict[str, Any] = handler(self)
        later = ADDED[3] if self.version < 3 else ()
        return {name: value for name, value in said.items() if name not in later}

    @property
    def takes_images(self) -> bool:
        return True

    @property
    def reports(self) -> bool:
        return True

    @property
    def sees_slices(self) -> bool:
        return True

    @property
    def finds_organ(self) -> bool:
        return True

    @property
    def finds(self) -> tuple[str, ...]:
        return ("nodule", "mass")

    @property
    def least_score(self) -> float:
        return self.calibration.threshold

    @property
    def needs_appliance(self) -> str:
        return "0.2.0" if self.version >= 3 else "0.0.0"

    def reads(self) -> dict[str, set[str]]:
        found = {
            "segment": {self.segment.output},
            "propose": {self.propose.heat, self.propose.log_diameter},
            "classify": {self.classify.output},
        }
        if self.disease is not None:
            found["segment"].add(self.disease.output)
        if self.cube is not None:
            found["cube"] = {self.cube.output}
        if self.mass is not None:
            found["mass"] = {self.mass.detect.heat, self.mass.detect.log_diameter}
        if self.body is not None:
            found["mass"].add(self.body.output)
        if self.measure is not None:
            found["measure"] = {self.measure.body, self.measure.density}
        return found

    def inputs(self, role: str) -> int:
        return 1

    def fed_as(self, role: str) -> str:
        return role

    def allows(self, role: str, ops: Set[str]) -> bool:
        """`crop` needs a mask, so networks that see the whole series have none; `patch` is for
        `classify` alone, `cube` for `cube` and `measure`."""
        return (
            not ops & (RADIOGRAPH_OPS - {"zscore"})
            and ("patch" in ops) == (role == "classify")
            and ("cube" in ops) == (role in ("cube", "measure"))
            and ("crop" not in ops or role == "propose")
        )

    def every_finding(self) -> SegmentProposeClassify:
        calibration = self.calibration.model_copy(update={"threshold": 0.0})
        return self.model_copy(update={"calibration": calibration, "max_findings": EVERY})

    def limits(self, accepts: Accepts) -> tuple[str, ...]:
        spacing = accepts.spacing_mm
        return (
            f"Spacing from {spacing.full:g} to {spacing.limited:g} mm: limited.",
            f"Then nothing under {spacing.limited_min_diameter_mm:g} mm is reported.",
            f"At most {self.max_findings} findings a series.",
            *((_usual(self.usual_input),) if self.usual_input else ()),
        )


def _usual(limits: Sequence[Limit]) -> str:
    """What a card says of them."""
    each = (
        f"{one.figure} {'' if one.low is None else f'from {one.low:g} '}"
        f"{'' if one.high is None else f'to {one.high:g}'}".strip()
        for one in limits
    )
    return f"Outside these figures of the images they are called unusual: {', '.join(each)}."


class ClassifyImage(Record):
    """The line of one radiograph: logit [n] -> score = sigmoid(scale * logit + bias), fitted out of
    fold; `activation`, if named, is the class activation map [n, 1, y, x] that shows where (Zhou et
    al., arXiv:1512.04150).

    Version 2: an image is sure or unsure by the bounds of `certainty`.

    Version 3: a network of the role `frontal` sees the same image first; what it takes for no
    frontal chest radiograph is not scored.
    """

    kind: Literal["classify"] = "classify"
    version: Literal[1, 2, 3] = 1
    finding: Literal["pneumonia"]
    output: str
    activation: str | None = None
    scale: float = 1.0
    bias: float = 0.0
    threshold: float = Field(ge=0, le=1)
    certainty: ConformalBounds | None = Field(default=None, exclude_if=absent)
    frontal: FrontalHead | None = Field(default=None, exclude_if=absent)

    @model_validator(mode="after")
    def _of_its_version(self) -> ClassifyImage:
        """What a version added is not in a line of an earlier one."""
        for first, name in ((2, "certainty"), (3, "frontal")):
            if self.version < first and getattr(self, name) is not None:
                raise ValueError(f"version {self.version} of the line has no {name!r}")
        return self

    @property
    def takes_images(self) -> bool:
        return True

    @property
    def reports(self) -> bool:
        return True

    @property
    def sees_slices(self) -> bool:
        return False

    @property
    def finds_organ(self) -> bool:
        return False

    @property
    def finds(self) -> tuple[str, ...]:
        return (self.finding,)

    @property
    def least_score(self) -> float:
        return self.threshold

    @property
    def needs_appliance(self) -> str:
        return "0.2.0" if self.version > 1 else "0.0.0"

    def reads(self) -> dict[str, set[str]]:
        found = {"classify": {self.output, *((self.activation,) if self.activation else ())}}
        if self.frontal is not None:
            found["frontal"] = {self.frontal.output}
        return found

    def inputs(self, role: str) -> int:
        return 1

    def fed_as(self, role: str) -> str:
        return "classify"

    def allows(self, role: str, ops: Set[str]) -> bool:
        """`display` and `square`, perhaps `collimation` and `zscore`, and no other."""
        return ops <= RADIOGRAPH_OPS and ops >= {"display", "square"}

    def every_finding(self) -> ClassifyImage:
        return self.model_copy(update={"threshold": 0.0})

    def limits(self, accepts: Accepts) -> tuple[str, ...]:
        said: tuple[str, ...] = (
            "Frontal views only; each image of a series has a score of its own.",
        )
        if self.frontal is not None:
            refused = (
                "An image is not scored where a network of its own takes it for no frontal chest "
                f"radiograph (score below {self.frontal.threshold:.4g}): it is named, and may be "
                "one all the same."
            )
            said = (*said, refused)
        if (bounds := self.certainty) is None:
            return said
        ends = (bounds.with_from, bounds.without_to, self.threshold)
        sure = (
            f"Sure are scores from {max(ends):.4g} on and below {min(ends):.4g}: of each class at "
            f"most {bounds.alpha:g} is surely called the other (conformal; {bounds.n_with} images "
            f"with it, {bounds.n_without} without). That holds for images like those; whether it "
            "does in another hospital, only studies that were read there can tell."
        )
        return (*said, sure)


Line = Annotated[
    SegmentProposeClassify | ClassifyImage | Compare | WaterPhantom,
    Field(discriminator="kind"),
]
