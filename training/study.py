"""The study: what each part of the recipes is worth, row by row, into one table.

    make study                                          # every row that docs/study.md does not have
    python -m training.study [TASK] [--row NAME] [--table docs/study.md]
    python -m training.study --list                     # every row with its commands, no run

Rules.
1. A row is commands of existing recipes and judges, and the JSON that the last of them writes. Rows
   of a task differ in the knobs that their name says. ROWS holds the tasks.
2. A finished row is a line of the table, with what it found, the command that makes it again and
   the date. A row that has a line is not run; remove the line to run it again. Recipes resume, so a
   study that was stopped goes on in the middle of a row. There is no limit of time.
3. Nothing here ships or chooses: runs of the study have names of their own (`study-...`).
4. The first row that fails ends the study with one line; what was found before stays.
"""

from __future__ import annotations

import argparse
import datetime
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from training.errors import RunError, command
from training.read.files import whole
from training.recipes.compare import study as compare
from training.recipes.lung_nodule import study as lung_nodule
from training.tracks import Failed, Row, run_stages

ROWS: Mapping[str, Callable[[], list[Row]]] = {
    "lung-nodule": lung_nodule.rows,
    "lung-compare": compare.rows,
}
"""A task's name, and what makes its rows."""
TABLE = Path("docs/study.md")
HEAD = "| task | row | found | command | date |\n|---|---|---|---|---|\n"


def found_of(row: Row, figures: Mapping[str, Any]) -> str:
    """What a row's figures show; RunError where one is not in them."""
    parts = []
    for what, where in row.shown.items():
        value: Any = figures
        for step in where:
            try:
                value = value[step]
            except (KeyError, IndexError, TypeError) as e:
                raise RunError(f"{row.figures}: no {' > '.join(map(str, where))} in it") from e
        parts.append(f"{what} {value}")
    return "; ".join(parts)


def line_begins(task: str, row: str) -> str:
    """How the line of a row begins."""
    return f"| {task} | {row} |"


def run_row(task: str, row: Row, table: Path, today: datetime.date) -> bool:
    """Runs a row and appends its line to the table; False where the table has one already.

    RunError where the table is none, Failed where a command fails.
    """
    text = table.read_text()
    if HEAD not in text:
        raise RunError(f"{table}: no table of the study in it")
    if line_begins(task, row.name) in text:
        print(f"{task}, {row.name}: is in {table} already", flush=True)
        return False
    run_stages([{row.name: [list(words) for words in row.commands]}], 1)
    found = found_of(row, json.loads(row.figures.read_text()))
    again = f"`python -m training.study {task} --row '{row.name}'`"
    line = f"{line_begins(task, row.name)} {found} | {again} | {today.isoformat()} |\n"
    with whole(table) as file:
        file.write((table.read_text().rstrip("\n") + "\n" + line).encode())
    table.chmod(0o644)
    print(line, end="", flush=True)
    return True


def main() -> None:
    """Runs what is left of the study, or lists it."""
    parser = argparse.ArgumentParser(description="Run what is left of the study.")
    parser.add_argument("task", choices=list(ROWS), nargs="?", help="default: all")
    parser.add_argument("--row", default="", help="one row by its name")
    parser.add_argument("--table", type=Path, default=TABLE)
    parser.add_argument("--list", action="store_true", help="rows and commands, no run")
    given = parser.parse_args()
    wanted = [
        (task, row)
        for task, rows in ROWS.items()
        for row in rows()
        if given.task in (None, task) and given.row in ("", row.name)
    ]
    if not wanted:
        parser.error(f"no row {given.row!r}; --list names them")
    for task, row in wanted:
        if given.list:
            print(f"{task}, {row.name}:")
            print(
                "".join(
                    f"    python -m {' '.join(w or '(empty)' for w in c)}\n" for c in row.commands
                )
            )
            continue
        try:
            run_row(task, row, given.table, datetime.datetime.now(datetime.timezone.utc).date())
        except Failed as e:
            raise SystemExit(f"error: {row.name}: {e}") from None


if __name__ == "__main__":
    command(main)
