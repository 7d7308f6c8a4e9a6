"""Findings in patient millimetres as a measurement report (TID 1500, PS3.16).

Rules
1. Each finding has a planar group (TID 1410): an ellipse on its key image, the detection
   confidence, and the axes where they were measured. One that was not has a circle of the
   detector's diameter (of 3 mm, the least ever measured, where the detector gives none) and the
   comment `not measured`; one that is unsure says why in a comment. Viewers break on a group
   without coordinates, so every finding has its ellipse; one that no image shows is an error.
2. A finding whose body was segmented, and of which volume or density is known, has a volumetric
   group besides (TID 1411) under the same tracking identifier and UID: the referenced segment,
   volume and density. The volume is that of the report, never counted anew.
3. The key image is the analysed image nearest to the middle of the long axis, and the ellipse is
   what the axes are on its plane, straight down. Half axes that are perpendicular in the patient
   are, on pixels that are no squares, conjugate half diameters; the axes of an ellipse of pixels
   (PS3.3 C.18.6.1.2) are their singular vectors.
4. The measured short axis need not cross the middle of the long one; the ellipse has its length and
   direction, around that middle.
5. It is written upright: as wide and as high as it is, its axes along rows and columns. Of one that
   is turned OHIF draws nothing at all. Its true axes are numbers of the group.
6. Confidence is a number of our own scheme, without a unit. It is never coded as a probability.
7. What was measured in an earlier exam stands in the planar group too (`beside`).
8. Comprehensive SR is the same content for archives that refuse Comprehensive 3D SR, under a UID of
   its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code

from appliance.naming import MAKER
from appliance.report import Finding
from appliance.results.source import SourceImage
from appliance.results.sr import beside, words
from appliance.results.sr.case import Case, Segment
from appliance.results.sr.document import (
    COMMENT,
    COMPREHENSIVE,
    COMPREHENSIVE_3D,
    SEGMENTATION,
    Composed,
    composed,
    identified_as,
    text_item,
)
from appliance.results.sr.scheme import SCHEME

if TYPE_CHECKING:
    from highdicom.sr import ContentSequence

F64 = NDArray[np.float64]

LEAST_MM: Final = 3.0
"""Diameter of the circle of a finding that has none (rule 1)."""
TITLE: Final = Code("126000", "DCM", "Imaging Measurement Report")
PROCEDURE: Final = Code("24627-2", "LN", "CT Chest")
KINDS: Final = {
    "nodule": Code("27925004", "SCT", "Nodule"),
    "mass": Code("4147007", "SCT", "Mass"),
}
LUNG: Final = Code("39607008", "SCT", "Lung")
RIGHT, LEFT = Code("24028007", "SCT", "Right"), Code("7771000", "SCT", "Left")
LONG_AXIS, SHORT_AXIS = (
    Code("103339001", "SCT", "Long axis"),
    Code("103340004", "SCT", "Short axis"),
)
DIAMETER, MEAN = Code("81827009", "SCT", "Diameter"), Code("373098007", "SCT", "Mean")
VOLUME: Final = Code("118565006", "SCT", "Volume")
MM, MM3, ONE = (
    Code("mm", "UCUM", "millimeter"),
    Code("mm3", "UCUM", "cubic millimeter"),
    Code("1", "UCUM", "no units"),
)
AI: Final = Code("123110", "DCM", "Artificial Intelligence")
CONFIDENCE: Final = Code("confidence", SCHEME, "Detection confidence")
DENSITY: Final = Code("density", SCHEME, "Density")
DENSITIES: Final = {
    "solid": Code("solid", SCHEME, "Solid"),
    "part_solid": Code("part-solid", SCHEME, "Part-solid"),
    "ground_glass": Code("ground-glass", SCHEME, "Ground glass"),
    "calcified": Code("calcified", SCHEME, "Calcified"),
}


def measurements(case: Case, *, three_d: bool = True) -> Composed:
    """The findings as Comprehensive 3D SR, or as Comprehensive SR (rule 8).

    ValueError where a finding is on no analysed image, or a report has none with a place.
    """
    sop_class = COMPREHENSIVE_3D if three_d else COMPREHENSIVE
    one = identified_as(case, sop_class)
    return composed(case, one, _content(case))


def key_image(case: Case, finding: Finding) -> SourceImage:
    """The image on which a finding is drawn (rule 3)."""
    image = case.source.nearest(_middle(case, finding))
    if image is None:
        raise ValueError(f"no analysed image shows finding {finding.id}: its place is outside")
    return image


def ellipse(case: Case, finding: Finding, image: SourceImage) -> F64:
    """(column, row) [4, 2] of the ends of the major axis, then of the minor one (rules 3 and 4)."""
    middle = np.asarray(_middle(case, finding))
    axes = case.axes.get(finding.id)
    if axes is None:
        row, column = np.split(np.asarray(image.orientation), 2)
        half = (finding.diameter_mm or LEAST_MM) / 2
        halves = half * np.stack([row, column])
    else:
        ends = np.asarray([axes.long_lps_mm, axes.short_lps_mm])
        halves = (ends[:, 1] - ends[:, 0]) / 2
    center, *tips = image.pixel(np.stack([middle, *(middle + halves)]))
    directions, lengths, _ = np.linalg.svd(np.stack(tips, axis=1) - center[:, None])
    major, minor = (directions * lengths).T
    return np.stack([center - major, center + major, center - minor, center + minor])


def upright(ends: F64) -> F64:
    """An ellipse by the ends of its axes, as `ellipse` gives them -> the one around the same centre
    that is as wide and as high, with axes along rows and columns (rule 5)."""
    center, major, minor = ends.mean(axis=0), (ends[1] - ends[0]) / 2, (ends[3] - ends[2]) / 2
    half = np.hypot(major, minor)
    longer, shorter = np.diag(half)[np.argsort(-half, kind="stable")]
    return np.stack([center - longer, center + longer, center - shorter, center + shorter])


def _middle(case: Case, finding: Finding) -> tuple[float, float, float]:
    axes = case.axes.get(finding.id)
    if axes is None:
        return finding.place_lps_mm
    x, y, z = np.mean(axes.long_lps_mm, axis=0).tolist()
    return x, y, z


def _content(case: Case) -> ContentSequence:
    from highdicom import sr  # noqa: PLC0415 - rule 3 of sr.case

    placed = [f for f in case.report.findings if f.center_lps_mm is not None]
    if not placed:
        raise ValueError("a measurement report needs a finding with a place: write a text instead")
    keys = {finding.id: key_image(case, finding) for finding in placed}
    groups = []
    for finding in placed:
        groups.append(_planar(case, finding, keys[finding.id]))
        segment = case.segments.get(finding.id)
        if segment is not None and (finding.volume_mm3 is not None or finding.density is not None):
            groups.append(_volumetric(case, finding, segment))
    shown = {image.sop_instance_uid: image for image in keys.values()}
    content: ContentSequence = sr.MeasurementReport(
        observation_context=_observer(case),
        procedure_reported=PROCEDURE,
        imaging_measurements=groups,
        title=TITLE,
        referenced_images=[_library(case, image) for image in shown.values()],
    )
    for remark in words.remarks(case):
        content[0].ContentSequence.append(text_item(COMMENT, remark))
    return content


def _planar(case: Case, finding: Finding, image: SourceImage) -> Any:
    from highdicom import sr  # noqa: PLC0415

    region = sr.ImageRegion(
        graphic_type=sr.GraphicTypeValues.ELLIPSE,
        graphic_data=upright(ellipse(case, finding, image)),
        source_image=sr.SourceImageForRegion(
            image.sop_class_uid,
            image.sop_instance_uid,
            None if image.frame is None else [image.frame],
        ),
    )
    found = [sr.Measurement(CONFIDENCE, finding.score, ONE)]
    if finding.measured:
        found += [
            sr.Measurement(name, value, MM, derivation=derivation)
            for name, value, derivation in (
                (LONG_AXIS, finding.long_axis_mm, None),
                (SHORT_AXIS, finding.short_axis_mm, None),
                (DIAMETER, finding.mean_axis_mm, MEAN),
            )
            if value is not None
        ]
    found += beside.measurements(case, finding.id)
    group = sr.PlanarROIMeasurementsAndQualitativeEvaluations(
        referenced_region=region, measurements=found, **_common(case, finding)
    )
    if not finding.measured:
        group[0].ContentSequence.append(text_item(COMMENT, "not measured"))
    if finding.unsure_why:
        group[0].ContentSequence.append(text_item(COMMENT, words.unsure(finding)))
    for comment in beside.comments(case, finding.id):
        group[0].ContentSequence.append(text_item(COMMENT, comment))
    return group


def _volumetric(case: Case, finding: Finding, segment: Segment) -> Any:
    from highdicom import sr  # noqa: PLC0415

    volume, density = finding.volume_mm3, finding.density
    return sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
        referenced_segment=sr.ReferencedSegment(
            SEGMENTATION,
            segment.sop_instance_uid,
            segment.number,
            source_series=sr.SourceSeriesForSegmentation(case.source.key.series),
        ),
        measurements=None if volume is None else [sr.Measurement(VOLUME, volume, MM3)],
        qualitative_evaluations=None
        if density is None
        else [sr.QualitativeEvaluation(DENSITY, DENSITIES[density])],
        **_common(case, finding),
    )


def _common(case: Case, finding: Finding) -> dict[str, Any]:
    """What both groups of a finding say: they are one to whoever tracks it (rule 2)."""
    from highdicom import sr  # noqa: PLC0415

    side = {"right": RIGHT, "left": LEFT, None: None}[finding.side]
    found: dict[str, Any] = {
        "tracking_identifier": sr.TrackingIdentifier(
            uid=case.tracking.get(finding.id, finding.tracking_uid),
            identifier=f"Finding {finding.id}",
        ),
        "finding_type": KINDS[finding.kind],
        "finding_sites": [sr.FindingSite(LUNG, laterality=side)],
    }
    if (bundle := case.report.bundle) is not None:
        found["algorithm_id"] = sr.AlgorithmIdentification(
            name=bundle.name, version=bundle.version, family=AI, manufacturer=MAKER
        )
    return found


def _observer(case: Case) -> Any:
    from highdicom import sr  # noqa: PLC0415

    device = sr.DeviceObserverIdentifyingAttributes(
        uid=case.naming.device(case.device),
        name=case.device,
        manufacturer_name=MAKER,
        model_name="scanside",
    )
    return sr.ObservationContext(
        observer_device_context=sr.ObserverContext(
            observer_type=Code("121007", "DCM", "Device"), observer_identifying_attributes=device
        )
    )


def _library(case: Case, image: SourceImage) -> Dataset:
    """A key image as the image library describes it (TID 1600); as one of no cross-section where
    the series does not say how thick it is."""
    template, made = case.source.template, Dataset()
    made.SOPClassUID, made.SOPInstanceUID = image.sop_class_uid, image.sop_instance_uid
    made.Rows, made.Columns = image.rows, image.columns
    thickness = template.get("SliceThickness")
    made.Modality = "OT" if thickness in {None, ""} else str(template.get("Modality", "OT"))
    if case.source.frame_of_reference_uid is not None:
        made.FrameOfReferenceUID = case.source.frame_of_reference_uid
    made.PixelSpacing = [round(mm, 6) for mm in image.spacing_mm or ()]
    made.ImagePositionPatient = [round(mm, 4) for mm in image.position_lps_mm or ()]
    made.ImageOrientationPatient = [round(v, 9) for v in image.orientation or ()]
    if thickness not in {None, ""}:
        made.SliceThickness = thickness
    return made
