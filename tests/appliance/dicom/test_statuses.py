"""Answers to C-STORE: every row of the table, its edges, and how often what is unclear is tried."""

from __future__ import annotations

import pytest
from pynetdicom.status import STORAGE_SERVICE_CLASS_STATUS

from appliance.dicom.statuses import (
    NO_CONTEXT,
    RANGES,
    REMEDIES,
    TRIES,
    Answer,
    Reply,
    answer,
    event,
    reply,
    sentence,
)
from appliance.store.delivery import Event

ROWS = {
    0x0000: Answer.SENT,
    0x0111: Answer.SENT,
    0xB000: Answer.SENT,
    0xB007: Answer.SENT,
    0xBFFF: Answer.SENT,
    0xA700: Answer.BUSY,
    0xA7FF: Answer.BUSY,
    0xA900: Answer.UNFIT,
    0xA9FF: Answer.UNFIT,
    0x0122: Answer.CLASS_REFUSED,
    0x0124: Answer.NOT_AUTHORIZED,
    0x0110: Answer.UNCLEAR,
    0xC000: Answer.UNCLEAR,
    0xCFFF: Answer.UNCLEAR,
    0x0112: Answer.UNCLEAR,
    0x0001: Answer.UNCLEAR,
    0xA6FF: Answer.UNCLEAR,
    0xA800: Answer.UNCLEAR,
    0xA8FF: Answer.UNCLEAR,
    0xAA00: Answer.UNCLEAR,
    0xAFFF: Answer.UNCLEAR,
    0xFE00: Answer.UNCLEAR,
    0xFF00: Answer.UNCLEAR,
    0xFFFF: Answer.UNCLEAR,
}


@pytest.mark.parametrize(("status", "meant"), ROWS.items(), ids=lambda one: f"{one!s:>5}")
def test_a_status_means_what_its_row_says(status: int, meant: Answer) -> None:
    assert answer(status) is meant


def test_no_two_rows_overlap() -> None:
    edges = [edge for low, high, _ in RANGES for edge in (low, high)]
    assert edges == sorted(edges)
    assert all(low <= high for low, high, _ in RANGES)


def test_no_failure_that_the_standard_knows_is_sent_but_a_duplicate() -> None:
    failures = [s for s, (kind, _) in STORAGE_SERVICE_CLASS_STATUS.items() if kind == "Failure"]
    assert [status for status in failures if answer(status) is Answer.SENT] == [0x0111]


@pytest.mark.parametrize(
    ("meant", "refused", "expected"),
    [
        (Answer.SENT, 1, Event.ACK),
        (Answer.BUSY, 1, Event.LATER),
        (Answer.BUSY, 1000, Event.LATER),
        (Answer.UNFIT, 1, Event.NEVER),
        (Answer.NOT_AUTHORIZED, 1, Event.NEVER),
        (Answer.CLASS_REFUSED, 1, Event.NEVER),
        (Answer.UNCLEAR, 1, Event.LATER),
        (Answer.UNCLEAR, 4, Event.LATER),
        (Answer.UNCLEAR, 5, Event.NEVER),
    ],
)
def test_a_delivery_becomes(meant: Answer, refused: int, expected: Event) -> None:
    assert event(meant, refused) is expected


def test_five_tries_take_more_than_an_hour_and_less_than_three() -> None:
    shortest = sum(TRIES.pause_s(attempt, lambda: 0.0) for attempt in range(1, TRIES.refusals))
    longest = sum(TRIES.pause_s(attempt, lambda: 1.0) for attempt in range(1, TRIES.refusals))
    assert 3600 <= shortest < longest < 3 * 3600


def test_each_refusal_says_its_status_and_what_to_do() -> None:
    for meant in Answer:
        assert (meant in REMEDIES) == (meant is not Answer.SENT)
    said = sentence(0xA900)
    assert "0xA900" in said
    assert REMEDIES[Answer.UNFIT] in said
    assert answer(NO_CONTEXT) is Answer.CLASS_REFUSED


def test_a_reply_has_words_for_what_is_refused_and_a_mark_for_what_is_more_than_success() -> None:
    assert reply(0x0000) == Reply(Answer.SENT)
    assert reply(0xB000, "STOW-RS").mark == "taken with STOW-RS 0xB000"
    refused = reply(0xA900, "STOW-RS")
    assert (refused.meant, refused.mark) == (Answer.UNFIT, None)
    assert refused.said.startswith("STOW-RS 0xA900")
