"""`python -m compile demo-update`: what releases do to a box, in one table. 0 only if all held.

    a repository on loopback  <-  a box (`scanside run`)  <-  a scanner that never pauses

Everything is in a temporary folder but OUT/update.json (the table) and OUT/repo (the repository, as
a web server would show it; without its keys).
"""

from __future__ import annotations

import functools
import http.server
import platform
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Literal

from pydantic import AwareDatetime, ConfigDict, Field
from rich.console import Console
from rich.table import Table

from appliance.apply.requests import Status
from appliance.demo import broker
from appliance.demo.child import free_port
from appliance.report import NOTICE, Record
from appliance.update.states import State
from compile import lock, wheel
from compile.demo import versions
from compile.demo.box import Box, Scanner
from compile.demo.repository import Repository
from compile.installer import after

PATIENCE_S = 300.0
"""For what a box does by itself; a slot is built in 20 to 60 s."""
LOOK_S = 1.0
console = Console(highlight=False)


class Row(Record):
    """One line of the table."""

    step: str
    expected: str
    happened: str
    seconds: float
    held: bool


class Outcome(Record):
    """update.json."""

    model_config = ConfigDict(**{**Record.model_config, "populate_by_name": True})

    schema_: Literal["scanside.demo-update/1"] = Field("scanside.demo-update/1", alias="schema")
    at: AwareDatetime
    machine: str
    rows: tuple[Row, ...]
    studies: int
    """Sent while all of this went on, each image acknowledged."""
    refused: tuple[str, ...]
    lost: int
    """Of these studies, those without a report."""


@dataclass
class Run:
    """What is there, and what was seen."""

    box: Box
    repository: Repository
    wheels: list[Path]
    """Of the appliance: the installed one, a good one, a bad one, another good one."""
    sbom: Path
    scanner: Scanner
    rows: list[Row] = field(default_factory=list)

    def step(self, step: str, expected: str, doing: Callable[[], tuple[bool, str]]) -> None:
        """Do it, say it, and keep it."""
        began = time.monotonic()
        with console.status(f"{step} ..."):
            try:
                held, happened = doing()
            except Exception as e:  # noqa: BLE001 - a step that breaks is a row of the table
                held, happened = False, f"{type(e).__name__}: {str(e)[:200]}"
        row = Row(
            step=step, expected=expected, happened=happened, held=held,
            seconds=round(time.monotonic() - began, 1),
        )  # fmt: skip
        self.rows.append(row)
        mark = "[green]✓[/green]" if held else "[red]✗[/red]"
        console.print(f"{mark} {step}: {happened} [dim]({row.seconds:.0f} s)[/dim]")

    def release(self, which: int, notes: str) -> None:
        self.repository.release(self.wheels[which], notes, sbom=self.sbom)

    def until(self, wanted: Callable[[Status], bool]) -> Status:
        """The status, once it is as wanted; the last one where that takes too long."""
        end = time.monotonic() + PATIENCE_S
        status = self.box.status()
        while not wanted(status) and time.monotonic() < end:
            time.sleep(LOOK_S)
            status = self.box.status()
        return status


def run(out: Path) -> int:
    """The demo; the exit code."""
    console.print(f"[bold]Scanside, updated[/bold] · {NOTICE}")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="scanside-update-")))
        one = _prepared(folder, stack)
        scanner = one.scanner
        stack.enter_context(one.box.running())
        console.print("[green]✓[/green] the box runs from slot 1; a scanner sends without a pause")
        scanner.start()
        _steps(one, folder)
        with console.status("waiting for the last reports ..."):
            scanner.stop()
            lost = _lost(one.box, scanner)
        outcome = Outcome(
            at=datetime.now(timezone.utc),
            machine=f"{platform.machine()}, {platform.processor() or platform.system()}",
            rows=tuple(one.rows),
            studies=len(scanner.sent),
            refused=tuple(scanner.refused),
            lost=lost,
        )
        _keep(outcome, one.repository, one.box, out)
    _show(outcome)
    console.print(f"\n{out / 'update.json'}   repository: {out / 'repo'}")
    held = all(row.held for row in outcome.rows)
    return 0 if held and outcome.studies and not outcome.refused and not lost else 1


def _steps(one: Run, folder: Path) -> None:
    box = one.box
    first, second, _, last = (_version(wheel) for wheel in one.wheels)

    def good() -> tuple[bool, str]:
        one.release(1, "Better words. Nothing changes for the reader.")
        done = box.types("now")
        status = one.until(lambda s: _state(s) is not State.TRIAL)
        held = done.returncode == 0 and _state(status) is State.CONFIRMED and _runs(status, second)
        return held, _words(status, done.stderr)

    def bad() -> tuple[bool, str]:
        one.release(2, "Work ends at once. Broken on purpose.")
        box.types("now")
        status = one.until(lambda s: _state(s) is State.ROLLED_BACK)
        return _state(status) is State.ROLLED_BACK and _runs(status, second), _words(status)

    def again() -> tuple[bool, str]:
        box.types("check")
        status = one.until(lambda s: not s.busy)
        why = {one.code.value for one in status.why}
        held = _runs(status, second) and bool(why & {"rolled_back", "not_automatic"})
        return held, f"{_words(status)}; {', '.join(sorted(why))}"

    def recall() -> tuple[bool, str]:
        one.repository.recall(second, "It was found to be wrong.")
        with one.scanner.paused():  # no update ever delays a study: a minute of quiet is waited for
            box.types("check")
            status = one.until(lambda s: _runs(s, first))
        return _runs(status, first), _words(status)

    def stick() -> tuple[bool, str]:
        one.release(3, "What was wrong is right.")
        one.repository.stick(folder / "stick")
        done = box.types("now", "--from", str(folder / "stick"))
        status = one.until(lambda s: _state(s) is not State.TRIAL)
        held = done.returncode == 0 and _state(status) is State.CONFIRMED and _runs(status, last)
        return held, _words(status, done.stderr)

    one.step("a good release", "fetched, proved, on trial, confirmed after 3 studies", good)
    one.step("a bad release: a stage ends at once", "goes back by itself", bad)
    one.step("the bad one is offered again", "not tried again by itself", again)
    one.step(
        "what runs is recalled",
        "gives way to the newest good slot in the next quiet minute",
        recall,
    )
    one.step("the next release comes on a stick", "taken like one from the network", stick)
    one.step(
        "a plain client of TUF reads the repository",
        "every file has the length and digest that were signed",
        lambda: _plain(one.repository, folder / "plain"),
    )


