"""`scanside demo`: the whole product on one machine, in one terminal.

    mosquitto  <-  scanside run  <-  a scanner that sends the phantom (or --series)
        |
        +-> mosquitto_sub, a separate subscriber: what it prints is what left the device

    and a browser, if somebody opens the page's link: it opens once, on this machine

Everything is a child on a free loopback port in a temporary folder that is gone afterwards, but
the picture; so too where SIGTERM or the end of the terminal ends it. The settings allow senders of
this machine only, and put no implants into series: nobody asks how a scanner fares that does not
exist, and what is timed here would share the machine with it.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

from pydicom.dataset import Dataset
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from appliance.demo import archive, broker, drawn, scanner, table
from appliance.demo.child import child, free_port
from appliance.errors import BackendUnavailable, BrokerAway, PeerAway, SeriesRefused
from appliance.phantom import chest as phantoms
from appliance.phantom import radiograph
from appliance.report import NOTICE, Report, SeriesKey, Status
from appliance.results.message import StudyEvent
from appliance.results.mqtt import MQTT
from appliance.settings import Settings, load
from appliance.store.journal import Journal
from appliance.web.access import link

console = Console(highlight=False)
READY_S = 300.0
"""A slow or busy machine takes a minute to open the bundles; what takes longer hangs."""
ENDINGS = ("analysed", "not_analysed", "failed")
DRAWN = (
    "The radiograph is drawn and shows no patient: it is the chest phantom at the size of a child "
    "of four, with both lower lungs filled as in pneumonia. What a network says of a drawing is no "
    "evidence of what it finds in patients."
)


@dataclass(frozen=True)
class Received:
    """What the separate subscriber saw until the closing event and all its findings were there."""

    topic: str
    event: StudyEvent
    findings: tuple[tuple[str, dict[str, Any]], ...]
    lines: tuple[str, ...]
    """Everything, as it came: topic, blank, payload."""


@dataclass(frozen=True)
class Started:
    """The appliance with all that is about it."""

    folder: Path
    settings: Settings
    broker_port: int
    subscriber: BinaryIO
    own: archive.Archive | None


@contextlib.contextmanager
def started(*, pacs: bool = False, keep: bool = False) -> Iterator[Started]:
    """Broker, subscriber and appliance, while the block runs; `pacs`: and an archive. `keep`: of
    each exam what a later one is compared with."""
    console.print(f"[bold]Scanside demo[/bold] · {NOTICE}")
    with ExitStack() as stack:
        stack.enter_context(_ended_in_order())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="scanside-demo-")))
        broker_port = free_port()
        stack.enter_context(broker.mosquitto(folder, broker_port))
        console.print(f"[green]✓[/green] mosquitto listens on 127.0.0.1:{broker_port}")
        dicom_port, own, more = free_port(), None, ""
        if pacs:
            own = stack.enter_context(archive.orthanc(folder, dicom_port))
            console.print(f"[green]✓[/green] Orthanc listens for DICOM on 127.0.0.1:{own.port}")
            more = own.settings()
        settings = _settings(folder, broker_port, dicom_port, more, keep=keep)
        subscriber = stack.enter_context(_subscriber(folder, broker_port))
        with console.status("starting the appliance ..."):
            stack.enter_context(_appliance(folder))
        console.print(
            f"[green]✓[/green] appliance listens for DICOM as SCANSIDE on "
            f"127.0.0.1:{settings.dicom.port}"
        )
        _page(settings)
        yield Started(folder, settings, broker_port, subscriber, own)


def stay(up: Started, subscriber: Iterable[bytes]) -> None:
    """Goes on until Ctrl-C, and shows what else is sent. `subscriber`: its lines."""
    console.print(
        "\nThe appliance goes on. Send it a series of your own:\n"
        f"  scanside send DIR --to SCANSIDE@127.0.0.1:{up.settings.dicom.port}\n"
        f"  mosquitto_sub -p {up.broker_port} -t 'scanside/v1/#' -v\n"
        "Ctrl-C ends everything."
    )
    _page(up.settings)
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            table.show(_next(subscriber), None, console)


def run(
    *,
    series: Path | None,
    once: bool,
    out: Path,
    projected: bool = False,
    pacs: bool = False,
) -> int:
    """The demo; 0 when a report reached the subscriber (and, for the phantom, it was analysed).
    `projected`: the phantom as a radiograph, with a consolidation drawn into it. `pacs`: with an
    archive, which must have all objects of the report in the end."""
    if series is not None:
        files(series)  # what cannot be sent is said before anything is started
    with started(pacs=pacs) as up:
        truth = None
        if projected:
            with console.status("drawing a radiograph of the chest phantom ..."):
                series = _radiograph(up.folder / "radiograph")
            console.print(DRAWN)
        elif series is None:
            with console.status("making a chest phantom (lungs, ribs, vessels, nodules) ..."):
                truth = phantoms.chest()
        send(files(series or Path()) if truth is None else scanner.series(truth), up.settings)
        with console.status("waiting for the report ..."):
            received = wait(up.subscriber)
        report = received.event.report
        if report is None:
            raise SeriesRefused(received.event.reasons[0])
        _timing(up.settings, received)
        which = _series_of(report, up.settings)
        table.show(report, truth, console)
        _write(report, received.lines, truth, series, up.settings, out, which)
        kept = up.own is None or archive.show(up.settings.state, up.own, console)
        if not once:
            stay(up, up.subscriber)
    if (truth is not None or projected) and report.status is not Status.ANALYSED:
        return 1
    if not kept:
        return 1
    return 0 if report.status is not Status.FAILED else 1


def _write(
    report: Report,
    lines: Sequence[str],
    truth: phantoms.Phantom | None,
    series: Path | None,
    settings: Settings,
    out: Path,
    which: SeriesKey | None,
) -> None:
    """The report, the messages and the pictures into `out`."""
    out.mkdir(parents=True, exist_ok=True)
    for old in (out / "findings.png", *out.glob("heat-map-*.png")):
        old.unlink(missing_ok=True)  # a picture of another run would be taken for this one's
    (out / "report.json").write_text(report.to_json())
    (out / "messages.txt").write_text("\n".join(lines) + "\n")
    console.print(f"\nreport: {out / 'report.json'}   messages: {out / 'messages.txt'}")
    if any(finding.heat_map for finding in report.findings):
        paths = [*drawn.of_radiographs(report, settings.state, series or Path(), out, which)]
    elif report.findings:
        paths = [drawn.of_volume(report, truth, table.missed(report, truth), series, out, which)]
    else:
        paths = []
    for path in paths:
        console.print(f"picture: {path}")


@contextlib.contextmanager
def _ended_in_order() -> Iterator[None]:
    """SIGTERM and SIGHUP (not under nohup) end the demo as Ctrl-C does, with all its children.

    Once: impatience while they stop would leave some behind.
    """
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {n: signal.getsignal(n) for n in numbers}

    def end(_number: int, _frame: object) -> None:
        for number in numbers:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    for number in numbers:
        if before[number] is not signal.SIG_IGN:
            signal.signal(number, end)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _settings(
    folder: Path, broker_port: int, dicom_port: int, more: str = "", *, keep: bool = False
) -> Settings:
    (folder / "scanside.toml").write_text(
        f"""state = "{folder}/state"
