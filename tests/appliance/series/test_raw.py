"""Our reader of elements finds what pydicom's finds, in good files and in broken ones."""

from __future__ import annotations

import io
import re
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any
from unittest import mock

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pydicom import Dataset
from pydicom.filereader import data_element_generator
from pydicom.sequence import Sequence

from appliance.errors import SeriesRefused
from appliance.series import elements, pixels, raw

SYNTAXES = {
    "implicit": "1.2.840.10008.1.2",
    "explicit": "1.2.840.10008.1.2.1",
    "big endian": "1.2.840.10008.1.2.2",
}
MOST = 1 << 20
KERNEL = 0x00181210


def made(make: Any, syntax: str) -> bytes:
    """A slice with a private element and a sequence of undefined length before its pixels."""
    ds = make.ct()
    ds.private_block(0x0009, "ACME", create=True).add_new(0x01, "LO", "private")
    item = Dataset()
    item.CodeValue = "1"
    request = Sequence([item])
    request.is_undefined_length = True
    ds.RequestAttributesSequence = request
    data: bytes = make.bytes(ds, syntax)
    return data


def by_pydicom(data: bytes, syntax: str) -> dict[int, Any]:
    """The values of `pixels.TAGS`, read by pydicom alone."""
    stream = io.BytesIO(data)
    stream.seek(elements.file_meta(data, "image").end)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = data_element_generator(
            stream,
            syntax == SYNTAXES["implicit"],
            syntax != SYNTAXES["big endian"],
            specific_tags=list(pixels.TAGS),
        )
        return {int(e.tag): e.value for e in found if int(e.tag) in pixels.TAGS}


@contextmanager
def left_out_vrs() -> Iterator[list[bool]]:
    """Whether each element that was read had no VR, which pydicom reads in another way."""
    seen: list[bool] = []
    head = raw._head

    def noting(*args: Any) -> Any:
        found = head(*args)
        seen.append(found[1] == raw.BLANK)
        return found

    with mock.patch.object(raw, "_head", noting):
        yield seen


def values(instance: elements.Instance) -> dict[int, Any]:
    return {t: e.value for t, e in instance.elements.known.items() if t in pixels.TAGS}


@pytest.mark.parametrize("syntax", SYNTAXES.values(), ids=list(SYNTAXES))
def test_it_finds_what_pydicom_finds(make: Any, syntax: str) -> None:
    data = made(make, syntax)
    found = values(elements.parse(data, pixels.TAGS, pixels=True, max_bytes=MOST))
    assert len(found) > 25
    assert found == by_pydicom(data, syntax)


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    syntax=st.sampled_from(list(SYNTAXES.values())),
    edits=st.lists(st.tuples(st.integers(320, 1500), st.integers(0, 255)), max_size=4),
    cut=st.integers(0, 1500),
)
@example(syntax=SYNTAXES["explicit"], edits=[], cut=0)
def test_in_a_broken_file_it_finds_what_pydicom_finds_or_refuses(
    make: Any, syntax: str, edits: list[tuple[int, int]], cut: int
) -> None:
    broken = bytearray(made(make, syntax))
    for at, value in edits:
        broken[at % len(broken)] = value
    data = bytes(broken[: len(broken) - cut])
    with suppress(SeriesRefused), left_out_vrs() as left_out:
        instance = elements.parse(data, pixels.TAGS, pixels=True, max_bytes=MOST)
        begin = elements.file_meta(data, "image").end
        if not any(left_out) and elements.encoding(data, begin, syntax, "") == (
            syntax != SYNTAXES["big endian"],
            syntax == SYNTAXES["implicit"],
        ):
            assert values(instance) == by_pydicom(data, syntax)


@pytest.mark.parametrize("syntax", SYNTAXES.values(), ids=list(SYNTAXES))
def test_reading_goes_on_where_it_stopped_at_the_pixels(make: Any, syntax: str) -> None:
    data = made(make, syntax)
    begun = elements.parse(data, pixels.TAGS, pixels=False, max_bytes=MOST)
    assert elements.PIXEL_DATA not in begun.elements.known
    assert begun.rest is not None
    whole = elements.parse(data, pixels.TAGS, pixels=True, max_bytes=MOST)
    assert values(elements.completed(begun, begun.rest, pixels.TAGS)) == values(whole)


