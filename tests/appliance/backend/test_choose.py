"""Which backend runs, as a table over what is installed."""

from __future__ import annotations

import pytest

from appliance.backend import choose
from appliance.errors import BackendUnavailable

BOTH = {"openvino", "onnxruntime"}
TABLE = [
    ("auto", BOTH, "openvino"),
    ("auto", {"onnxruntime"}, "onnxruntime"),
    ("auto", {"openvino"}, "openvino"),
    ("openvino", BOTH, "openvino"),
    ("onnxruntime", BOTH, "onnxruntime"),
]


@pytest.mark.parametrize(("preference", "here", "expected"), TABLE)
def test_the_choice(preference, here, expected):
    assert choose.choose(preference, here.__contains__) == expected


@pytest.mark.parametrize(
    ("preference", "here"),
    [("auto", set()), ("openvino", {"onnxruntime"}), ("onnxruntime", {"openvino"})],
)
def test_what_is_missing_is_named_with_the_command_that_installs_it(preference, here):
    with pytest.raises(BackendUnavailable, match="librar") as error:
        choose.choose(preference, here.__contains__)
    assert "pip install" in error.value.remedy
    assert error.value.code == "backend_unavailable"


def test_looking_for_a_library_does_not_load_it():
    assert choose.installed("json")
    assert not choose.installed("no_such_library")
