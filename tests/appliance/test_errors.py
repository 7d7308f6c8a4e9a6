"""The tree of errors: each has a family, a stable code, a remedy, and is one line."""

from __future__ import annotations

import inspect

import pytest

from appliance import errors
from appliance.errors import Halt, InstanceRefused, Quarantine, Refuse, Retry, ScansideError
from appliance.reasons import Code
from appliance.report import Reason

FAMILIES = (Refuse, Retry, Quarantine, Halt)
CLASSES = [
    value
    for _, value in inspect.getmembers(errors, inspect.isclass)
    if issubclass(value, ScansideError)
]


@pytest.mark.parametrize("kind", CLASSES)
def test_every_error_belongs_to_exactly_one_family(kind: type[ScansideError]) -> None:
    families = [f for f in FAMILIES if issubclass(kind, f)]
    assert len(families) == (0 if kind is ScansideError else 1)


def test_codes_are_unique_and_snake_case() -> None:
    codes = [kind.code for kind in CLASSES]
    assert len(set(codes)) == len(codes)
    assert all(code.replace("_", "").isalpha() and code.islower() for code in codes)


def test_the_tree_is_drawn_in_the_docstring() -> None:
    assert errors.__doc__ is not None
    for kind in CLASSES:
        assert kind.__name__ in errors.__doc__


@pytest.mark.parametrize("kind", CLASSES)
def test_every_class_has_a_remedy(kind: type[ScansideError]) -> None:
    assert kind.remedy.endswith((".", ")."))


def test_an_error_is_one_line_of_text_code_and_remedy() -> None:
    error = errors.BrokerAway("no answer from 10.0.0.1:1883")
    assert error.one_line() == (
        "no answer from 10.0.0.1:1883 [broker_away] "
        "Check [mqtt] host and port, and that the broker runs."
    )
    own = ScansideError("x", remedy="Do this.", code="mine")
    assert (own.one_line(), str(own)) == ("x [mine] Do this.", "x")
    assert ScansideError.code == "error"  # the class is not changed


def test_a_refused_series_carries_its_reason_and_an_instance_its_status() -> None:
    reason = Reason(code=Code.GANTRY_TILT, text="12.5 degrees", where="series")
    error = errors.SeriesRefused(reason)
    assert (error.reason, error.code, error.remedy) == (reason, "gantry_tilt", reason.remedy)
    assert InstanceRefused("x", status=0xC000).status == 0xC000
