"""Passwords: how they are kept, checked and made.

Rules
- Kept is scrypt (RFC 7914) of the password with a salt of 16 bytes: N = 2^15, r = 8, p = 3, one of
  the five settings that OWASP's Password Storage Cheat Sheet holds for equal, the one that needs
  32 MiB: a box beside a scanner has little memory to spare.
- At most AT_ONCE are computed at a time, so that no flood of logins takes the memory or the
  processors of the stages that analyse. Who waits longer than WAIT_S for a turn is told so.
- A name without an account costs the same as one with it (`DECOY`): no answer tells who has one.
- Text is normalised (NFKC) before it is hashed, so that the same password typed on another
  keyboard is the same (NIST SP 800-63B 3.1.1.2).
- A password that a person chooses has LEAST characters. Guessing is bounded by `backoff`, and the
  file of the hashes belongs to the stage alone.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
import unicodedata
from typing import Annotated, Final

from pydantic import Field

from appliance.errors import Retry
from appliance.report import Record

N, R, P = 2**15, 8, 3
_MEMORY = 2 * 128 * N * R
"""Bytes that OpenSSL may use: scrypt needs 128 N r and a little more."""
AT_ONCE: Final = 2
WAIT_S: Final = 5.0
LEAST, MOST = 12, 256
"""Characters."""
_LETTERS: Final = "abcdefghjkmnpqrstuvwxyz23456789"
"""Without those that are taken for another one: i, l, o, 0, 1."""

Hex = Annotated[str, Field(pattern=r"^([0-9a-f]{2})+$")]


class Hashed(Record):
    """A password as it is kept."""

    salt: Hex
    hash: Hex
    n: int = Field(default=N, ge=2, le=2**20)
    r: int = Field(default=R, ge=1, le=32)
    p: int = Field(default=P, ge=1, le=16)


class Busy(Retry):
    """Too many passwords are checked at this moment."""

    code = "login_busy"
    remedy = "Try again in a moment."


_turns = threading.BoundedSemaphore(AT_ONCE)
DECOY: Final = Hashed(salt="00" * 16, hash="00" * 32)
"""What an account that is not there is checked against; no password gives it."""


def hashed(password: str) -> Hashed:
    """As it will be kept. Busy."""
    salt = secrets.token_bytes(16)
    return Hashed(salt=salt.hex(), hash=_scrypt(password, salt, N, R, P).hex())


def fits(password: str, kept: Hashed) -> bool:
    """Whether it is this password; takes the same time either way. Busy."""
    found = _scrypt(password, bytes.fromhex(kept.salt), kept.n, kept.r, kept.p)
    return hmac.compare_digest(found, bytes.fromhex(kept.hash))


def generated() -> str:
    """A new one to be read from a terminal and typed once: 16 letters, 79 bits."""
    groups = ("".join(secrets.choice(_LETTERS) for _ in range(4)) for _ in range(4))
    return "-".join(groups)


def weak(password: str, account: str) -> bool:
    """Whether it is too short, too long, or little else than the account's name."""
    plain = unicodedata.normalize("NFKC", password)
    rest = plain.casefold().replace(account.casefold(), "")
    return not LEAST <= len(plain) <= MOST or len(set(rest)) < 5


def _scrypt(password: str, salt: bytes, n: int, r: int, p: int) -> bytes:
    data = unicodedata.normalize("NFKC", password[:MOST]).encode("utf-8", "surrogatepass")
    if not _turns.acquire(timeout=WAIT_S):
        raise Busy("too many passwords are checked at this moment")
    try:
        memory = max(_MEMORY, 2 * 128 * n * r)
        return hashlib.scrypt(data, salt=salt, n=n, r=r, p=p, maxmem=memory, dklen=32)
    finally:
        _turns.release()
