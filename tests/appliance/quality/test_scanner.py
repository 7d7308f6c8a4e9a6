"""The key of a scanner: classes, spellings, and tags that lie in wait."""

from __future__ import annotations

import math
import string
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.naming import Naming
from appliance.quality import scanner
from appliance.watching.scanner import UNKNOWN, Scanner, Tags

NAMING = Naming(b"k" * 32)
CT = Tags("CT", "GE MEDICAL SYSTEMS", "LightSpeed16", "STANDARD", 120.0, 2.5, serial="SN-0815")
PRINTABLE = set(string.ascii_letters + string.digits + " ._+/()-")


def key(**changes: object) -> Scanner:
    return scanner.key(replace(CT, **changes), NAMING)  # type: ignore[arg-type]


def test_a_ct_is_keyed_by_maker_model_kernel_classes_and_the_hash_of_its_number() -> None:
    found = key()
    assert found.model_dump(exclude={"serial"}) == {
        "modality": "CT", "maker": "ge", "model": "LightSpeed16", "kernel": "STANDARD",
        "kvp": "120", "thickness": "to 2.5 mm",
    }  # fmt: skip
    assert len(found.serial) == 16
    assert "0815" not in found.model_dump_json()
    assert key(serial="SN-0816").serial != found.serial
    assert scanner.key(CT, Naming(b"other" * 8)).serial != found.serial


def test_a_radiograph_is_keyed_by_its_detector_and_has_no_kernel() -> None:
    tags = replace(CT, modality="DX", detector="D1", kernel="K")
    found = scanner.key(tags, NAMING)
    assert (found.kernel, found.kvp, found.thickness) == (UNKNOWN, UNKNOWN, UNKNOWN)
    assert found.serial not in {UNKNOWN, scanner.key(CT, NAMING).serial}
    assert scanner.key(replace(tags, serial="another"), NAMING) == found
    assert scanner.key(replace(tags, detector="D2"), NAMING) != found
    same = scanner.key(replace(CT, serial="D1"), NAMING)
    assert same.serial != found.serial, "a detector's number tells nothing of a scanner's"


def test_what_is_absent_is_unknown() -> None:
    assert scanner.key(Tags(), NAMING) == Scanner()
    assert key(serial=None).serial == key(serial="  ").serial == UNKNOWN


@pytest.mark.parametrize(
    ("said", "maker"),
    [
        ("GE Healthcare", "ge"), ("SIEMENS", "siemens"), ("Siemens Healthineers", "siemens"),
        ("Philips Medical Systems", "philips"), ("TOSHIBA", "canon"), ("CANON_MEC", "canon"),
        ("UIH", "united imaging"), ("Gentex", "gentex"), ("Acme  Rays", "acme rays"),
    ],
)  # fmt: skip
def test_spellings_of_one_maker_are_one(said: str, maker: str) -> None:
    assert key(maker=said).maker == maker


@pytest.mark.parametrize(
    ("said", "kernel"),
    [("Standard", "STANDARD"), ("B45f", "B45f"), ("Br40d/3", "Br40d/3"), ("bone+", "BONE+")],
)
def test_a_kernel_of_letters_is_one_in_any_case(said: str, kernel: str) -> None:
    assert key(kernel=said).kernel == kernel


@pytest.mark.parametrize(
    ("said", "kvp"),
    [(120.0, "120"), (118.6, "120"), (100, "100"), (70.0, "70"), (155, "150"), (25.0, UNKNOWN),
     (None, UNKNOWN), (math.nan, UNKNOWN), (math.inf, UNKNOWN), (-120.0, UNKNOWN)],
)  # fmt: skip
def test_kvp_is_a_class(said: float | None, kvp: str) -> None:
    assert key(kvp=said).kvp == kvp


@pytest.mark.parametrize(
    ("said", "thickness"),
    [(0.625, "to 0.8 mm"), (0.8, "to 0.8 mm"), (1.25, "to 1.5 mm"), (2.0, "to 2.5 mm"),
     (3.27, "to 3.5 mm"), (5.0, "to 5.5 mm"), (8.0, "above 5.5 mm"), (0.0, UNKNOWN),
     (-1.0, UNKNOWN), (None, UNKNOWN), (math.nan, UNKNOWN), (math.inf, UNKNOWN)],
)  # fmt: skip
def test_thickness_is_a_class(said: float | None, thickness: str) -> None:
    assert key(thickness_mm=said).thickness == thickness


@pytest.mark.parametrize(
    "hostile",
    ["x" * 65536, "<script>alert(1)</script>", "a\nb\r\0c\x1b[2J", "\ufffd\ufffd", "B\\C\\D", " "],
)
def test_hostile_tags_give_a_bounded_printable_text(hostile: str) -> None:
    found = key(modality=hostile, maker=hostile, model=hostile, kernel=hostile, serial=hostile)
    for part in found.model_dump().values():
        assert 1 <= len(part) <= 64
        assert set(part) <= PRINTABLE


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=300))
def test_any_text_gives_a_key(text: str) -> None:
    found = key(modality=text, maker=text, model=text, kernel=text, serial=text, detector=text)
    assert Scanner.model_validate(found.model_dump()) == found
    assert all(set(part) <= PRINTABLE for part in found.model_dump().values())
