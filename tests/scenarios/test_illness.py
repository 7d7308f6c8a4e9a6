"""A device that is ill says so: real stages that are stopped, killed or cannot start.

The stages run as they are, but for their figures: a stage that only waits beats five times a second
and may be silent for SILENT_S. So no test waits for minutes, and none measures time.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pynetdicom
import pytest
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from appliance.demo.child import child
from appliance.settings import Settings, load
from appliance.stages import of
from appliance.store import conditions
from appliance.store.journal import Journal
from appliance.verbs import doctor
from appliance.verbs.checks.check import Check
from rigs.bundles import BUNDLE, Bundles, trust_tests
from rigs.peers import Broker, Subscriber, free_port, until
from rigs.scans import Scans

SILENT_S = 5.0
WAIT_S = 240.0
PROGRAM = f"""
import functools, logging, pathlib, sys
from importlib import import_module
from appliance.host import notify
from appliance.settings import load
from appliance.store import conditions
logging.basicConfig(level=logging.INFO)
stage = import_module(f"appliance.{{sys.argv[1]}}.stage")
if sys.argv[1] == "publish":
    stage.Pace = functools.partial(stage.Pace, tick_s=0.5)
for module in [m for name, m in sys.modules.items() if name.startswith("appliance.")]:
    if hasattr(module, "BEAT_S"):
        module.BEAT_S = 0.2
conditions.ALLOWED_S = {{**conditions.ALLOWED_S, conditions.WAITING: {SILENT_S}}}
conditions.STARTING_S = float(sys.argv[3])
sys.exit(stage.main(load(pathlib.Path(sys.argv[2])), notify.ready))
"""
SETTINGS = """state = "{folder}/state"
[site]
name = "ward"
device = "box1"
[dicom]
bind = "127.0.0.1"
port = {port}
[[dicom.allow]]
ae_title = "SCANNER"
host = "127.0.0.1"
[mqtt]
port = {broker}
health_s = 1
[work]
backend = "onnxruntime"
threads = 1
quiet_s = 0.5
released_quiet_s = 0.5
[retain]
reserve_mb = 1
target_free_mb = 1
"""


@dataclass
class Ward:
    """A broker, a consumer, and the stages that a test starts and harms."""

    config: Path
    settings: Settings
    subscriber: Subscriber
    starting_s: float
    stack: ExitStack
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, *names: str) -> None:
        for name in names:
            log = (self.config.parent / f"{name}.log").open("ab")
            self.stack.callback(log.close)
            command = [sys.executable, "-c", PROGRAM, name, str(self.config), str(self.starting_s)]
            self.running[name] = self.stack.enter_context(child(command, stderr=log))

    def signal(self, name: str, number: signal.Signals) -> None:
        os.kill(self.running[name].pid, number)

    def state(self) -> tuple[str, tuple[str, ...]]:
        """State and reasons that the consumer heard last."""
        heard = [m for m in self.subscriber.got if m.topic.endswith("/status")]
        if not heard:
            return "", ()
        said = json.loads(heard[-1].payload)
        return said["state"], tuple(said["reasons"])

    def word(self, name: str) -> str | None:
        """What `health` said last of a stage."""
        heard = [m for m in self.subscriber.got if m.topic.endswith("/health")]
        return json.loads(heard[-1].payload)["stages"].get(name) if heard else None

    def comes_to(self, state: str, *reasons: str) -> None:
        until(lambda: self.state() == (state, reasons), WAIT_S)

    def check(self) -> Check:
        """The doctor's check of the stages."""
        (found,) = (c for c in doctor.examine(self.config).checks if c.name == "stages")
        return found

    def send(self, files: Sequence[Path]) -> None:
        peer = pynetdicom.AE("SCANNER")
        peer.add_requested_context(CTImageStorage, ExplicitVRLittleEndian)
        port = self.settings.dicom.port
        association = peer.associate("127.0.0.1", port, ae_title="SCANSIDE")
        assert association.is_established
        for path in files:
            assert association.send_c_store(path).Status == 0
        association.release()


