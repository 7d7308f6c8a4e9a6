"""Findings as a measurement report: valid, readable by others, and drawn where they are."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import highdicom
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from appliance.report import Stage
from appliance.results.sr.case import Case, Predecessor, Segment
from appliance.results.sr.document import COMPREHENSIVE, COMPREHENSIVE_3D
from appliance.results.sr.findings import ellipse, key_image, measurements, upright
from rigs import oblique

LONG_AXIS, SHORT_AXIS, DIAMETER, VOLUME = "103339001", "103340004", "81827009", "118565006"


def read(data: bytes) -> Dataset:
    return pydicom.dcmread(io.BytesIO(data))


def items(made: Dataset, kind: str) -> list[Dataset]:
    return [one for one in every(made) if one.ValueType == kind]


def every(made: Dataset) -> list[Dataset]:
    """All content items, in the order of the tree."""
    below = made.get("ContentSequence", [])
    return [one for item in below for one in (item, *every(item))]


def groups(made: Dataset) -> list[Dataset]:
    """Measurement groups (125007, DCM)."""
    return [
        one
        for one in items(made, "CONTAINER")
        if one.ConceptNameCodeSequence[0].CodeValue == "125007"
    ]


def numbers(group: Dataset) -> dict[str, float]:
    return {
        one.ConceptNameCodeSequence[0].CodeValue: float(one.MeasuredValueSequence[0].NumericValue)
        for one in items(group, "NUM")
    }


def drawn(group: Dataset) -> tuple[np.ndarray[Any, Any], str]:
    """The four points of an ellipse as (column, row), and the image that they are on."""
    (shape,) = items(group, "SCOORD")
    assert shape.GraphicType == "ELLIPSE"
    (image,) = items(shape, "IMAGE")
    points = np.array(shape.GraphicData, float).reshape(4, 2)
    return points, image.ReferencedSOPSequence[0].ReferencedSOPInstanceUID


@pytest.mark.parametrize("three_d", [True, False])
def test_other_programs_find_no_error_and_read_it(
    make_case: Callable[..., Case], judged: Callable[..., str], three_d: bool
) -> None:
    images = oblique.series(oblique.POSES["axial"], 20)
    case = make_case(headers=images, segments={1: Segment("2.25.5", "2.25.6", 1)})
    one = measurements(case, three_d=three_d)
    said = judged(one.data, images)
    for words in ("Limitation: 1 slice is missing", "not measured", "Coverage: the lungs are cut"):
        assert words in said
    assert "Notice: research use, not for clinical use" in said
    assert "Other series of the study: series 2, a localizer, was set aside" in said
    assert "Threshold of the detection confidence: 0.420" in said
    kind = highdicom.sr.Comprehensive3DSR if three_d else highdicom.sr.ComprehensiveSR
    again = kind.from_dataset(read(one.data))
    assert len(again.content.get_planar_roi_measurement_groups()) == 2
    assert len(again.content.get_volumetric_roi_measurement_groups()) == 1
    assert again.SOPClassUID == (COMPREHENSIVE_3D if three_d else COMPREHENSIVE)


def test_the_fallback_has_a_uid_of_its_own_and_the_same_content(
    make_case: Callable[..., Case],
) -> None:
    case = make_case()
    one, other = measurements(case), measurements(case, three_d=False)
    assert one.identified.sop_instance_uid != other.identified.sop_instance_uid
    assert one.identified.series_uid == other.identified.series_uid
    assert read(one.data).ContentSequence == read(other.data).ContentSequence


@pytest.mark.parametrize("pose", oblique.POSES)
def test_the_ellipse_lies_on_the_body_in_its_key_image(
    make_case: Callable[..., Case], pose: str
) -> None:
    images = oblique.series(oblique.POSES[pose], 20)
    case = make_case(headers=images)
    measured, _ = groups(read(measurements(case).data))
    points, uid = drawn(measured)
    (key,) = (image for image in images if image.SOPInstanceUID == uid)
    true = oblique.centre(key)
    assert np.linalg.norm(points.mean(axis=0) - true) < 1, "pixels"
    assert key_image(case, case.report.findings[0]).away_mm(oblique.MIDDLE.tolist()) <= 1.0, (
        "half a step from the plane of the axes, at most"
    )
    major, minor = points[1] - points[0], points[3] - points[2]
    assert np.linalg.norm(major) >= np.linalg.norm(minor)
    assert sorted(np.abs([*major, *minor]))[:2] == [0, 0], "axes along rows and columns"
    body = key.pixel_array > 0
    down, across = (np.ptp(np.flatnonzero(body.any(axis=axis))) + 1 for axis in (1, 0))
    assert np.ptp(points, axis=0) == pytest.approx([across, down], abs=1.5), "as wide, as high"
    found = case.report.findings[0]
    turned = in_ellipse(ellipse(case, found, key_image(case, found)), *body.shape)
    assert (turned & body).sum() / (turned | body).sum() > 0.88, "what it stands for is the body"
    covered = (in_ellipse(points, *body.shape) & body).sum() / body.sum()
    assert covered > 0.85, "an ellipse that is turned by 20 degrees leaves a little of itself out"


def test_an_upright_ellipse_is_as_wide_and_as_high_as_the_turned_one() -> None:
    ends = np.array([[10.0, 20.0], [22.0, 29.0], [12.25, 29.5], [19.75, 19.5]])
    turned = np.linspace(0, 2 * np.pi, 3600)[:, None]
    center, major, minor = np.array([16.0, 24.5]), np.array([6.0, 4.5]), np.array([3.75, -5.0])
    every = center + np.cos(turned) * major + np.sin(turned) * minor
    found = upright(ends)
    assert found.mean(axis=0) == pytest.approx(center)
    assert np.ptp(found, axis=0) == pytest.approx(np.ptp(every, axis=0), abs=1e-3)


def in_ellipse(points: Any, rows: int, columns: int) -> Any:
    """[rows, columns]: the pixels whose centre is in it."""
    middle = points.mean(axis=0)
    major, minor = (points[1] - points[0]) / 2, (points[3] - points[2]) / 2
    at = np.stack(np.meshgrid(np.arange(columns), np.arange(rows)), axis=-1) + 0.5 - middle
    along, across = at @ major / (major @ major), at @ minor / (minor @ minor)
    return along**2 + across**2 <= 1


def test_a_finding_that_was_not_measured_is_a_circle_without_axes(
    make_case: Callable[..., Case],
) -> None:
    case = make_case("anisotropic")
    _, detected = groups(read(measurements(case).data))
    points, uid = drawn(detected)
    half_mm = np.abs(points - points.mean(axis=0)) @ np.diag([1.1, 0.6])
    assert np.linalg.norm(half_mm, axis=1) == pytest.approx([4.0] * 4, abs=1e-3)
    assert set(numbers(detected)) == {"confidence"}
    assert [t.TextValue for t in items(detected, "TEXT")].count("not measured") == 1
    key = key_image(case, case.report.findings[1])
    assert key.sop_instance_uid == uid
    assert key.away_mm(case.report.findings[1].place_lps_mm) <= 1.0


def test_a_finding_without_any_diameter_is_a_circle_of_3_mm(
    make_case: Callable[..., Case],
) -> None:
    case = make_case()
    small = case.report.findings[1].model_copy(update={"diameter_mm": None})
    case = make_case(report={"findings": (small,)})
    (group,) = groups(read(measurements(case).data))
    points, _ = drawn(group)
    assert np.linalg.norm(points[1] - points[0]) * 0.7 == pytest.approx(3.0, abs=1e-3)


def test_a_finding_says_its_figures_and_both_groups_are_one_finding(
    make_case: Callable[..., Case],
) -> None:
    case = make_case(segments={1: Segment("2.25.5", "2.25.6", 4)}, tracking={1: "2.25.999"})
    made = read(measurements(case).data)
    planar, volumetric, other = groups(made)
    assert numbers(planar) == {"confidence": 0.913, LONG_AXIS: 18, SHORT_AXIS: 10, DIAMETER: 14}
    assert numbers(volumetric) == {VOLUME: 1319.5}
    assert [tracked(group) for group in (planar, volumetric, other)] == [
        ["2.25.999"],
        ["2.25.999"],
        ["2.25.78"],
    ]
    named = [one.ReferencedSOPSequence[0] for one in items(volumetric, "IMAGE")]
    assert [(n.ReferencedSOPInstanceUID, n.ReferencedSegmentNumber) for n in named] == [
        ("2.25.5", 4)
    ]
    evidence = [
        one.ReferencedSOPInstanceUID
        for study in made.CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
        for one in series.ReferencedSOPSequence
    ]
    assert len(evidence) == len(set(evidence)) == oblique.SLICES + 1, "every image, and the SEG"


def test_a_body_of_a_thick_series_has_a_density_and_no_volume(
    make_case: Callable[..., Case], judged: Callable[..., str]
) -> None:
    thick = make_case().report.findings[0].model_copy(update={"volume_mm3": None})
    segments = {1: Segment("2.25.5", "2.25.6", 1)}
    made = measurements(make_case(report={"findings": (thick,)}, segments=segments)).data
    _, body = groups(read(made))
    assert numbers(body) == {}
    assert [one.ConceptCodeSequence[0].CodeMeaning for one in items(body, "CODE")][
        -1
    ] == "Part-solid"
    judged(made)
    unknown = thick.model_copy(update={"density": None})
    made = measurements(make_case(report={"findings": (unknown,)}, segments=segments)).data
    assert len(groups(read(made))) == 1, "there is nothing to say of the body"


def tracked(group: Dataset) -> list[str]:
    return [
        one.UID
        for one in items(group, "UIDREF")
        if one.ConceptNameCodeSequence[0].CodeValue == "112040"
    ]


def test_nothing_is_coded_as_a_probability(make_case: Callable[..., Case]) -> None:
    made = read(measurements(make_case()).data)
    meanings = [one.ConceptNameCodeSequence[0].CodeMeaning for one in every(made)]
    assert "Detection confidence" in meanings
    assert not [m for m in meanings if "robab" in m]
    assert [s.CodingSchemeDesignator for s in made.CodingSchemeIdentificationSequence] == [
        "99SCANSIDE"
    ]


def test_a_report_without_a_place_is_no_measurement_report(
    make_case: Callable[..., Case], refused: dict[str, Any]
) -> None:
    for report in ({"findings": ()}, refused):
        with pytest.raises(ValueError, match="write a text instead"):
            measurements(make_case(report=report))


def test_a_finding_that_no_image_shows_is_an_error(make_case: Callable[..., Case]) -> None:
    outside = make_case().report.findings[1].model_copy(update={"center_lps_mm": (900.0, 0.0, 0.0)})
    with pytest.raises(ValueError, match="shows finding 2"):
        measurements(make_case(report={"findings": (outside,)}))


def test_the_same_case_gives_the_same_bytes(make_case: Callable[..., Case]) -> None:
    assert measurements(make_case()) == measurements(make_case())


def test_a_preliminary_report_is_partial_and_another_object(
    make_case: Callable[..., Case],
) -> None:
    early, late = make_case(report={"stage": Stage.PRELIMINARY}), make_case()
    one, other = measurements(early), measurements(late)
    assert one.identified.sop_instance_uid != other.identified.sop_instance_uid
    assert one.identified.series_uid == other.identified.series_uid
    made = [read(one.data), read(other.data)]
    assert [(m.CompletionFlag, m.PreliminaryFlag, m.VerificationFlag) for m in made] == [
        ("PARTIAL", "PRELIMINARY", "UNVERIFIED"),
        ("COMPLETE", "FINAL", "UNVERIFIED"),
    ]
    assert made[0].InstanceNumber < made[1].InstanceNumber


def test_a_revision_names_its_predecessor(
    make_case: Callable[..., Case], judged: Callable[..., str]
) -> None:
    before = measurements(make_case()).identified
    case = make_case()
    key = type(case.source.key)(case.source.key.study, before.series_uid)
    named = Predecessor(key, before.sop_class_uid, before.sop_instance_uid)
    made = measurements(make_case(report={"revision": 2, "edition": 2}, predecessors=(named,)))
    judged(made.data)
    (study,) = read(made.data).PredecessorDocumentsSequence
    (old,) = study.ReferencedSeriesSequence[0].ReferencedSOPSequence
    assert old.ReferencedSOPInstanceUID == before.sop_instance_uid
    assert made.identified.series_uid == before.series_uid
    assert made.identified.sop_instance_uid != before.sop_instance_uid
