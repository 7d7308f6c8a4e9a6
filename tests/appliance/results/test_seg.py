from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray

from appliance.errors import Refuse
from appliance.records import Mask
from appliance.report import Report
from appliance.results import seg
from appliance.results.resample import Slice
from appliance.results.source import Source, source
from appliance.results.sr.case import Case
from appliance.results.sr.findings import measurements
from rigs import bodies
from rigs.programs import program
from rigs.reports import NAMING

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
MakeReport = Callable[..., Report]


def reported(make_report: MakeReport, masks: Mapping[int, Mask], **says: Any) -> Report:
    findings = tuple(bodies.finding(n, mask, **says) for n, mask in masks.items())
    return make_report().model_copy(update={"findings": findings})


def case_of(series: Source, report: Report) -> Case:
    return Case(report, series, NAMING, AT)


def composed(series: Source, report: Report, masks: Mapping[int, Mask]) -> bytes:
    made = seg.of_findings(case_of(series, report), masks)
    assert made is not None
    return made.data


def read(made: bytes) -> highdicom.seg.Segmentation:
    return highdicom.seg.segread(io.BytesIO(made))


def shown(made: bytes, number: int) -> NDArray[np.float64]:
    """Where the pixels of a segment lie, LPS mm [n, 3], as the file alone says."""
    image = pydicom.dcmread(io.BytesIO(made))
    shared = image.SharedFunctionalGroupsSequence[0]
    between = [float(v) for v in shared.PixelMeasuresSequence[0].PixelSpacing]
    along = [float(v) for v in shared.PlaneOrientationSequence[0].ImageOrientationPatient]
    pixels = image.pixel_array.reshape(-1, image.Rows, image.Columns)
    found = []
    for frame, item in zip(pixels, image.PerFrameFunctionalGroupsSequence, strict=True):
        named = item if "SegmentIdentificationSequence" in item else shared
        if named.SegmentIdentificationSequence[0].ReferencedSegmentNumber == number:
            row, column = np.argwhere(frame).T
            position = item.PlanePositionSequence[0].ImagePositionPatient
            found.append(
                np.asarray([float(v) for v in position])
                + np.outer(column * between[1], along[:3])
                + np.outer(row * between[0], along[3:])
            )
    return np.concatenate(found)


@pytest.mark.parametrize("name", bodies.POSES)
def test_each_segment_lies_where_its_body_lies_in_every_pose_of_the_slices(
    name: str, make_report: MakeReport
) -> None:
    masks = {1: bodies.lopsided((4, -3, 2)), 2: bodies.sphere((-12, 9, -7), 7)}
    series = source(bodies.images(bodies.posed(name)))
    made = composed(series, reported(make_report, masks), masks)
    for number, mask in masks.items():
        away = shown(made, number).mean(axis=0) - bodies.middle_of(mask)
        assert np.linalg.norm(away) < 1.0


def test_no_validator_finds_an_error(tmp_path: Path, make_report: MakeReport) -> None:
    validators = [program("dciodvfy"), program("dcentvfy")]
    masks = {1: bodies.lopsided((4, -3, 2)), 2: bodies.sphere((-12, 9, -7), 7)}
    report = reported(make_report, masks, kind="mass", side="left")
    images = bodies.images(bodies.posed("oblique"))
    series, lungs = source(images), bodies.sphere((0, 0, 0), 40, voxel_mm=3.0)
    of_lungs = seg.of_lungs(case_of(series, report), lungs)
    assert of_lungs is not None
    files = {
        "findings.dcm": composed(series, report, masks),
        "one.dcm": composed(series, report, {2: masks[2]}),
        "lungs.dcm": of_lungs.data,
    }
    names = []
    for number, image in enumerate(images):
        image.save_as(tmp_path / f"{number}.dcm", enforce_file_format=True)
        names.append(str(tmp_path / f"{number}.dcm"))
    for name, made in files.items():
        (tmp_path / name).write_bytes(made)
        for command in ([validators[0], name], [validators[1], name, *names]):
            done = subprocess.run(
                command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60
            )
            said = (done.stdout + done.stderr).splitlines()
            assert not [line for line in said if line.startswith("Error")]


def test_highdicom_reads_segments_with_codes_and_tracking_again(make_report: MakeReport) -> None:
    masks = {1: bodies.sphere((4, -3, 2), 8), 2: bodies.sphere((-12, 9, -7), 7)}
    report = reported(make_report, masks, side="right")
    mass = report.findings[1].model_copy(update={"kind": "mass", "side": None})
    report = report.model_copy(update={"findings": (report.findings[0], mass)})
    made = read(composed(source(bodies.images(bodies.slices())), report, masks))
    assert made.segmentation_type is highdicom.seg.SegmentationTypeValues.BINARY
    described = [made.get_segment_description(number) for number in (1, 2)]
    assert [one.segment_label for one in described] == ["Nodule 1", "Mass 2"]
    assert [one.tracking_uid for one in described] == ["2.25.1", "2.25.2"]
    types = [one.segmented_property_type.value for one in described]
    regions = [one.anatomic_regions[0].value for one in described]
    assert types == ["27925004", "4147007"]
    assert regions == ["24028007", "39607008"]
    assert all(frame.any() for frame in made.pixel_array)
    assert made.SegmentsOverlap == "NO"


