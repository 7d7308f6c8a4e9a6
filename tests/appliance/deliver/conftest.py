"""A device with archives, the stage in a thread, and objects that were composed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from appliance.deliver.stage import STAGE, Deliverer
from appliance.deliver.worker import Pace
from appliance.dicom.requestor import Limits
from appliance.report import Report, SeriesKey
from appliance.results.owed import Owed
from appliance.results.pacs import Ordered
from appliance.settings import Settings
from appliance.store import bell
from appliance.store.heartbeat import Heart, living
from appliance.store.journal import Journal
from appliance.store.patience import Patience
from rigs.archive import SR_3D, TITLE, written
from rigs.peers import HANG_S
from rigs.reports import make_report, noon

__all__ = ["make_report", "noon"]

KEY = SeriesKey("1.2", "1.2.3")
QUICK = Pace(
    pauses=Patience(0.02, 0.1, 5),
    tries=Patience(0.02, 0.1, 5),
    limits=Limits(connect_s=HANG_S, answer_s=HANG_S, send_s=HANG_S),
    idle_s=0.3,
    tick_s=0.2,
)


@dataclass
class Device:
    """Its settings, its journal as another process would hold it, and what is owed."""

    settings: Settings
    journal: Journal
    report: Report

    def composed(
        self, *names: str, to: str = "pacs", sop_class: str = SR_3D, kind: str = "sr"
    ) -> None:
        """An object under each name, which is its UID too, owed and composed."""
        for name in names:
            path = written(self.settings.state / "outgoing" / f"{name}.dcm", name, sop_class)
            one = Ordered.model_validate(
                {
                    "report_id": self.report.report_id, "stage": "final", "edition": 1,
                    "kind": kind, "file": path.name,
                }
            )  # fmt: skip
            body = one.model_dump_json().encode()
            self.journal.owed.add([Owed(to, name, KEY, body)])
            self.journal.owed.composed(to, name, PurePosixPath("outgoing", path.name))
        bell.ring(self.settings.state, STAGE)


@pytest.fixture
def device(tmp_path: Path, make_report: Callable[..., Report]) -> Iterator[Callable[..., Device]]:
    """Ports of archives by name -> a device whose one series was reported. web: what the settings
    say of archives of DICOMweb, by name."""
    with ExitStack() as stack:

        def make(web: Mapping[str, Mapping[str, Any]] | None = None, **ports: int) -> Device:
            state = tmp_path / "state"
            state.mkdir(exist_ok=True)
            archives: list[dict[str, Any]] = [
                {"name": name, "host": "127.0.0.1", "port": port, "called_ae": TITLE}
                for name, port in ports.items()
            ]
            archives += [
                {"name": name, "kind": "stow", **lines} for name, lines in (web or {}).items()
            ]
            settings = Settings.model_validate({"state": state, "deliver": archives})
            journal = stack.enter_context(Journal.open(state))
            report = make_report()
            journal.commit_report(report, KEY, owed=[], series_state="analysed", instances=1)
            return Device(settings, journal, report)

        yield make


@dataclass
class Served:
    """The stage in a thread."""

    deliverer: Deliverer
    heart: Heart
    thread: threading.Thread
    opened: ExitStack
    errors: list[BaseException]

    def stop(self) -> None:
        self.deliverer.stop()
        self.ended()

    def ended(self) -> None:
        """It has ended, by itself or because it was told."""
        self.thread.join(HANG_S)
        self.opened.close()
        assert not self.thread.is_alive()


@pytest.fixture
def serve() -> Iterator[Callable[..., Served]]:
    running: list[Served] = []

    def start(device: Device, pace: Pace = QUICK, **more: Any) -> Served:
        state = device.settings.state
        with ExitStack() as stack:
            heart = stack.enter_context(living(state, STAGE))
            journal = stack.enter_context(Journal.open(state))
            heard = stack.enter_context(bell.hearing(state, STAGE))
            opened = stack.pop_all()
        deliverer = Deliverer(device.settings, journal, heard, heart, pace=pace, **more)
        errors: list[BaseException] = []

        def run() -> None:
            try:
                deliverer.run()
            except BaseException as e:  # noqa: BLE001 - the test looks at it
                errors.append(e)

        served = Served(deliverer, heart, threading.Thread(target=run, daemon=True), opened, errors)
        served.thread.start()
        running.append(served)
        return served

    yield start
    for one in running:
        if one.thread.is_alive():
            one.stop()
            assert one.errors == []
