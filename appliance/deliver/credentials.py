"""Who we are to a DICOMweb service: the Authorization header (RFC 6750, RFC 7617).

Rules
- A secret stands in a file, and never in the settings: these are shown, copied and kept elsewhere.
- The file is one that only its owner can read, else it is not used: who reads it can write into the
  archive in our name.
- It is read for each connection, so that a renewed token needs no restart.
- No error shows what stands in it.
"""

from __future__ import annotations

import base64
import os
import stat
from pathlib import Path
from typing import Final

from appliance.errors import SettingsInvalid
from appliance.settings import Stow

MOST_BYTES: Final = 65536


def header(to: Stow) -> dict[str, str]:
    """The header of every request to this archive, or none. SettingsInvalid names the line."""
    if to.token_file is not None:
        token = _secret(to, "token_file", to.token_file)
        if not token.isascii() or not token.isprintable() or " " in token:
            raise _invalid(to, "token_file", to.token_file, "its first line is no token")
        return {"Authorization": f"Bearer {token}"}
    if to.username is not None and to.password_file is not None:
        pair = f"{to.username}:{_secret(to, 'password_file', to.password_file)}"
        return {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode('ascii')}"}
    return {}


def _secret(to: Stow, setting: str, path: Path) -> str:
    """The first line of the file."""
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            content = file.read(MOST_BYTES)
    except OSError as e:
        raise _invalid(
            to,
            setting,
            path,
            str(e.strerror or e),
            "Name a file that the stage `deliver` can read.",
        ) from e
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        remedy = f"Type: chmod 600 {path}"
        raise _invalid(to, setting, path, "others than its owner may read or write it", remedy)
    try:
        line = content.partition(b"\n")[0].decode("utf-8").strip("\r")
    except UnicodeDecodeError as e:
        raise _invalid(to, setting, path, "its first line is no text") from e
    if not line:
        raise _invalid(to, setting, path, "its first line is empty")
    return line


def _invalid(
    to: Stow,
    setting: str,
    path: Path,
    why: str,
    remedy: str = "Put the secret alone into the file.",
) -> SettingsInvalid:
    return SettingsInvalid(
        f'[[deliver]] name = "{to.name}": {setting} {path}: {why}', remedy=remedy
    )
