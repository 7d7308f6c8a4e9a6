"""Requests and answers of storage commitment: read as pydicom writes them, refused by name."""

from __future__ import annotations

import contextlib
import random
import struct
from io import BytesIO

import pytest
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_dataset

from appliance.dicom import commitment
from appliance.dicom.commitment import ALL_KEPT, SOME_FAILED, Malformed
from appliance.dicom.syntaxes import EXPLICIT_LE, IMPLICIT_LE
from appliance.store.commitment import Answer, Failed, Reference, Request

CT, SR = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.88.34"
FIRST = Reference(sop_class=CT, sop_instance="1.2.3.1")
SECOND = Reference(sop_class=SR, sop_instance="1.2.3.22")
REQUEST = Request(transaction_uid="2.25.77", references=(FIRST, SECOND))
BOTH = Answer(transaction_uid="2.25.77", kept=(FIRST, SECOND), failed=())
ONE = Answer(
    transaction_uid="2.25.77", kept=(FIRST,), failed=(Failed(reference=SECOND, reason=0x0112),)
)
NONE = Answer(
    transaction_uid="2.25.77",
    kept=(),
    failed=tuple(Failed(reference=one, reason=0x0110) for one in (FIRST, SECOND)),
)
SYNTAXES = pytest.mark.parametrize("syntax", [EXPLICIT_LE, IMPLICIT_LE])


def item(one: Reference, reason: int | None = None) -> Dataset:
    made = Dataset()
    made.ReferencedSOPClassUID, made.ReferencedSOPInstanceUID = one.sop_class, one.sop_instance
    if reason is not None:
        made.FailureReason = reason
    return made


def as_dataset(answer: Answer) -> Dataset:
    made = Dataset()
    made.TransactionUID = answer.transaction_uid
    made.RetrieveAETitle = "PACS"
    made.ReferencedSOPSequence = [item(one) for one in answer.kept]
    if answer.failed:
        made.FailedSOPSequence = [item(one.reference, one.reason) for one in answer.failed]
    return made


def encoded(made: Dataset, syntax: str, *, open_ended: bool = False) -> bytes:
    """As pydicom writes it; open_ended: with sequences and items of undefined length."""
    for element in made:
        if element.VR == "SQ" and open_ended:
            element.is_undefined_length = True
            for one in element.value:
                one.is_undefined_length_sequence_item = True
    file = DicomBytesIO()
    file.is_little_endian, file.is_implicit_VR = True, syntax == IMPLICIT_LE
    write_dataset(file, made)
    return bytes(file.getvalue())


def read(data: bytes, syntax: str) -> Dataset:
    return read_dataset(BytesIO(data), syntax == IMPLICIT_LE, True)


@SYNTAXES
def test_a_request_is_read_by_pydicom_as_it_was_meant(syntax: str) -> None:
    found = read(commitment.written_request(REQUEST, syntax), syntax)
    assert found.TransactionUID == "2.25.77"
    named = [(r.ReferencedSOPClassUID, r.ReferencedSOPInstanceUID) for r in
             found.ReferencedSOPSequence]  # fmt: skip
    assert named == [(CT, "1.2.3.1"), (SR, "1.2.3.22")]


@SYNTAXES
@pytest.mark.parametrize("answer", [BOTH, ONE, NONE])
def test_an_answer_is_read_by_pydicom_as_it_was_meant(answer: Answer, syntax: str) -> None:
    event_type, data = commitment.written_answer(answer, syntax)
    assert event_type == (SOME_FAILED if answer.failed else ALL_KEPT)
    found = read(data, syntax)
    assert [r.ReferencedSOPInstanceUID for r in found.get("ReferencedSOPSequence", [])] == [
        one.sop_instance for one in answer.kept
    ]
    failed = [
        (r.ReferencedSOPInstanceUID, r.FailureReason) for r in found.get("FailedSOPSequence", [])
    ]
    assert failed == [(one.reference.sop_instance, one.reason) for one in answer.failed]


@SYNTAXES
@pytest.mark.parametrize("open_ended", [False, True])
@pytest.mark.parametrize("answer", [BOTH, ONE, NONE])
def test_what_pydicom_writes_is_read_as_it_was_meant(
    answer: Answer, open_ended: bool, syntax: str
) -> None:
    data = encoded(as_dataset(answer), syntax, open_ended=open_ended)
    event_type = SOME_FAILED if answer.failed else ALL_KEPT
    assert commitment.read_answer(event_type, data, syntax) == answer
    made = as_dataset(BOTH)
    made.StorageMediaFileSetUID = "1.2.9"
    data = encoded(made, syntax, open_ended=open_ended)
    assert commitment.read_request(data, syntax) == REQUEST


