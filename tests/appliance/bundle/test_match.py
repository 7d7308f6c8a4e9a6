"""Which series a bundle is meant for."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from appliance.bundle import match, trust
from appliance.bundle.manifest import Manifest
from appliance.reasons import Code
from appliance.records import Header

LUNG = ("CHEST", "THORAX", "LUNG")
CT = Header("1.2", "1", "2", "3", modality="CT", body_part="CHEST", thickness_mm=1.0)


@pytest.fixture
def manifest(tiny_bytes: bytes) -> Manifest:
    return trust.check(tiny_bytes).manifest


def codes(manifest: Manifest, header: Header) -> list[Code]:
    return [reason.code for reason in match.accepts(manifest, header)]


def test_a_chest_ct_is_accepted(manifest: Manifest) -> None:
    assert codes(manifest, replace(CT, patient_age_years=64.0)) == []


def test_what_is_missing_passes_on(manifest: Manifest) -> None:
    assert codes(manifest, Header("1.2", "1", "2", "3")) == []
    assert codes(manifest, replace(CT, modality=" ", body_part=" ")) == []


@pytest.mark.parametrize(
    "value",
    [
        *("CHEST", "Chest ", "THORAX", "LUNG", "LUNGS", "CHEST_ABDOMEN", "CHEST/ABD/PEL", "TAP"),
        *("BRUST", "TORAX", "CHESTABDPELVIS", "NECKCHESTABDPELV", "HEADNECKCHEST", "THORAX^HRCT"),
        *("WHOLEBODY", "WHOLE BODY", "ABDOMEN_THX", "胸部", "CAP", "THORACOABDOMINAL"),
        *("", "XYZ", "PROTOCOL 7", "ABTEILUNG 3", "SURFACE", "AORTA", "MEDIASTINUM", None),
    ],
)
def test_an_accepted_or_unknown_body_part_passes(value: str | None) -> None:
    assert match.contrary(value, LUNG) is None


@pytest.mark.parametrize(
    ("value", "part"),
    [
        *(("HEAD", "HEAD"), ("BRAIN", "HEAD"), ("SKULL", "HEAD"), ("Kopf", "HEAD")),
        *(("HEADNECK", "HEAD"), ("NECK", "NECK"), ("CSPINE", "SPINE"), ("TSPINE", "SPINE")),
        *(("ABDOMEN", "ABDOMEN"), ("UPPER ABDOMEN", "ABDOMEN"), ("ABDOMENPELVIS", "ABDOMEN")),
        *(("PELVIS", "PELVIS"), ("KNEE", "LEG"), ("LEFT_KNEE", "LEG"), ("HIP", "LEG")),
        *(("HEART", "HEART"), ("EXTREMITY", "LEG"), ("SHOULDER", "ARM"), ("头部", "HEAD")),
    ],
)
def test_a_known_other_body_part_refuses(value: str, part: str) -> None:
    assert match.contrary(value, LUNG) == part


def test_a_bundle_for_another_part_reads_the_same_table() -> None:
    assert match.contrary("CHEST", ("ABDOMEN",)) == "CHEST"
    assert match.contrary("LEBER", ("ABDOMEN",)) is None
    assert match.contrary("TAP", ("PELVIS",)) is None
    assert match.contrary("KNEE", ("KNEECAP", "PATELLA")) is None


def test_contrary_values_refuse_with_their_reasons(manifest: Manifest) -> None:
    assert codes(manifest, replace(CT, modality="MR")) == [Code.MODALITY]
    assert codes(manifest, replace(CT, patient_age_years=17.9)) == [Code.PATIENT_AGE]
    assert codes(manifest, replace(CT, patient_age_years=18.0)) == []
    assert codes(manifest, replace(CT, patient_age_years=120.5)) == [Code.PATIENT_AGE]
    assert codes(manifest, replace(CT, thickness_mm=5.04)) == []
    assert codes(manifest, replace(CT, thickness_mm=7.5)) == [Code.THICKNESS_TOO_WIDE]
    assert len(codes(manifest, replace(CT, modality="MR", body_part="KNEE"))) == 2


@pytest.mark.parametrize(
    ("part", "shown"),
    [
        ("KNEE", "is LEG,"),
        ("SKULL_TO_THIGH", "is HEAD and LEG,"),
        ("THYROID", "is NECK,"),
        ("UPPER ABDOMEN", "is ABDOMEN,"),
    ],
)
def test_a_contrary_body_part_alone_casts_doubt_where_the_images_can_decide(
    manifest: Manifest, part: str, shown: str
) -> None:
    header = replace(CT, body_part=part)
    assert codes(manifest, header) == []
    found = match.doubt(manifest.accepts, [CT, header])
    assert found is not None
    assert found.code is Code.BODY_PART
    assert shown in found.text
    assert match.doubt(manifest.accepts, [CT, replace(CT, body_part=None)]) is None
    accepts = manifest.accepts.model_copy(update={"required": ("body_part",)})
    needy = manifest.model_copy(update={"accepts": accepts})
    assert codes(needy, header) == [Code.BODY_PART]


def test_a_line_that_does_not_look_for_the_organ_refuses_a_contrary_body_part(
    radiographs: Manifest,
) -> None:
    accepts = radiographs.accepts.model_copy(update={"required": ()})
    lenient = radiographs.model_copy(update={"accepts": accepts})
    assert codes(lenient, replace(DX, body_part="KNEE")) == [Code.BODY_PART]


def test_no_bundle_is_meant_for_an_animal(manifest: Manifest, radiographs: Manifest) -> None:
    assert codes(manifest, replace(CT, other_species=True)) == [Code.SPECIES]
    assert codes(radiographs, replace(DX, other_species=True)) == [Code.SPECIES]
    none = match.none_accepts([Held(manifest)], replace(CT, other_species=True))
    assert [r.code for r in none] == [Code.SPECIES, Code.NO_BUNDLE]


def test_an_impossible_age_is_unknown_and_limits_or_refuses(
    manifest: Manifest, radiographs: Manifest
) -> None:
    unknown = {"patient_age_years": None, "age_unknown": True}
    assert codes(manifest, replace(CT, **unknown)) == []
    (limit,) = match.limits(manifest.accepts, [CT, replace(CT, **unknown)])
    assert limit.code is Code.AGE_UNKNOWN
    assert match.limits(manifest.accepts, [CT]) == ()
    assert codes(radiographs, replace(DX, **unknown)) == [Code.AGE_UNKNOWN]


@pytest.mark.parametrize("years", [3.0, 12.0, 17.9])
def test_a_reason_says_a_range_and_never_the_age(manifest: Manifest, years: float) -> None:
    (reason,) = match.accepts(manifest, replace(CT, patient_age_years=years))
    assert reason.text == "The patient is younger than 18 years; 18 to 120 are intended."


def test_a_bundle_that_finds_masses_may_take_thicker_slices(manifest: Manifest) -> None:
    limits = manifest.accepts.spacing_mm.model_copy(update={"masses": 10.0})
    accepts = manifest.accepts.model_copy(update={"spacing_mm": limits})
    wide = manifest.model_copy(update={"accepts": accepts})
    assert codes(wide, replace(CT, thickness_mm=10.0)) == []
    assert codes(wide, replace(CT, thickness_mm=10.2)) == [Code.THICKNESS_TOO_WIDE]


def test_a_reason_never_repeats_free_text(manifest: Manifest) -> None:
    header = replace(CT, modality="DOE^JANE", body_part="KNEE DOE^JANE")
    texts = [reason.text for reason in match.accepts(manifest, header)]
    assert len(texts) == 2
    assert "DOE" not in " ".join(texts)


@dataclass(frozen=True)
class Held:
    manifest: Manifest


def test_choose_keeps_the_order_and_says_why_none(manifest: Manifest) -> None:
    child = manifest.accepts.model_copy(update={"age_years": (0.0, 18.0)})
    adults, children = Held(manifest), Held(manifest.model_copy(update={"accepts": child}))
    assert match.choose([children, adults], CT) == (children, adults)
    assert match.choose([children, adults], replace(CT, patient_age_years=40.0)) == (adults,)
    thick = replace(CT, thickness_mm=7.5)
    assert match.choose([children, adults], thick) == ()
    reasons = match.none_accepts([children, adults], thick)
    assert [r.code for r in reasons] == [Code.THICKNESS_TOO_WIDE, Code.NO_BUNDLE]
    assert [r.code for r in match.none_accepts([], CT)] == [Code.NO_BUNDLE]


@pytest.fixture
def radiographs(tiny_radiograph_bytes: bytes) -> Manifest:
    return trust.check(tiny_radiograph_bytes).manifest


DX = Header("1.2", "1", "2", "3", modality="DX", body_part="CHEST", patient_age_years=4.0)


def test_what_a_bundle_requires_must_be_said_and_understood(radiographs: Manifest) -> None:
    assert codes(radiographs, DX) == []
    assert codes(radiographs, replace(DX, patient_age_years=None)) == [Code.PATIENT_AGE]
    for part in (None, "", "PROTOCOL 7", "ABTEILUNG 3"):
        assert codes(radiographs, replace(DX, body_part=part)) == [Code.BODY_PART]
    for part in ("THORAX", "BABYGRAM CHEST_ABDOMEN"):
        assert codes(radiographs, replace(DX, body_part=part)) == []


def test_dr_is_taken_for_dx_and_computed_radiography_is_another(radiographs: Manifest) -> None:
    assert codes(radiographs, replace(DX, modality="DR")) == []
    assert codes(radiographs, replace(DX, modality="CR")) == []
    assert codes(radiographs, replace(DX, modality="RF")) == [Code.MODALITY]


def test_the_bundles_of_the_modality_say_why_and_the_others_are_silent(
    manifest: Manifest, radiographs: Manifest
) -> None:
    both = [Held(manifest), Held(radiographs)]
    assert match.choose(both, DX) == (both[1],)
    assert match.choose(both, replace(CT, patient_age_years=40.0)) == (both[0],)
    older = match.none_accepts(both, replace(DX, patient_age_years=6.0))
    assert [r.code for r in older] == [Code.PATIENT_AGE, Code.NO_BUNDLE]
    assert "older than 5 years" in older[0].text
    assert "0 to 5" in older[0].text
    child = match.none_accepts(both, replace(CT, patient_age_years=4.0))
    assert "younger than 18 years" in child[0].text
    assert "18 to 120" in child[0].text
    ultrasound = match.none_accepts(both, replace(DX, modality="US", patient_age_years=None))
    assert [r.code for r in ultrasound] == [Code.MODALITY, Code.NO_BUNDLE]
