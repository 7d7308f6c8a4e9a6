"""Commands over MQTT, bundles that change while series come, and what may leave the device."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pydicom

from appliance.report import Status
from appliance.settings import Settings
from appliance.stages import of
from appliance.store.events import Loaded
from rigs.bundles import Bundles
from rigs.scans import Scans
from rigs.site import Site

PAUSE_S = 3
WAKES_A_SECOND = 10
"""Of all threads of a stage: its clocks, and none that looks for work."""


def nodule_bundles(site: Site) -> list[str]:
    """Versions of lung-nodule among the bundles that `work` serves."""
    with site.journal() as journal:
        (loaded,) = journal.events.of(Loaded, 1)
    return [one.version for one in loaded.event.bundles if one.name == "lung-nodule"]


def test_a_ping_is_answered(site: Site) -> None:
    assert site.command("ping")["ok"]


def test_pause_holds_what_is_owed_and_resume_releases_it_in_order(site: Site, scans: Scans) -> None:
    scan = scans.make()
    assert site.command("pause")["ok"]
    try:
        with site.journal() as journal:
            with site.held() as store:  # its end is not said before something was said early
                store(scan.files)
                site.until(lambda: journal.reports.latest(scan.key), "report in the journal")
            site.until(lambda: not journal.series.all("open"), "rest")
        assert not site.events(scan)
    finally:
        assert site.command("resume")["ok"]
    site.report(scan)
    assert site.names(scan) == ["received", "preliminary", "complete", "analysed"]


def test_resend_sends_the_same_events_again(site: Site, scans: Scans) -> None:
    scan = scans.make()
    site.send(scan)
    report = site.report(scan)
    before = {m["event_id"] for m in (*site.events(scan, "analysed"), *site.findings(report))}
    heard = len(site.findings(report))
    assert site.command("resend", report_id=str(report.report_id))["ok"]
    site.until(lambda: len(site.findings(report)) == 2 * heard, "findings again")
    site.until(lambda: len(site.events(scan, "analysed")) == 2, "event again")
    again = {m["event_id"] for m in (*site.events(scan, "analysed"), *site.findings(report))}
    assert again == before


def test_a_bundle_activated_while_running_is_used_from_the_next_study_on(
    site: Site, scans: Scans, bundles: Bundles
) -> None:
    under_way, later, last = scans.make(), scans.make(), scans.make()
    with site.held() as store:
        store(under_way.files[:20])
        site.until(lambda: site.events(under_way, "received"), "received")
        site.install(bundles.newer, "lung-nodule", "90.1.0")
        # it is opened beside the work: a study that begins meanwhile is analysed by the one before
        site.until(lambda: nodule_bundles(site) == ["90.1.0"], "the new bundle is open")
        site.send(later)
        assert site.report(later).bundle.version == "90.1.0"
        store(under_way.files[20:])
    report = site.report(under_way)
    assert report.status is Status.ANALYSED
    assert report.bundle.version == "90.0.0", "it began with that one"
    site.scanside("bundle", "rollback", "lung-nodule")
    site.until(lambda: nodule_bundles(site) == ["90.0.0"], "the one before is open again")
    site.send(last)
    assert site.report(last).bundle.version == "90.0.0"


def test_nothing_of_the_patient_leaves_the_device(
    site: Site, scans: Scans, phi: dict[str, str]
) -> None:
    scan = scans.make()
    site.send(scan)
    site.report(scan)
    payloads = "\n".join(f"{topic} {payload}" for topic, payload in site.heard)
    log = site.log()
    words = {word for value in phi.values() for word in (value, *value.split("^"))}
    for word in words:
        assert word not in payloads
        assert word not in log
    uids = {uid for one in scans.made for uid in (one.study, one.series)}
    uids |= {str(pydicom.dcmread(p, stop_before_pixels=True).SOPInstanceUID) for p in scan.files}
    assert [uid for uid in uids if uid in payloads] == []


def test_while_nothing_comes_no_stage_polls(site: Site) -> None:
    """However busy the machine is: a stage that waits wakes a few times a second at most."""
    site.settled()
    stages = {row.name: site.stage(row.name) for row in of(Settings())}

    def wakes() -> dict[str, int]:
        return {name: _wakes(pid) for name, pid in stages.items()}

    before = wakes()
    time.sleep(PAUSE_S)
    often = {name: n - before[name] for name, n in wakes().items()}
    assert max(often.values()) <= PAUSE_S * WAKES_A_SECOND, often


def _wakes(pid: int) -> int:
    """How often the threads of a process went to sleep by themselves (proc(5), status)."""
    total = 0
    for status in Path(f"/proc/{pid}/task").glob("*/status"):
        found = re.search(r"^voluntary_ctxt_switches:\s*(\d+)", status.read_text(), re.M)
        assert found
        total += int(found[1])
    return total
