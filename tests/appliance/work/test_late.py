"""A foreign image after the final report: one event, and no more."""

from __future__ import annotations

from pathlib import Path

from appliance import line
from appliance.backend.protocol import Backend
from appliance.bundle.trust import Bundle
from appliance.report import SeriesKey
from appliance.runtime.bundles import OpenBundle
from appliance.store.events import ImagesSetAside
from appliance.store.journal import Journal
from appliance.work import late
from appliance.work.followed import Followed
from rigs.chests import Dicom
from rigs.device import Seal


def test_what_the_report_does_not_say_yet_is_an_event(
    tiny: Bundle, tiny_backend: Backend, dicom: Dicom, seal: Seal, tmp_path: Path
) -> None:
    slices = dicom.chest()
    scout = dicom.say(dicom.chest()[0], SOPInstanceUID="1.2.99", InstanceNumber=99,
                      ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])  # fmt: skip
    before = seal(line.process(dicom.all(slices), tiny, tiny_backend))
    files = dicom.all([*slices, scout])
    since = seal(line.process(files, tiny, tiny_backend))
    followed = Followed(SeriesKey("1", "1.2"), opened={"d": OpenBundle(tiny, tiny_backend)})
    followed.fold = line.begin([tiny])
    for file in files:
        followed.fold = line.add(followed.fold, file)
    with Journal.open(tmp_path) as journal:
        late.note(journal, followed, "d", since)
        assert journal.events.of(ImagesSetAside) == []
        late.note(journal, followed, "d", before)
        (happened,) = journal.events.of(ImagesSetAside)
    assert happened.event.subject == "1.2"
    assert "image 99: it is a localizer" in happened.event.text