def test_frames_whose_pixels_are_no_whole_bytes_are_read_again(make_report: MakeReport) -> None:
    series = bodies.slices(pixel_mm=(60 / 87, 60 / 85))
    assert series[0].shape == (87, 85), "7395 pixels: 924 bytes and 3 bits"
    mask = bodies.sphere((4, -3, 2), 8)
    report = reported(make_report, {1: mask})
    made = composed(source(bodies.images(series)), report, {1: mask})
    assert np.linalg.norm(shown(made, 1).mean(axis=0) - bodies.middle_of(mask)) < 0.5


def test_bodies_that_touch_may_share_pixels_and_it_is_said(make_report: MakeReport) -> None:
    masks = {1: bodies.sphere((0, 0, 0), 9), 2: bodies.sphere((3, 0, 0), 9)}
    series = source(bodies.images(bodies.slices()))
    made = read(composed(series, reported(make_report, masks), masks))
    assert made.SegmentsOverlap == "YES"


def test_only_the_slices_that_are_used_are_sources_and_each_frame_names_its_own(
    make_report: MakeReport,
) -> None:
    mask = bodies.sphere((0, 0, 5), 6)
    images = bodies.images(bodies.slices(distance_mm=2.0))
    made = read(composed(source(images), reported(make_report, {1: mask}), {1: mask}))
    height = {image.SOPInstanceUID: float(image.ImagePositionPatient[2]) for image in images}
    named = []
    for item in made.PerFrameFunctionalGroupsSequence:
        (of_frame,) = item.DerivationImageSequence[0].SourceImageSequence
        named.append(of_frame.ReferencedSOPInstanceUID)
        at = float(item.PlanePositionSequence[0].ImagePositionPatient[2])
        assert height[of_frame.ReferencedSOPInstanceUID] == at
    assert sorted(named) == sorted(s.ReferencedSOPInstanceUID for s in made.SourceImageSequence)
    assert 2 <= len(named) <= 5


def test_frames_of_a_multi_frame_image_are_referred_to_by_number(make_report: MakeReport) -> None:
    mask = bodies.sphere((0, 0, 5), 6)
    whole = source(bodies.images(bodies.slices(distance_mm=2.0)))
    enhanced = "1.2.840.10008.5.1.4.1.1.2.1"
    frames = tuple(
        replace(image, sop_class_uid=enhanced, sop_instance_uid="1.2.3.9", frame=number)
        for number, image in enumerate(whole.images, start=1)
    )
    series = Source(whole.template, frames)
    made = read(composed(series, reported(make_report, {1: mask}), {1: mask}))
    (one,) = made.SourceImageSequence
    numbers = [
        item.DerivationImageSequence[0].SourceImageSequence[0].ReferencedFrameNumber
        for item in made.PerFrameFunctionalGroupsSequence
    ]
    assert list(one.ReferencedFrameNumber) == sorted(numbers)
    assert (one.ReferencedSOPClassUID, one.ReferencedSOPInstanceUID) == (enhanced, "1.2.3.9")
    heights = [frames[number - 1].position_lps_mm for number in numbers]
    assert [h[2] for h in heights if h is not None] == [
        float(item.PlanePositionSequence[0].ImagePositionPatient[2])
        for item in made.PerFrameFunctionalGroupsSequence
    ]


def test_images_that_were_set_aside_are_no_sources(make_report: MakeReport) -> None:
    images = bodies.images(bodies.slices(distance_mm=2.0))
    other = bodies.images(bodies.posed("oblique")[:1])[0]
    other.SOPInstanceUID = "1.2.3.99"
    series = source([*images, other], analysed=[image.SOPInstanceUID for image in images])
    mask = bodies.sphere((0, 0, 5), 6)
    made = read(composed(series, reported(make_report, {1: mask}), {1: mask}))
    assert "1.2.3.99" not in {s.ReferencedSOPInstanceUID for s in made.SourceImageSequence}