@SYNTAXES
def test_what_we_write_we_read(syntax: str) -> None:
    assert commitment.read_request(commitment.written_request(REQUEST, syntax), syntax) == REQUEST
    for answer in (BOTH, ONE, NONE):
        assert commitment.read_answer(*commitment.written_answer(answer, syntax), syntax) == answer


def test_an_answer_that_contradicts_its_type_promises_nothing() -> None:
    for event_type, answer in ((ALL_KEPT, ONE), (SOME_FAILED, BOTH), (3, NONE)):
        _, data = commitment.written_answer(answer, EXPLICIT_LE)
        with pytest.raises(Malformed, match="contradict"):
            commitment.read_answer(event_type, data, EXPLICIT_LE)


def broken(**changes: object) -> bytes:
    made = as_dataset(BOTH)
    for name, value in changes.items():
        setattr(made, name, value)
    return encoded(made, EXPLICIT_LE)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (broken(ReferencedSOPSequence=[]), "no object is named"),
        (broken(ReferencedSOPSequence=[item(FIRST), item(FIRST)]), "named twice"),
        (broken(TransactionUID="0"), "0008,1195"),
        (broken(TransactionUID=""), "0008,1195"),
        (broken(ReferencedSOPSequence=[Dataset()]), "0008,1150"),
        (broken()[:-1], "longer than what holds it"),
        (broken() + b"\x08\x00\x95", "ends inside an element"),
        (broken() + broken()[:20], "comes twice"),
    ],
)
def test_a_broken_request_is_refused_by_name(data: bytes, why: str) -> None:
    with pytest.raises(Malformed, match=why) as refused:
        commitment.read_request(data, EXPLICIT_LE)
    assert refused.value.remedy


def test_one_object_cannot_be_kept_and_failed_at_once() -> None:
    twice = ONE.model_copy(update={"kept": (FIRST, SECOND)})
    with pytest.raises(Malformed, match="named twice"):
        commitment.read_answer(*commitment.written_answer(twice, EXPLICIT_LE), EXPLICIT_LE)


def test_a_failure_without_a_reason_is_refused() -> None:
    made = as_dataset(ONE)
    del made.FailedSOPSequence[0].FailureReason
    with pytest.raises(Malformed, match="0008,1197"):
        commitment.read_answer(SOME_FAILED, encoded(made, IMPLICIT_LE), IMPLICIT_LE)


@pytest.mark.parametrize("open_ended", [False, True])
def test_sequences_within_sequences_end_the_reading(open_ended: bool) -> None:
    nested = b""
    for _ in range(3000):
        sequence, one = (0xFFFFFFFF,) * 2 if open_ended else (len(nested) + 8, len(nested))
        nested = struct.pack("<HHIHHI", 0x0008, 0x1199, sequence, 0xFFFE, 0xE000, one) + nested
    with pytest.raises(Malformed, match="nested too deep"):
        commitment.read_request(nested, IMPLICIT_LE)


def test_too_many_objects_and_too_many_bytes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commitment, "REFERENCES_MOST", 1)
    with pytest.raises(Malformed, match="more than 1 objects"):
        commitment.read_request(commitment.written_request(REQUEST, EXPLICIT_LE), EXPLICIT_LE)
    monkeypatch.setattr(commitment, "DATA_MOST", 10)
    with pytest.raises(Malformed, match="more than 10 bytes"):
        commitment.read_request(commitment.written_request(REQUEST, EXPLICIT_LE), EXPLICIT_LE)


@SYNTAXES
def test_no_mutation_raises_anything_but_malformed(syntax: str) -> None:
    random_ = random.Random(5)
    wholes = [encoded(as_dataset(ONE), syntax, open_ended=o) for o in (False, True)]
    for _ in range(1500):
        data = bytearray(random_.choice(wholes))
        for _ in range(random_.randint(1, 4)):
            data[random_.randrange(len(data))] = random_.randrange(256)
        with contextlib.suppress(Malformed):
            commitment.read_answer(SOME_FAILED, bytes(data[: random_.randint(1, 400)]), syntax)
