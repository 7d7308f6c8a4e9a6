"""Which object it is and who made it: the UIDs and the equipment of what is composed of a report.

Rules
1. A UID is 2.25 and an HMAC with the site key (`naming`) of report, stage, edition, kind, SOP class
   and `COMPOSER`. An archive that has a UID keeps the old bytes and answers success, so whatever
   would change the bytes is a part of the UID, and the same parts give the same bytes.
2. Who changes what is written from the same report raises `COMPOSER`, else archives keep the old.
3. All objects of one kind about one series and bundle stand in one series, whatever the release of
   the bundle: viewers show the newest of a series. Number `instance_number` rises with each, but
   for texts (`sr.text`). No series says when it was made: its instances come at different times.
4. Contributing equipment (PS3.3 C.12.1) says what made it: version of the appliance, bundle and its
   digest, backend. It is no device of the acquisition.
5. Times are inputs. Without a Timezone Offset From UTC in the image, dates and times stand in the
   zone of the time given, else in that of the image (PS3.3 C.12.1.1.8).
"""

from __future__ import annotations

import io
import re
import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Final, Literal

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

from appliance.naming import MAKER, Naming
from appliance.report import NAMESPACE, Report, SeriesKey, Stage

COMPOSER: Final = "1"
"""Version of what is written (rule 2)."""
Kind = Literal["sr", "seg", "lungs", "sc", "note", "feedback"]
"""What a series of objects holds."""
SERIES_NUMBER: Final[dict[Kind, int]] = {
    "sr": 9101,
    "seg": 9102,
    "lungs": 9103,
    "sc": 9104,
    "note": 9105,
    "feedback": 9106,
}
"""Above what scanners give; several series of a study may share one (PS3.3 C.7.3.1)."""
SERIES_DESCRIPTION: Final[dict[Kind, str]] = {
    "sr": "Scanside report",
    "seg": "Scanside findings",
    "lungs": "Scanside lungs",
    "sc": "Scanside pictures",
    "note": "Scanside rejection notes",
    "feedback": "Scanside readers' feedback",
}


@dataclass(frozen=True, slots=True)
class Identified:
    """The identity of one object."""

    sop_class_uid: str
    sop_instance_uid: str
    series_uid: str
    series_number: int
    series_description: str
    instance_number: int


def identified(
    report: Report,
    key: SeriesKey,
    kind: Kind,
    sop_class_uid: str,
    naming: Naming,
    *,
    withdrawn_by: str | None = None,
    variant: str = "",
    comparison: uuid.UUID | None = None,
    later: int = 0,
) -> Identified:
    """The identity of what is composed of a report.

    withdrawn_by: what the object says the report gave way to, where it is a withdrawal.
    variant: which of several objects of the same order it is, where archives get different ones.
    comparison: with an earlier exam, of an instance that is said because it came late.
    later: how many such instances were said before it; so a later one has a higher number.
    """
    bundle = "-" if report.bundle is None else report.bundle.name
    final = report.stage is Stage.FINAL
    return Identified(
        sop_class_uid=sop_class_uid,
        sop_instance_uid=naming.document(
            report.report_id,
            report.stage.value,
            str(report.edition),
            kind,
            sop_class_uid,
            COMPOSER,
            *(() if withdrawn_by is None else ("withdrawn", withdrawn_by)),
            *((variant,) if variant else ()),
            *(() if comparison is None else ("compared", str(comparison))),
        ),
        series_uid=naming.documents(key, bundle, kind),
        series_number=SERIES_NUMBER[kind],
        series_description=SERIES_DESCRIPTION[kind],
        instance_number=1000 * report.revision
        + 10 * report.edition
        + (int(final) if withdrawn_by is None and comparison is None else min(2 + later, 9)),
    )


def equipment(report: Report) -> Dataset:
    """The item that says what made an object (rule 4)."""
    purpose = Dataset()
    purpose.CodeValue, purpose.CodingSchemeDesignator = "109102", "DCM"
    purpose.CodeMeaning = "Processing Equipment"
    made = Dataset()
    made.PurposeOfReferenceCodeSequence = [purpose]
    made.Manufacturer, made.ManufacturerModelName = MAKER, "scanside"
    made.SoftwareVersions = versions(report)
    made.ContributionDescription = described(report)
    return made


def versions(report: Report) -> list[str]:
    """Versions of the appliance and, where there is one, of the bundle; each at most 64 letters."""
    found = [f"scanside {report.appliance or 'before 0.2.0'}"]
    if report.bundle is not None:
        found.append(f"{report.bundle.name} {report.bundle.version}")
    return [one[:64] for one in found]


def described(report: Report) -> str:
    """Bundle, digest and backend in one line."""
    bundle, backend = report.bundle, report.backend
    said = ["no bundle" if bundle is None else f"bundle {bundle.name} {bundle.version}"]
    if bundle is not None:
        said.append(f"SHA-256 {bundle.digest}")
    if backend is not None:
        said.append(f"backend {backend.name} {backend.precision}")
        if backend.engine_digest:
            said.append(f"engine {backend.engine_digest}")
    return ", ".join(said)[:1024]


def local(at: datetime, template: Dataset) -> datetime:
    """A time, which has a zone, as an object about this image states it (rule 5)."""
    offset = re.fullmatch(r"([+-])(\d\d)(\d\d)", str(template.get("TimezoneOffsetFromUTC") or ""))
    if offset is None:
        return at
    minutes = int(offset[2]) * 60 + int(offset[3])
    return at.astimezone(timezone(timedelta(minutes=-minutes if offset[1] == "-" else minutes)))


def packed(
    made: Dataset, one: Identified, report: Report, template: Dataset, at: datetime
) -> bytes:
    """A composed object as a Part-10 file (PS3.10 7): with identity, equipment and times of ours.

    Same input, same bytes: whatever clock or library composed `made` has left no trace.
    """
    when = local(at, template)
    made.SOPClassUID, made.SOPInstanceUID = one.sop_class_uid, one.sop_instance_uid
    made.SeriesInstanceUID, made.SeriesNumber = one.series_uid, one.series_number
    made.SeriesDescription, made.InstanceNumber = one.series_description, one.instance_number
    made.InstanceCreationDate = made.ContentDate = when.strftime("%Y%m%d")
    made.InstanceCreationTime = made.ContentTime = when.strftime("%H%M%S.%f")
    for keyword in ("SeriesDate", "SeriesTime"):
        made.pop(keyword, None)
    if template.get("TimezoneOffsetFromUTC"):
        made.TimezoneOffsetFromUTC = template.TimezoneOffsetFromUTC
    made.Manufacturer, made.ManufacturerModelName = MAKER, "scanside"
    made.SoftwareVersions = versions(report)
    made.ContributingEquipmentSequence = [*_scanner(template), equipment(report)]
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UID(one.sop_class_uid)
    meta.MediaStorageSOPInstanceUID = UID(one.sop_instance_uid)
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = UID(f"2.25.{uuid.uuid5(NAMESPACE, 'implementation').int}")
    made.file_meta = meta
    out = io.BytesIO()
    made.save_as(out, enforce_file_format=True)
    return out.getvalue()


def _scanner(template: Dataset) -> list[Dataset]:
    """What acquired the images, where they name it (PS3.3 C.12.1)."""
    if not template.get("Manufacturer"):
        return []
    purpose = Dataset()
    purpose.CodeValue, purpose.CodingSchemeDesignator = "109101", "DCM"
    purpose.CodeMeaning = "Acquisition Equipment"
    made = Dataset()
    made.PurposeOfReferenceCodeSequence = [purpose]
    for keyword in (
        "Manufacturer", "ManufacturerModelName", "DeviceSerialNumber", "SoftwareVersions",
        "StationName", "InstitutionName",
    ):  # fmt: skip
        if template.get(keyword):
            made[keyword] = template[keyword]
    return [made]