@contextmanager
def ward(folder: Path, bundle: Path, starting_s: float) -> Iterator[Ward]:
    with ExitStack() as stack:
        broker = Broker(folder).start()
        stack.callback(broker.stop)
        subscriber = Subscriber(broker.port)
        stack.callback(subscriber.close)
        config = folder / "scanside.toml"
        port = free_port()
        config.write_text(SETTINGS.format(folder=folder, port=port, broker=broker.port))
        trust_tests(load(config).state)
        for words in (("add", str(bundle), "--allow-development"), ("activate", BUNDLE, "90.0.0")):
            command = [sys.executable, "-m", "appliance", "bundle", *words, "--config", str(config)]
            subprocess.run(command, check=True, capture_output=True, timeout=WAIT_S)
        yield Ward(config, load(config), subscriber, starting_s, stack)


NAMES = [row.name for row in of(Settings())]


@pytest.fixture(scope="module")
def device(bundles: Bundles, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ward]:
    """A device that started long ago, with all of its stages."""
    with ward(tmp_path_factory.mktemp("ill"), bundles.usual, 0.0) as made:
        made.start(*NAMES)
        made.comes_to("online")
        yield made


@pytest.fixture(autouse=True)
def _as_the_stages(monkeypatch: pytest.MonkeyPatch) -> None:
    """The doctor in this process has the figures of the stages."""
    allowed = {**conditions.ALLOWED_S, conditions.WAITING: SILENT_S}
    monkeypatch.setattr(conditions, "ALLOWED_S", allowed)
    monkeypatch.setattr(conditions, "STARTING_S", 0.0)


def test_it_is_not_online_before_work_is_ready(bundles: Bundles, tmp_path: Path) -> None:
    with ward(tmp_path, bundles.usual, 3600.0) as made:
        made.start("publish")
        made.comes_to("init", "work_starting", "receive_starting", "retain_starting")
        made.start("receive", "retain")
        made.comes_to("init", "work_starting")
        made.start("work")
        made.comes_to("online")
        assert set(made.subscriber.states()) == {"init", "online"}


def test_a_work_that_hangs_while_a_series_waits_is_stuck_until_it_goes_on(
    device: Ward, scans: Scans
) -> None:
    device.comes_to("online")
    scan = scans.make()
    device.signal("work", signal.SIGSTOP)
    try:
        device.send(scan.files)
        device.comes_to("degraded", "work_stuck")
        until(lambda: device.word("work") == "stuck", WAIT_S)
        check = device.check()
        assert not check.ok
        assert "work stuck: no progress" in check.text
    finally:
        device.signal("work", signal.SIGCONT)
    device.comes_to("online")
    with Journal.open(device.settings.state) as journal:
        until(lambda: journal.reports.latest(scan.key), WAIT_S)
    until(lambda: device.check().ok, WAIT_S)


@pytest.mark.parametrize("name", ["receive", "retain"])
def test_a_stage_that_hangs_is_stuck_until_it_goes_on(device: Ward, name: str) -> None:
    device.comes_to("online")
    device.signal(name, signal.SIGSTOP)
    try:
        device.comes_to("degraded", f"{name}_stuck")
        assert not device.check().ok
    finally:
        device.signal(name, signal.SIGCONT)
    device.comes_to("online")


def test_a_publish_that_hangs_is_told_by_the_doctor(device: Ward) -> None:
    device.comes_to("online")
    device.signal("publish", signal.SIGSTOP)
    try:
        until(lambda: "publish stuck" in device.check().text, WAIT_S)
        assert not device.check().ok
    finally:
        device.signal("publish", signal.SIGCONT)
    until(lambda: device.check().ok, WAIT_S)
    device.comes_to("online")


@pytest.mark.parametrize("name", ["work", "receive", "retain"])
def test_a_stage_that_was_killed_is_down_until_it_is_back(device: Ward, name: str) -> None:
    device.comes_to("online")
    device.signal(name, signal.SIGKILL)
    device.comes_to("degraded", f"{name}_down")
    until(lambda: device.word(name) == "down", WAIT_S)
    assert f"{name} down" in device.check().text
    assert doctor.main(device.config, as_json=True) == 1
    device.start(name)
    device.comes_to("online")


def test_a_receive_whose_port_is_taken_is_down(device: Ward) -> None:
    device.comes_to("online")
    device.running["receive"].terminate()
    assert device.running["receive"].wait(WAIT_S) == 0
    with socket.create_server(("127.0.0.1", device.settings.dicom.port)):
        device.start("receive")
        assert device.running["receive"].wait(WAIT_S) != 0
        device.comes_to("degraded", "receive_down")
        assert "receive down" in device.check().text
        assert not doctor.examine(device.config).ok
    device.start("receive")
    device.comes_to("online")
