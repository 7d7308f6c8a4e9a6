"""The look into a file, and the PDUs: pure parts that never trust a length."""

from __future__ import annotations

import contextlib
import random
import time
import zlib
from collections.abc import Callable
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

from appliance.dicom import pdu
from appliance.dicom.policy import Context
from appliance.errors import InstanceRefused
from appliance.receive.peek import peek
from rigs.receiver import MakeImage

Start = Callable[..., Any]


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
    began = time.monotonic()
    for _ in range(2000):
        data = bytearray(whole)
        for _ in range(random_.randint(1, 6)):
            data[random_.randrange(132, len(data))] = random_.choice((0, 1, 0xFF, 0xFE, 0x7F, 0x51))
        with contextlib.suppress(InstanceRefused):
            peek(bytes(data))
    assert time.monotonic() - began < 60


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


def test_a_ct_slice_is_looked_at_in_under_a_millisecond(make_ct: MakeImage) -> None:
    whole = part10(make_ct(0, size=512))
    times = []
    for _ in range(50):
        began = time.perf_counter()
        peek(whole)
        times.append(time.perf_counter() - began)
    assert min(times) < 1e-3


def request_body() -> bytes:
    pieces = [
        pdu._item(0x10, b"1.2.840.10008.3.1.1.1"),
        pdu._item(0x20, b"\1\0\0\0" + pdu._item(0x30, b"1.2.3") + pdu._item(0x40, b"1.2.4")),
        pdu._item(0x50, pdu._item(0x51, (16384).to_bytes(4, "big")) + pdu._item(0x55, b"PEER")),
    ]
    titles = b"SCANSIDE".ljust(16) + b"CT1".ljust(16)
    return b"\0\1\0\0" + titles + bytes(32) + b"".join(pieces)


def test_a_request_is_read_as_it_was_meant() -> None:
    request = pdu.parse_request(request_body())
    assert (request.called_ae, request.calling_ae) == ("SCANSIDE", "CT1")
    assert (request.max_length, request.implementation) == (16384, "PEER")
    assert [(c.id, c.abstract_syntax, c.transfer_syntaxes) for c in request.contexts] == [
        (1, "1.2.3", ("1.2.4",))
    ]


def test_no_mutation_of_a_request_or_command_raises_anything_but_malformed() -> None:
    random_ = random.Random(3)
    command = pdu.encode_command({pdu.FIELD: 1, pdu.SOP_CLASS: "1.2", pdu.STATUS: 0})
    for parse, whole in ((pdu.parse_request, request_body()), (pdu.parse_command, command)):
        for _ in range(3000):
            data = bytearray(whole)
            for _ in range(random_.randint(1, 4)):
                data[random_.randrange(len(data))] = random_.randrange(256)
            with contextlib.suppress(pdu.MalformedError):
                parse(bytes(data[: random_.randint(0, len(data))]))


def test_an_accept_is_read_by_pynetdicom_as_it_was_meant() -> None:
    from pynetdicom.pdu import A_ASSOCIATE_AC  # noqa: PLC0415

    request = pdu.parse_request(request_body())
    contexts = [Context(1, "1.2.3", "1.2.4", 0), Context(3, "1.2.5", "1.2.4", 4)]
    answer = A_ASSOCIATE_AC()
    answer.decode(pdu.accept(request, contexts, 131072))
    primitive = answer.to_primitive()
    results = primitive.presentation_context_definition_results_list
    assert [(c.context_id, c.result) for c in results] == [(1, 0), (3, 4)]
    assert primitive.maximum_length_received == 131072
    assert primitive.implementation_class_uid == pdu.IMPLEMENTATION_CLASS_UID
    assert len(pdu.implementation_version()) <= 16