[site]
name = "demo"
device = "box-1"
[dicom]
bind = "127.0.0.1"
port = {dicom_port}
[[dicom.allow]]
ae_title = "*"
host = "127.0.0.0/8"
[mqtt]
port = {broker_port}
[retain]
reserve_mb = 64
target_free_mb = 64
[priors]
keep = {str(keep).lower()}
[watch]
probe = false
[web]
enabled = true
port = {free_port()}
{more}"""
    )
    return load(folder / "scanside.toml")


@contextlib.contextmanager
def _subscriber(folder: Path, port: int) -> Iterator[BinaryIO]:
    """mosquitto_sub, one line a message: topic, blank, payload."""
    program = shutil.which("mosquitto_sub")
    if program is None:
        raise BrokerAway(
            "mosquitto_sub is not installed", remedy="Type: sudo apt-get install mosquitto-clients"
        )
    command = [program, "-p", str(port), "-q", "1", "-t", "scanside/v1/#", "-F", "%t %p"]
    with child(command, stdout=subprocess.PIPE) as process:
        if process.stdout is None:
            raise BrokerAway("mosquitto_sub has no output")
        yield process.stdout  # type: ignore[misc]


@contextlib.contextmanager
def _appliance(folder: Path) -> Iterator[None]:
    """`scanside run` as a child; returns when all its stages are ready."""
    log = stack_log = folder / "appliance.log"
    path = str(folder / "ready")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready, log.open("wb") as stderr:
        ready.bind(path)
        ready.settimeout(READY_S)
        command = [sys.executable, "-m", "appliance", "run", "--config", f"{folder}/scanside.toml"]
        environment = {**os.environ, "NOTIFY_SOCKET": path}
        with child(command, stderr=stderr, env=environment):
            try:
                ready.recv(4096)
            except TimeoutError as e:
                tail = stack_log.read_text(errors="replace").strip().splitlines()[-5:]
                raise BackendUnavailable(
                    "the appliance did not become ready: " + " | ".join(tail)
                ) from e
            yield


def _page(settings: Settings) -> None:
    """A link that opens the page once, within ten minutes, without an account."""
    address = link.make(settings)
    console.print("the page, once, in a browser on this machine:")
    console.print(f"  {address}", soft_wrap=True)  # a terminal would break it


def _radiograph(folder: Path) -> Path:
    """The phantom with filled lower lungs, seen from the front, as one file in this folder."""
    folder.mkdir()
    body = radiograph.consolidated(phantoms.chest())
    image = radiograph.instance(radiograph.projected(body))
    image.save_as(folder / "radiograph.dcm", enforce_file_format=True)
    return folder


def send(images: Iterable[Dataset | Path], settings: Settings) -> None:
    """Be the scanner; PeerAway where nothing was stored."""
    to = scanner.Address("SCANSIDE", "127.0.0.1", settings.dicom.port)
    with Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total} slices"),
        TimeElapsedColumn(),
        console=console,
    ) as progress:
        task = progress.add_task("scanner sends", total=None)

        def show_progress(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total or None)

        summary = scanner.send(images, to, progress=show_progress)
    for uid, status in summary.failed[:3]:
        console.print(f"[red]refused[/red] 0x{status:04X} {uid}")
    if summary.failed and not summary.sent:  # then no report will come
        raise PeerAway(
            f"none of the {len(summary.failed)} images was stored",
            remedy="Name a folder of DICOM images, and see that this machine's disk is not full.",
        )


def files(series: Path) -> list[Path]:
    """What lies in the folder; SendError where nothing does."""
    files = sorted(path for path in series.rglob("*") if path.is_file())
    if not files:
        raise scanner.SendError(f"{series}: no files", remedy="Name a folder of DICOM files.")
    return files


def wait(subscriber: Iterable[bytes]) -> Received:
    """Read the subscriber's lines until every series that began has its closing event, and the one
    that counts all of its findings: a study holds localizers and other series beside the chest."""
    findings: list[tuple[str, dict[str, Any]]] = []
    begun: set[uuid.UUID] = set()
    closing: dict[uuid.UUID, tuple[str, StudyEvent]] = {}
    lines: list[str] = []
    for line in subscriber:
        lines.append(line.decode().rstrip("\n"))
        topic, _, payload = lines[-1].partition(" ")
        body = json.loads(payload)
        if "/finding/" in topic:
            findings.append((topic, body))
        elif body.get("type") == "study":
            event = StudyEvent.model_validate(body)
            why = ", ".join(reason.code.value for reason in event.reasons)
            console.print(
                f"  [dim]{topic.removeprefix('scanside/v1/')}[/dim] {event.event}"
                f"{': ' + why if why else ''}"
            )
            begun.add(event.series)
            if event.event in ENDINGS:
                closing[event.series] = (topic, event)
        if closing and begun <= closing.keys():
            chosen = _foremost(closing.values())
            if chosen[1].report is None:
                continue
            # a message of many findings says their number
            mine = [f for f in findings if f[1]["report_id"] == str(chosen[1].report.report_id)]
            if sum(body.get("number", 1) for _, body in mine) == len(chosen[1].report.findings):
                return Received(*chosen, tuple(mine), tuple(lines))
    raise BrokerAway("the subscriber ended before a report came")


def _foremost(closing: Iterable[tuple[str, StudyEvent]]) -> tuple[str, StudyEvent]:
    """Of several series what failed, else what was analysed, the last of these."""
    order = ("not_analysed", "analysed", "failed")
    return max(enumerate(closing), key=lambda at: (order.index(at[1][1].event), at[0]))[1]


def _next(subscriber: Iterable[bytes]) -> Report:
    for line in subscriber:
        topic, _, payload = line.decode().partition(" ")
        body = json.loads(payload)
        if body.get("type") == "study" and body.get("event") in ENDINGS and body.get("report"):
            console.print(f"\n[dim]{topic}[/dim] {body['event']}")
            return Report.model_validate(body["report"])
    raise KeyboardInterrupt


def _timing(settings: Settings, received: Received) -> None:
    """The way from the last slice to each PUBACK, from the journal's own stamps."""
    events = [json.loads(line.partition(" ")[2]) for line in received.lines if "/event " in line]
    journal = Journal.read(settings.state)
    if journal is None:
        return
    with journal:
        for event in events:
            times = (event.get("report") or {}).get("times", {})
            if not times.get("last_slice"):
                continue
            acknowledged = None
            for _ in range(20):  # the subscriber may be faster than the broker's PUBACK to us
                acknowledged = journal.owed.delivered_at(MQTT, event["event_id"])
                if acknowledged is not None:
                    break
                time.sleep(0.05)
            last = _seconds(times["last_slice"])
            after = "-" if acknowledged is None else f"{acknowledged - last:.2f} s"
            console.print(f"last slice to PUBACK, {event['event']}: [bold]{after}[/bold]")
            for name in ("prepared", "inferred", "complete"):
                if times.get(name):
                    console.print(f"  [dim]{name} at +{_seconds(times[name]) - last:.2f} s[/dim]")


def _series_of(report: Report, settings: Settings) -> SeriesKey | None:
    """Which of the series that were sent a report is about."""
    journal = Journal.read(settings.state)
    if journal is None:
        return None
    with journal:
        return journal.reports.series_of(report.report_id)


def _seconds(stamp: str) -> float:
    return datetime.fromisoformat(stamp.replace("Z", "+00:00")).timestamp()
