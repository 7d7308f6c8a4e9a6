"""PDUs: pure, and no length in them is trusted."""

from __future__ import annotations

import contextlib
import random

import pytest

from appliance.dicom import pdu
from appliance.dicom.policy import Context, Proposed, Roles


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


def test_the_roles_that_a_peer_asks_for_are_read() -> None:
    body = request_body().removesuffix(pdu._item(0x55, b"PEER"))
    at = body.index(b"\x50\0")
    uid = b"1.2.840.10008.1.20.1"
    items = body[at + 4 :] + pdu._item(0x54, len(uid).to_bytes(2, "big") + uid + b"\0\1")
    request = pdu.parse_request(body[:at] + pdu._item(0x50, items + pdu._item(0x54, b"\0")))
    assert request.roles == {uid.decode(): Roles(scu=False, scp=True)}
    assert pdu.parse_request(request_body()).roles == {}


def test_the_roles_that_were_agreed_are_read_by_pynetdicom_once_a_class() -> None:
    from pynetdicom.pdu import A_ASSOCIATE_AC  # noqa: PLC0415

    request = pdu.parse_request(request_body())
    roles = Roles(scu=False, scp=True)
    contexts = [Context(n, "1.2.3", "1.2.4", 0, roles) for n in (1, 3)]
    answer = A_ASSOCIATE_AC()
    answer.decode(pdu.accept(request, [*contexts, Context(5, "1.2.5", "1.2.4", 0)], 16384))
    (role,) = [i for i in answer.user_information.user_data if hasattr(i, "scp_role")]
    assert (role.uid, role.scu_role, role.scp_role) == ("1.2.3", 0, 1)


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


ASKED = (Proposed(1, "1.2.3", ("1.2.4",)), Proposed(3, "1.2.3", ("1.2.5", "1.2.6")))


def test_our_request_is_read_as_it_was_meant_and_so_is_the_answer_to_it() -> None:
    request = pdu.parse_request(pdu.request("SCANSIDE", "PACS", ASKED, 16384)[6:])
    assert (request.calling_ae, request.called_ae) == ("SCANSIDE", "PACS")
    assert (request.contexts, request.max_length) == (ASKED, 16384)
    contexts = (Context(1, "1.2.3", "1.2.4", 0), Context(3, "1.2.3", "1.2.5", 4))
    accept = pdu.accept(request, (*contexts, Context(9, "", "1.2.4", 0)), 4096)
    assert pdu.parse_accept(accept[6:], ASKED) == pdu.Accepted(contexts, 4096)
    assert pdu.parse_reject(pdu.reject((2, 3, 1))[6:]) == (2, 3, 1)


def test_no_mutation_of_an_answer_raises_anything_but_malformed() -> None:
    random_ = random.Random(4)
    request = pdu.parse_request(pdu.request("A", "B", ASKED, 16384)[6:])
    accept = pdu.accept(request, [Context(1, "1.2.3", "1.2.4", 0)], 16384)[6:]
    answer = pdu.command_pdu(1, {pdu.FIELD: 0x8001, pdu.STATUS: 0})[6:]
    assert pdu.response(answer)[1]
    for whole in (accept, answer, pdu.reject((1, 1, 3))[6:]):
        for _ in range(2000):
            data = bytearray(whole)
            for _ in range(random_.randint(1, 4)):
                data[random_.randrange(len(data))] = random_.randrange(256)
            cut = bytes(data[: random_.randint(0, len(data))])
            for parse in (lambda b: pdu.parse_accept(b, ASKED), pdu.parse_reject, pdu.response):
                with contextlib.suppress(pdu.MalformedError):
                    parse(cut)


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


@pytest.mark.parametrize("numbers", [(2,), (0,), (1, 1), (1, 3, 1), (1, 254)])
def test_context_numbers_are_odd_and_come_once(numbers: tuple[int, ...]) -> None:
    one = pdu._item(0x20, b"\1\0\0\0" + pdu._item(0x30, b"1.2.3") + pdu._item(0x40, b"1.2.4"))
    contexts = b"".join(one[:4] + bytes([number]) + one[5:] for number in numbers)
    with pytest.raises(pdu.MalformedError, match="presentation context"):
        pdu.parse_request(request_body().replace(one, contexts))
