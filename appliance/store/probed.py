"""What is kept of implants on this device: probe/, a file a scanner.

    probe/<32 hex digits of its key>.json    watching.probe.Probed

Rules.
1. One process writes it: the child of `work` (probe/child.py), under its lock. Others read.
2. A file is whole: written through a Disk. One that is damaged, or that says what this release does
   not know, is set aside as `.damaged` when the scanner is probed next, and begins anew.
3. At most MOST_SCANNERS files, and in each the last MOST_SERIES series. The scanner that was probed
   longest ago goes first.
4. There are figures in it, and names that the site key made (naming.Naming.series): no pixel, no
   UID, nothing of a patient.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from appliance.store import plain
from appliance.store.files import DISK, TEMP_SUFFIX, Disk
from appliance.watching.probe import Probed
from appliance.watching.scanner import Scanner

log = logging.getLogger("scanside.probe")

FOLDER: Final = "probe"
MOST_SCANNERS: Final = 64
MOST_SERIES: Final = 200
DAMAGED: Final = ".damaged"


def all_of(state: Path) -> tuple[Probed, ...]:
    """All scanners, the one probed last first; those that cannot be read are left out."""
    found = [one for path in _files(state) if (one := _read(state, path)) is not None]
    return tuple(sorted(found, key=_last, reverse=True))


def of_scanner(state: Path, scanner: Scanner) -> Probed:
    """What is kept of one scanner; empty where nothing is, or where it cannot be read."""
    return _read(state, _path(state, scanner)) or Probed(scanner=scanner)


def keep(state: Path, probed: Probed, disk: Disk = DISK) -> None:
    """What is known of one scanner, in place of what was; durable when this returns. StateUnusable
    where the disk does not let it."""
    path = _path(state, probed.scanner)
    disk.make_folder(plain.real_folder(path.parent))
    if path.exists() and _read(state, path) is None:
        log.warning("%s cannot be read: it is set aside, and its scanner begins anew", path.name)
        disk.move(path, path.with_suffix(DAMAGED))
    bounded = probed.model_copy(update={"series": probed.series[-MOST_SERIES:]})
    disk.write(path, bounded.model_dump_json(by_alias=True).encode())
    _bounded(state, path, disk)


def clear_unfinished(state: Path) -> None:
    """Files that a process that was killed had not finished."""
    for path in (state / FOLDER).glob(f".*{TEMP_SUFFIX}"):
        with suppress(OSError):
            path.unlink()


def _bounded(state: Path, newest: Path, disk: Disk) -> None:
    """Rule 3."""
    paths = [path for path in _files(state) if path != newest]
    over = len(paths) + 1 - MOST_SCANNERS
    if over > 0:
        ages = {path: _read(state, path) for path in paths}
        oldest = sorted(paths, key=lambda one: (_last(ages[one]), one.name))
        for path in oldest[:over]:
            disk.remove(path)


def _last(probed: Probed | None) -> float:
    return probed.series[-1].at.timestamp() if probed is not None and probed.series else 0.0


def _files(state: Path) -> Iterator[Path]:
    return iter(sorted((state / FOLDER).glob("*.json")))


def _path(state: Path, scanner: Scanner) -> Path:
    digest = hashlib.sha256(scanner.model_dump_json().encode()).hexdigest()[:32]
    return state / FOLDER / f"{digest}.json"


def _read(state: Path, path: Path) -> Probed | None:
    with suppress(OSError, ValueError):
        return Probed.stored(plain.read(state, FOLDER, path.name))
    return None
