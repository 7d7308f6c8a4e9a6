"""`scanside priors`: which earlier exams are kept here, and how one person's are taken away.

Rules
- A patient's id is read from standard input, a line each, and never from the command line, which
  other users of the machine and its history can read. It is written nowhere, not into the audit
  either: only how many entries there were.
- `list` names entries by what their files are called; only `show`, which was given an id, opens
  those of that person.
- `merge` also counts for what comes later under the first id, and the exams of that person are
  compared anew. That is remembered as two keyed hashes, which `list` shows, until it is forgotten.
- `forget` takes the entries of a person and what was said in comparisons with them. It cannot reach
  what has left the device, and says so.
"""

from __future__ import annotations

import sys
import uuid
from collections.abc import Collection
from datetime import datetime, timezone
from pathlib import Path
from typing import Final, TextIO

from rich.console import Console
from rich.table import Table

from appliance.comparison import KeptComparison
from appliance.errors import ScansideError
from appliance.naming import Naming
from appliance.prior import packed, patient
from appliance.prior.entry import Entry
from appliance.settings import Settings
from appliance.store import bell, kept, plain
from appliance.store.files import DISK
from appliance.store.journal import Journal
from appliance.store.priors import Kept, Priors
from appliance.store.site_key import site_key

SHOWN: Final = 12
"""Digits of the key of a person that `list` shows: enough to tell people apart."""
COMPARISON: Final = "comparison-"
"""How the files of comparisons beside a report begin."""
OUT_OF_REACH: Final = (
    "Not reached from here: objects that archives have taken, messages that MQTT consumers have",
    "received or are owed, backups of this device. Images and reports still here go by [retain].",
)


def show_all(settings: Settings, console: Console) -> None:
    """A table of all entries, without opening one."""
    held = Priors(settings.state)
    entries = held.all()
    for key, into in sorted(held.merged().items()):
        console.print(f"{key[:SHOWN]} was merged: its exams are kept under {into[:SHOWN]}")
    if not entries:
        console.print("No entry of an earlier exam is kept.")
        return
    table = Table(box=None)
    for name in ("person", "report", "written", "MB"):
        table.add_column(name, justify="right" if name == "MB" else "left")
    for one in entries:
        written = datetime.fromtimestamp(one.written, timezone.utc)
        size = f"{one.size / 1e6:.1f}"
        table.add_row(one.person[:SHOWN], str(one.report_id), f"{written:%Y-%m-%d}", size)
    console.print(table)
    people = len({one.person for one in entries})
    console.print(f"{len(entries)} entries of {people} people, {held.size() / 1e6:.0f} MB")


def show(settings: Settings, patient_id: str, issuer: str | None, console: Console) -> None:
    """What is kept of one person. ScansideError `no_priors` where nothing is."""
    held = Priors(settings.state)
    entries = held.of_person(_key(settings, patient_id, issuer))
    if not entries:
        raise _nothing()
    for one in entries:
        console.print(_described(one, held.read(one)), markup=False, highlight=False)


def forget(settings: Settings, patient_id: str, issuer: str | None, actor: str) -> tuple[int, int]:
    """Take all entries of one person and the comparisons with them; how many of each. Audited.
    ScansideError `no_priors` where there is none."""
    key = _key(settings, patient_id, issuer)
    held = Priors(settings.state)
    reports = {one.report_id for one in held.of_person(key)}
    merged = held.merged()
    if not reports and key not in {*merged, *merged.values()}:
        raise _nothing()
    with Journal.open(settings.state) as journal:
        # first, because without the entries nobody would know whose they are; and again, for one
        # that was being made meanwhile
        gone = _forget_comparisons(settings, journal, reports)
        entries = len(held.forget(key))
        gone |= _forget_comparisons(settings, journal, reports)
        journal.audit.add(actor, "priors_forgotten", entries=entries, comparisons=len(gone))
    return entries, len(gone)


