"""Results in archives: from the scanner to what an archive has, with all real processes."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset

from appliance.deliver import offer
from appliance.deliver.courier import SR_CLASS_REFUSED
from appliance.dicom.part10 import EXPLICIT
from appliance.store.delivery import State
from rigs import site as sites
from rigs.archive import TITLE, Archive, serving
from rigs.bundles import Bundles
from rigs.scans import Scans
from rigs.site import Site

CAPTURE = offer.CLASSES["sc"][0]
SECTION = """[[deliver]]
name = "{name}"
host = "127.0.0.1"
port = {port}
called_ae = "{title}"
profile = ["sr", "sc"]
"""


def section(name: str, archive: Archive) -> str:
    return SECTION.format(name=name, port=archive.port, title=TITLE)


def objects(archive: Archive) -> dict[str, Dataset]:
    """SOP class -> what came of it, which is one object each."""
    assert {one.syntax for one in archive.came} == {EXPLICIT}
    found = {one.sop_class: read_dataset(io.BytesIO(one.data), False, True) for one in archive.came}
    assert len(found) == len(archive.came)
    return found


def delivered(site: Site, name: str) -> None:
    """Until both objects are."""
    with site.journal() as journal:
        site.until(lambda: journal.owed.counts(name).delivered >= 2, f"all at {name}")
        assert not journal.owed.counts(name).waiting


def test_an_archive_gets_the_objects_of_a_series(
    bundles: Bundles, scans: Scans, tmp_path: Path
) -> None:
    with serving() as archive:
        with sites.running(tmp_path, bundles.usual, more=section("pacs", archive)) as site:
            scan = scans.make()
            site.send(scan)
            assert site.report(scan).findings
            delivered(site, "pacs")
            assert "0 waiting, 0 dead" in site.scanside("outbox", "list")
            site.until(lambda: archive.released == archive.associations, "an idle end")
        found = objects(archive)
    assert set(found) == {offer.COMPREHENSIVE_3D_SR, CAPTURE}
    image = dcmread(scan.files[0])
    for one in found.values():
        assert (one.StudyInstanceUID, one.PatientID) == (image.StudyInstanceUID, image.PatientID)


@pytest.mark.long
def test_an_archive_that_takes_no_3d_report_gets_it_in_the_older_class(
    bundles: Bundles, scans: Scans, tmp_path: Path
) -> None:
    """Beside one that takes it."""
    older = [offer.ENHANCED_SR, offer.COMPREHENSIVE_SR, CAPTURE]
    with serving() as modern, serving(classes=older) as old:
        more = section("modern", modern) + section("old", old)
        with sites.running(tmp_path, bundles.usual, more=more) as site:
            scan = scans.make()
            site.send(scan)
            assert site.report(scan).findings
            delivered(site, "modern")
            delivered(site, "old")
            assert "0 waiting, 0 dead" in site.scanside("outbox", "list")
            with site.journal() as journal:
                (dropped,) = journal.owed.listed(State.DROPPED)
        whole, less = objects(modern), objects(old)
    assert (dropped.destination, str(dropped.last_error).split(":")[0]) == ("old", SR_CLASS_REFUSED)
    assert set(whole) == {offer.COMPREHENSIVE_3D_SR, CAPTURE}
    assert set(less) == {offer.COMPREHENSIVE_SR, CAPTURE}
    assert whole[CAPTURE] == less[CAPTURE], "two archives share one object"
    first, second = whole[offer.COMPREHENSIVE_3D_SR], less[offer.COMPREHENSIVE_SR]
    assert first.SOPInstanceUID != second.SOPInstanceUID
