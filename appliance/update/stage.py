"""`update`: the stage that speaks with the repository of releases. It fetches and decides nothing.

Rules
- It looks at its start, every EVERY_S with a lag by the name of the device, so that a fleet does
  not come at one moment, and whenever facts.json says that it was asked once more.
- Without [update] url nothing is asked of anybody, but of a URL that a person named for once.
- Every look ends with a word in downloads/offered: `apply` waits for that, and `status` shows it.
- It writes downloads/ alone, lives there (run/update.lock), and has no right to anything else.
"""

from __future__ import annotations

import hashlib
import logging
import signal
import threading
import time
from collections.abc import Callable
from datetime import datetime, timezone

from appliance.errors import StateUnusable
from appliance.settings import Settings
from appliance.store.files import DISK
from appliance.store.heartbeat import BEAT_S, living
from appliance.update import facts
from appliance.update.facts import Told
from appliance.update.fetch import Fetching

LOG = logging.getLogger(__name__)
EVERY_S = 6 * 3600.0
LOOK_S = 1.0
"""How soon it sees that it was asked: facts.json is of another user, and wakes nobody."""
FIRST_ROOT = "1.root.json"


def lag_s(site: str, device: str, every_s: float = EVERY_S) -> float:
    """How long after the beginning of each span this device asks; pure."""
    seen = hashlib.sha256(f"{site}/{device}".encode()).digest()
    return int.from_bytes(seen[:4], "big") / 2**32 * every_s


def due_in_s(at: float, lag: float, every_s: float = EVERY_S) -> float:
    """Seconds until the next look by the timer, at `at` seconds since 1970; pure."""
    return (lag - at) % every_s


def main(
    settings: Settings, ready: Callable[[], object] | None = None, *, every_s: float = EVERY_S
) -> int:
    """Run until SIGTERM or SIGINT."""
    ours = settings.update
    if ours.root is None:
        raise StateUnusable(
            "this is no box that updates itself",
            code="update_no_root",
            remedy="Install with install.sh, or set [update] root to the folder of the slots.",
        )
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    DISK.make_folder(ours.downloads)
    fetching = Fetching(settings, first_root(settings))
    lag = lag_s(settings.site.name, settings.site.device, every_s)
    with living(ours.downloads, "update") as heart:
        if ready is not None:
            ready()
        found = facts.offered(ours.downloads)
        asked = found.asked if found is not None else -1
        due = time.monotonic()
        while not stop.is_set():
            heart.beat()
            told = facts.told(ours.trusted)
            if told is not None and (told.asked != asked or time.monotonic() >= due):
                asked = told.asked
                due = time.monotonic() + (due_in_s(time.time(), lag, every_s) or every_s)
                _look(fetching, told)
            stop.wait(min(LOOK_S, BEAT_S))
    return 0


def first_root(settings: Settings) -> bytes:
    """The root that came with the installer. StateUnusable (`update_no_trust`)."""
    path = settings.update.trusted / FIRST_ROOT
    try:
        return path.read_bytes()
    except OSError as e:
        raise StateUnusable(
            f"{path}: {e.strerror}",
            code="update_no_trust",
            remedy="Install again from the installer's archive: trust in releases comes with it.",
        ) from e


def _look(fetching: Fetching, told: Told) -> None:
    url = told.url or fetching.settings.update.url
    if url is None:
        return
    found = fetching.look(told, datetime.now(timezone.utc), fetching.source(url))
    if found.text:
        LOG.warning("%s: %s", found.code, found.text)
    facts.offer(fetching.disk, fetching.folder, found)
