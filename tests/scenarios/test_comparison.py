"""An exam beside an earlier one of the same person, as a consumer of MQTT hears it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from jsonschema import Draft202012Validator
from pydicom.dataset import Dataset

from appliance.results.compared import ComparisonMessage
from appliance.verbs.schemas import schemas
from rigs import site as sites
from rigs.bundles import Bundles
from rigs.scans import Scan, Scans
from rigs.site import Message, Site

ARCHIVE = """
[[dicom.allow]]
ae_title = "ARCHIVE"
host = "127.0.0.0/8"
role = "prior"
"""


@pytest.fixture(scope="module")
def keeping(bundles: Bundles, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site that keeps exams, with an archive that pushes earlier ones."""
    folder = tmp_path_factory.mktemp("keeping")
    with sites.running(folder, bundles.usual, more=ARCHIVE, keep=True) as running:
        yield running
        running.process.terminate()
        assert running.process.wait(60) == 0, "a stage did not stop cleanly"


def taken(day: str, patient: str, shift: int = 0) -> object:
    """Of a day; shift: added to each pixel, so that two scans are not one."""

    def change(image: Dataset, _: int) -> Dataset:
        image.PatientID, image.AcquisitionDate = patient, day
        image.RescaleIntercept = str(float(image.RescaleIntercept) + shift)
        return image

    return change


def compared(site: Site, scan: Scan, count: int = 1) -> Message:
    """The count-th comparison of a series."""
    found = site.until(
        lambda: site.events(scan, "compared", "not_compared")[count - 1 :], "a comparison"
    )
    message: Message = found[0]
    return message


def test_a_consumer_hears_of_each_exam_once_what_it_is_beside_the_earlier_one(
    keeping: Site, scans: Scans
) -> None:
    from json import loads  # noqa: PLC0415

    first = scans.make(taken("20240101", "P-1"))  # type: ignore[arg-type]
    assert keeping.send(first) == 0
    said = compared(keeping, first)
    assert (said["event"], said["comparison"]["prior"]) == ("not_compared", None)
    assert [one["code"] for one in said["comparison"]["reasons"]] == ["no_prior"]
    second = scans.make(taken("20250101", "P-1", 3))  # type: ignore[arg-type]
    assert keeping.send(second) == 0
    said = compared(keeping, second)
    assert ComparisonMessage.model_validate(said).comparison.prior is not None
    assert said["comparison"]["prior"]["study"] == keeping.naming.study(first.study)
    assert said["comparison"]["prior"]["interval_days"] == 366
    Draft202012Validator(loads(schemas()["message-comparison.schema.json"])).validate(said)
    keeping.settled()
    names = [m["event"] for m in keeping.events(second)]
    assert names.index("analysed") < names.index(said["event"]), "the findings come first"
    assert len([n for n in names if n.endswith("compared")]) == 1
    hidden = ("P-1", "20240101", "20250101", first.study, first.series)
    assert not [word for word in hidden for _, payload in keeping.heard if word in payload]


def test_what_an_archive_pushes_late_supersedes_what_was_said_and_is_not_said_itself(
    keeping: Site, scans: Scans
) -> None:
    today = scans.make(taken("20250101", "P-2"))  # type: ignore[arg-type]
    assert keeping.send(today) == 0
    before = compared(keeping, today)["comparison"]["comparison_id"]
    old = scans.make(taken("20230101", "P-2", 3))  # type: ignore[arg-type]
    assert keeping.send(old, ae="ARCHIVE") == 0
    now = compared(keeping, today, 2)
    assert now["withdrawn"] == [before]
    assert now["comparison"]["supersedes"] == before
    assert keeping.events(old) == []
    assert keeping.send(old) == 0, "the scanner sends the same images"
    assert keeping.ending(old)["event"] == "analysed"
    assert compared(keeping, old)["comparison"]["reasons"][0]["code"] == "no_prior"


@pytest.mark.long
def test_a_comparison_is_recomputed_from_what_is_kept_and_is_the_same(
    keeping: Site, scans: Scans
) -> None:
    first = scans.make(taken("20240101", "P-3"))  # type: ignore[arg-type]
    second = scans.make(taken("20250101", "P-3", 3))  # type: ignore[arg-type]
    assert keeping.send(first) == 0
    compared(keeping, first)
    assert keeping.send(second) == 0
    said = compared(keeping, second)["comparison"]
    printed = keeping.scanside("replay", said["comparison_id"])
    assert f"comparison {said['comparison_id']}: the same" in printed
