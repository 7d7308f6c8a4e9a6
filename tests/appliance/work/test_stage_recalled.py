"""What `work` does where the appliance of its slot was recalled, or every bundle was: each series
is concluded, nothing is analysed, and the reason is said."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.bundle.shelf import Shelf
from appliance.publish.presence import Presence
from appliance.reasons import Code
from appliance.report import Report, SeriesKey, Stage, Status
from appliance.store import instance
from appliance.store.events import Loaded
from appliance.store.heartbeat import Heart, living
from appliance.store.journal import Journal
from appliance.verbs.checks.check import Device as Checked
from appliance.verbs.checks.stages import stages
from rigs.arriving import Ward
from rigs.bundles import BUNDLE
from rigs.device import Device
from rigs.shelves import audited


@pytest.fixture
def device(tmp_path: Path, tiny_bytes: bytes) -> Device:
    made = Device(tmp_path, tiny_bytes)
    made.activate(name=BUNDLE, version="90.0.0")
    return made


@pytest.fixture
def journal(device: Device) -> Iterator[Journal]:
    with Journal.open(device.settings.state) as found:
        yield found


@pytest.fixture
def heart(device: Device, journal: Journal) -> Iterator[Heart]:
    with living(device.settings.state, "work") as found:
        yield found


def said(journal: Journal, key: SeriesKey) -> list[Report]:
    return [one for one in journal.reports.of_study(key.study) if one.stage is Stage.FINAL]


def test_a_recalled_appliance_opens_nothing_concludes_each_series_and_says_why_everywhere(
    device: Device, journal: Journal, heart: Heart, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(instance.RECALLED, "1")
    ward = Ward(device, journal, heart)
    assert ward.work.refresh() == ()
    ward.work.refresh()
    assert [one.event.bundles for one in journal.events.of(Loaded)] == [()], "said once"
    key = ward.arrive()
    ward.begin(key)
    ward.finish(key)
    (report,) = said(journal, key)
    assert (report.status, report.bundle) == (Status.NOT_ANALYSED, None)
    assert [one.code for one in report.reasons] == [Code.RECALLED]
    heart.beat()
    state, reasons = Presence(device.settings, journal, heart).state(False, commands_refused=False)
    assert state == "degraded"
    assert "recalled" in reasons
    assert "no_bundle" not in reasons
    check = stages(Checked(device.settings, "scanside.toml"))
    assert "recalled: this release was recalled" in check.text
    assert "scanside update now" in check.remedy


@pytest.mark.long
def test_after_a_newer_release_the_same_study_is_analysed_when_it_is_sent_again(
    device: Device, journal: Journal, heart: Heart, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(instance.RECALLED, "1")
    before = Ward(device, journal, heart)
    key = before.arrive(slices=12)
    before.begin(key)
    before.finish(key)
    monkeypatch.delenv(instance.RECALLED)
    before.arrive(key=key)
    after = Ward(device, journal, heart)
    after.begin(key)
    after.finish(key)
    assert "90.0.0" in after.said_by(key)
    after.bundles.close()


def test_where_every_bundle_was_withdrawn_the_series_is_concluded_as_of_no_bundle(
    device: Device, journal: Journal, heart: Heart
) -> None:
    shelf = Shelf(device.settings.state, audit=audited(device.settings.state))
    for entry in shelf.list():
        shelf.withdraw(entry.digest, "it misses nodules")
    ward = Ward(device, journal, heart)
    assert ward.work.refresh() == ()
    key = ward.arrive()
    ward.begin(key)
    ward.finish(key)
    (report,) = said(journal, key)
    assert (report.status, report.bundle) == (Status.NOT_ANALYSED, None)
    assert Code.NO_BUNDLE in [one.code for one in report.reasons]
    _, reasons = Presence(device.settings, journal, heart).state(False, commands_refused=False)
    assert "no_bundle" in reasons