def test_the_structured_report_and_the_segmentation_call_a_finding_alike(
    make_report: MakeReport,
) -> None:
    masks = {1: bodies.sphere((4, -3, 2), 8), 3: bodies.sphere((-12, 9, -7), 7)}
    report, series = (
        reported(make_report, masks, volume_mm3=300.0),
        source(bodies.images(bodies.slices())),
    )
    case = replace(case_of(series, report), tracking={3: "2.25.77"})
    case = replace(case, segments=seg.segments(case, masks))
    segmentation = seg.of_findings(case, masks)
    assert segmentation is not None
    said = pydicom.dcmread(io.BytesIO(measurements(case).data))
    values: dict[str, list[Any]] = {}
    for element in said.iterall():
        values.setdefault(element.keyword, []).append(element.value)
    assert {"2.25.1", "2.25.77"} <= set(values["UID"])
    assert {"Finding 1", "Finding 3"} <= set(values["TextValue"])
    assert values["ReferencedSegmentNumber"] == [1, 2]
    made = read(segmentation.data)
    assert sorted(made.get_tracking_ids()) == [("Finding 1", "2.25.1"), ("Finding 3", "2.25.77")]


def test_the_same_input_gives_the_same_bytes(make_report: MakeReport) -> None:
    masks = {1: bodies.lopsided((4, -3, 2)), 2: bodies.sphere((-12, 9, -7), 7)}
    report = reported(make_report, masks)
    series = source(bodies.images(bodies.slices()))
    assert composed(series, report, masks) == composed(series, report, masks)


def test_without_a_frame_of_reference_there_is_no_segmentation(make_report: MakeReport) -> None:
    mask = bodies.sphere((0, 0, 5), 6)
    series = source(bodies.images(bodies.slices(), FrameOfReferenceUID=None))
    with pytest.raises(Refuse, match="no Frame of Reference UID") as refused:
        composed(series, reported(make_report, {1: mask}), {1: mask})
    assert refused.value.code == "no_frame_of_reference"


@pytest.mark.parametrize(
    "other",
    [
        bodies.slices(pixel_mm=(0.9, 0.9)),
        bodies.slices(pixel_mm=(0.7, 0.7005)),
        bodies.posed("oblique"),
    ],
)
def test_slices_that_differ_are_refused_by_name(
    other: Sequence[Slice], make_report: MakeReport
) -> None:
    mask = bodies.sphere((0, 0, 5), 6)
    series = source(bodies.images([*bodies.slices(), other[0]]))
    with pytest.raises(Refuse, match="image 49") as refused:
        composed(series, reported(make_report, {1: mask}), {1: mask})
    assert refused.value.code == "mixed_slices"


def test_a_report_without_bodies_has_no_segmentation(make_report: MakeReport) -> None:
    series, report = source(bodies.images(bodies.slices())), make_report()
    assert seg.of_findings(case_of(series, report), {}) is None
    empty = bodies.sphere((0, 0, 0.4), 0.1)
    assert not empty.voxels.any()
    assert seg.of_lungs(case_of(series, report), empty) is None


PEAK = """
import sys
from copy import deepcopy
from datetime import datetime, timezone
from pathlib import Path

from appliance.report import Report
from appliance.results import seg
from appliance.results.source import source
from appliance.results.sr.case import Case
from rigs import bodies
from rigs.reports import NAMING

places = bodies.slices(distance_mm=0.25, pixel_mm=(0.7, 0.7), room_mm=(375, 358.4))
assert len(places) == 1500 and places[0].shape == (512, 512)
(pattern,) = bodies.images(places[:1])
del pattern.PixelData


def headers():
    for number, place in enumerate(places):
        image = deepcopy(pattern)
        image.SOPInstanceUID, image.InstanceNumber = f"1.2.{number}", number
        image.ImagePositionPatient = bodies.decimals(place.geometry.position_lps_mm)
        yield image


report, at = Report.model_validate_json(sys.stdin.read()), datetime(2026, 1, 2, tzinfo=timezone.utc)
case = Case(report, source(headers()), NAMING, at)
masks = {f.id: bodies.sphere(f.center_lps_mm, 40) for f in report.findings}
Path(sys.argv[1]).write_bytes(seg.of_findings(case, masks).data)
lungs = seg.of_lungs(case, bodies.sphere((0, 0, 0), 260, voxel_mm=3.0)).data
status = Path("/proc/self/status").read_text()  # ru_maxrss begins with what the parent held
print(len(lungs) >> 20, int(status.partition("VmHWM:")[2].split()[0]) >> 10)
"""


@pytest.mark.long
def test_1500_slices_of_512_are_composed_within_400_mb(
    tmp_path: Path, make_report: MakeReport
) -> None:
    """Eight masses of 40 mm, which lie on all slices between them, then a ball like lungs."""
    masks = {n: bodies.sphere((0, 0, 45.0 * n - 202.5), 6) for n in range(1, 9)}
    report = reported(make_report, masks)
    done = subprocess.run(
        [sys.executable, "-c", PEAK, str(tmp_path / "seg.dcm")],
        input=report.to_json(), cwd=Path(__file__).parents[2], capture_output=True, text=True,
        check=True, timeout=280,
    )  # fmt: skip
    lungs_mb, peak_mb = map(int, done.stdout.split())
    assert lungs_mb > 25, "their pixels alone"
    assert peak_mb < 400
    assert len(read((tmp_path / "seg.dcm").read_bytes()).segment_numbers) == 8
