"""`scanside demo --drift`: a scanner whose kernel changes while its tags say nothing of it.

    30 patients, as usual -> the row of the scanner is learnt
    4 to 10 more, sharper -> an alarm: what changed, since when, and why it may have
    scanside drift ack ROW -> the row after

Rules
- The patients are made up, and so is the maker: what the phantom's maker sends is never
  counted.
- The kernel is one of the phantom's scanner, put over the pixels; the tag is the same all the time.
- After the change one series is sent at a time, and the library is read after each, so that the
  table shows at which one it was said.
- What it prints is what `scanside drift --json` prints, and the acknowledgement is the verb itself.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from pydicom.dataset import Dataset
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from appliance.demo import drifted, scanner, show
from appliance.demo.drifted import USUAL, WITHIN, Course
from appliance.demo.follow_up import Lines
from appliance.demo.show import Started, console
from appliance.errors import PeerAway
from appliance.phantom.chest import Phantom
from appliance.phantom.instances import Patient
from appliance.phantom.kernel import BONE, STANDARD
from appliance.phantom.patients import patient, person, reconstructed
from appliance.settings import Settings
from appliance.store import library
from appliance.store.journal import Journal
from appliance.verbs import drift
from appliance.verbs.drift import Said, SaidRow
from appliance.watching.told import ToldRow

MAKER, MODEL = "Example Imaging", "Made-up CT"
PEOPLE: Final = 3
MOST: Final = 10
"""Series after the change, where no alarm comes."""
FIRST: Final = datetime(2026, 1, 5, 8)
STALLED_S: Final = 180.0
"""So long nothing was counted, nor answered: then it does not come any more."""
LOOK_S: Final = 0.5


def run(*, out: Path) -> int:
    """The demo of watching; 0 when all was said as it is."""
    with show.started() as up:
        lines = Lines(up.subscriber)
        with console.status(f"making {PEOPLE} people to be scanned ..."):
            people = [person(1 + number) for number in range(PEOPLE)]
        console.print(
            f"{MAKER} {MODEL} scans made-up patients. From series {USUAL + 1} on its pixels are "
            f"those of a sharper kernel ({BONE.name}); its tags say {STANDARD.name} as before."
        )
        with _progress() as progress:
            usual = _usual(people, up, progress)
            since = _since(people, up, progress)
        said = drift.said(up.settings)
        told = _told(up.settings, since[-1]) if since else None
        after = _acknowledged(up, since[-1]) if since and since[-1].alarms else None
        sent = USUAL + len(since)
        wrong = _heard(lines, sent)
        _write(out, said, lines)
    course = Course(usual, tuple(since), told, after, others=len(said.rows) - (usual is not None))
    drifted.show(course, console)
    wrong = [*drifted.lacking(course), *wrong]
    for sentence in wrong:
        console.print(f"[red]not as it is[/red] {sentence}")
    if not wrong:
        console.print(
            f"[green]✓[/green] {sent} studies analysed, the box stayed online, nothing was said "
            "before the change, and then what changed"
        )
    return 1 if wrong else 0


# The scanner.


def images(scan: Phantom, number: int) -> Iterator[Dataset]:
    """The scan of patient `number`, from 0, as this scanner sends it."""
    who = Patient(patient_id=f"DRIFT-{number + 1}", name=f"PHANTOM^{number + 1}")
    when = FIRST + timedelta(minutes=20 * number)
    for image in scanner.series(scan, when=when, kernel=STANDARD.name, patient=who):
        image.Manufacturer, image.ManufacturerModelName = MAKER, MODEL
        yield image


def _send(scan: Phantom, number: int, settings: Settings) -> None:
    to = scanner.Address("SCANSIDE", "127.0.0.1", settings.dicom.port)
    summary = scanner.send(images(scan, number), to, total=len(scan.hu))
    if summary.failed:
        raise PeerAway(
            f"{len(summary.failed)} images of series {number + 1} were not stored",
            remedy="See that this machine's disk is not full.",
        )


def _usual(people: list[Phantom], up: Started, progress: Progress) -> SaidRow | None:
    """The row after the series of before the change, which are sent one after another."""
    sends = progress.add_task("scanner sends", total=USUAL)
    reports = progress.add_task("box has reported", total=USUAL)
    counts = progress.add_task("box has counted", total=USUAL)

    def look(reported: int, counted: int) -> None:
        progress.update(reports, completed=reported)
        progress.update(counts, completed=counted)

    for number in range(USUAL):
        _send(patient(people, number), number, up.settings)
        progress.update(sends, advance=1)
        look(*_done(up.settings))
    return _counted(up.settings, USUAL, look)


def _since(people: list[Phantom], up: Started, progress: Progress) -> list[SaidRow]:
    """The row after each series with the other kernel."""
    task = progress.add_task("the kernel changed", total=WITHIN)
    found: list[SaidRow] = []
    while len(found) < WITHIN or (len(found) < MOST and not found[-1].alarms):
        number = USUAL + len(found)
        _send(reconstructed(patient(people, number), BONE), number, up.settings)
        row = _counted(up.settings, number + 1)
        if row is None or row.n <= number:
            break  # what was said until now is judged
        found.append(row)
        progress.update(task, completed=len(found), total=max(WITHIN, len(found)))
    return found


# What the box says.


def _row(settings: Settings) -> SaidRow | None:
    """Of this scanner."""
    rows = [row for row in drift.said(settings).rows if not row.former]
    return next((row for row in rows if row.key.maker.casefold() == MAKER.casefold()), None)


def _done(settings: Settings) -> tuple[int, int]:
    """How many series have a final report, and how many are counted."""
    row, journal = _row(settings), Journal.read(settings.state)
    if journal is None:
        return 0, 0
    with journal:
        reported = len(journal.reports.finals_after(None, USUAL + MOST))
    return reported, 0 if row is None else row.n


def _counted(
    settings: Settings, n: int, look: Callable[[int, int], None] = lambda *_: None
) -> SaidRow | None:
    """The row once it has counted so many; as it is where nothing goes on any more. It is counted
    when nothing else is to be done, so after the last report."""
    done, end = _done(settings), time.monotonic() + STALLED_S
    while done[1] < n and time.monotonic() < end:
        time.sleep(LOOK_S)
        before, done = done, _done(settings)
        if done != before:
            end = time.monotonic() + STALLED_S
            look(*done)
    look(*done)
    return _row(settings)


def _told(settings: Settings, row: SaidRow) -> ToldRow | None:
    """What may leave of a row, once it is that of today."""
    end = time.monotonic() + STALLED_S
    while True:
        found = next((one for one in library.told(settings.state).rows if one.row == row.row), None)
        if (found is not None and found.n == row.n) or time.monotonic() > end:
            return found
        time.sleep(LOOK_S)


def _acknowledged(up: Started, row: SaidRow) -> SaidRow | None:
    """The row once `work` has obeyed `scanside drift ack`."""
    config = str(up.folder / "scanside.toml")
    command = [sys.executable, "-m", "appliance", "drift", "ack", row.row, "--config", config]
    done = subprocess.run(command, capture_output=True, text=True, timeout=STALLED_S, check=False)
    console.print(f"$ scanside drift ack {row.row}")
    console.print(escape((done.stdout + done.stderr).strip()))
    end = time.monotonic() + STALLED_S
    found = _row(up.settings)
    while found is not None and found.alarms and done.returncode == 0 and time.monotonic() < end:
        time.sleep(LOOK_S)
        found = _row(up.settings)
    return found


def _heard(lines: Lines, sent: int) -> list[str]:
    """What is wrong with what the subscriber received of so many studies and of the box."""
    endings: dict[str, str] = {}
    states: list[str] = []
    for line in lines.within(STALLED_S):
        body = json.loads(line.partition(b" ")[2])
        if body.get("type") == "status":
            states.append(body["state"])
        elif body.get("type") == "study" and body["event"] in show.ENDINGS:
            endings[body["study"]] = body["event"]
        if len(endings) == sent:
            break
    return [*drifted.unanswered(endings, sent), *drifted.not_online(states)]


def _write(out: Path, said: Said, lines: Lines) -> None:
    """What `scanside drift --json` printed before the acknowledgement, and all messages."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "drift.json").write_text(said.model_dump_json(by_alias=True, indent=1) + "\n")
    (out / "messages.txt").write_text("\n".join(lines.all) + "\n")
    console.print(f"\nthe library: {out / 'drift.json'}   messages: {out / 'messages.txt'}")


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total} series"),
        TimeElapsedColumn(),
        console=console,
    )