def _state(status: Status) -> State | None:
    return status.steps.state if status.steps is not None else None


def _runs(status: Status, version: str) -> bool:
    return status.appliance.version == version


def _words(status: Status, said: str = "") -> str:
    steps = status.steps
    how = f"{steps.release} is {steps.state.value}" if steps is not None else "no release in hand"
    trouble = status.trouble or said.strip()
    runs = f"{how}; {status.appliance.version} runs in slot {status.slot}"
    return f"{runs}; {trouble}" if trouble else runs


def _prepared(folder: Path, stack: ExitStack) -> Run:
    """Wheels, repository, server, broker and an installed box."""
    python = f"{sys.version_info[0]}.{sys.version_info[1]}"
    wheels = wheel.ROOT / "build" / "wheels" / f"x86_64-{python}"
    requirements = wheel.ROOT / "locks" / "device.txt"
    with console.status("fetching the wheels of a device, once ..."):
        lock.fetch("device", "x86_64", wheels, pythons=(python,))
    with console.status("making the wheels of four versions ..."):
        first = wheel.packed(wheel.ROOT, folder)
        made = [first]
        for ahead, fault in enumerate((None, "crash", None), start=1):
            version = _later(_version(first), ahead)
            name, data = versions.of(first.name, first.read_bytes(), version, fault)
            made.append(folder / name)
            made[-1].write_bytes(data)
        sbom = folder / "sbom.json"
        words = ["sbom", "--extras", "openvino,engine,update", "-o", str(sbom)]
        subprocess.run([sys.executable, "-m", "compile", *words], check=True, capture_output=True)
    repository = Repository(folder / "repository", requirements, wheels, (python, after(python)))
    with console.status("making keys and a repository ..."):
        repository.begin()
    url = stack.enter_context(_served(repository.served))
    console.print(f"[green]✓[/green] a repository of releases at {url}, 2 of 3 keys for a release")
    port = free_port()
    stack.enter_context(broker.mosquitto(folder, port))
    box = Box(folder / "box", url, port)
    box.folder.mkdir()
    with console.status("installing a box (pip makes slot 1) ..."):
        box.install(first, sorted(wheels.glob("*.whl")), requirements, repository.first_root)
    return Run(box, repository, made, sbom, Scanner(box))


def _version(wheel: Path) -> str:
    return wheel.name.split("-")[1]


def _later(version: str, ahead: int) -> str:
    major, minor, patch = version.split(".")
    return f"{major}.{minor}.{int(patch) + ahead}"


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """The table says what matters."""


@contextmanager
def _served(folder: Path) -> Iterator[str]:
    """The files behind http on the loopback interface."""
    handler = functools.partial(_Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def _lost(box: Box, scanner: Scanner) -> int:
    """How many studies have no report, after some patience."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        lost = len(scanner.sent) - len(box.analysed(scanner.sent))
        if not lost:
            return 0
        time.sleep(LOOK_S)
    return lost


def _plain(repository: Repository, folder: Path) -> tuple[bool, str]:
    """python-tuf's own client, without anything of ours."""
    from tuf.ngclient import Updater  # noqa: PLC0415 - named where it is the point

    targets = folder / "targets"
    targets.mkdir(parents=True)
    with _served(repository.served) as url:
        client = Updater(
            str(folder / "metadata"), f"{url}/metadata/", str(targets), f"{url}/targets/",
            bootstrap=repository.first_root.read_bytes(),
        )  # fmt: skip
        client.refresh()
        found = []
        for number in range(1, 100):
            line = client.get_targetinfo(f"stable/{number}.json")
            if line is None:
                break
            client.download_target(line)
            found.append(number)
    return len(found) == 3, f"releases {', '.join(map(str, found))} of stable verified"


def _keep(outcome: Outcome, repository: Repository, box: Box, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(out / "repo", ignore_errors=True)
    shutil.copytree(repository.served, out / "repo")
    shutil.copy(box.folder / "box.log", out / "box.log")
    (out / "update.json").write_text(outcome.model_dump_json(by_alias=True, indent=1) + "\n")


def _show(outcome: Outcome) -> None:
    table = Table("", "step", "expected", "what happened", "s")
    for row in outcome.rows:
        mark = "[green]held[/green]" if row.held else "[red]not held[/red]"
        table.add_row(mark, row.step, row.expected, row.happened, f"{row.seconds:.0f}")
    console.print(table)
    console.print(
        f"{outcome.studies} studies were sent meanwhile: {len(outcome.refused)} refused, "
        f"{outcome.lost} lost"
    )
    for why in outcome.refused[:5]:
        console.print(f"  {why}")
