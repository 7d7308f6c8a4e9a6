"""The list of studies."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import parse_qsl, urlsplit

import pytest

from appliance.report import Report, SeriesKey
from appliance.room.check import Flag, RoomCheck, Verdict
from appliance.room.codes import FlagCode
from appliance.store.identities import Person
from appliance.store.journal.shown import Wanted
from appliance.store.rows import Place, Received, Study
from appliance.web.views import worklist
from appliance.web.views.worklist import Asked, Known, asked

STUDY = Study("1.2", "ab" * 16, Place(100.0, 1), 200.0)


def test_a_filter_and_a_place_come_back_from_their_own_address() -> None:
    one = Asked("analysed", "CT 1&2", True, "3f", None)
    query = dict(parse_qsl(urlsplit(one.address()).query))
    assert asked(query) == one
    place = Place(1714550400.1234567, 42)
    further = dict(parse_qsl(urlsplit(one.further(place)).query))
    assert asked(further) == Asked("analysed", "CT 1&2", True, "3f", place)
    assert Asked().address() == "/"
    assert one.address(status="") == Asked("", "CT 1&2", True, "3f", None).address()


@pytest.mark.parametrize(
    "query",
    [
        {"status": "' OR 1=1 --", "scanner": "a\0b", "behind": "1e999-1", "day": "../"},
        {"status": "ANALYSED", "scanner": "x" * 17, "behind": "-1--1"},
        {"behind": "1-" + "9" * 19, "scanner": "é"},
    ],
)
def test_what_has_not_its_form_is_as_if_it_were_not_there(query: dict[str, str]) -> None:
    assert asked(query) == Asked()
    assert asked(query).wanted(0.0) == Wanted()


@pytest.mark.parametrize("typed", ["xyz", "1.2.840", "ab%", "<b>", "f" * 33, "\u202e"])
def test_a_search_for_what_is_no_pseudonym_finds_nothing(typed: str) -> None:
    assert asked({"q": typed}).wanted(0.0) is None


def test_a_search_is_for_the_beginning_of_a_pseudonym_in_either_case() -> None:
    assert asked({"q": " 3F "}).wanted(0.0) == Wanted(pseudonym="3f")


def test_today_begins_at_midnight_of_the_ward() -> None:
    at_nine = 1714554000.0  # 2024-05-01 09:00 UTC
    east = worklist.midnight_before(at_nine, 8 * 3600)
    assert east == 1714492800.0  # 2024-05-01 00:00 at UTC+8
    assert asked({"day": "today"}).wanted(east) == Wanted(since=east)
    assert worklist.midnight_before(at_nine, -10 * 3600) == 1714471200.0


def test_a_row_says_who_what_and_how_long(
    received: Callable[..., Received], timed: Callable[..., Report], limited: Callable[..., Report]
) -> None:
    key, other = SeriesKey("1.2", "1.2.3"), SeriesKey("1.2", "1.2.4")
    at = timed(3.0).times.last_slice
    assert at is not None
    known = Known(
        received=[received(), received(series="1.2.4", ae="CT2")],
        latest=[(key, timed(3.0)), (other, limited())],
        judged={key: at.timestamp() + 2.0},
        persons={"1.2": Person(name="Doe, Jane")},
    )
    (row,) = worklist.rows([STUDY], known)
    assert (row.study, row.at, row.scanners) == ("ab" * 16, 100.0, ("CT1", "CT2"))
    assert row.person == Person(name="Doe, Jane")
    assert row.light.sign == "look"
    assert [phrase.key for phrase in row.to_do] == ["reasons.remedy.gap_filled"]
    assert row.latency is not None
    assert (row.latency.total_s, row.latency.quiet_s) == (3.0, 2.0)


def test_a_study_that_was_deleted_between_two_looks_is_no_row() -> None:
    assert worklist.rows([STUDY], Known([], [], {}, {})) == ()


@pytest.mark.parametrize(
    ("state", "verdicts", "expected"),
    [
        ("analysed", ("usable", "usable"), "usable"),
        ("analysed", ("usable", "look"), "look"),
        ("refused", ("look", None), "look"),
        ("open", ("usable", "look"), None),
        ("analysed", (None, None), None),
    ],
)
def test_a_row_has_the_gravest_verdict_of_what_arrived(
    received: Callable[..., Received],
    state: str,
    verdicts: tuple[Verdict | None, Verdict | None],
    expected: Verdict | None,
) -> None:
    flag = Flag(code=FlagCode.LUNGS_CUT_HEAD, text="cut over 21 cm2", figure=21.0, unit="cm2")
    checks = {
        SeriesKey("1.2", f"1.2.{n}"): RoomCheck(
            verdict=verdict, flags=(flag,) if verdict == "look" else (), values=None
        )
        for n, verdict in zip((3, 4), verdicts, strict=True)
        if verdict is not None
    }
    series = [received(state), received(state, series="1.2.4")]
    (row,) = worklist.rows([STUDY], Known(series, [], {}, {}, checks))
    assert row.verdict == expected
