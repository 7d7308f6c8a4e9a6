"""Series whose scanner is known, the child that probes them, and all that lies on a device."""

from __future__ import annotations

import hashlib
import sqlite3
import subprocess
import sys
from pathlib import Path

from appliance.naming import Naming
from appliance.report import Report
from appliance.settings import Settings
from appliance.store import kept
from appliance.store.journal import JOURNAL_NAME
from appliance.store.kept import QUALITY
from appliance.store.site_key import site_key
from appliance.watching.quality import Outputs, SeriesQuality
from appliance.watching.scanner import Scanner
from rigs.exams import Room

SCANNER = Scanner(modality="CT", maker="Maker", model="Model", kernel="STANDARD")


def measured(room: Room, study: str, scanner: Scanner = SCANNER) -> Report:
    """What `work` keeps of the series of a study beside its report."""
    report = room.report(study)
    quality = SeriesQuality(scanner=scanner, measured=(), outputs=Outputs(analysed=True))
    kept.keep_record(room.settings.state, report.report_id, QUALITY, quality)
    return report


def naming(settings: Settings) -> Naming:
    return Naming(site_key(settings.state))


def lying(state: Path) -> dict[str, str]:
    """Every file of a state folder but those of probe/ and of processes that run, by its digest;
    and every row of the journal."""
    found = {}
    for path in sorted(state.rglob("*")):
        name = path.relative_to(state).as_posix()
        passing = name.startswith(("probe/", "run/", JOURNAL_NAME))
        if path.is_file() and not passing:
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    with sqlite3.connect(f"file:{state / JOURNAL_NAME}?mode=ro", uri=True) as db:
        found[JOURNAL_NAME] = hashlib.sha256("\n".join(db.iterdump()).encode()).hexdigest()
    return found


def started(settings: Settings) -> subprocess.Popen[bytes]:
    """The child as `work` starts it."""
    child = subprocess.Popen(
        [sys.executable, "-m", "appliance.probe.child"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    assert child.stdin is not None
    child.stdin.write(settings.model_dump_json().encode())
    child.stdin.close()
    return child
