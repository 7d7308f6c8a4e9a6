"""A rejection note: what other programs say of it, and that it names nothing but our reports."""

from __future__ import annotations

import io
from collections.abc import Callable

import highdicom
import pydicom

from appliance.report import Report, SeriesKey
from appliance.results.note import KEY_OBJECTS, note
from appliance.results.source import source
from appliance.results.sr.case import Case, Predecessor
from appliance.results.sr.document import COMPREHENSIVE_3D
from rigs import oblique
from rigs.composing import NOON
from rigs.reports import NAMING, make_report
from tests.appliance.results.sr.conftest import judged

__all__ = ["judged", "make_report"]


def rejecting(report: Report, *uids: str) -> Case:
    images = source(oblique.series(oblique.POSES["axial"], 4))
    series = SeriesKey(images.key.study, "1.2.9")
    named = tuple(Predecessor(series, COMPREHENSIVE_3D, uid) for uid in uids)
    return Case(report, images, NAMING, NOON, predecessors=named, variant=" ".join(uids))


def test_a_rejection_note_names_the_reports_and_no_image_as_content_and_as_evidence(
    make_report: Callable[..., Report], judged: Callable[..., str]
) -> None:
    case = rejecting(make_report(), "1.2.9.1", "1.2.9.2")
    made = note(case)
    judged(made.data, oblique.series(oblique.POSES["axial"], 4))
    read = pydicom.dcmread(io.BytesIO(made.data))
    assert (read.SOPClassUID, read.Modality) == (KEY_OBJECTS, "KO")
    (title,) = read.ConceptNameCodeSequence
    assert (title.CodeValue, title.CodingSchemeDesignator) == ("113001", "DCM")
    named = [one for one in read.ContentSequence if one.ValueType == "COMPOSITE"]
    rejected = [one.ReferencedSOPSequence[0].ReferencedSOPInstanceUID for one in named]
    assert rejected == ["1.2.9.1", "1.2.9.2"]
    (study,) = read.CurrentRequestedProcedureEvidenceSequence
    (series,) = study.ReferencedSeriesSequence
    evidence = [one.ReferencedSOPInstanceUID for one in series.ReferencedSOPSequence]
    assert (study.StudyInstanceUID, series.SeriesInstanceUID) == (case.source.key.study, "1.2.9")
    assert evidence == rejected
    assert read.PatientID == case.source.template.PatientID
    assert highdicom.ko.KeyObjectSelectionDocument.from_dataset(read).content


def test_the_same_reports_give_the_same_bytes_and_others_another_uid(
    make_report: Callable[..., Report],
) -> None:
    case = rejecting(make_report(), "1.2.9.1")
    made = note(case)
    assert note(case).data == made.data
    other = note(rejecting(case.report, "1.2.9.3")).identified
    assert other.sop_instance_uid != made.identified.sop_instance_uid
    assert other.series_uid == made.identified.series_uid
