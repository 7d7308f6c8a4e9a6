"""Content items -> a structured report as bytes.

Rules
1. Patient and study modules come from an image of the series (`source.mended`); evidence is every
   image of it, whether or not the content names it (PS3.3 C.17.2.3).
2. Nobody has verified it: UNVERIFIED. PARTIAL while the report is preliminary, else COMPLETE and
   FINAL (PS3.3 C.17.2.6).
3. An object whose own words go beyond ASCII is in ISO_IR 192.
4. highdicom warns of a name that is unusual, and quotes it: no warning leaves this module.
5. Codes of ours are of 99SCANSIDE, which the object declares (PS3.3 C.12.1.1.7).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from pydicom.dataset import Dataset
from pydicom.sr.coding import Code

from appliance.naming import MAKER
from appliance.report import Stage
from appliance.results.identity import Identified, identified, packed
from appliance.results.source import Source, in_utf8
from appliance.results.sr import beside
from appliance.results.sr.case import Case, Predecessor, Reference, Segment
from appliance.results.sr.scheme import SCHEME

if TYPE_CHECKING:
    from highdicom.sr import ContentSequence

COMMENT: Final = Code("121106", "DCM", "Comment")
SEGMENTATION: Final = "1.2.840.10008.5.1.4.1.1.66.4"
ENHANCED: Final = "1.2.840.10008.5.1.4.1.1.88.22"
COMPREHENSIVE: Final = "1.2.840.10008.5.1.4.1.1.88.33"
COMPREHENSIVE_3D: Final = "1.2.840.10008.5.1.4.1.1.88.34"


@dataclass(frozen=True, slots=True)
class Composed:
    """A finished object."""

    identified: Identified
    data: bytes
    """A Part-10 file in Explicit VR Little Endian."""


def identified_as(case: Case, sop_class_uid: str, withdrawn_by: str | None = None) -> Identified:
    """The identity of a structured report of this class."""
    return identified(
        case.report,
        case.source.key,
        "sr",
        sop_class_uid,
        case.naming,
        withdrawn_by=withdrawn_by,
        variant=case.variant,
        comparison=case.comparison,
        later=case.later,
    )


def text_item(name: Code, text: str) -> Any:
    """A TEXT item that its parent contains."""
    from highdicom.sr import RelationshipTypeValues, TextContentItem  # noqa: PLC0415 - rule of case

    return TextContentItem(name=name, value=text, relationship_type=RelationshipTypeValues.CONTAINS)


def composed(case: Case, one: Identified, content: ContentSequence) -> Composed:
    """A root container -> a document of the class that `one` names."""
    from highdicom import sr  # noqa: PLC0415
    from highdicom.coding_schemes import CodingSchemeIdentificationItem  # noqa: PLC0415

    kinds = {
        ENHANCED: sr.EnhancedSR,
        COMPREHENSIVE: sr.ComprehensiveSR,
        COMPREHENSIVE_3D: sr.Comprehensive3DSR,
    }
    root = content[0]
    ascii_only = all(
        str(value.value).isascii() for value in root.iterall() if value.VR in {"UT", "LO", "PN"}
    )
    template = case.source.template if ascii_only else in_utf8(case.source.template)
    final = case.report.stage is Stage.FINAL
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they would carry the patient's name into the log
        made = kinds[one.sop_class_uid](
            evidence=evidence(
                case.source, template, case.segments.values(), beside.references(case)
            ),
            content=root,
            series_instance_uid=one.series_uid,
            series_number=one.series_number,
            sop_instance_uid=one.sop_instance_uid,
            instance_number=1,  # `packed` gives it its own, which may be negative
            manufacturer=MAKER,
            is_complete=final,
            is_final=final,
            previous_versions=[_as_dataset(before) for before in case.predecessors] or None,
            coding_schemes=[
                CodingSchemeIdentificationItem(
                    SCHEME, name="Scanside", responsible_organization=MAKER
                )
            ],
        )
    return Composed(one, packed(made, one, case.report, template, case.at))


def evidence(
    source: Source,
    template: Dataset,
    segments: Iterable[Segment],
    earlier: Iterable[Reference] = (),
) -> list[Dataset]:
    """What the document was made of: first the image that gives patient and study, then every other
    one once, then the segmentations that it names, then the images of earlier exams, which are of
    another study."""
    key, found = source.key, [template]
    known = {str(template.SOPInstanceUID)}
    named = [(key.series, i.sop_class_uid, i.sop_instance_uid) for i in source.images]
    named += [(s.series_uid, SEGMENTATION, s.sop_instance_uid) for s in segments]
    for series, sop_class, uid in named:
        if uid not in known:
            known.add(uid)
            found.append(_reference(key.study, series, sop_class, uid))
    for one in earlier:
        if one.sop_instance_uid not in known:
            known.add(one.sop_instance_uid)
            found.append(
                _reference(one.study_uid, one.series_uid, one.sop_class_uid, one.sop_instance_uid)
            )
    return found


def _as_dataset(before: Predecessor) -> Dataset:
    return _reference(
        before.key.study, before.key.series, before.sop_class_uid, before.sop_instance_uid
    )


def _reference(study: str, series: str, sop_class: str, uid: str) -> Dataset:
    made = Dataset()
    made.StudyInstanceUID, made.SeriesInstanceUID = study, series
    made.SOPClassUID, made.SOPInstanceUID = sop_class, uid
    return made
