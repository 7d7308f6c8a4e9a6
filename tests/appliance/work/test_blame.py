"""Who is blamed when `work` dies: the one series in hand, and no other; a power cut blames none."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from appliance.phantom import instances
from appliance.phantom.chest import Phantom
from appliance.reasons import Code
from appliance.report import Report, SeriesKey, Status
from appliance.settings import Settings
from appliance.store import hand as marks
from appliance.store.hand import Hand, InHand
from appliance.store.journal import Journal
from appliance.store.spool import Spool
from appliance.work import blame
from appliance.work.blame import MAX_ATTEMPTS, MAX_DEATHS, made_of
from appliance.work.stage import Work

SLICES = 12


class NoBundles:
    """Open bundles of a device that has none."""

    engines = None
    troubles = ()
    first = nullcontext
    """No bundle is opened beside an analysis."""

    def follow_builds(self) -> None:
        """None is under way."""

    def refresh(self, in_use: Any = ()) -> tuple[()]:
        return ()


class Device:
    """A state folder, and series that lie complete in its spool."""

    def __init__(self, state: Path, journal: Journal) -> None:
        self.settings = Settings.model_validate(
            {"state": state, "work": {"quiet_s": 0.1, "released_quiet_s": 0.1}}
        )
        self.journal, self.spool = journal, Spool(state)
        self.hand = Hand(state)

    def work(self) -> Work:
        """The stage, started again."""
        made = Work(self.settings, self.journal, self.spool, NoBundles())  # type: ignore[arg-type]
        made.recover()
        made.refresh()
        return made

    def arrived(self, count: int) -> list[SeriesKey]:
        return [self._one(n) for n in range(count)]

    def _one(self, number: int) -> SeriesKey:
        hu = np.full((SLICES, 8, 8), number - 1000, np.int16)
        key = SeriesKey(f"1.2.{number + 1}", f"1.2.{number + 1}.1")
        phantom = Phantom(hu, (5.0, 4.0, 4.0), (0.0, 0.0, 0.0), ())
        folder = self.spool.folder(key)
        folder.mkdir(parents=True)
        for image in instances.series(phantom, study_uid=key.study, series_uid=key.series):
            image.ImagesInAcquisition = None  # else the count alone would end it
            data = io.BytesIO()
            image.save_as(data, enforce_file_format=True)
            (folder / f"{image.SOPInstanceUID}.dcm").write_bytes(data.getvalue())
        for path in folder.iterdir():
            os.utime(path, (time.time() - 60, time.time() - 60))
        return key

    def died(self, key: SeriesKey, step: marks.Step, boot: str | None = None) -> None:
        """`work` ended in the middle of this step; the machine too, where another boot is named."""
        mark = InHand(study=key.study, series=key.series, step=step, boot=boot or blame.boot_id())
        path = self.settings.state / "run" / marks.NAME
        path.parent.mkdir(exist_ok=True)
        path.write_text(mark.model_dump_json())

    def fail(self, key: SeriesKey) -> None:
        """It ends `work` at its first read, as often as it takes."""
        for _ in range(MAX_ATTEMPTS):
            self.work().look_everywhere()
            self.died(key, "read")
        run(self.work())

    def last(self, key: SeriesKey) -> Report:
        found = self.journal.reports.latest(key)
        assert found is not None
        return found

    def state(self, key: SeriesKey) -> str:
        row = self.journal.series.get(key)
        assert row is not None
        return row.state


def run(work: Work) -> None:
    """Until nothing is followed any more."""
    work.look_everywhere()
    end = time.monotonic() + 120
    while (work.following or work.wait_s() == 0) and time.monotonic() < end:
        time.sleep(min(work.wait_s(), 0.2))
        work.take_turn()
    assert not work.following


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Device]:
    with Journal.open(tmp_path) as journal:
        yield Device(tmp_path, journal)


def test_of_eight_that_wait_only_the_one_in_hand_is_blamed(device: Device) -> None:
    keys = device.arrived(8)
    for _ in range(MAX_ATTEMPTS):
        device.work().look_everywhere()  # all of them are followed by a process that then dies
        device.died(keys[3], "read")
    run(device.work())
    states = {key: device.state(key) for key in keys}
    assert [key for key, state in states.items() if state == "failed"] == [keys[3]]
    assert [r.code for r in device.last(keys[3]).reasons] == [Code.POISONED]


def test_a_series_that_kills_at_its_first_read_is_failed_and_not_opened_again(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    (key,) = device.arrived(1)
    for _ in range(MAX_ATTEMPTS):
        device.work().look_everywhere()
        device.died(key, "read")
    work = device.work()
    monkeypatch.setattr(Spool, "read", lambda *_: pytest.fail("it was opened"))
    run(work)
    report = device.last(key)
    assert report.status is Status.FAILED
    assert report.times.first_slice is None
    assert device.journal.series.get(key) is not None
    assert not work._news(key), "it is left alone"


def test_a_stage_that_is_killed_between_two_steps_blames_nobody(device: Device) -> None:
    (key,) = device.arrived(1)
    for _ in range(2 * MAX_ATTEMPTS):
        device.work().look_everywhere()  # and the process is gone, nothing in hand
    run(device.work())
    assert device.state(key) == "refused"


def test_a_power_cut_is_nobodys_fault(device: Device) -> None:
    (key,) = device.arrived(1)
    for boot in range(MAX_DEATHS - 1):
        device.work().look_everywhere()
        device.died(key, "judge", f"boot {boot}")
    run(device.work())
    assert device.state(key) == "refused"
    assert device.journal.attempts.suspects() == []


def test_five_deaths_of_the_machine_at_one_step_fail_the_series(device: Device) -> None:
    (key,) = device.arrived(1)
    for boot in range(MAX_DEATHS):
        device.work().look_everywhere()
        device.died(key, "judge", f"boot {boot}")
    run(device.work())
    (reason,) = device.last(key).reasons
    assert (device.state(key), reason.code) == ("failed", Code.MACHINE_DIED)
    assert "scanside retry" in reason.remedy


def test_deaths_with_another_series_finished_between_them_fail_nothing(device: Device) -> None:
    suspect, *others = device.arrived(1 + MAX_DEATHS)
    hidden = {key: device.spool.folder(key) for key in others}
    for folder in hidden.values():
        folder.parent.rename(folder.parent.with_name(f"x{folder.parent.name}"))
    for boot, folder in enumerate(hidden.values()):
        work = device.work()
        if boot:
            folder.parent.with_name(f"x{folder.parent.name}").rename(folder.parent)
            device.journal.attempts.end(suspect)  # as when another series is concluded
        work.look_everywhere()
        device.died(suspect, "judge", f"boot {boot}")
    run(device.work())
    assert device.state(suspect) == "refused"


def test_a_suspected_series_is_taken_last_and_alone(device: Device) -> None:
    suspect, *others = device.arrived(4)
    device.journal.series.set(suspect, "open")
    device.died(suspect, "judge", "another boot")
    work = device.work()
    work.look_everywhere()
    taken: list[SeriesKey] = []
    end = time.monotonic() + 120
    while work.following and time.monotonic() < end:
        before = set(work.following)
        time.sleep(min(work.wait_s(), 0.2))
        work.take_turn()
        taken += before - set(work.following)
    assert sorted(taken[:3]) == sorted(others)
    assert taken[3:] == [suspect]


def test_a_stage_that_holds_a_suspect_back_sleeps(device: Device) -> None:
    suspect, other = device.arrived(2)
    for path in device.spool.folder(other).iterdir():
        os.utime(path)  # it has only just come
    quiet = device.settings.work.model_copy(update={"quiet_s": 500, "released_quiet_s": 500})
    device.settings = device.settings.model_copy(update={"work": quiet})
    device.journal.series.set(suspect, "open")
    device.died(suspect, "judge", "another boot")
    work = device.work()
    work.look_everywhere()
    while not (waits := work.wait_s()):
        work.take_turn()  # the other is looked at, and waits for its quiet time
    assert waits > 0
    assert set(work.following) == {suspect, other}


def test_what_failed_is_tried_once_more_by_another_appliance_or_bundle(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    (key,) = device.arrived(1)
    device.fail(key)
    assert device.state(key) == "failed"
    run(device.work())
    assert device.state(key) == "failed", "nothing has changed"
    monkeypatch.setattr(blame, "version", lambda _: "99.0.0")
    run(device.work())
    report = device.last(key)
    assert (device.state(key), report.status) == ("refused", Status.NOT_ANALYSED)
    assert report.supersedes is not None, "it takes the place of the failure"


def test_what_failed_and_fails_again_after_an_update_is_left_alone(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    (key,) = device.arrived(1)
    device.fail(key)
    monkeypatch.setattr(blame, "version", lambda _: "99.0.0")
    device.work().look_everywhere()
    device.died(key, "read")  # its one chance
    run(device.work())
    assert device.state(key) == "failed"
    run(device.work())
    assert device.state(key) == "failed"
    assert device.journal.attempts.failed_with_other(made_of(())) == []


def test_failed_series_whose_images_are_gone_stay_as_they_are(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = SeriesKey("1.9", "1.9.1")
    device.journal.series.set(key, "open")
    device.journal.attempts.failed(key, instances=3, made_of="of long ago")
    run(device.work())
    assert device.state(key) == "failed"


@pytest.mark.parametrize("step", ["read", "judge"])
def test_a_real_process_that_is_killed_in_a_step_is_found_out(tmp_path: Path, step: str) -> None:
    """The stage's own code in a process of its own, killed by the first thing that it does."""
    with Journal.open(tmp_path) as journal:
        device = Device(tmp_path, journal)
        (key,) = device.arrived(1)
    what = "Spool.read" if step == "read" else "complete.verdict"
    script = f"""
import os, signal
from pathlib import Path
from appliance.series import complete
from appliance.settings import Settings
from appliance.store.spool import Spool
from appliance.work import stage
settings = Settings.model_validate({{"state": Path({str(tmp_path)!r}),
    "work": {{"backend": "onnxruntime", "quiet_s": 0.1, "released_quiet_s": 0.1}}}})
def die(*_, **__): os.kill(os.getpid(), signal.SIGKILL)
{what} = die
stage.main(settings)
"""
    ended = subprocess.run(
        [sys.executable, "-c", script], check=False, timeout=120, capture_output=True
    )
    assert ended.returncode == -signal.SIGKILL, ended.stderr[-2000:]
    found = Hand(tmp_path).last()
    assert found is not None
    assert (found.key, found.step) == (key, step)
