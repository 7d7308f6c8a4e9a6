"""The journal's file, its version and its tables, and a connection to such a file."""

from __future__ import annotations

import sqlite3
from importlib import resources
from pathlib import Path
from urllib.parse import quote

JOURNAL_NAME = "journal-5.sqlite"
"""Its file in the state folder."""
VERSION = 5
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


def schema() -> str:
    """The statements that make an empty journal, its version included."""
    text = resources.files("appliance.store.journal").joinpath("schema.sql").read_text("utf-8")
    return f"{text}PRAGMA user_version = {VERSION};"
