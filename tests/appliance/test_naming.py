"""Names: the same thing has one name, and nobody without the site key can compute it."""

from __future__ import annotations

import hashlib
import hmac
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.uid import UID

from appliance.naming import Naming, is_keyed, is_own
from appliance.report import SeriesKey

KEY = SeriesKey("1.2", "1.2.3")
BUNDLE, INPUT = "a" * 64, "b" * 64
HERE, THERE = Naming(b"h" * 32), Naming(b"t" * 32)


def names(naming: Naming, key: SeriesKey = KEY) -> dict[str, str]:
    """One name of each kind."""
    report = naming.report(key, BUNDLE, INPUT)
    return {
        "study": naming.study(key.study),
        "series": str(naming.series(key)),
        "report": str(report),
        "event": str(naming.event(report, "analysed")),
        "finding": str(naming.event(report, "finding", 1)),
        "received": str(naming.event(naming.series(key), "received 1")),
        "tracking": naming.tracking(report, 1),
    }


def test_a_scanner_is_named_by_its_number_and_what_kind_of_number_it_is() -> None:
    found = HERE.scanner("serial", "1.2")
    assert len(bytes.fromhex(found)) == 8
    assert found == Naming(b"h" * 32).scanner("serial", "1.2")
    others = {
        HERE.scanner("detector", "1.2"), HERE.scanner("serial", "1.3"),
        THERE.scanner("serial", "1.2"), HERE.study("1.2")[:16], HERE.patient("serial", "1.2")[:16],
    }  # fmt: skip
    assert found not in others
    assert len(others) == 5


def test_the_pseudonym_is_half_an_hmac_as_it_always_was() -> None:
    whole = hmac.new(b"key", b"1.2.3", hashlib.sha256).hexdigest()
    assert Naming(b"key").study("1.2.3") == whole[:32]


def test_names_are_what_the_contract_says_for_ever() -> None:
    said = b"scanside series\x001.2\x001.2.3"
    first = int.from_bytes(hmac.new(b"h" * 32, said, hashlib.sha256).digest()[:16], "big")
    made = HERE.series(KEY).int
    bits = ~((0xF << 76) | (0b11 << 62))
    assert made & bits == first & bits
    assert names(HERE) == names(Naming(b"h" * 32))


def test_with_another_key_every_name_is_another() -> None:
    here, there = names(HERE), names(THERE)
    assert not set(here.values()) & set(there.values())


def test_no_two_kinds_of_one_thing_have_one_name() -> None:
    assert len(set(names(HERE).values())) == len(names(HERE))


@pytest.mark.parametrize("other", [SeriesKey("1.9", "1.2.3"), SeriesKey("1.2", "1.2.4")])
def test_a_series_is_named_by_its_study_too(other: SeriesKey) -> None:
    here, there = names(HERE), names(HERE, other)
    same = {kind for kind in here if here[kind] == there[kind]}
    assert same == ({"study"} if other.study == KEY.study else set())


def test_a_report_is_of_series_bundle_and_input() -> None:
    reports = {
        HERE.report(KEY, BUNDLE, INPUT),
        HERE.report(KEY, None, INPUT),
        HERE.report(KEY, INPUT, INPUT),
        HERE.report(KEY, BUNDLE, BUNDLE),
    }
    assert len(reports) == 4


@given(st.binary(min_size=1, max_size=64), st.text(alphabet="0123456789.", max_size=64))
def test_names_are_well_formed(key: bytes, uid: str) -> None:
    naming, series = Naming(key), SeriesKey(uid, uid)
    report = naming.report(series, None, INPUT)
    for made in (report, naming.series(series), naming.event(report, "analysed")):
        assert (made.version, made.variant) == (8, uuid.RFC_4122)
        assert is_keyed(made)
    tracked = naming.tracking(report, 3)
    assert UID(tracked).is_valid
    assert tracked.startswith("2.25.")
    file = naming.composed(report, "final", "1", "sr")
    assert is_keyed(uuid.UUID(file.removesuffix(".dcm")))
    assert file != naming.composed(report, "final", "1", "seg")


def test_a_report_of_before_is_told_by_its_version() -> None:
    assert not is_keyed(uuid.uuid5(uuid.NAMESPACE_URL, "report 1.2.3"))


def test_the_key_is_not_printed() -> None:
    assert repr(Naming(b"secret")) == "Naming()"


def test_a_uid_that_was_given_here_is_known_for_one_and_no_other_is() -> None:
    naming = Naming(b"k" * 32)
    of = uuid.UUID(int=7)
    assert is_own(naming.document(of, "sr"))
    assert is_own(naming.tracking(of, 1))
    largest = (1 << 128) - 1
    for other in ("1.2.3", "2.25.", "2.25.x", f"2.25.{uuid.uuid4().int}", f"2.25.{largest + 1}",
                  f"2.25.{largest}", f"2.25.{'9' * 64}", "2.25.1"):  # fmt: skip
        assert not is_own(other), other
