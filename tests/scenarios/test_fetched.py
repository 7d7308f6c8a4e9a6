"""An earlier exam that lies in a real archive is fetched, and today's is compared with it."""

from __future__ import annotations

import json
from pathlib import Path

from pydicom.dataset import Dataset

from rigs import site as sites
from rigs.bundles import Bundles
from rigs.orthanc import Orthanc
from rigs.scans import Change, Scans

QUERY = """
[[dicom.allow]]
ae_title = "ORTHANC"
host = "127.0.0.0/8"
role = "prior"
[[priors.query]]
name = "pacs"
address = "ORTHANC@127.0.0.1:{port}"
"""
WHO = "P-4711"


def of(day: str, shift: int) -> Change:
    """Of a day; shift: added to each pixel, so that two scans are not one."""

    def change(image: Dataset, _: int) -> Dataset:
        image.PatientID, image.AcquisitionDate, image.StudyDate = WHO, day, day
        image.RescaleIntercept = str(float(image.RescaleIntercept) + shift)
        return image

    return change


def test_an_exam_is_compared_with_the_earlier_one_that_only_the_archive_had(
    tmp_path: Path, bundles: Bundles, scans: Scans
) -> None:
    pacs = Orthanc(tmp_path)
    more = QUERY.format(port=pacs.dicom_port)
    with sites.running(tmp_path, bundles.usual, more=more, keep=True) as site:
        said = json.loads(pacs.settings.read_text())
        listener = {"AET": "SCANSIDE", "Host": "127.0.0.1", "Port": site.settings.dicom.port}
        pacs.settings.write_text(json.dumps({**said, "DicomModalities": {"SCANSIDE": listener}}))
        old, today = scans.make(of("20230101", 3)), scans.make(of("20250101", 0))
        with pacs:
            pacs.store(path.read_bytes() for path in old.files)
            assert site.send(today) == 0
            message = site.until(lambda: site.events(today, "compared"), "a comparison")[0]
            prior = message["comparison"]["prior"]
            assert prior["study"] == site.naming.study(old.study)
            assert prior["interval_days"] == 731
            assert site.events(old) == [], "nothing is said of what was fetched"
            site.until(
                lambda: not list((site.settings.state / "fetch").iterdir()), "an empty folder"
            )
        hidden = (WHO, old.study, old.series, "20230101")
        assert not [word for word in hidden for _, payload in site.heard if word in payload]
        assert WHO not in site.log()
        site.process.terminate()
        assert site.process.wait(60) == 0, "a stage did not stop cleanly"