def test_what_is_not_asked_for_is_not_kept(make: Any) -> None:
    data, tag, later = made(make, SYNTAXES["explicit"]), 0x00091001, 0x00400275
    found = elements.parse(data, (tag,), pixels=False, max_bytes=MOST, also=(later,)).elements
    assert found.text(tag, "private") == "private"
    assert len(found.items(later, "requests")) == 1
    assert found.raw(0x00080060) is None


def test_a_file_that_ends_inside_an_element_names_it_where_it_is_needed_now(make: Any) -> None:
    data = made(make, SYNTAXES["explicit"])
    cut = data[: data.index(b"B30f") + 2]
    for tags, also, shown in (((KERNEL,), (), "(0018,1210)"), ((), (KERNEL,), "2 bytes too early")):
        with pytest.raises(SeriesRefused, match=re.escape(shown)):
            elements.parse(cut, tags, pixels=False, max_bytes=MOST, also=also)


# --- what pydicom reads in another way


def vr_left_out(data: bytes, tag: bytes, vr: bytes, blank: bytes) -> bytes:
    """The element of `tag` in explicit VR with `blank` where its VR was."""
    assert data.count(tag + vr) == 1
    return data.replace(tag + vr, tag + blank)


@pytest.mark.parametrize("blank", [b"  ", b"??", b"--"])
def test_a_vr_that_is_left_out_is_the_dictionarys(make: Any, blank: bytes) -> None:
    data = make.bytes(make.ct())
    (plain,) = pixels.read(data)
    data = vr_left_out(data, b"\x28\0\x30\0", b"DS", blank)  # Pixel Spacing
    data = vr_left_out(data, b"\x28\0\x10\0", b"US", blank)  # Rows
    data = vr_left_out(data, b"\x20\0\x0e\0", b"UI", blank)  # Series Instance UID
    (image,) = pixels.read(data)
    assert image.digest == plain.digest
    assert image.header == plain.header


def test_the_first_element_may_lack_its_vr(make: Any) -> None:
    data = vr_left_out(make.bytes(make.ct()), b"\x08\0\x05\0", b"CS", b"  ")
    assert pixels.read(data)[0].header.modality == "CT"


def test_a_vr_that_is_left_out_in_an_item_is_passed_over(make: Any) -> None:
    data = vr_left_out(made(make, SYNTAXES["explicit"]), b"\x08\0\0\x01", b"SH", b"  ")
    assert pixels.read(data)[0].header.modality == "CT"


def unknown(tag: int, items: bytes, order: str) -> bytes:
    """UN of undefined length whose items are Implicit VR Little Endian."""
    group, element = tag >> 16, tag & 0xFFFF
    head = struct.pack(f"{order}HH2s2xI", group, element, b"UN", 0xFFFFFFFF)
    start, end = (
        struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF),
        struct.pack("<HHI", 0xFFFE, 0xE00D, 0),
    )
    return head + start + items + end + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)


@pytest.mark.parametrize(("name", "order"), [("explicit", "<"), ("big endian", ">")])
def test_un_of_undefined_length_holds_implicit_little_endian_items(
    make: Any, name: str, order: str
) -> None:
    code = struct.pack("<HHI", 0x0008, 0x0100, 2) + b"X1"
    before = make.bytes(make.ct(), SYNTAXES[name])
    at = before.index(struct.pack(f"{order}HH2s", 0x0008, 0x0060, b"CS"))
    asked = 0x00082218  # Anatomic Region Sequence
    more = unknown(asked, code, order) + unknown(0x00091010, code, order)
    data = before[:at] + more + before[at:]
    found = elements.parse(data, (asked, *pixels.TAGS), pixels=True, max_bytes=MOST).elements
    assert found.first(asked, "regions").text(0x00080100, "Code Value") == "X1"
    assert pixels.read(data)[0].digest == pixels.read(before)[0].digest