def merge(settings: Settings, patient_ids: tuple[str, str], issuer: str | None, actor: str) -> int:
    """From now on the entries of the first id are the second's, and so is what comes later under
    it; how many moved. The standing exams of that person wait to be compared again. Audited.
    ScansideError `no_priors` where the first has none."""
    key, into = (_key(settings, one, issuer) for one in patient_ids)
    if key == into:
        raise ScansideError("both ids are the same", code="same_id", remedy="Give two ids.")
    held = Priors(settings.state)
    if not held.of_person(key):
        raise _nothing()
    with Journal.open(settings.state) as journal:
        count = held.merge(key, into)
        again = journal.comparisons.again(str(one.report_id) for one in held.of_person(into))
        journal.audit.add(actor, "priors_merged", entries=count, compared_again=again)
    bell.ring(settings.state, bell.COMPARE)
    return count


def ids(stream: TextIO, *asked: str) -> tuple[str, ...]:
    """A line of standard input for each of these; who sits at a terminal is told which."""
    found = []
    for name in asked:
        if stream.isatty():
            sys.stderr.write(f"{name}: ")
            sys.stderr.flush()
        line = stream.readline()
        if not line.strip():
            raise ScansideError(
                f"no {name} came on standard input",
                remedy="Type it, or pipe it in, a line each.",
                code="no_patient_id",
            )
        found.append(line.rstrip("\r\n"))
    return tuple(found)


def _key(settings: Settings, patient_id: str, issuer: str | None) -> str:
    whose = settings.priors.issuer if issuer is None else issuer
    held = Priors(settings.state)
    if not held.all() and not held.merged():
        raise _nothing()
    key = patient.key_of(Naming(site_key(settings.state)), whose, patient_id)
    if key is None:
        raise ScansideError(
            "this is no id of a patient, so nothing is kept under it",
            remedy="Give the id as the images name it: (0010,0020) Patient ID.",
            code="no_patient_id",
        )
    return key


def _nothing() -> ScansideError:
    return ScansideError(
        "nothing is kept of this person",
        remedy="Another issuer may be meant (--issuer); upper and lower case count.",
        code="no_priors",
    )


def _described(one: Kept, data: bytes | None) -> str:
    """A few lines on one entry."""
    try:
        entry = None if data is None else packed.unpacked(data)
    except ValueError as e:
        return f"report {one.report_id}: cannot be read: {e}"
    return f"report {one.report_id}: it is gone" if entry is None else _lines(one, entry)


def _lines(one: Kept, entry: Entry) -> str:
    facts = entry.facts
    dz, dy, _ = facts.spacing_mm
    taken = facts.taken[:8] if facts.taken else "unknown"
    spread = "unknown"
    if facts.spread_mm is not None:
        spread = f"{facts.spread_mm[0]:.2f} mm along z, {facts.spread_mm[1]:.2f} mm in plane"
    findings, scored = len(entry.report.findings), len(facts.candidates)
    return "\n".join(
        (
            f"report {one.report_id}",
            f"  taken {taken}, slices every {dz:g} mm, pixels of {dy:.2f} mm",
            f"  kernel {facts.kernel or 'unknown'}, blur {spread}",
            f"  {findings} findings, {scored} scored, {len(entry.cubes)} cubes",
            f"  {one.size / 1e6:.1f} MB",
        )
    )


def _forget_comparisons(
    settings: Settings, journal: Journal, reports: Collection[uuid.UUID]
) -> set[str]:
    """Remove comparisons of, or with, these reports, rows and what lies beside; their ids."""
    gone: set[str] = set()
    folder = plain.real_folder(settings.state / kept.FOLDER)
    for path in sorted(folder.glob(f"*/{COMPARISON}*.json")):
        if not _is_of(settings.state, path, reports):
            continue
        for part in sorted(path.parent.glob(f"{path.stem}.*")):
            DISK.remove(part)
        gone.add(path.stem.removeprefix(COMPARISON))
    rows = journal.comparisons.forget([str(one) for one in sorted(reports)])
    return gone | {comparison for _, comparison in rows}


def _is_of(state: Path, path: Path, reports: Collection[uuid.UUID]) -> bool:
    try:
        data = plain.read(state, kept.FOLDER, path.parent.name, path.name)
        said = KeptComparison.stored(data).comparison
    except (OSError, ValueError):
        return False
    prior = None if said.prior is None else said.prior.report_id
    return said.report_id in reports or prior in reports
