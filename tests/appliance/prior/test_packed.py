"""An entry as bytes: the same again, and a ValueError for all that is none."""

from __future__ import annotations

import hashlib
import struct
import tracemalloc
import zlib
from collections.abc import Callable

import numpy as np
import pytest

from appliance.prior import packed
from appliance.prior.entry import Entry
from rigs.entries import entry, same

ENTRY = entry()
DATA = packed.pack(ENTRY)
HEAD = 42


def sealed(body: bytes) -> bytes:
    """As if it had been written so."""
    return DATA[:10] + hashlib.sha256(body).digest() + body


def section(data: bytes) -> bytes:
    return struct.pack("<I", len(data)) + data


def test_an_entry_comes_back_as_it_was_and_always_as_the_same_bytes() -> None:
    assert packed.pack(ENTRY) == DATA
    back = packed.unpacked(DATA)
    assert same(back, ENTRY)
    assert back.digest == hashlib.sha256(DATA).hexdigest()
    assert packed.pack(back) == DATA
    named, data = packed.named(ENTRY)
    assert (named.digest, data) == (back.digest, DATA)


def test_extreme_hu_and_every_grey_value_come_back() -> None:
    assert {-32768, 32767} <= set(np.unique(ENTRY.cubes[0].hu).tolist())
    assert len(np.unique(ENTRY.image.values)) == 256


def test_what_is_cut_is_no_entry() -> None:
    for end in range(0, len(DATA), len(DATA) // 40):
        with pytest.raises(ValueError, match=r"entry|damaged"):
            packed.unpacked(DATA[:end])
        with pytest.raises(ValueError, match=r"ends|section|damaged|read|valid"):
            packed.unpacked(sealed(DATA[HEAD:end]))
    with pytest.raises(ValueError, match="behind"):
        packed.unpacked(sealed(DATA[HEAD:] + b"\0"))


def test_one_bit_that_is_flipped_is_noticed() -> None:
    for at in range(0, len(DATA), len(DATA) // 60):
        changed = bytearray(DATA)
        changed[at] ^= 1
        with pytest.raises(ValueError, match=r"."):
            packed.unpacked(bytes(changed))


def test_another_version_is_named() -> None:
    later = DATA[:8] + struct.pack("<H", 2) + DATA[10:]
    with pytest.raises(ValueError, match="version 2; version 1"):
        packed.unpacked(later)


def _head(change: Callable[[bytes], bytes]) -> bytes:
    """The entry with another head."""
    length = struct.unpack_from("<I", DATA, HEAD)[0]
    head = zlib.decompress(DATA[HEAD + 4 : HEAD + 4 + length])
    return sealed(section(zlib.compress(change(head))) + DATA[HEAD + 4 + length :])


SHAPE = b'"shape":[6,8,10]'


@pytest.mark.parametrize(
    "data",
    [
        _head(lambda head: head.replace(SHAPE, b'"shape":[1000,1000,1000]')),
        _head(lambda head: head.replace(SHAPE, b'"shape":[99999,1,1]')),
        _head(lambda head: head.replace(SHAPE, b'"shape":[6,8,11]')),
        _head(lambda head: head.replace(SHAPE, b'"shape":[-6,8,10]')),
        _head(lambda head: head.replace(b'"shape":[48,48,48]', b'"shape":[1,48,48]')),
        _head(lambda head: head.replace(b'"version":1', b'"version":3')),
        _head(lambda head: head.replace(b"[0.0,0.0,2.0,", b"[0.0,0.0,NaN,")),
        _head(lambda head: head.replace(b"[0.0,0.0,2.0,", b"[0.0,0.0,0.0,")),
        _head(lambda head: head.replace(b'"cubes":[', b'"cubes":[' + 25 * b"{},")),
        _head(lambda _: b"[" * 100_000),
        _head(lambda _: b"\xff"),
        _head(lambda _: bytes(2**28)),  # 268 MB in 260 kB
        sealed(section(zlib.compress(bytes(2**28)))),
        sealed(struct.pack("<I", 2**32 - 1)),
        DATA + bytes(packed.MOST_BYTES),
        b"",
    ],
    ids=range(16),
)
def test_what_nobody_packed_is_a_value_error_that_takes_little_memory(data: bytes) -> None:
    assert data != DATA
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"."):
            packed.unpacked(data)
        assert tracemalloc.get_traced_memory()[1] < 32 << 20
    finally:
        tracemalloc.stop()


def test_why_it_cannot_be_read_repeats_nothing_of_what_stands_there() -> None:
    assert b'"20240102"' in zlib.decompress(
        DATA[HEAD + 4 :][: struct.unpack_from("<I", DATA, HEAD)[0]]
    )
    with pytest.raises(ValueError, match="its head") as caught:
        packed.unpacked(_head(lambda head: head.replace(b'"20240102"', b'"20240102 of P-1"')))
    assert "2024" not in str(caught.value)
    assert "P-1" not in str(caught.value)


def test_more_behind_a_stream_of_a_section_is_noticed() -> None:
    length = struct.unpack_from("<I", DATA, HEAD)[0]
    body = DATA[HEAD + 4 : HEAD + 4 + length] + b"more"
    with pytest.raises(ValueError, match="section"):
        packed.unpacked(sealed(section(body) + DATA[HEAD + 4 + length :]))


def test_an_entry_has_a_body_or_none_in_each_cube() -> None:
    assert [one.body is None for one in ENTRY.cubes] == [False, True]
    made: Entry = packed.unpacked(DATA)
    assert [one.body is None for one in made.cubes] == [False, True]
