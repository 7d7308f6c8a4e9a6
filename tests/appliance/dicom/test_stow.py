"""STOW-RS: what each answer means for the object sent."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.dicom import statuses, stow
from appliance.dicom.statuses import Answer, Reply
from appliance.dicom.stow import Garbled, Trouble, reply, trouble
from rigs.web_archive import JSON, listed, part

UID = "1.2.3"
NOW = datetime(2026, 11, 29, 10, 0, tzinfo=timezone.utc)


def of(http: int, body: bytes = b"", kind: str = JSON) -> Reply:
    return reply(http, kind, body, UID)


def test_a_body_holds_one_object_bit_by_bit() -> None:
    whole = bytes(range(256)) * 10
    body = b"".join(stow.framed(whole, "abc0"))
    assert part(stow.headers("abc0")["Content-Type"], body) == whole


@pytest.mark.parametrize("http", [200, 202])
def test_an_instance_that_is_listed_is_sent(http: int) -> None:
    assert of(http, listed(UID)) == Reply(Answer.SENT)
    assert of(http, b"[" + listed(UID) + b"]") == Reply(Answer.SENT), "some send an array"
    assert of(http, listed(UID), "application/json") == Reply(Answer.SENT)


def test_a_warning_is_sent_with_a_mark() -> None:
    found = of(202, listed(UID, warning=0xB000))
    assert (found.meant, found.mark) == (Answer.SENT, "taken with STOW-RS 0xB000")


@pytest.mark.parametrize("http", [200, 202, 409])
@pytest.mark.parametrize(
    "status", [0x0110, 0x0111, 0x0122, 0x0124, 0xA700, 0xA900, 0xB00E, 0xC000, 0xC122]
)
def test_a_failure_means_what_its_reason_means_in_c_store(http: int, status: int) -> None:
    found = of(http, listed(UID, failure=status))
    assert found == statuses.reply(status, "STOW-RS")
    assert found.meant is statuses.answer(status)


def test_a_reason_as_text_is_read_and_one_out_of_range_is_none() -> None:
    item = {"00081155": {"Value": [UID]}, "00081197": {"vr": "US", "Value": ["43264"]}}
    body = {"00081198": {"vr": "SQ", "Value": [item]}}
    assert of(200, json.dumps(body).encode()).meant is Answer.UNFIT
    for wrong in (70000, -1, True, "x", None, 0, [1], 1.5):
        item["00081197"] = {"vr": "US", "Value": [wrong]}
        found = of(200, json.dumps(body).encode())
        assert (found.meant, "without a reason" in found.said) == (Answer.UNCLEAR, True)


def test_a_failure_that_names_no_instance_is_ours() -> None:
    for tag in ("00081198", "0008119A"):
        body = {tag: {"vr": "SQ", "Value": [{"00081197": {"vr": "US", "Value": [0xA900]}}]}}
        assert of(200, json.dumps(body).encode()).meant is Answer.UNFIT


def test_a_failure_goes_before_what_was_taken() -> None:
    both = {**json.loads(listed(UID)), **json.loads(listed(UID, failure=0xA900))}
    assert of(200, json.dumps(both).encode()).meant is Answer.UNFIT


def test_a_list_in_which_ours_is_not_does_not_mean_that_it_was_taken() -> None:
    none = b'{"00081198": {"vr": "SQ"}, "00081199": {"vr": "SQ"}}'
    for body in (listed("9.9"), none, b"{}", b'{"00081199": {"vr": "SQ", "Value": []}}'):
        for http in (200, 202):
            found = of(http, body)
            assert (found.meant, "does not name" in found.said) == (Answer.UNCLEAR, True)
    others = {**json.loads(listed(UID)), **json.loads(listed("9.9", failure=0xA900))}
    assert of(202, json.dumps(others).encode()).meant is Answer.SENT


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", ""),
        (b"", JSON),
        (b"<NativeDicomModel/>", "application/dicom+xml"),
        (b"<NativeDicomModel/>", "text/xml"),
        (b"--b", "multipart/related"),
    ],
)
def test_without_a_list_the_http_status_counts_and_is_kept(body: bytes, kind: str) -> None:
    for http in (200, 202, 204):
        found = of(http, body, kind)
        assert found.meant is Answer.SENT
        assert found.mark == f"taken with HTTP {http}, and no list of instances"


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"<html>Welcome</html>", "text/html"),
        (b"OK", "text/plain"),
        (b"OK", ""),
        (b"{", JSON),
        (b"\xff\xfe", JSON),
        (b'"text"', JSON),
        (b"[]", JSON),
        (b"[" * 200_000, JSON),
    ],
)
def test_what_is_no_answer_to_stow_rs_is_not_taken_for_sent(body: bytes, kind: str) -> None:
    with pytest.raises(Garbled):
        of(200, body, kind)


@pytest.mark.parametrize("http", [400, 404, 405, 406, 409, 410, 411, 413, 415, 422, 451])
def test_any_other_4xx_is_dead_with_status_and_remedy(http: int) -> None:
    assert trouble(http) is None
    for body in (b"", b"not at all", listed(UID), listed(UID, failed=True)):
        found = of(http, body)
        assert found.meant is Answer.UNFIT
        assert f"HTTP {http}. " in found.said
        assert found.said.endswith("Then `scanside outbox retry`.")


@pytest.mark.parametrize(
    ("http", "what"),
    [
        (301, Trouble.REDIRECTS), (302, Trouble.REDIRECTS), (307, Trouble.REDIRECTS),
        (308, Trouble.REDIRECTS), (401, Trouble.REFUSES_US), (403, Trouble.REFUSES_US),
        (407, Trouble.REFUSES_US), (408, Trouble.BUSY), (429, Trouble.BUSY), (503, Trouble.BUSY),
        (500, Trouble.FAILS), (501, Trouble.FAILS), (502, Trouble.FAILS), (504, Trouble.FAILS),
        (507, Trouble.FAILS), (599, Trouble.FAILS),
    ],
)  # fmt: skip
def test_what_the_service_as_such_does_not_do_now_waits(http: int, what: Trouble) -> None:
    assert trouble(http) is what
    assert stow.REMEDIES[what].endswith(".")


def test_an_interim_answer_is_none() -> None:
    assert trouble(103) is None
    with pytest.raises(Garbled):
        of(103)


def test_retry_after_is_seconds_or_a_date_and_never_more_than_the_bound() -> None:
    said = {
        "0": 0.0, "7": 7.0, " 120 ": 120.0, "999999999": stow.RETRY_AFTER_MOST_S,
        format_datetime(NOW + timedelta(seconds=90), usegmt=True): 90.0,
        format_datetime(NOW - timedelta(hours=1), usegmt=True): 0.0,
        format_datetime(NOW + timedelta(days=99), usegmt=True): stow.RETRY_AFTER_MOST_S,
        "Sun, 29 Nov 2026 10:01:00": 0.0,
        "soon": 0.0, "-5": 0.0, "1e9": 0.0, "": 0.0, "9" * 5000: 0.0,
    }  # fmt: skip
    assert {text: stow.wait_s(text, NOW) for text in said} == said
    assert stow.wait_s(None, NOW) == 0.0


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.just(UID),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["00081198", "00081199", "0008119A", "00081155", "00081197", "Value"]),
            inner,
            max_size=4,
        )
    ),
)


@given(st.sampled_from([200, 202, 409]), VALUES)
def test_whatever_json_comes_it_is_a_reply_or_garbled(http: int, value: object) -> None:
    try:
        found = of(http, json.dumps(value).encode())
    except Garbled:
        return
    assert isinstance(found, Reply)


@given(st.integers(200, 599), st.text(max_size=20), st.binary(max_size=50))
def test_whatever_comes_it_is_a_trouble_a_reply_or_garbled(
    http: int, kind: str, body: bytes
) -> None:
    if trouble(http) is None:
        try:
            assert isinstance(reply(http, kind, body, UID), Reply)
        except Garbled:
            return
