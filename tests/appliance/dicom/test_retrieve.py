"""Query and retrieve as a user: what is written, what is read, and what a hostile peer may say."""

from __future__ import annotations

import io
import ssl
import time
from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset

from appliance.dicom import pdu, retrieve, statuses
from appliance.dicom.part10 import EXPLICIT, IMPLICIT
from appliance.dicom.requestor import SILENT, Limits, Peer
from appliance.dicom.retrieve import CLASSES, FIND, MOVE, Retrieving
from appliance.errors import PeerAway
from appliance.settings import TLS
from rigs.authority import Authority
from rigs.peers import HANG_S
from rigs.queried import Odd, serving

LIMITS = Limits(HANG_S, HANG_S, HANG_S)
STUDY = {"QueryRetrieveLevel": "STUDY", "PatientID": "a12", "StudyInstanceUID": ""}
PATIENT_ID = 0x00100020


def opened(port: int, tls: TLS | None = None) -> Retrieving:
    return Retrieving.open(Peer("127.0.0.1", port, "PACS", "SCANSIDE", tls), CLASSES, LIMITS)


def soon() -> float:
    return time.monotonic() + HANG_S


def answer(**values: str) -> Dataset:
    made = Dataset()
    for keyword, value in values.items():
        setattr(made, keyword, value)
    return made


def test_what_is_asked_comes_there_and_what_is_answered_comes_back() -> None:
    archive = Odd(answers=lambda _: [answer(PatientID=n) for n in ("a12", "b13")])
    with serving(archive):
        link = opened(archive.port)
        found = link.find(STUDY, end=soon(), most=9)
        link.release()
    assert [retrieve.text(one, PATIENT_ID) for one in found.answers] == ["a12", "b13"]
    assert (found.status, found.cut) == (0, False)
    assert dict(archive.asked[0].items()).keys() == {0x00080052, 0x00100020, 0x0020000D}
    assert archive.asked[0].PatientID == "a12"


def test_one_association_serves_several_questions_and_moves() -> None:
    archive = Odd(answers=lambda _: [answer(PatientID="a12")])
    with serving(archive):
        link = opened(archive.port)
        for _ in range(3):
            assert len(link.find(STUDY, end=soon(), most=9).answers) == 1
            assert link.move(STUDY, "BOX", end=soon()).status == 0
        link.release()
    assert archive.most_open == 1
    assert archive.to == ["BOX"] * 3


def test_over_tls_the_same(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "site")
    cert, key = authority.issue("pacs.ward", "127.0.0.1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    archive = Odd(answers=lambda _: [answer(PatientID="a12")] * 40)
    with serving(archive, tls=context):
        link = opened(archive.port, TLS(ca=authority.ca))
        assert len(link.find(STUDY, end=soon(), most=50).answers) == 40
        link.release()


def test_a_class_that_is_not_accepted_is_said_and_nothing_is_sent() -> None:
    with serving(Odd(), classes=(FIND,)) as archive:
        link = opened(archive.port)
        assert (link.accepts(FIND), link.accepts(MOVE)) == (True, False)
        assert link.move(STUDY, "BOX", end=soon()).status == statuses.NO_CONTEXT
        link.release()
    assert archive.moved == []


def test_more_answers_than_the_most_end_the_association() -> None:
    archive = Odd(answers=lambda _: (answer(PatientID=str(n)) for n in range(20)))
    with serving(archive):
        found = opened(archive.port).find(STUDY, end=soon(), most=5)
    assert (len(found.answers), found.cut) == (5, True)


def test_while_it_waits_it_says_that_it_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrieve, "TICK_S", 0.01)
    ticks: list[int] = []

    def slow(_keys: Dataset) -> int:
        while len(ticks) < 3:
            time.sleep(0.01)
        return 0

    with serving(Odd(moves=slow)) as archive:
        link = opened(archive.port)
        link.tick = lambda: ticks.append(1)
        assert link.move(STUDY, "BOX", end=soon()).status == 0
        link.release()


def test_a_move_that_lasts_too_long_is_a_peer_that_is_silent() -> None:
    stop: list[int] = []

    def slow(_keys: Dataset) -> int:
        while not stop:
            time.sleep(0.01)
        return 0

    with serving(Odd(moves=slow)) as archive:
        link = opened(archive.port)
        with pytest.raises(PeerAway) as caught:
            link.move(STUDY, "BOX", end=time.monotonic() + 0.1)
        stop.append(1)
        link.abort()
    assert caught.value.code == SILENT


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT])
@pytest.mark.parametrize(
    ("patient_id", "charset"), [("a12", None), ("Ä 7", "ISO_IR 192"), ("山田", "ISO_IR 192")]
)
def test_an_identifier_is_written_in_both_syntaxes_with_its_character_set(
    syntax: str, patient_id: str, charset: str | None
) -> None:
    data = retrieve.written({**STUDY, "PatientID": patient_id}, syntax)
    read = read_dataset(io.BytesIO(data), syntax == IMPLICIT, True)
    assert read.PatientID == patient_id
    assert read.get("SpecificCharacterSet") == charset


def said(value: bytes, charset: bytes = b"") -> str:
    """What is read of an id that was answered in these bytes."""
    data = b""
    for tag, vr, one in ((0x00080005, b"CS", charset), (PATIENT_ID, b"LO", value)):
        data += tag.to_bytes(4, "big")[1::-1] + tag.to_bytes(4, "big")[:1:-1]
        data += vr + len(one).to_bytes(2, "little") + one
    return retrieve.text(retrieve.read(data, EXPLICIT), PATIENT_ID)


@pytest.mark.parametrize(
    ("value", "charset", "text"),
    [
        (b" a12 ", b"", "a12"),
        (b"a12\0", b"", "a12"),
        (b"", b"", ""),
        (b"\xc4 7 ", b"ISO_IR 100", "\u00c4 7"),
        (b"\xc3\x84", b"ISO_IR 192", "\u00c4"),
        (b"\xc4 7 ", b"", "\u00c4 7"),  # as prior/patient.py reads it of an image
        (b"\xc4\xff", b"ISO_IR 192", ""),
        (b"\xc4 7 ", b"NO SUCH SET ", ""),
        (b"a12", b"NO SUCH SET ", "a12"),
    ],
)
def test_an_id_is_read_by_its_character_set(value: bytes, charset: bytes, text: str) -> None:
    assert said(value, charset) == text


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT])
@pytest.mark.parametrize(
    "data",
    [b"\x10\x00\x20\x00LO\xff\xff", b"\xff" * 200, b"\x10\x00\x20\x00SQ\0\0\xff\xff\xff\xff"],
)
def test_of_an_answer_that_is_no_data_set_no_value_is_read(data: bytes, syntax: str) -> None:
    try:
        found = retrieve.read(data, syntax)
    except ValueError:
        return
    assert retrieve.text(found, PATIENT_ID) == ""


def test_the_destination_and_the_counts_of_a_move_are_coded_as_the_standard_has_them() -> None:
    sent = pdu.encode_command({pdu.FIELD: pdu.C_MOVE_RQ, pdu.MOVE_DESTINATION: "BOX"})
    assert sent.endswith(b"\x00\x00\x00\x06\x04\x00\x00\x00BOX ")  # AE: padded with a space
    read = pdu.parse_command(pdu.encode_command({pdu.COMPLETED: 12, pdu.FAILED: 3}))
    assert (read[pdu.COMPLETED], read[pdu.FAILED]) == (12, 3)
