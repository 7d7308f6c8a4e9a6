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
    assert codes(manifest, replace(CT, body_part="KNEE")) == [Code.BODY_PART]
    assert codes(manifest, replace(CT, patient_age_years=17.9)) == [Code.PATIENT_AGE]
    assert codes(manifest, replace(CT, patient_age_years=18.0)) == []
    assert codes(manifest, replace(CT, patient_age_years=120.5)) == [Code.PATIENT_AGE]
    assert codes(manifest, replace(CT, thickness_mm=5.04)) == []
    assert codes(manifest, replace(CT, thickness_mm=7.5)) == [Code.THICKNESS_TOO_WIDE]
    assert len(codes(manifest, replace(CT, modality="MR", body_part="KNEE"))) == 2


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
    knee = replace(CT, body_part="KNEE")
    assert match.choose([children, adults], knee) == ()
    reasons = match.none_accepts([children, adults], knee)
    assert [r.code for r in reasons] == [Code.BODY_PART, Code.NO_BUNDLE]
    assert [r.code for r in match.none_accepts([], CT)] == [Code.NO_BUNDLE]
