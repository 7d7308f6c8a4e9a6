"""Somebody else's DICOMweb service: Orthanc takes what we send, and has it bit by bit."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from urllib.error import HTTPError

from appliance.deliver.stage import STAGE
from appliance.settings import Settings
from appliance.store import bell
from appliance.store.delivery import State
from appliance.store.events import ArchiveAway
from appliance.verbs.checks import check
from appliance.verbs.checks.archives import archives
from rigs.archive import COMPREHENSIVE, ENHANCED, SR_3D
from rigs.orthanc import Orthanc
from rigs.peers import until
from tests.appliance.deliver.conftest import Device, Served

Make = Callable[..., Device]
Serve = Callable[..., Served]
SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"


class Locked(Orthanc):
    """It lets in `box` alone, whose password is `pw`."""

    def __init__(self, folder: Path) -> None:
        super().__init__(
            folder, more={"AuthenticationEnabled": True, "RegisteredUsers": {"box": "pw"}}
        )

    def _answers(self) -> bool:
        with suppress(OSError):
            try:
                self.get("/system")
            except HTTPError as e:
                return e.code == 401
        return False


def url(archive: Orthanc) -> str:
    return f"http://127.0.0.1:{archive.port}/dicom-web"


def doctor(settings: Settings) -> check.Check:
    return archives(check.Device(settings, "scanside.toml"))


def test_orthanc_has_what_was_sent_and_takes_it_again_with_success(
    device: Make, serve: Serve, tmp_path: Path
) -> None:
    with Orthanc(tmp_path) as orthanc:
        box = device(web={"web": {"url": url(orthanc)}})
        assert doctor(box.settings).ok
        assert orthanc.json("/instances") == [], "the doctor stores nothing"
        classes = {"1.2.3.1": SR_3D, "1.2.3.2": COMPREHENSIVE, "1.2.3.3": ENHANCED}
        classes["1.2.3.4"] = SEGMENTATION
        for uid, sop_class in classes.items():
            box.composed(uid, to="web", sop_class=sop_class)
        serve(box)
        until(lambda: box.journal.owed.counts("web").delivered == len(classes))
        ids = orthanc.json("/instances")
        kept = {
            orthanc.json(f"/instances/{one}/simplified-tags")["SOPInstanceUID"]: orthanc.get(
                f"/instances/{one}/file"
            )
            for one in ids
        }
        outgoing = box.settings.state / "outgoing"
        assert kept == {uid: (outgoing / f"{uid}.dcm").read_bytes() for uid in classes}
        rows = box.journal.owed.listed(State.DELIVERED)
        assert [row.last_error for row in rows] == [None] * len(classes)
        assert box.journal.owed.again("web", ["1.2.3.1"]) == 1
        bell.ring(box.settings.state, STAGE)
        until(lambda: box.journal.owed.counts("web").delivered == len(classes))
        assert len(orthanc.json("/instances")) == len(classes)
    assert box.journal.events.of(ArchiveAway) == []


def test_orthanc_lets_in_who_has_the_password(device: Make, serve: Serve, tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("wrong\n")
    secret.chmod(0o600)
    with Locked(tmp_path) as orthanc:
        lines = {"url": url(orthanc), "username": "box", "password_file": str(secret)}
        box = device(web={"web": lines})
        refused = doctor(box.settings)
        assert not refused.ok
        assert "HTTP 401" in refused.text
        box.composed("1.2.3.1", to="web")
        served = serve(box)
        until(lambda: served.deliverer._couriers[0].away)
        assert "HTTP 401" in str(served.deliverer._couriers[0].away)
        secret.write_text("pw\n")
        assert doctor(box.settings).ok
        until(lambda: box.journal.owed.counts("web").delivered == 1)


def test_orthanc_at_another_address_is_named_by_the_doctor(device: Make, tmp_path: Path) -> None:
    with Orthanc(tmp_path) as orthanc:
        box = device(web={"web": {"url": f"http://127.0.0.1:{orthanc.port}/elsewhere"}})
        found = doctor(box.settings)
    assert not found.ok
    assert "HTTP 404" in found.text
    assert "`url`" in found.remedy


def test_a_file_that_is_no_object_never_reaches_orthanc(
    device: Make, serve: Serve, tmp_path: Path
) -> None:
    content = b"\0" * 128 + b"DICM" + b"junk" * 99
    with Orthanc(tmp_path) as orthanc:
        box = device(web={"web": {"url": url(orthanc)}})
        box.composed("1.2.3.1", "1.2.3.2", to="web")
        (box.settings.state / "outgoing" / "1.2.3.1.dcm").write_bytes(content)
        serve(box)
        until(lambda: not box.journal.owed.counts("web").waiting)
        assert len(orthanc.json("/instances")) == 1
    assert [row.key for row in box.journal.owed.listed(State.DEAD)] == ["1.2.3.1"]
