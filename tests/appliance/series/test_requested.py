"""What images say of the priority of their request."""

from __future__ import annotations

from typing import Any

import pytest
from pydicom import Dataset

from appliance.series import requested


@pytest.mark.parametrize(
    ("said", "priority"),
    [
        ("STAT", "stat"),
        ("HIGH", "stat"),
        ("ROUTINE", "routine"),
        ("MEDIUM", "routine"),
        ("LOW", "routine"),
        ("", "routine"),
        ("STATIC", "routine"),
    ],
)
@pytest.mark.parametrize("in_request", [False, True])
def test_requested_procedure_priority_counts_at_the_top_and_in_a_request(
    make: Any, said: str, priority: str, in_request: bool
) -> None:
    image = make.ct()
    request = Dataset()
    request.RequestedProcedureID = "7"
    image.RequestAttributesSequence = [request]
    (request if in_request else image).add_new(requested.PRIORITY, "CS", said)
    assert requested.priority(make.bytes(image)) == priority


def test_an_image_that_says_nothing_is_routine(make: Any) -> None:
    assert requested.priority(make.bytes(make.ct())) == "routine"


@pytest.mark.parametrize("cut", [0, 100, 140, 700])
def test_what_cannot_be_read_is_routine(make: Any, cut: int) -> None:
    assert requested.priority(make.bytes(make.ct())[:cut]) == "routine"


def test_a_priority_that_is_no_string_is_routine(make: Any) -> None:
    image = make.ct()
    image.add_new(requested.PRIORITY, "US", 7)
    image.add_new(requested.REQUESTS, "LO", "STAT")
    assert requested.priority(make.bytes(image)) == "routine"
