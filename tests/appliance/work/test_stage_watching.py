"""The library of scanners beside the analysis: it counts when nothing else is to be done, and
whatever it says or suffers, studies go on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.publish.presence import Presence
from appliance.report import SeriesKey, Stage
from appliance.store.heartbeat import Heart
from appliance.store.journal import Journal
from appliance.store.kept import QUALITY, keep_record
from appliance.store.library import FOLDER
from appliance.work.watching import Watching
from rigs.arriving import Ward
from rigs.bundles import BUNDLE
from rigs.device import Device
from rigs.watched import Watched, a_quality


@pytest.fixture
def ward(tmp_path: Path, tiny_bytes: bytes) -> Iterator[Ward]:
    device = Device(tmp_path, tiny_bytes)
    device.activate(name=BUNDLE, version="90.0.0")
    with Journal.open(device.settings.state) as journal:
        made = Ward(device, journal)
        made.work.refresh()
        yield made
        made.bundles.close()


def study(ward: Ward) -> SeriesKey:
    """A whole study comes, is reported, and was measured."""
    key = ward.arrive()
    ward.begin(key)
    ward.work.turn_aside()
    ward.finish(key)
    finals = [r for r in ward.journal.reports.of_study(key.study) if r.stage is Stage.FINAL]
    assert finals, "it was reported"
    for report in finals:
        keep_record(ward.state, report.report_id, QUALITY, a_quality())
    return key


def idle(ward: Ward) -> None:
    """The loop of the stage, until it has nothing to do."""
    while ward.work.watching.wait_s() == 0:
        ward.work.turn_aside()


def n_of(device: Watched) -> int:
    return sum(device.counts().values())


def test_what_was_reported_is_counted_once_nothing_is_followed(ward: Ward) -> None:
    device = Watched(ward.device.settings, ward.journal)
    first = study(ward)
    waiting = ward.arrive()
    ward.begin(waiting)
    for _ in range(5):
        ward.work.turn_aside()
    assert not (ward.state / FOLDER).exists(), "a series is followed"
    ward.finish(waiting)
    idle(ward)
    assert n_of(device) == 1
    assert ward.said_by(first) == ["90.0.0"]


def test_while_an_alarm_is_open_studies_go_on_and_no_status_heeds_it(ward: Ward) -> None:
    device = Watched(ward.device.settings, ward.journal)
    presence = Presence(ward.device.settings, ward.journal, Heart(ward.state, "publish"))
    before = presence.state(False, commands_refused=False)
    entry = device.alarmed()
    assert presence.state(False, commands_refused=False) == before
    key = study(ward)
    idle(ward)
    assert ward.said_by(key) == ["90.0.0"]
    (after,) = device.listed().today
    assert after.row.n == entry.row.n + 1, "it goes on to be counted"
    assert after.row.state == "frozen"


def test_a_library_that_fails_keeps_no_study_from_its_report(
    ward: Ward, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(_: Watching) -> bool:
        raise RuntimeError("a fault of the library")

    monkeypatch.setattr(Watching, "_step", fails)
    key = study(ward)
    idle(ward)
    assert ward.said_by(key) == ["90.0.0"]
    assert "scanners are watched again" in caplog.text
    assert ward.work.watching.wait_s() > 1
