"""A rejection note: a Key Object Selection which tells an archive that a report is withdrawn.

Rules
1. Imaging Object Change Management (IHE RAD-66): a Key Object Selection Document (PS3.3 A.35.4) of
   TID 2010 whose title is the reason. Archives with that profile hide what it names; to all others
   it is one object more.
2. The reason is `Rejected for Quality Reasons` (113001, DCM; PS3.16 CID 7010): a better series
   stands in the place of what was analysed. Nothing was dangerous or of another patient (113037),
   no worklist entry was wrong (113038) and no time has run out (113039).
3. It names reports of ours alone: also as evidence there is nothing else, for an archive may reject
   whatever stands there. Segmentations and captures stay; the text that says WITHDRAWN does too.
"""

from __future__ import annotations

import copy
import warnings
from typing import Final

from pydicom.dataset import Dataset
from pydicom.sr.coding import Code

from appliance.naming import MAKER
from appliance.results.identity import identified, packed
from appliance.results.sr.case import Case, Predecessor
from appliance.results.sr.document import Composed

KEY_OBJECTS: Final = "1.2.840.10008.5.1.4.1.1.88.59"
TITLE: Final = Code("113001", "DCM", "Rejected for Quality Reasons")
DESCRIPTION: Final = "This report does not stand any more: another one is in its place."


def note(case: Case) -> Composed:
    """The reports `case.predecessors` are rejected. ValueError where there is none."""
    from highdicom.ko import KeyObjectSelection, KeyObjectSelectionDocument  # noqa: PLC0415 - sr.case

    template = case.source.template
    rejected = [_of_study(template, one) for one in case.predecessors]
    one = identified(
        case.report, case.source.key, "note", KEY_OBJECTS, case.naming, variant=case.variant
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they would carry the patient's name into the log
        made = KeyObjectSelectionDocument(
            evidence=rejected,
            content=KeyObjectSelection(TITLE, rejected, description=DESCRIPTION),
            series_instance_uid=one.series_uid,
            series_number=one.series_number,
            sop_instance_uid=one.sop_instance_uid,
            instance_number=one.instance_number,
            manufacturer=MAKER,
        )
    return Composed(one, packed(made, one, case.report, template, case.at))


def _of_study(template: Dataset, one: Predecessor) -> Dataset:
    """A report as highdicom takes it: patient and study of the image, and no image itself."""
    made = copy.deepcopy(template)  # a shallow copy would share its values
    for keyword in ("Rows", "Columns"):
        made.pop(keyword, None)
    made.SOPClassUID, made.SOPInstanceUID = one.sop_class_uid, one.sop_instance_uid
    made.SeriesInstanceUID = one.key.series
    return made
