"""The child that probes runs while nothing else is to be done, and makes way for what arrives."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from appliance.settings import Settings
from appliance.settings.sections import Watch
from appliance.store.in_hand import Hand
from appliance.store.journal import Journal
from appliance.work import child, probing
from appliance.work.loading import Loading
from appliance.work.probing import Probing
from rigs.chests import Dicom
from rigs.device import Device
from rigs.exams import Room

SLEEPS = """
import sys, time
from pathlib import Path
Path(sys.argv[0]).with_name("began").write_text("x")
time.sleep(600)
"""


@dataclass
class Desk:
    """A device with one report, and a child that sleeps as long as one lets it."""

    room: Room
    folder: Path
    loading: Loading

    def probing(self, **watch: bool) -> Probing:
        settings = self.room.settings.model_copy(update={"watch": Watch(**watch)})
        return Probing(settings, self.room.journal, self.loading, module="sleeping")


def with_shapes(shapes: object) -> Loading:
    manifest = SimpleNamespace(manifest=SimpleNamespace(shapes=shapes))
    return cast(Loading, SimpleNamespace(loaded=(manifest,)))


@pytest.fixture
def desk(
    ready_site: Device, dicom: Dicom, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Desk]:
    (tmp_path / "sleeping.py").write_text(SLEEPS)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(probing, "IDLE_S", 0.0)
    monkeypatch.setattr(child, "SHORTEST_S", 0.1)
    with Journal.open(ready_site.settings.state) as journal:
        room = Room(ready_site, dicom, journal)
        room.send("1.2.1", "CT1")
        room.judge()
        yield Desk(room, tmp_path, with_shapes(object()))


def until(done: Callable[[], Any], turn: Callable[[], object]) -> None:
    end = time.monotonic() + 120
    while not done() and time.monotonic() < end:
        turn()
        time.sleep(0.05)
    assert done()


def test_it_starts_when_nothing_is_to_be_done_and_ends_when_a_series_comes(desk: Desk) -> None:
    one = desk.probing()
    one.turn(busy=True)
    assert one.pid is None, "something is followed"
    until(lambda: one.pid, lambda: one.turn(busy=False))
    first, hand = one.pid, Hand(desk.room.settings.state, "probe")
    until((desk.folder / "began").exists, lambda: one.turn(busy=False))
    with hand.holding("a series"):
        began = time.monotonic()
        one.turn(busy=True)
        assert time.monotonic() - began < 60, "it waits for nobody"
        assert hand.last() is None, "who is ended on purpose is blamed for nothing"
    until(lambda: one.pid is None, lambda: one.turn(busy=True))
    until(lambda: one.pid not in (None, first), lambda: one.turn(busy=False))
    one.stop()
    assert one.pid is None


def test_a_slice_that_really_arrives_ends_it(desk: Desk) -> None:
    """The loop of `work`: what is followed makes way."""
    from appliance.runtime.bundles import OpenBundles  # noqa: PLC0415 - this test alone
    from appliance.work.stage import Work  # noqa: PLC0415

    room = desk.room
    bundles = OpenBundles(room.settings)
    work = Work(room.settings, room.journal, room.spool, bundles)
    work.probing = desk.probing()
    until(lambda: work.probing.pid, lambda: work.probing.turn(busy=work.busy))
    room.send("1.2.2", "CT1", last=1)
    work.look_everywhere()
    work.probing.turn(busy=work.busy)
    until(lambda: work.probing.pid is None, lambda: None)
    assert work.busy, "the slice waits for its turn, and nothing probes meanwhile"
    bundles.close()


def test_it_is_started_once_for_each_final_report(desk: Desk) -> None:
    (desk.folder / "sleeping.py").write_text(
        "import time\ntime.sleep(2)\n"
    )  # long enough to be seen
    one = desk.probing()
    until(lambda: one.pid, lambda: one.turn(busy=False))
    until(lambda: one.pid is None, lambda: one.turn(busy=False))
    for _ in range(20):
        one.turn(busy=False)
    assert one.pid is None
    desk.room.send("1.2.2", "CT1")
    desk.room.judge()
    until(lambda: one.pid, lambda: one.turn(busy=False))
    one.stop()


@pytest.mark.parametrize("why", ["switched off", "no shapes", "no bundle"])
def test_there_is_none(desk: Desk, why: str) -> None:
    if why == "no shapes":
        desk.loading = with_shapes(None)
    if why == "no bundle":
        desk.loading = cast(Loading, SimpleNamespace(loaded=None))
    one = desk.probing(probe=why != "switched off")
    for _ in range(5):
        one.turn(busy=False)
    assert one.pid is None


def test_probing_is_on_unless_the_settings_say_otherwise() -> None:
    assert Settings().watch.probe
    assert not Settings.model_validate({"watch": {"probe": False}}).watch.probe
