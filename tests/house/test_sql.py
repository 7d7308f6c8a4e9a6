"""Every statement of SQL names its columns: a later release may have added some (`steps`)."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
_ALL = re.compile(r"(?:\bSELECT|\bDISTINCT|\bRETURNING|,)\s*(?:\w+\s*\.\s*)?\*")
_WHERE_TO = re.compile(
    r"\b(?:INSERT|REPLACE)(?:\s+OR\s+\w+)?\s+INTO\s+\w+(?:\s*\.\s*\w+)?(.?)", re.S
)


def texts(source: str) -> Iterator[tuple[int, str]]:
    """Line and text of every string; what is put into an f-string stands there as `X`."""
    inside: set[ast.AST] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.JoinedStr):
            inside |= set(node.values)
            parts = (one.value if isinstance(one, ast.Constant) else "X" for one in node.values)
            yield node.lineno, "".join(str(part) for part in parts)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in inside:
            yield node.lineno, node.value


def nameless(sql: str) -> list[str]:
    """What of a statement leaves columns unnamed."""
    if not re.search(r"\b(?:SELECT|RETURNING|INTO)\b", sql):
        return []
    found = [match[0] for match in _ALL.finditer(sql)]
    for match in _WHERE_TO.finditer(sql):
        if not re.match(r"\s*\(", sql[match.end() :]):
            found.append(match[0])
    return found


def test_no_statement_of_the_appliance_leaves_a_column_unnamed() -> None:
    found, seen = [], 0
    for path in sorted((ROOT / "appliance").rglob("*.py")):
        for line, text in texts(path.read_text(encoding="utf-8")):
            seen += bool(re.search(r"\bSELECT\b", text))
            found += [f"{path.relative_to(ROOT)}:{line}: {one}" for one in nameless(text)]
    for path in sorted((ROOT / "appliance").rglob("*.sql")):
        found += [f"{path.relative_to(ROOT)}: {one}" for one in nameless(path.read_text("utf-8"))]
    assert seen > 50, "the queries were found"
    assert not found, "Name the columns: `part.columns` has those of a record."


@pytest.mark.parametrize(
    "source",
    [
        'db.execute("SELECT * FROM series")',
        'f"SELECT series.*, {more} FROM series"',
        '"""SELECT DISTINCT\n  * FROM series"""',
        '"SELECT json, owed.* FROM owed"',
        '"UPDATE owed SET state = ? RETURNING *"',
        '"INSERT INTO audit VALUES (?, ?)"',
        '"INSERT OR IGNORE INTO audit SELECT id FROM old.audit"',
        'f"REPLACE INTO {table} VALUES (1)"',
    ],
)
def test_a_statement_that_does_is_found(source: str) -> None:
    assert any(nameless(text) for _, text in texts(source))


@pytest.mark.parametrize(
    "source",
    [
        '"SELECT count(*), max(at) FROM series"',
        '"INSERT INTO audit (id) VALUES (?)"',
        'f"INSERT INTO {table} ({names}) SELECT {names} FROM old.{table}"',
        '"INSERT INTO arrivals\\n  (id) VALUES (?)"',
        '"SELECT a * b FROM series"',
    ],
)
def test_a_statement_that_names_its_columns_is_not(source: str) -> None:
    assert not any(nameless(text) for _, text in texts(source))
