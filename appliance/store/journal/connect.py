"""The journal's file, and a connection to it. Its schema: `steps`."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from urllib.parse import quote

JOURNAL_NAME = "journal-5.sqlite"
"""Its file in the state folder, of schema 5 and all later ones."""
BUSY_MS = 10_000
"""So long a stage waits for its turn, where another process has the file locked."""


def connected(path: Path, parameters: str = "", busy_ms: int = BUSY_MS) -> sqlite3.Connection:
    """A connection to the file; parameters: of SQLite's URI, such as `mode=ro`."""
    return sqlite3.connect(
        f"file:{quote(str(path))}?{parameters}",
        uri=True,
        isolation_level=None,
        timeout=busy_ms / 1000,
        check_same_thread=False,
    )
