"""The whole product on one machine, for scenarios: real processes, real peers, made-up patients.

mosquitto  <-  scanside run  <-  dcmtk storescu
    +-> mosquitto_sub, a separate subscriber
"""

from __future__ import annotations

import contextlib
import getpass
import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pynetdicom
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from appliance.demo.child import child, free_port
from appliance.naming import Naming
from appliance.report import Report
from appliance.settings import Settings, load
from appliance.store.journal import Journal
from appliance.store.site_key import site_key
from rigs.bundles import BUNDLE, trust_tests
from rigs.processes import children
from rigs.programs import program
from rigs.scans import Scan

ENDINGS = ("analysed", "not_analysed", "failed")
WAIT_S = 120.0
"""A hang ends a test after so long; no test takes a tenth of it, whatever else the machine does."""
Message = dict[str, Any]


class Broker:
    """mosquitto, which may be away for a while; it keeps what its subscribers have not heard."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self._config = folder / "mosquitto.conf"
        kept = folder / "mosquitto"
        kept.mkdir()
        self._config.write_text(
            f"listener {self.port} 127.0.0.1\nallow_anonymous true\nlog_type error\n"
            f"user {getpass.getuser()}\npersistence true\npersistence_location {kept}/\n"
        )
        self._stack = contextlib.ExitStack()

    def start(self) -> None:
        command = [program("mosquitto"), "-c", str(self._config)]
        process = self._stack.enter_context(child(command))
        end = time.monotonic() + WAIT_S
        while time.monotonic() < end:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
                return
            assert process.poll() is None, "mosquitto ended"
            time.sleep(0.05)
        raise AssertionError("mosquitto does not listen")

    def stop(self) -> None:
        self._stack.close()


@dataclass
class Site:
    """A running appliance with its broker and its subscriber."""

    folder: Path
    config: Path
    settings: Settings
    broker: Broker
    process: subprocess.Popen[bytes]
    naming: Naming
    heard: list[tuple[str, str]] = field(default_factory=list)
    """(topic, payload) of every message that the subscriber heard."""
    arrival: threading.Condition = field(default_factory=threading.Condition)

    # What the scanner does.

    def send(self, *what: Scan | Path, ae: str = "SCANNER", options: Sequence[str] = ()) -> int:
        """One association of storescu; its exit status."""
        return self.sending(*what, ae=ae, options=options).wait(WAIT_S)

    def sending(
        self, *what: Scan | Path, ae: str = "SCANNER", options: Sequence[str] = ()
    ) -> subprocess.Popen[bytes]:
        """storescu on its way."""
        paths = [str(w.folder if isinstance(w, Scan) else w) for w in what]
        command = [program("storescu"), "-aet", ae, "-aec", "SCANSIDE", "+sd", "+r", "-nh"]
        command += [*options, "127.0.0.1", str(self.settings.dicom.port), *paths]
        return subprocess.Popen(
            command,
            env={**os.environ, "TCP_NODELAY": "1"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    @contextlib.contextmanager
    def held(self) -> Iterator[Callable[[Sequence[Path]], None]]:
        """An association that stays open until the end of the block; sends what it is given."""
        peer = pynetdicom.AE("SCANNER")
        peer.add_requested_context(CTImageStorage, ExplicitVRLittleEndian)
        association = peer.associate("127.0.0.1", self.settings.dicom.port, ae_title="SCANSIDE")
        assert association.is_established
        # else Nagle and delayed ACK cost 40 ms an image
        association.dul.socket.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        def store(files: Sequence[Path]) -> None:
            for path in files:
                assert association.send_c_store(path).Status == 0

        try:
            yield store
        finally:
            if association.is_established:
                association.release()

    # What the subscriber heard.

    def messages(self) -> list[tuple[str, Message]]:
        """All but what the doctor sends: its checks, and payloads of nothing, by which it takes
        back what it retained."""
        said = [(topic, json.loads(payload)) for topic, payload in list(self.heard) if payload]
        return [(topic, message) for topic, message in said if message.get("type") != "check"]

    def events(self, scan: Scan, *names: str) -> list[Message]:
        """Study events of this series, in order; with `names` only those."""
        topic = f"/study/{self.naming.study(scan.study)}/event"
        mine = str(self.naming.series(scan.key))
        return [
            m
            for t, m in self.messages()
            if t.endswith(topic) and m["series"] == mine and (not names or m["event"] in names)
        ]

    def names(self, scan: Scan) -> list[str]:
        """The names of its events, in order; without the in-room checks, which come after the
        findings of each report."""
        return [m["event"] for m in self.events(scan) if m["event"] != "checked"]

    def findings(self, report: Report) -> list[Message]:
        """Finding messages of this report."""
        return [
            m
            for t, m in self.messages()
            if "/finding/" in t and m["report_id"] == str(report.report_id)
        ]

    def until(self, found: Callable[[], Any], what: str, within_s: float = WAIT_S) -> Any:
        """Wait until `found` gives something; look again at each message."""
        end = time.monotonic() + within_s
        while not (answer := found()):
            left = end - time.monotonic()
            if left <= 0:
                log = self.log().splitlines()[-15:]
                raise AssertionError(f"no {what} within {within_s:.0f} s\n" + "\n".join(log))
            with self.arrival:
                self.arrival.wait(min(left, 0.2))
        return answer

    def ending(self, scan: Scan, count: int = 1) -> Message:
        """The count-th event of this series that ends it."""
        found = self.until(
            lambda: self.events(scan, *ENDINGS)[count - 1 :], f"ending {count} of {scan.series}"
        )
        message: Message = found[0]
        return message

    def report(self, scan: Scan, count: int = 1) -> Report:
        """The report of the count-th ending, with all its findings heard."""
        report = Report.model_validate(self.ending(scan, count)["report"])
        self.until(lambda: len(self.findings(report)) == len(report.findings), "findings")
        return report

    def settled(self) -> None:
        """Nothing waits in the outbox and nothing is being followed."""
        with self.journal() as journal:
            self.until(
                lambda: not journal.series.all("open") and not journal.owed.counts().waiting,
                "rest",
            )

    @contextlib.contextmanager
    def journal(self) -> Iterator[Journal]:
        with Journal.open(self.settings.state) as journal:
            yield journal

    def log(self) -> str:
        return (self.folder / "appliance.log").read_text(errors="replace")

    # What the operator does.

    def analyze(self, folder: Path) -> list[Report]:
        """`scanside analyze` with the same settings and state."""
        printed = json.loads(self.scanside("analyze", str(folder), "--json"))
        return [Report.model_validate(one) for one in printed]

    def scanside(self, *arguments: str) -> str:
        """A verb with this site's settings; its output."""
        command = [sys.executable, "-m", "appliance", *arguments, "--config", str(self.config)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=WAIT_S, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def install(self, path: Path, name: str, version: str) -> None:
        trust_tests(self.settings.state)
        self.scanside("bundle", "add", str(path), "--allow-development")
        self.scanside("bundle", "activate", name, version)

    def command(self, verb: str, **payload: Any) -> Message:
        """Ask over MQTT and wait for the reply."""
        ask = uuid.uuid4().hex
        root = f"scanside/v1/{self.settings.site.name}/{self.settings.site.device}"
        body = json.dumps({"id": ask, "reply_to": f"{root}/reply/tests", **payload})
        command = [program("mosquitto_pub"), "-p", str(self.broker.port), "-q", "1"]
        subprocess.run(
            [*command, "-t", f"{root}/cmd/{verb}", "-m", body], check=True, timeout=WAIT_S
        )
        replies = self.until(
            lambda: [
                m for t, m in self.messages() if t.endswith("/reply/tests") and m["id"] == ask
            ],
            f"reply to {verb}",
        )
        reply: Message = replies[0]
        return reply

    def stage(self, name: str) -> int:
        """The process id of a stage."""
        for pid in children(self.process.pid):
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            if name.encode() in words:
                return pid
        raise AssertionError(f"no stage {name}")

    def kill(self, name: str) -> None:
        """kill -9 for a stage and whatever it forked; `run` starts it again."""
        pid = self.stage(name)
        for one in (pid, *children(pid)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(one, signal.SIGKILL)


SETTINGS = """state = "{folder}/state"
[site]
name = "ward"
device = "box-1"
[dicom]
bind = "127.0.0.1"
port = {port}
[[dicom.allow]]
ae_title = "SCANNER"
host = "127.0.0.0/8"
[[dicom.allow]]
ae_title = "EMERGENCY"
host = "127.0.0.0/8"
priority = "stat"
[mqtt]
port = {broker}
commands = ["ping", "resend", "stat", "pause", "resume"]
[work]
quiet_s = 1.2
released_quiet_s = 0.5
aborted_quiet_s = {aborted_quiet_s}
threads = 2
[retain]
reserve_mb = 64
target_free_mb = 64
[priors]
keep = {keep}
"""


def listen(site: Site, output: io.BufferedReader) -> None:
    """Note every line of mosquitto_sub, until it ends."""
    for line in output:
        topic, _, payload = line.decode().rstrip("\n").partition(" ")
        with site.arrival:
            site.heard.append((topic, payload))
            site.arrival.notify_all()


@contextlib.contextmanager
def running(
    folder: Path,
    bundle: Path | None,
    aborted_quiet_s: float = 2 * WAIT_S,
    more: str = "",
    *,
    keep: bool = False,
) -> Iterator[Site]:
    """A site with this bundle active (None: those of the factory), until the end of the block.
    more: lines of its settings. keep: whether exams are kept and compared.

    A broken transfer is judged after `aborted_quiet_s`. As it is, that is longer than any test
    waits: what is sent again after `receive` was killed is always in time.
    """
    broker = Broker(folder)
    broker.start()
    config = folder / "scanside.toml"
    config.write_text(
        SETTINGS.format(
            folder=folder,
            port=free_port(),
            broker=broker.port,
            aborted_quiet_s=aborted_quiet_s,
            keep=str(keep).lower(),
        )
        + more
    )
    settings = load(config)
    subscribe = [program("mosquitto_sub"), "-p", str(broker.port), "-q", "1", "-c", "-i", "ward"]
    subscribe += ["-V", "5", "-x", "3600", "-t", "scanside/v1/#", "-F", "%t %p"]
    ready_at = str(folder / "ready")
    environment = {**os.environ, "NOTIFY_SOCKET": ready_at}
    with contextlib.ExitStack() as stack:
        stack.callback(broker.stop)
        subscriber = stack.enter_context(
            child(subscribe, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        )
        log = stack.enter_context((folder / "appliance.log").open("wb"))
        ready = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        ready.bind(ready_at)
        ready.settimeout(WAIT_S)
        site = Site(folder, config, settings, broker, process=None, naming=Naming(b""))  # type: ignore[arg-type]
        if bundle is not None:
            site.install(bundle, BUNDLE, "90.0.0")
        run = [sys.executable, "-m", "appliance", "run", "--config", str(config)]
        site.process = stack.enter_context(child(run, stderr=log, env=environment))
        assert b"READY=1" in ready.recv(4096), site.log()
        site.naming = Naming(site_key(settings.state))
        listener = threading.Thread(target=listen, args=(site, subscriber.stdout), daemon=True)
        listener.start()
        yield site
