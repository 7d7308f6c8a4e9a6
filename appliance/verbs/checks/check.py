"""What a check of the doctor takes and gives.

Rules
- A check never raises a ScansideError and never repairs: it says what is and what to do. It leaves
  nothing behind but word that the journal is suspected (`store/journal/damage.py`). An OSError that
  it lets through means that this user may not look; the doctor says so.
- A failure names the file and the setting, or the command to type. What a machine lacks but nobody
  needs is said and is no failure.
- A check imports what it needs when it runs, so that a broken library breaks one check only.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass

from appliance.report import Record
from appliance.settings import Settings

PATIENCE_S = 3.0
"""How long one question to a peer or a program may take."""


class Check(Record):
    """One link. `remedy` is empty where nothing has to be done; of what is `ok` it is a warning."""

    name: str
    ok: bool
    text: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Device:
    """This device as it is examined: its settings, and the name of the file that they came from."""

    settings: Settings
    file: str

    def setting(self, section: str, text: str) -> str:
        """The setting to change, with its file and section."""
        return f"{self.file}: [{section}] {text}"


def importable(module: str) -> bool:
    """Whether the module can be imported here. It stays imported."""
    try:
        importlib.import_module(module)
    except ImportError:
        return False
    return True
