"""Nothing that an image says of a patient leaves: marks in every attribute, looked for everywhere.

AE titles, hosts and series UIDs may stand in local logs and in the doctor's lines, never on MQTT.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import uuid
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pynetdicom
import pytest
from pydicom import Dataset
from pydicom.uid import CTImageStorage, DigitalXRayImageStorageForPresentation, generate_uid

from appliance.phantom import radiograph
from appliance.phantom.chest import chest
from appliance.report import NAMESPACE, Report, SeriesKey
from appliance.store.library import Library
from rigs.markers import MARK, MARKS, mark, marked, texts
from rigs.scans import Scans
from rigs.site import ENDINGS, Site

GROWN_UP, CHILD = ("19470731", "077Y"), ("20201105", "003Y")
"""Birth date and age."""
OF_PATIENTS = (*GROWN_UP, *CHILD, "1947-07-31", "2020-11-05", "77 years", "3 years")
DATES = (0x00080020, 0x00080021, 0x00080022, 0x00080023)
DECIDE = frozenset(
    {
        0x00080008, 0x00080060, 0x00080070, 0x00100030, 0x00101010, 0x00102201, 0x00102202,
        0x00180015, 0x00181120, 0x00181210, 0x00181400, 0x00185101, 0x00200012, 0x00200020,
        0x00200100, 0x00201002, 0x00201206, 0x00201208, 0x00201209, 0x00209241, 0x00540220,
        0x00080218, 0x00082218, 0x00181030, 0x0008103E, 0x52009229, 0x52009230,
        *range(0x00181600, 0x00181800), *range(0x00280000, 0x00290000), *DATES,
    }
)  # fmt: skip
"""What a bundle's answer hangs on: said truly in the images that are to be analysed."""
THICKNESS = 0x00180050
"""The one number of a header that a report carries as it stands."""


def said_truly(image: Dataset, patient: tuple[str, str] = GROWN_UP) -> Dataset:
    born, age = patient
    for tag in DATES:
        image.add_new(tag, "DA", "20240102")
    image.add_new(0x00100030, "DA", born)
    image.add_new(0x00101010, "AS", age)
    return image


def a_radiograph() -> Dataset:
    body = chest(spacing_mm=(5.0, 2.8, 2.8))
    image: Dataset = radiograph.instance(
        radiograph.projected(body), study_uid=generate_uid(), series_uid=generate_uid()
    )
    return image


def send(site: Site, images: Sequence[Dataset]) -> list[int]:
    """One association; the statuses."""
    peer = pynetdicom.AE("SCANNER")
    for sop_class in (CTImageStorage, DigitalXRayImageStorageForPresentation):
        peer.add_requested_context(sop_class, "1.2.840.10008.1.2.1")
    association = peer.associate("127.0.0.1", site.settings.dicom.port, ae_title="SCANSIDE")
    assert association.is_established
    try:
        return [association.send_c_store(image).Status for image in images]
    finally:
        association.release()


def keys(images: Iterable[Dataset]) -> set[SeriesKey]:
    return {SeriesKey(str(i.StudyInstanceUID), str(i.SeriesInstanceUID)) for i in images}


def ended(site: Site, key: SeriesKey) -> list[dict[str, Any]]:
    name = str(site.naming.series(key))
    return [m for _, m in site.messages() if m.get("series") == name and m["event"] in ENDINGS]


def alone(image: Dataset, tag: int) -> Dataset:
    """A series of one image that has a mark in this attribute."""
    image.StudyInstanceUID, image.SeriesInstanceUID = generate_uid(), generate_uid()
    image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    return mark(image, tag)


@pytest.fixture(scope="module")
def images(scans: Scans) -> list[Dataset]:
    """A CT and a DX that are analysed, a CT and a DX that say nothing true, and for each text that
    decides anything an image that says it wrong."""
    import pydicom  # noqa: PLC0415

    def ct() -> list[Dataset]:
        return [pydicom.dcmread(path) for path in scans.make().files]

    good = [marked(said_truly(image), DECIDE) for image in ct()]
    bad = [marked(image, ()) for image in ct()[:12]]
    for image in bad:
        for tag in DECIDE & set(texts()) - {0x00280004}:
            mark(image, tag)
    radiographs = [
        marked(said_truly(a_radiograph(), CHILD), DECIDE | {THICKNESS}),
        marked(a_radiograph(), {THICKNESS}),
    ]
    wrong = [alone(ct()[0], tag) for tag in sorted(DECIDE & set(texts()))]
    return [*good, *bad, *wrong, *radiographs]


@pytest.fixture(scope="module")
def told(site: Site, images: list[Dataset]) -> Site:
    """The site after it has said everything that it says of them, health included."""
    site.heard.clear()  # what it said of other series names scanners in its advice
    assert set(send(site, images)) == {0}
    for key in keys(images):
        site.until(lambda key=key: ended(site, key), f"ending of {key.series}")  # type: ignore[misc]
    site.settled()
    before = len(site.heard)
    site.until(lambda: any(topic.endswith("/health") for topic, _ in site.heard[before:]), "health")
    return site


def strings(value: Any) -> Iterator[str]:
    """Every text in a message."""
    if isinstance(value, dict):
        for one in value.values():
            yield from strings(one)
    elif isinstance(value, list):
        for one in value:
            yield from strings(one)
    elif isinstance(value, str):
        yield value


def found(text: str, needles: Iterable[str]) -> list[str]:
    lower = text.lower()
    return sorted({needle for needle in needles if needle.lower() in lower})


