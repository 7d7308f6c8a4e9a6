"""The publish stage as its own process, a mosquitto that goes and comes, and who listens to it."""

from __future__ import annotations

import contextlib
import json
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from appliance.demo.child import child
from appliance.settings import Settings, load
from appliance.store.journal import JOURNAL_NAME, Journal
from rigs.peers import Broker, a_report, commit
from rigs.programs import program

HANG_S = 60.0
SETTINGS = """state = "{folder}/state"
[site]
name = "ward"
device = "box1"
[mqtt]
port = {port}
[priors]
keep = false
[retain]
reserve_mb = 0
"""
RESULTS = ("scanside/v1/+/+/study/#", "scanside/v1/+/+/finding/#")


@dataclass
class Outage:
    """A state folder, its journal, and a broker that nobody has started yet."""

    settings: Settings
    config: Path
    journal: Journal
    broker: Broker
    heard: Path
    """One line for each result that the subscriber heard, in order of arrival."""

    def commit(self, first: int, count: int) -> None:
        """Reports number `first` and on, by the transaction that `work` uses: 3 messages each."""
        for n in range(first, first + count):
            commit(self.journal, a_report(str(n), findings=2))

    def committed(self) -> list[str]:
        """The event_ids of all messages, in the order in which they were committed."""
        path = f"file:{self.settings.state / JOURNAL_NAME}?mode=ro"
        with contextlib.closing(sqlite3.connect(path, uri=True)) as db:
            return [event for (event,) in db.execute("SELECT key FROM owed ORDER BY id")]

    def arrived(self) -> list[str]:
        """The event_ids that the subscriber heard, in order, each as often as it came."""
        text = self.heard.read_text(encoding="utf-8")
        whole = text[: text.rfind("\n") + 1]
        return [str(json.loads(line)["event_id"]) for line in whole.splitlines()]

    def waiting(self) -> int:
        return self.journal.owed.counts("mqtt").waiting

    @contextlib.contextmanager
    def publish(self) -> Iterator[subprocess.Popen[bytes]]:
        """`scanside publish`; it must still be there at the end, and stop cleanly."""
        command = [sys.executable, "-m", "appliance", "publish", "--config", str(self.config)]
        log = self.config.with_name("publish.log")
        with log.open("wb") as out, child(command, stderr=out) as stage:
            yield stage
            assert stage.poll() is None, log.read_text()
            stage.send_signal(signal.SIGTERM)
            assert stage.wait(HANG_S) == 0, log.read_text()

    @contextlib.contextmanager
    def subscriber(self) -> Iterator[None]:
        """mosquitto_sub, whose session outlives the broker's absences; the broker must be there."""
        command = [program("mosquitto_sub"), "-p", str(self.broker.port), "-q", "1", "-c"]
        command += ["-i", "ward", "-V", "5", "-x", "3600"]
        command += [word for topic in RESULTS for word in ("-t", topic)]
        subprocess.run([*command, "-E"], check=True, timeout=HANG_S)  # subscribed, and gone
        with self.heard.open("ab") as out, child([*command, "-F", "%p"], stdout=out):
            yield


@contextlib.contextmanager
def outage(folder: Path) -> Iterator[Outage]:
    broker = Broker(folder)
    config = folder / "scanside.toml"
    config.write_text(SETTINGS.format(folder=folder, port=broker.port))
    settings = load(config)
    settings.state.mkdir()
    heard = folder / "heard"
    heard.touch()
    with Journal.open(settings.state) as journal:
        try:
            yield Outage(settings, config, journal, broker, heard)
        finally:
            broker.stop()


def until(what: Callable[[], Any], seconds: float = HANG_S) -> Any:
    """The first true answer; looks seldom, as the machine has other work to do meanwhile."""
    end = time.monotonic() + seconds
    while not (answer := what()):
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.1)
    return answer


def pss_mb(pid: int) -> float:
    """Proportional set size of a process, MB."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    raise AssertionError("no Pss")
