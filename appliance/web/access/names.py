"""How rows of the journal name readers and sessions: by a key of this page's own.

Rules
- The key (32 random bytes, state/web/key, 0600) is made at first use and never leaves the device.
  It is not the site key, which this stage cannot read.
- A name is a cut HMAC-SHA-256 (RFC 2104). It says nothing of the account but that it is the same
  one; which one it is, `scanside web user list` says, and the row that the account was made.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import secrets
from pathlib import Path

from appliance.errors import StateUnusable
from appliance.store import plain
from appliance.store.files import DISK, Disk
from appliance.web.access.kept import FOLDER

KEY_BYTES = 32


def key(state: Path, disk: Disk = DISK) -> bytes:
    """The key of this state folder, made at first use. StateUnusable where it is damaged."""
    path = state / FOLDER / "key"
    if not path.exists():
        disk.make_folder(path.parent)
        fresh = path.with_name(f".key.{secrets.token_hex(8)}")
        disk.write(fresh, secrets.token_bytes(KEY_BYTES))
        with contextlib.suppress(FileExistsError):  # another process was first: its key counts
            disk.adopt(fresh, path)
        disk.remove(fresh)
    try:
        found = plain.read(state, FOLDER, "key", most=KEY_BYTES)
    except OSError as e:
        raise StateUnusable(f"{path}: {e.strerror}") from e
    if len(found) != KEY_BYTES:
        raise StateUnusable(
            f"{path} has {len(found)} bytes, {KEY_BYTES} are expected",
            remedy=f"Remove {path}. Rows of the same reader then have another name than before.",
            code="web_file_damaged",
        )
    return found


def reader(with_key: bytes, account: str) -> str:
    """What rows call an account; 16 hexadecimal digits."""
    return _named(with_key, "reader", account)


def session(with_key: bytes, session_id: str) -> str:
    """What rows call a session; 16 hexadecimal digits."""
    return _named(with_key, "session", session_id)


def _named(with_key: bytes, kind: str, of: str) -> str:
    return hmac.new(with_key, f"{kind}\0{of}".encode(), hashlib.sha256).hexdigest()[:16]