def test_the_marks_arrive_and_are_looked_for(told: Site, images: list[Dataset]) -> None:
    """Else all that follows would prove nothing."""
    assert len(texts()) > 1400, "all of the dictionary"
    kept = next(iter((told.settings.state / "spool").glob("*/*/*.dcm"))).parent.parent.parent
    everything = b"".join(path.read_bytes() for path in kept.rglob("*.dcm"))
    assert everything.count(MARK.encode()) > len(images) * len(texts()) / 4
    ends = [ended(told, key)[-1] for key in keys(images)]
    analysed = {end["report"]["series"]["modality"] for end in ends if end["event"] == "analysed"}
    assert analysed == {"CT", "DX"}
    assert {reason["code"] for end in ends for reason in end["reasons"]} > {"modality"}
    assert found(f"x {MARK.title()} y", MARKS) == [MARK]


def test_no_mark_date_age_uid_or_sender_is_on_mqtt(told: Site, images: list[Dataset]) -> None:
    uids = {
        str(image[word].value)
        for image in images
        for word in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
    }
    needles = {*MARKS, *OF_PATIENTS, "SCANNER", "127.0.0.1", *uids}
    whole = "\n".join(f"{topic} {payload}" for topic, payload in list(told.heard))
    assert found(whole, needles) == []


def test_no_published_id_can_be_computed_from_uids(told: Site, images: list[Dataset]) -> None:
    mine = {told.naming.study(key.study) for key in keys(images)}
    messages = [m for _, m in told.messages() if m.get("study") in mine]
    published = {
        part.lower()
        for message in messages
        for text in strings(message)
        for part in re.findall(r"2\.25\.\d+|[0-9a-fA-F-]{32,}", text)
    }
    reports = [Report.model_validate(m["report"]) for m in messages if m.get("report")]
    assert {str(report.report_id) for report in reports} <= published
    computed: set[str] = set()
    for uid in {u for key in keys(images) for u in (key.study, key.series)}:
        words = [uid, f"event {uid} series -", f"event {uid} received 1 -"]
        words += [f"event {uid} complete {n} -" for n in range(200)]
        olds = []
        for report in reports:
            bundle = report.bundle.digest if report.bundle else "-"
            olds.append(f"report {uid} {bundle} {report.input_digest}")
        for word in (*words, *olds):
            computed |= set(_unkeyed(word))
        for old in (str(uuid.uuid5(NAMESPACE, word)) for word in olds):
            for event in ("analysed", "not_analysed", "failed", "preliminary", "superseded"):
                computed |= set(_unkeyed(f"event {old} {event} -"))
            for number in range(1, 10):
                computed |= set(_unkeyed(f"event {old} finding {number}"))
                computed |= set(_unkeyed(f"tracking {old} {number}"))
    assert published & computed == set()


def _unkeyed(word: str) -> Iterator[str]:
    """What anybody makes of a word."""
    spaces = (NAMESPACE, uuid.NAMESPACE_OID, uuid.NAMESPACE_URL, uuid.NAMESPACE_DNS)
    for made in (uuid.uuid5(space, word) for space in spaces):
        yield from (str(made), made.hex, f"2.25.{made.int}")
    for name in ("md5", "sha1", "sha256"):
        digest = hashlib.new(name, word.encode()).hexdigest()
        yield from (digest, digest[:32], str(uuid.UUID(digest[:32])))


def test_no_mark_is_in_a_log(told: Site) -> None:
    assert found(told.log(), (*MARKS, *OF_PATIENTS)) == []


def test_no_mark_is_in_what_a_person_is_told(
    told: Site, images: list[Dataset], tmp_path: Path
) -> None:
    """The doctor, the verbs, and the one line with which a verb ends."""
    folder = tmp_path / "in"
    folder.mkdir()
    for n, image in enumerate((*images[:3], *images[-40:])):
        image.save_as(folder / f"{n}.dcm", enforce_file_format=True)
    whole = (folder / "0.dcm").read_bytes()
    (folder / "cut.dcm").write_bytes(whole[: len(whole) // 2])
    some = next(iter(keys(images)))
    with told.journal() as journal:
        reports = [str(report.report_id) for report in journal.reports.recent(50)]
    shown = "".join(
        typed(told, *words)
        for words in (
            ("doctor", "--json"), ("doctor",), ("outbox", "list"), ("bundle", "list"),
            ("analyze", str(folder)), ("analyze", str(folder), "--json"),
            ("retry", some.series), *(("replay", report) for report in reports[:4]),
        )
    )  # fmt: skip
    assert found(shown, (*MARKS, *OF_PATIENTS)) == []
    assert "not_analysed" in shown


def test_of_a_scanner_a_person_is_told_its_maker_and_no_other_mark(told: Site) -> None:
    """And its model, which these images had before they were marked (series/scanner.shown)."""
    told.until(lambda: Library(told.settings.state).all().entries, "a row of the library")
    shown = (typed(told, "drift") + typed(told, "drift", "--json")).lower()
    maker = f"{MARK}00080070".lower()
    assert shown.count(maker) >= 2, "these images were counted, and their maker is said"
    assert found(shown.replace(maker, ""), (*MARKS, *OF_PATIENTS)) == []


def typed(site: Site, *words: str) -> str:
    """What a verb says."""
    command = [sys.executable, "-m", "appliance", *words, "--config", str(site.config)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr
