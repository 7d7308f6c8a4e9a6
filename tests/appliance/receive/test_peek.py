"""The look into a file: pure, and it never trusts a length."""

from __future__ import annotations

import contextlib
import random
import tracemalloc
import zlib
from io import BytesIO
from typing import Any

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from appliance.errors import InstanceRefused
from appliance.receive.peek import peek
from rigs.receiver import MakeImage


def nested(depth: int) -> Dataset:
    ds = Dataset()
    ds.StudyInstanceUID = "9.9.9"  # not the top level's
    if depth:
        inner = nested(depth - 1)
        inner.is_undefined_length_sequence_item = True
        ds.ReferencedStudySequence = Sequence([inner])
        ds["ReferencedStudySequence"].is_undefined_length = True
    return ds


def part10(ds: Dataset, syntax: Any = ExplicitVRLittleEndian) -> bytes:
    ds.file_meta.TransferSyntaxUID = syntax
    buffer = BytesIO()
    plain = Dataset(ds)
    plain.file_meta = ds.file_meta
    pydicom.dcmwrite(buffer, plain, enforce_file_format=True)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "syntax",
    [
        ExplicitVRLittleEndian,
        ImplicitVRLittleEndian,
        ExplicitVRBigEndian,
        DeflatedExplicitVRLittleEndian,
        RLELossless,
    ],
)
def test_the_uids_of_every_encoding_are_those_of_the_top_level(
    make_ct: MakeImage, syntax: Any
) -> None:
    ds = make_ct(0)
    ds.ReferencedImageSequence = Sequence([nested(3)])
    ds["ReferencedImageSequence"].is_undefined_length = True
    if syntax == RLELossless:
        ds.compress(syntax, generate_instance_uid=False)
    found = peek(part10(ds, syntax))
    assert found.sop_class == ds.SOPClassUID
    assert found.sop_instance == ds.SOPInstanceUID
    assert found.study == ds.StudyInstanceUID
    assert found.series == ds.SeriesInstanceUID
    assert found.pixels
    assert found.transfer_syntax == syntax


def test_what_is_missing_or_empty_is_none(make_ct: MakeImage) -> None:
    ds = make_ct(0)
    ds.StudyInstanceUID = ""
    del ds.SeriesInstanceUID, ds.PixelData
    found = peek(part10(ds))
    assert (found.study, found.series, found.pixels) == (None, None, False)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless])
def test_a_file_that_is_cut_anywhere_is_refused_or_only_lacks_what_was_cut(
    make_ct: MakeImage, syntax: Any
) -> None:
    ds = make_ct(0, size=8)
    if syntax == RLELossless:
        ds.compress(syntax, generate_instance_uid=False)
    whole = part10(ds, syntax)
    for end in range(len(whole)):
        try:
            found = peek(whole[:end])
        except InstanceRefused:
            continue
        assert not found.pixels


@pytest.mark.parametrize("seed", range(5))
def test_no_mutation_makes_it_raise_anything_else_or_hang(make_ct: MakeImage, seed: int) -> None:
    random_ = random.Random(seed)
    ds = make_ct(0, size=8)
    ds.ReferencedImageSequence = Sequence([nested(3)])
    ds["ReferencedImageSequence"].is_undefined_length = True
    whole = part10(ds)
    for _ in range(2000):
        data = bytearray(whole)
        for _ in range(random_.randint(1, 6)):
            data[random_.randrange(132, len(data))] = random_.choice((0, 1, 0xFF, 0xFE, 0x7F, 0x51))
        with contextlib.suppress(InstanceRefused):
            peek(bytes(data))


def test_a_sequence_nested_without_end_is_refused(make_ct: MakeImage) -> None:
    whole = part10(make_ct(0))
    item = b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
    element = b"\x08\x00\x40\x11SQ\0\0\xff\xff\xff\xff"
    with pytest.raises(InstanceRefused) as refused:
        peek(whole + (element + item) * 5000)
    assert refused.value.code == "nested_too_deep"


def test_a_deflated_bomb_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("appliance.receive.peek.INFLATED_MAX", 8 << 20)
    engine = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    zeros = bytes(1 << 20)
    bomb = b"".join(engine.compress(zeros) for _ in range(9)) + engine.flush()
    uid = b"1.2.840.10008.1.2.1.99"
    meta = b"\x02\x00\x10\x00UI" + len(uid).to_bytes(2, "little") + uid
    with pytest.raises(InstanceRefused) as refused:
        peek(bytes(128) + b"DICM" + meta + bomb)
    assert refused.value.code == "too_large"


def test_a_look_at_a_ct_slice_copies_none_of_its_pixels(make_ct: MakeImage) -> None:
    whole = part10(make_ct(0, size=512))
    peek(whole)
    tracemalloc.start()
    peek(whole)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < len(whole) / 10


@pytest.mark.parametrize("blank", [b"  ", b"??"])
def test_a_vr_that_is_left_out_has_a_length_of_16_bits(make_ct: MakeImage, blank: bytes) -> None:
    ds = make_ct(0)
    whole = part10(ds)
    study, name = b"\x20\0\x0d\0", b"\x10\0\x10\0"
    changed = whole.replace(study + b"UI", study + blank).replace(name + b"PN", name + blank)
    assert changed != whole
    assert peek(changed) == peek(whole)


def deflated(dataset: bytes) -> bytes:
    """Part 10 whose data set is deflated."""
    uid = b"1.2.840.10008.1.2.1.99"
    engine = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    meta = b"\x02\x00\x10\x00UI" + len(uid).to_bytes(2, "little") + uid
    return bytes(128) + b"DICM" + meta + engine.compress(dataset) + engine.flush()


def test_a_deflated_data_set_of_100_mib_needs_a_few_pieces_of_memory(make_ct: MakeImage) -> None:
    ds = make_ct(0)
    del ds.PixelData
    whole = part10(ds)
    length = 100 << 20
    pixels = b"\xe0\x7f\x10\0OW\0\0" + length.to_bytes(4, "little") + bytes(length)
    data = deflated(whole[peek(whole).dataset_at :] + pixels)
    tracemalloc.start()
    found = peek(data)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (found.study, found.pixels) == (ds.StudyInstanceUID, True)
    assert most < 1 << 20


def test_a_deflated_data_set_that_is_cut_anywhere_is_refused(make_ct: MakeImage) -> None:
    whole = part10(make_ct(0))
    data = deflated(whole[peek(whole).dataset_at :])
    for end in range(200, len(data), 97):
        with pytest.raises(InstanceRefused) as refused:
            peek(data[:end])
        assert refused.value.code == "truncated"
