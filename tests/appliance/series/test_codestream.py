"""A compressed frame as its header and its end describe it."""

from __future__ import annotations

import pytest

from appliance.series import codestream

CODE = b"\xff\xd8" + bytes(range(1, 200)) + b"\xff\xd9"


@pytest.mark.parametrize(
    "padding",
    [b"", b"\0", b"\xff", b"\x20", b"\xcc", b"\x33" * 2, b"\0" * 14, b"\xff" * 13, b"\xcc" * 14],
    ids=bytes.hex,
)
def test_a_code_ends_behind_its_marker_whatever_pads_it(padding: bytes) -> None:
    assert codestream.end(CODE + padding) == len(CODE)


@pytest.mark.parametrize(
    "cut", [CODE[:-2], CODE[:-1], CODE + b"\x20" * codestream.TAIL, b"", b"\xff"]
)
def test_a_code_without_its_marker_near_its_end_is_cut(cut: bytes) -> None:
    assert codestream.end(cut) is None


def test_zeros_before_the_marker_are_taken_away_one_by_one() -> None:
    shorter = list(codestream.unfilled(b"\x2b\0\0\xff\xd9"))
    assert shorter == [b"\x2b\0\xff\xd9", b"\x2b\xff\xd9"]
    assert list(codestream.unfilled(b"\x2b\xff\xd9")) == []
    assert len(list(codestream.unfilled(bytes(100) + b"\xff\xd9"))) == 14
