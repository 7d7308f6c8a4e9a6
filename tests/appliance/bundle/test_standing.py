"""The tables held to the audit: what counts, and what is active."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from appliance.bundle.history import ACTIVATE, ADD, History, told
from appliance.bundle.standing import NO_LINE, NOT_IN_AUDIT, NOT_SIGNED, Standing, standing
from appliance.bundle.tables import UNSIGNED, Choice, Installed
from appliance.store.journal.damage import DAMAGED
from appliance.store.rows import AuditRow

WHEEL, A, B, C = (digit * 64 for digit in "0abc")
KEY = "f" * 64
NAME = "nodule"


def row(action: str, **detail: object) -> AuditRow:
    return AuditRow(1, 0.0, "tests", action, detail, "", "")


def added(digest: str, signed_by: str = KEY) -> AuditRow:
    return row(ADD, name=NAME, version="1.0.0", digest=digest, signed_by=signed_by)


def chosen(digest: str, before: str = WHEEL, **more: str) -> AuditRow:
    return row(ACTIVATE, name=NAME, version="1.0.0", digest=digest, before=before, **more)


def line(signed_by: str = KEY, version: str = "1.0.0") -> Installed:
    return Installed(name=NAME, version=version, signed_by=signed_by)


def found(
    *rows: AuditRow,
    lines: Mapping[str, Installed] | None = None,
    table: Mapping[str, Choice] | None = None,
    unsigned: bool = False,
) -> Standing:
    wheel = {NAME: WHEEL}
    return standing(wheel, lines or {}, table, told(rows), unsigned=unsigned)


def active(held: Standing) -> tuple[str, str | None]:
    return held.choices[NAME].active, held.choices[NAME].previous


def test_what_was_admitted_counts_as_what_it_was_admitted() -> None:
    assert found(added(A), lines={A: line()}).refused == {}
    for wrong in (line(signed_by="e" * 64), line(version="2.0.0")):
        assert found(added(A), lines={A: wrong}).refused == {A: NOT_IN_AUDIT}
    assert found(added(B), lines={A: line()}).refused == {A: NOT_IN_AUDIT}
    again = (added(A, UNSIGNED), added(A))
    assert found(*again, lines={A: line()}).refused == {}


def test_what_has_no_signature_counts_only_where_that_is_allowed() -> None:
    rows, lines = (added(A, UNSIGNED),), {A: line(UNSIGNED)}
    assert found(*rows, lines=lines).refused == {A: NOT_SIGNED}
    assert found(*rows, lines=lines, unsigned=True).refused == {}


def test_after_a_damage_of_the_journal_what_is_signed_counts() -> None:
    lines = {A: line(), B: line(UNSIGNED)}
    held = found(row(DAMAGED), lines=lines, table={NAME: Choice(active=A)}, unsigned=True)
    assert held.refused == {B: NOT_IN_AUDIT}
    assert active(held) == (A, None)


def test_the_factorys_is_active_where_nobody_has_chosen() -> None:
    assert active(found()) == (WHEEL, None)
    assert active(found(added(A), lines={A: line()}, table={})) == (WHEEL, None)
    held = found(added(A), lines={A: line()}, table={NAME: Choice(active=A)})
    assert active(held) == (WHEEL, None)
    assert len(held.contrary) == 1


@pytest.mark.parametrize("table", [Choice(active=A, previous=B), Choice(active=B, previous=A)])
def test_between_the_row_and_the_table_either_choice_stands(table: Choice) -> None:
    rows = (added(A), added(B), chosen(B), chosen(A, before=B))
    held = found(*rows, lines={A: line(), B: line()}, table={NAME: table})
    assert active(held) == (table.active, table.previous)
    assert held.contrary == ()


def test_a_table_that_says_anything_else_is_overruled() -> None:
    rows = (added(A), added(B), added(C), chosen(B), chosen(A, before=B))
    lines = {A: line(), B: line(), C: line()}
    held = found(*rows, lines=lines, table={NAME: Choice(active=C)})
    assert active(held) == (A, B)
    assert len(held.contrary) == 1
    held = found(*rows, lines=lines, table={"other": Choice(active=B)})
    assert active(held) == (A, B), "no line is another choice too"
    held = found(*rows, lines=lines, table=None)
    assert active(held) == (A, B)
    assert held.contrary == (), "a table that is damaged is said elsewhere"


def test_what_was_chosen_and_lost_its_line_is_still_what_should_be_active() -> None:
    held = found(added(A), chosen(A), table={NAME: Choice(active=A, previous=WHEEL)})
    assert active(held) == (A, WHEEL)
    assert held.refused == {A: NO_LINE}
    assert held.lines[A] == line()


def test_what_was_chosen_in_the_wheel_of_before_gives_way_to_this_wheels() -> None:
    old = "1" * 64
    rows = (added(A), chosen(A, before=old), chosen(old, before=A, withdraws=A))
    for table in ({NAME: Choice(active=old, previous=A)}, None):
        assert active(found(*rows, lines={A: line()}, table=table))[0] == WHEEL


def test_a_row_that_does_not_hold_what_it_should_tells_nothing() -> None:
    bad: list[dict[str, Any]] = [{}, {"name": 1}, {"name": NAME, "version": "x", "digest": A}]
    for detail in bad:
        assert told([row(ADD, **detail), row(ACTIVATE, **detail)]) == History()


def test_what_a_rollback_leaves_is_given_up_until_it_is_activated_again() -> None:
    rows = [chosen(A), chosen(B, before=A), chosen(A, before=B, withdraws=B)]
    assert told(rows).withdrawn == {B}
    assert told(rows).used == {A, B, WHEEL}
    assert told([*rows, chosen(B, before=A)]).withdrawn == frozenset()
