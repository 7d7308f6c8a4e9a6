"""The signs of a state: a shape each, and hidden from who hears the page."""

from __future__ import annotations

import re

import pytest

from appliance.web.signs import STATES, sign


def test_every_state_has_a_shape_of_its_own() -> None:
    shapes = {re.sub(r"^<svg[^>]*>", "", sign(state)) for state in STATES}
    assert len(shapes) == len(STATES) == 5
    assert all('aria-hidden="true"' in sign(state) for state in STATES)


def test_a_state_that_is_none_is_an_error() -> None:
    with pytest.raises(KeyError):
        sign("fine")
