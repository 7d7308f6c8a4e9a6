"""A kernel leaves only where it is a maker's name."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.series.kernel import LONGEST, published


@pytest.mark.parametrize(
    "name",
    [
        *("B45f", "B70f", "B30s", "Br40d", "Br38f", "I31f\\3", "Br64f/3", "Hr38h", "Qr40", "D45f"),
        *("STANDARD", "standard", "LUNG", "BONEPLUS", "STD+", "FC08", "FC51-H", "L", "YA"),
        *("B_SHARP_C", "H_SOFT_B"),
    ],
)
def test_a_makers_name_leaves_as_it_was_written(name: str) -> None:
    assert published(f" {name} ") == name


@pytest.mark.parametrize(
    "name",
    [
        *(None, "", "MUELLER^HANS", "Mueller", "19410203", "PID-778899", "Dr. Who", "X", "B4", "G"),
        *("LUNG OF HANS", "STANDARD" * 10, "B45f" + "x" * 70_000, "胸", "B45f\nB45f", "Z99z"),
    ],
)
def test_what_is_no_makers_name_stays(name: str | None) -> None:
    assert published(name) is None


@given(st.text(string.ascii_letters + string.digits + "^ ,.-", min_size=5, max_size=40))
def test_whatever_is_written_nothing_with_a_name_in_it_leaves(text: str) -> None:
    found = published(text)
    assert found is None or (len(found) <= LONGEST and "^" not in found and "," not in found)
