"""How often a stage ended quickly, and how long it waits before it begins again.

    run/STAGE.starts     {"quick": how many starts in a row did not last LASTED_S}

Rules
- systemd starts a stage again after 5 s, always: it can let the pause grow from release 254 on, and
  JetPack 6 has 249. So it grows here, before the stage begins, up to LONGEST_S.
- A start counts from its beginning. It is forgotten once the process has worked for LASTED_S, or
  has ended as it was asked to. So a machine that dies each time counts too: no boot ends the count.
- Only where systemd itself started this process (SYSTEMD_EXEC_PID, systemd.exec(5), from release
  248 on). A person at a terminal waits for nothing, and `scanside run` has a pause of its own.
- Not durable, and no error: a disk that takes no count costs only the pause.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from pydantic import Field, ValidationError

from appliance.errors import StateUnusable
from appliance.host import notify
from appliance.report import Record
from appliance.store.files import DISK

log = logging.getLogger(__name__)

LASTED_S = 60.0
FREE = 3
"""So many quick ends cost no pause of ours: a broker or a disk that comes a little late."""
SHORTEST_S, LONGEST_S = 10.0, 300.0


class Starts(Record):
    """What the file holds."""

    quick: int = Field(default=0, ge=0)


def pause_s(quick: int) -> float:
    """Seconds before a start that comes after so many quick ends in a row; pure."""
    if quick < FREE:
        return 0.0
    return float(min(LONGEST_S, SHORTEST_S * 2.0 ** min(quick - FREE, 16)))


@contextlib.contextmanager
def counted(
    state: Path,
    stage: str,
    *,
    sleep: Callable[[float], object] = time.sleep,
    environ: Mapping[str, str] | None = None,
) -> Iterator[None]:
    """One life of the stage, after the pause that its last ones earned. Leaving it without an
    exception was a stop on purpose."""
    meant_for = (os.environ if environ is None else environ).get("SYSTEMD_EXEC_PID")
    if meant_for != str(os.getpid()):
        yield
        return
    quick = _read(state, stage)
    if pause := pause_s(quick):
        text = f"ended {quick} times within {LASTED_S:.0f} s: begins in {pause:.0f} s"
        log.warning("%s %s", stage, text)
        notify.status(text)
        sleep(pause)
    _write(state, stage, quick + 1)
    yield
    forget(state, stage)


def forget(state: Path, stage: str) -> None:
    """The stage has lasted, or was asked to end."""
    with contextlib.suppress(OSError):
        _path(state, stage).unlink(missing_ok=True)


def _read(state: Path, stage: str) -> int:
    try:
        return Starts.stored(_path(state, stage).read_bytes()).quick
    except (OSError, ValidationError):
        return 0


def _write(state: Path, stage: str, quick: int) -> None:
    path = _path(state, stage)
    temp = path.with_name(f".{path.name}.tmp")
    with contextlib.suppress(OSError, StateUnusable):
        DISK.make_folder(path.parent)
        temp.write_bytes(Starts(quick=quick).model_dump_json().encode())
        temp.replace(path)


def _path(state: Path, stage: str) -> Path:
    return state / "run" / f"{stage}.starts"
