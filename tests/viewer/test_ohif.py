"""What is composed, as OHIF shows it over an Orthanc: at the right place, and never its error page.

The studies are those of `viewer.phantom`: what OHIF shows is read from the pixels of its picture,
and from what is drawn over it.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from appliance.comparison import KeptComparison
from appliance.reasons import Code
from appliance.report import Reason, Report, Stage, Status
from appliance.results import seg
from appliance.results.sr.case import Beside, Case
from appliance.results.sr.findings import measurements
from appliance.results.sr.text import text, withdrawal
from rigs import beside, oblique
from rigs.chromium import PageError
from rigs.ohif import Seen, Viewer
from rigs.orthanc import Orthanc
from viewer import phantom
from viewer.phantom import Study

Look = Callable[[str], AbstractContextManager[Viewer]]
MakeReport = Callable[..., Report]
NEAR_PX = 1.0
"""Of an image: how far a label may be from the truth."""
AROUND_PX = 4.0
"""Where a segment is looked for; the end of another one may be on the same image."""
NOT_SQUARE = pytest.mark.xfail(
    strict=True,
    reason="OHIF 3.12.10 confuses the distances of rows and columns where it places coordinates",
)
POSES = [
    pytest.param(name, marks=() if pose.spacing_mm[0] == pose.spacing_mm[1] else NOT_SQUARE)
    for name, pose in oblique.POSES.items()
]


def segmentation(study: Study, case: Case) -> bytes:
    made = seg.of_findings(case, study.bodies)
    assert made is not None
    return made.data


def shows(seen: Seen, number: int) -> bool:
    """Whether the picture is that of an image; not while it is none of them."""
    with suppress(ValueError):
        return phantom.read(seen.pixels).number == number
    return False


def judge(viewer: Viewer, study: Study, finding: int) -> Seen:
    """A label is drawn on the image that shows the most of a body, and around the body."""
    number = study.nearest(finding)
    seen = viewer.wait(lambda now: shows(now, number) and now.outlines)
    ((left, top, right, bottom),) = seen.outlines
    body, picture = study.box(finding, number), phantom.read(seen.pixels)
    drawn = np.stack([picture.place((left, top)), picture.place((right, bottom))])
    assert np.abs(drawn.mean(axis=0) - body.mean(axis=0)).max() < NEAR_PX
    assert np.abs(drawn - body).max() < 2 * NEAR_PX
    return seen


def judge_segment(viewer: Viewer, study: Study, finding: int) -> None:
    """A segment is laid over the image that shows the most of a body, and over the body."""
    number = study.nearest(finding)
    seen = viewer.wait(lambda now: shows(now, number) and phantom.coloured(now.pixels).any())
    y, x = np.nonzero(phantom.coloured(seen.pixels))
    at = phantom.read(seen.pixels).place(np.stack([x, y], axis=1) + 0.5)
    least, greatest = study.box(finding, number)
    here = at[((at > least - AROUND_PX) & (at < greatest + AROUND_PX)).all(axis=1)]
    assert np.linalg.norm(here.mean(axis=0) - study.centre(finding, number)) < NEAR_PX
    assert np.abs(here.min(axis=0) - least).max() < 2 * NEAR_PX
    assert np.abs(here.max(axis=0) - greatest).max() < 2 * NEAR_PX


@pytest.mark.long
@pytest.mark.parametrize("pose", POSES)
def test_each_label_stands_on_its_body_in_every_pose(
    pose: str, archive: Orthanc, look: Look, make_report: MakeReport
) -> None:
    study = phantom.study(pose, "labels")
    case = study.with_bodies(study.case(make_report))
    archive.store([*study.packed(), measurements(case).data, segmentation(study, case)])
    with look(study.uid) as viewer:
        viewer.open("SR")
        judge(viewer, study, 1)
        viewer.next()
        judge(viewer, study, 2)


@pytest.mark.long
@pytest.mark.parametrize("pose", oblique.POSES)
def test_each_segment_lies_on_its_body_in_every_pose(
    pose: str, archive: Orthanc, look: Look, make_report: MakeReport
) -> None:
    study = phantom.study(pose, "segments")
    archive.store([*study.packed(), segmentation(study, study.case(make_report))])
    with look(study.uid) as viewer:
        viewer.open("SEG")
        viewer.answer("Yes")
        viewer.wait(lambda seen: phantom.coloured(seen.pixels).any())
        viewer.next()
        judge_segment(viewer, study, 2)
        viewer.next()
        judge_segment(viewer, study, 1)


def refused(study: Study, make_report: MakeReport) -> Case:
    reason = Reason(code=Code.GANTRY_TILT, text="the gantry is tilted by 20 degrees")
    return study.case(make_report, status=Status.NOT_ANALYSED, findings=(), reasons=(reason,))


@pytest.mark.long
def test_a_text_report_is_read_as_text_and_its_first_line_is_the_verdict(
    archive: Orthanc, look: Look, make_report: MakeReport
) -> None:
    study = phantom.study("axial", "text")
    case = refused(study, make_report)
    archive.store([*study.packed(), text(case).data])
    with look(study.uid) as viewer:
        viewer.open("SR")
        viewer.until(has("NOT ANALYSED"))
        viewer.until(has("the gantry is tilted by 20 degrees"))
        viewer.until(has("research use, not for clinical use"))


@pytest.mark.long
def test_of_a_preliminary_and_a_final_report_the_final_one_is_shown(
    archive: Orthanc, look: Look, make_report: MakeReport
) -> None:
    study = phantom.study("axial", "stages")
    final = study.with_bodies(study.case(make_report))
    first = final.report.findings[:1]
    early = study.with_bodies(study.case(make_report, stage=Stage.PRELIMINARY, findings=first))
    for case in (final, early):  # in whatever order they come
        archive.store([measurements(case).data, segmentation(study, case)])
    archive.store(study.packed())
    with look(study.uid) as viewer:
        assert sorted(modality for modality, _ in viewer.series()) == ["CT", "SEG", "SR"]
        viewer.open("SR")
        judge(viewer, study, 1)
        viewer.next()
        judge(viewer, study, 2)


@pytest.mark.long
@pytest.mark.parametrize(("kind", "listed"), [("measurements", 1), ("text", 0)])
def test_of_a_report_and_its_withdrawal_the_withdrawal_is_listed_and_shown(
    kind: str, listed: int, archive: Orthanc, look: Look, make_report: MakeReport
) -> None:
    study = phantom.study("axial", f"withdrawn {kind}")
    case = study.case(make_report) if kind == "measurements" else refused(study, make_report)
    later = replace(case, at=case.at + timedelta(minutes=5))
    before = measurements(case) if kind == "measurements" else text(case)
    archive.store([withdrawal(later, "series 3, report 7").data, before.data, *study.packed()])
    with look(study.uid) as viewer:
        viewer.open("SR", listed)  # measurements of the same series are listed before texts
        viewer.until(has("WITHDRAWN: THIS REPORT IS REPLACED BY series 3, report 7"))


@pytest.mark.long
def test_a_report_whose_segmentation_is_not_in_the_archive_is_shown(
    archive: Orthanc, look: Look, make_report: MakeReport
) -> None:
    study = phantom.study("axial", "alone")
    case = study.with_bodies(study.case(make_report))
    archive.store([*study.packed(), measurements(case).data])
    with look(study.uid) as viewer:
        viewer.open("SR")
        seen = judge(viewer, study, 1)
        assert "Volume: 1319.50 mm3" in seen.labels, "which is said of the segment"


@pytest.mark.long
def test_then_and_now_of_a_finding_are_told_apart_and_drawn_where_it_is_now(
    archive: Orthanc, look: Look, make_report: MakeReport
) -> None:
    """The earlier exam, whose key image the report names, is not in the archive."""
    study = phantom.study("axial", "beside")
    case = study.case(make_report)
    said = beside.comparison(case.report)
    kept = KeptComparison(comparison=said, prior=beside.IMAGES)
    case = replace(study.with_bodies(case), beside=(Beside(kept=kept),))
    archive.store([*study.packed(), measurements(case).data, segmentation(study, case)])
    with look(study.uid) as viewer:
        viewer.open("SR")
        seen = judge(viewer, study, 1)
        labels = " ".join(seen.labels)
        assert "Mean axis in the newest earlier exam: 10.00 mm" in labels
        assert "Diameter: 14.00 mm" in labels, "of today"
        viewer.next()
        seen = judge(viewer, study, 2)
        assert "earlier exam" not in " ".join(seen.labels), "it is not comparable"


@pytest.mark.long
def test_what_breaks_the_viewer_is_noticed(
    archive: Orthanc, look: Look, make_report: MakeReport
) -> None:
    study = phantom.study("axial", "broken")
    case = study.with_bodies(study.case(make_report))
    archive.store([*study.packed(), without_places(measurements(case).data)])
    with look(study.uid) as viewer:
        viewer.open("SR")
        with pytest.raises(PageError, match=r"OHIF fails: .*ReferencedSOPSequence"):
            viewer.wait(lambda seen: seen.outlines)


def has(words: str) -> str:
    return f"document.body.innerText.includes({words!r})"


def without_places(report: bytes) -> bytes:
    """A measurement report whose groups have no coordinates, which is never composed."""
    made = pydicom.dcmread(io.BytesIO(report))

    def strip(item: Dataset) -> None:
        below = item.get("ContentSequence", [])
        kept = [one for one in below if not any(e.ValueType == "SCOORD" for e in contents(one))]
        if below:
            item.ContentSequence = kept
        for one in kept:
            strip(one)

    strip(made)
    out = io.BytesIO()
    made.save_as(out, enforce_file_format=True)
    return out.getvalue()


def contents(item: Dataset) -> list[Dataset]:
    return list(item.get("ContentSequence", []))
