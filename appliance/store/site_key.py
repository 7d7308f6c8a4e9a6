"""The site key, with which what is published is named (`naming`). It never leaves the device."""

from __future__ import annotations

import contextlib
import secrets
from pathlib import Path

from appliance.errors import StateUnusable
from appliance.store.files import DISK, Disk

KEY_BYTES = 32


def site_key(state: Path, disk: Disk = DISK) -> bytes:
    """The key of this state folder, made at first use (32 random bytes, mode 0600).

    StateUnusable where it is damaged: with another key every name would change unnoticed.
    """
    path = state / "site.key"
    if not path.exists():
        disk.make_folder(state)
        fresh = path.with_name(f".site.key.{secrets.token_hex(8)}")
        disk.write(fresh, secrets.token_bytes(KEY_BYTES))
        with contextlib.suppress(FileExistsError):  # another stage was first: its key counts
            disk.adopt(fresh, path)
        disk.remove(fresh)
    try:
        key = path.read_bytes()
    except OSError as e:
        raise StateUnusable(f"{path}: {e.strerror}") from e
    if len(key) != KEY_BYTES:
        raise StateUnusable(
            f"{path} has {len(key)} bytes, {KEY_BYTES} are expected",
            remedy="Restore it from a backup; without it pseudonyms of past studies change.",
        )
    return key
