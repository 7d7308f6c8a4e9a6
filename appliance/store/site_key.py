"""The site key, with which what is published is named (`naming`). It never leaves the device.

Rules
- Its fingerprint is a row of the audit, written by the first stage that uses the key. It is a cut
  SHA-256 with a label of its own: it tells two keys apart, and helps nobody to guess one.
- Where the audit knows a fingerprint, another key, or none, is an error and not a new beginning:
  every pseudonym and id would change, and nobody could say why. Only a person accepts a new one
  (`scanside site-key --accept`), and that is a row of the audit too.
- An audit that began anew after a damage of the journal knows none. There the pseudonyms that came
  back with the reports tell whether a key is the one that named them.
"""

from __future__ import annotations

import contextlib
import hashlib
import secrets
from pathlib import Path

from appliance.errors import StateUnusable
from appliance.naming import Naming
from appliance.store import plain
from appliance.store.files import DISK, Disk
from appliance.store.journal import Journal
from appliance.store.journal.damage import DAMAGED

KEY_BYTES = 32
NAME = "site.key"
ACTION = "site_key"
"""Of the row of the audit, whose detail is the fingerprint."""
RESTORE = (
    "Restore site.key from a backup. If it is lost for good, type: scanside site-key --accept. "
    "From then on studies have other pseudonyms, reports and findings other ids."
)


def site_key(state: Path, disk: Disk = DISK) -> bytes:
    """The key of this state folder, made at first use (32 random bytes, mode 0600).

    StateUnusable where it is damaged, or is not the one that the audit knows.
    """
    known, named = _used(state)
    path = state / NAME
    if known is None and not named and not path.exists():
        _make(path, disk)
    key = _read(state)
    if known not in (None, fingerprint(key)):
        raise _changed(f"{path} is not the key that the audit knows ({known})")
    if named and not any(Naming(key).study(study) == pseudonym for study, pseudonym in named):
        raise _changed(f"{path} is not the key that named the studies of this device")
    return key


def is_used(state: Path) -> bool:
    """Whether a key has named anything here, as far as the journal of a state folder knows."""
    return _used(state) != (None, frozenset())


def fingerprint(key: bytes) -> str:
    """16 hexadecimal digits."""
    return hashlib.sha256(b"scanside: fingerprint of a site key\0" + key).hexdigest()[:16]


def known_fingerprint(state: Path) -> str | None:
    """What the audit of a state folder knows, if it knows any."""
    return _used(state)[0]


def _used(state: Path) -> tuple[str | None, frozenset[tuple[str, str]]]:
    """The fingerprint that the audit knows; where it began anew and knows none, Study Instance UIDs
    and their pseudonyms."""
    try:
        journal = Journal.read(state)
    except StateUnusable as e:
        if e.code == "journal_waits":  # of a release that wrote no fingerprint
            return None, frozenset()
        raise
    if journal is None:
        return None, frozenset()
    with journal:
        known = of_audit(journal)
        if known is not None or not journal.audit.of((DAMAGED,)):
            return known, frozenset()
        return None, journal.series.named()


def of_audit(journal: Journal) -> str | None:
    """The fingerprint that this audit knows, if it knows any."""
    rows = journal.audit.of((ACTION,))
    return str(rows[-1].detail.get("fingerprint")) if rows else None


def _changed(text: str) -> StateUnusable:
    return StateUnusable(text, remedy=RESTORE, code="site_key_changed")


def register(journal: Journal, key: bytes, actor: str) -> None:
    """Have the audit know this key, where it knows none."""
    if of_audit(journal) is None:
        journal.audit.add(actor, ACTION, fingerprint=fingerprint(key))


def accept(journal: Journal, state: Path, actor: str, disk: Disk = DISK) -> str:
    """From now on the key that lies there counts, or a new one where none does; its fingerprint.

    A file that is no key is an error.
    """
    if not (state / NAME).exists():
        _make(state / NAME, disk)
    found = fingerprint(_read(state))
    if found != (before := of_audit(journal)):
        journal.audit.add(actor, ACTION, fingerprint=found, before=before or "-")
    return found


def _make(path: Path, disk: Disk) -> None:
    disk.make_folder(path.parent)
    fresh = path.with_name(f".{NAME}.{secrets.token_hex(8)}")
    disk.write(fresh, secrets.token_bytes(KEY_BYTES))
    with contextlib.suppress(FileExistsError):  # another stage was first: its key counts
        disk.adopt(fresh, path)
    disk.remove(fresh)


def _read(state: Path) -> bytes:
    path = state / NAME
    try:
        key = plain.read(state, NAME, most=KEY_BYTES)
    except FileNotFoundError as e:
        raise StateUnusable(
            f"{path} is missing, and this device has used one", remedy=RESTORE, code="site_key_lost"
        ) from e
    except OSError as e:
        raise StateUnusable(f"{path}: {e.strerror}") from e
    if len(key) != KEY_BYTES:
        size = path.stat().st_size
        raise StateUnusable(
            f"{path} has {size} bytes, {KEY_BYTES} are expected",
            remedy="Restore it from a backup; without it pseudonyms of past studies change.",
        )
    return key
