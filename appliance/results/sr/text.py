"""A report without places, and a withdrawal, as an Enhanced SR that a person reads as text.

Rules
1. Root: Diagnostic imaging report (18748-4, LOINC); in it one container of conclusions with the
   verdict, and one of findings with a line each (`words`). In this order every viewer shows them.
2. A finding in a radiograph names its image; where on it the evidence lies is in the secondary
   capture, because a heat map has no millimetres.
3. A withdrawal stands in the series of the report that it withdraws, and names that report as its
   predecessor (`Case.predecessors`).
4. Of several texts in one series OHIF shows the one of the lowest number. So the numbers of texts
   fall: the newest is read. Measurements of the series are listed beside it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pydicom.sr.coding import Code

from appliance.results.identity import Identified
from appliance.results.source import SourceImage
from appliance.results.sr import words
from appliance.results.sr.case import Case
from appliance.results.sr.document import ENHANCED, Composed, composed, identified_as, text_item

if TYPE_CHECKING:
    from highdicom.sr import ContentSequence

TITLE = Code("18748-4", "LN", "Diagnostic imaging report")
CONCLUSIONS, CONCLUSION = Code("121076", "DCM", "Conclusions"), Code("121077", "DCM", "Conclusion")
FINDINGS, FINDING = Code("121070", "DCM", "Findings"), Code("121071", "DCM", "Finding")
SOURCE_IMAGE = Code("260753009", "SCT", "Source")


def text(case: Case) -> Composed:
    """What was concluded, in words."""
    one = identified_as(case, ENHANCED)
    said = content(words.verdict(case.report), words.lines(case), _keys(case))
    return composed(case, _falling(one), said)


def withdrawal(case: Case, by: str | None) -> Composed:
    """That the report does not stand any more. by: what replaces it, such as `series 3, report ID`;
    None where nothing does."""
    one = identified_as(case, ENHANCED, withdrawn_by=by or "nothing")
    said = content(words.withdrawal(by), words.withdrawn(case), ())
    return composed(case, _falling(one), said)


def _falling(one: Identified) -> Identified:
    """The identity of a text (rule 4)."""
    return replace(one, instance_number=-one.instance_number)


def _keys(case: Case) -> tuple[SourceImage, ...]:
    """The images of findings that have no place in millimetres, each once (rule 2)."""
    analysed = [image for image in case.source.images if image.analysed]
    found = {
        finding.key_image: analysed[finding.key_image]
        for finding in case.report.findings
        if finding.center_lps_mm is None and finding.key_image < len(analysed)
    }
    return tuple(found[index] for index in sorted(found))


def content(first: str, said: Iterable[str], keys: Iterable[SourceImage]) -> ContentSequence:
    """The tree of a text (rule 1): its first line, those below it, and images that it names."""
    from highdicom import sr  # noqa: PLC0415 - rule 3 of sr.case

    contains = sr.RelationshipTypeValues.CONTAINS

    def section(name: Code, items: list[Any]) -> Any:
        made = sr.ContainerContentItem(name=name, relationship_type=contains)
        made.ContentSequence = sr.ContentSequence(items)
        return made

    images = [
        sr.ImageContentItem(
            name=SOURCE_IMAGE,
            referenced_sop_class_uid=image.sop_class_uid,
            referenced_sop_instance_uid=image.sop_instance_uid,
            relationship_type=contains,
        )
        for image in keys
    ]
    root = sr.ContainerContentItem(name=TITLE)
    root.ContentSequence = sr.ContentSequence(
        [
            section(CONCLUSIONS, [text_item(CONCLUSION, first)]),
            section(FINDINGS, [text_item(FINDING, line) for line in said] + images),
        ]
    )
    return sr.ContentSequence([root], is_root=True)
