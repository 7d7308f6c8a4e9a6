"""A scanner and an archive that send small chests, and `work` that judges them."""

from __future__ import annotations

import time

from appliance.report import Report, SeriesKey, Status
from appliance.results import mqtt
from appliance.runtime.bundles import OpenBundles
from appliance.settings import Settings
from appliance.store.journal import Journal
from appliance.store.spool import Spool
from appliance.work.stage import Work
from rigs.chests import Dicom
from rigs.device import Device

ALLOW = [
    {"ae_title": "ARCHIVE", "host": "10.0.0.1", "role": "prior"},
    {"ae_title": "CT1", "host": "10.0.0.2"},
]


class Room:
    """One device in it."""

    def __init__(self, device: Device, dicom: Dicom, journal: Journal) -> None:
        self.settings = Settings.model_validate(
            {**device.settings.model_dump(), "dicom": {"allow": ALLOW}}
        )
        self.dicom, self.journal = dicom, journal
        self.spool = Spool(self.settings.state)

    def send(
        self, study: str, sender: str, *, first: int = 0, last: int = 24, **of: object
    ) -> None:
        """Images of the one series of a study, in an association of their own."""
        slices = self.dicom.chest(study_uid=study, series_uid=f"{study}.1", **of)[first:last]  # type: ignore[arg-type]
        for one in slices:
            temp = self.spool.incoming_path()
            temp.write_bytes(self.dicom.bytes(one))
            uids = one.StudyInstanceUID, one.SeriesInstanceUID, one.SOPInstanceUID
            self.spool.store(temp, *uids, lambda *_: True)
        self.arrive(study, sender, len(slices))

    def arrive(self, study: str, sender: str, images: int) -> None:
        part = self.journal.series
        association = part.association_opened(calling_ae=sender, called_ae="S", host="h")
        key = SeriesKey(study, f"{study}.1")
        part.arrived(association, key, calling_ae=sender, instances=images, at=time.time())
        part.association_ended(association, "released")

    def judge(self) -> None:
        bundles = OpenBundles(self.settings)
        bundles.refresh()
        work = Work(self.settings, self.journal, self.spool, bundles)
        work.look_everywhere()
        end = time.monotonic() + 120
        while (work.following or work.wait_s() == 0) and time.monotonic() < end:
            work.take_turn()
            time.sleep(min(0.05, work.wait_s()))
        bundles.close()
        assert not work.following

    def report(self, study: str) -> Report:
        found = self.journal.reports.latest(SeriesKey(study, f"{study}.1"))
        assert found is not None
        assert found.status is Status.ANALYSED
        return found

    def said(self, study: str) -> list[str]:
        """Events and findings that the broker is owed of a study, in order."""
        rows = self.journal.owed.of_study(mqtt.MQTT, study)
        found = [mqtt.said(row.body) for row in rows]
        return [one.event or one.type for one in found if one is not None]
