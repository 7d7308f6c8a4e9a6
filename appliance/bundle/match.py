"""Whether a bundle is meant for a series, from what the series says of itself. Pure.

Rules.
1. A missing tag is unknown and passes on to the check of the content (lung mask volume).
   What `accepts` requires must be said: a missing age, or a body part that names none we accept,
   then refuses.
2. Modality (0008,0060), PatientAge (0010,1010) and Slice Thickness (0018,0050) are contrary when
   they lie outside `accepts`. Thickness is judged by the same limits as spacing: what is only
   limited is still accepted.
3. BodyPartExamined (0018,0015) should be a defined term of PS3.16 Annex L, but is set by protocol
   or by hand, in many languages and shortened. So it is contrary only if it names no accepted part
   AND names a part known as another (PARTS). A value that names several parts, such as
   CHEST_ABDOMEN or TAP, is accepted if one of them is. A value nobody knows passes on like a
   missing one: it is a site's private name, and the content decides. A bundle that names no part
   is for each.
   Where the bundle's networks find the organ, and `accepts` does not require the part, such a value
   alone only casts doubt (`doubt`): the images may overrule it, if they show the organ whole.
4. DR is no defined term of Modality, but is written for DX, and taken for it.
5. A reason carries names from our own tables, never a scanner's free text, and never an age: it
   says on which side of the bundle's range the patient is.
6. A bundle that takes no images, or makes no report, is meant for no series by its header, and
   nothing is said of it.
7. An age that is none (0 years, above 120) is unknown. Every patient is human, whatever the bundle.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Protocol, TypeVar

from appliance.bundle.accepts import Accepts
from appliance.bundle.manifest import Manifest
from appliance.reasons import Code
from appliance.records import Header
from appliance.report import Reason

PARTS: dict[str, tuple[str, ...]] = {
    "CHEST": (
        *("CHEST", "THORAX", "THORAKS", "TORAX", "TORACE", "LUNG", "PULMO", "POUMON", "POLMON"),
        *("BRUST", "POITRINE", "PECHO", "HRCT", "THORACOABD", "THORAKOABD", "胸", "肺"),
        *("=TAP", "=CAP", "=NCAP", "=CTAP", "=THX", "=THOR"),
    ),
    "WHOLE BODY": ("WHOLEBODY", "WHOLE_BODY", "GANZKOERPER", "GANZKÖRPER", "=WB", "POLYTRAUMA"),
    "HEAD": (
        *("HEAD", "BRAIN", "SKULL", "CRANI", "CEREBR", "CEREBELL", "ENCEPHAL", "KOPF", "SCHAEDEL"),
        *(
            "SCHÄDEL",
            "TETE",
            "TÊTE",
            "CRANE",
            "CABEZA",
            "=TESTA",
            "HIRN",
            "NEURO",
            "头",
            "颅",
            "脑",
        ),
        *("FACE", "FACIAL", "ORBIT", "SINUS", "MAXILLA", "MANDIBLE", "PITUITARY"),
        *("=JAW", "=EYE", "=EAR", "=IAC", "=CTB", "DENTAL", "GESICHT"),
    ),
    "NECK": ("NECK", "HALS", "=COLLO", "CUELLO", "CAROTID", "THYROID", "LARYNX", "=COU", "颈"),
    "SPINE": (
        *("SPINE", "SPINAL", "WIRBEL", "VERTEBR", "RACHIS", "COLUMNA", "LUMBAR", "SACRUM"),
        *("=LWS", "=HWS", "=BWS", "COCCYX", "椎"),
    ),
    "ABDOMEN": (
        *("ABDOMEN", "ABDOMIN", "ADDOME", "BAUCH", "BELLY", "LIVER", "HEPAT", "LEBER", "KIDNEY"),
        *("RENAL", "NIERE", "PANCREA", "SPLEEN", "STOMACH", "COLON", "UROGRA", "APPENDIX"),
        *("GALLBLADDER", "ADRENAL", "=KUB", "=TAP", "=CAP", "=NCAP", "=CTAP", "腹", "肝", "肾"),
    ),
    "PELVIS": (
        *("PELVI", "BECKEN", "BASSIN", "PROSTATE", "BLADDER", "UTERUS", "RECTUM", "BACINO"),
        *("=TAP", "=CAP", "=NCAP", "=CTAP", "盆"),
    ),
    "HEART": ("HEART", "CARDIAC", "CORONARY", "HERZ", "COEUR", "CUORE", "CORAZON", "心"),
    "BREAST": ("BREAST", "MAMMA", "=SEIN"),
    "LEG": (
        *("KNEE", "ANKLE", "FOOT", "FEET", "THIGH", "FEMUR", "TIBIA", "FIBULA", "CALCANEUS"),
        *("KNIE", "LOWER_EXTREMITY", "EXTREMITY", "BEIN", "GENOU", "RODILLA", "PATELLA", "CALF"),
        *("=HIP", "=LEG", "=TOE", "HUEFTE", "HÜFTE", "=FUSS", "膝", "足"),
    ),
    "ARM": (
        *("SHOULDER", "ELBOW", "WRIST", "HAND", "FINGER", "HUMERUS", "FOREARM", "CLAVICLE"),
        *("SCAPULA", "SCHULTER", "RADIUS", "=ARM", "=ULNA", "=THUMB", "肩", "腕"),
    ),
}
"""Part -> what names it. With `=` only as a word of its own; up to four letters only where a word
begins (FACE is not in SURFACE); else anywhere, because values run together (NECKCHESTABDPELV).
A term under two parts names both."""

MODALITIES = frozenset(
    (
        *("CR", "CT", "DX", "IO", "KO", "MG", "MR", "NM", "OT", "PR", "PT", "PX", "REG", "RF"),
        *("RG", "RTDOSE", "RTIMAGE", "RTPLAN", "RTSTRUCT", "SEG", "SM", "SR", "US", "XA", "XC"),
    )
)
"""Those of PS3.3 C.7.3.1.1.1 that a reason may repeat."""


WRITTEN_FOR = {"DR": "DX"}

REMEMBERED = 64
"""Longest value whose parts are remembered: every image of a series says the same one, and what is
hostile is not kept."""
_NO_AGE = "Patient's Age (0010,1010) says 0 years or more than 120"
ROUNDING = 1.01
"""A thickness up to 1 % above a limit is rounding, as in series/assemble.py."""


class HasManifest(Protocol):
    """Whatever carries a manifest, such as `appliance.Bundle`."""

    @property
    def manifest(self) -> Manifest: ...


B = TypeVar("B", bound=HasManifest)


def accepts(manifest: Manifest, header: Header) -> tuple[Reason, ...]:
    """Why this bundle is not meant for the series; empty where it accepts, perhaps with a doubt."""
    wants = manifest.accepts
    if not (manifest.line.takes_images and manifest.line.reports):
        return (_reason(Code.NO_BUNDLE, f"{manifest.name} is for no series by its header."),)
    reasons: list[Reason] = []
    modality = (header.modality or "").strip().upper()
    modality = WRITTEN_FOR.get(modality, modality)
    if modality and modality not in {m.upper() for m in wants.modality}:
        shown = modality if modality in MODALITIES else "unknown to us"
        text = f"The modality is {shown}, not {' or '.join(wants.modality)}."
        reasons.append(_reason(Code.MODALITY, text))
    if header.other_species:
        text = "Patient Species (0010,2201) or (0010,2202) names no human patient."
        reasons.append(_reason(Code.SPECIES, text))
    if part := _contrary(wants, header):
        reasons.append(part)
    elif "body_part" in wants.required and not _names(header.body_part, wants.body_part):
        text = "Body Part Examined (0018,0015) is missing or unknown to us; this bundle needs it."
        reasons.append(_reason(Code.BODY_PART, text))
    reasons += _age(wants, header)
    thickness = header.thickness_mm
    if thickness is not None and thickness > wants.spacing_mm.most * ROUNDING:
        limit = wants.spacing_mm.most
        text = f"The slices are {thickness:.3g} mm thick; at most {limit:g} mm are intended."
        reasons.append(_reason(Code.THICKNESS_TOO_WIDE, text))
    content_decides = manifest.line.finds_organ and "body_part" not in wants.required
    if content_decides and [reason.code for reason in reasons] == [Code.BODY_PART]:
        return ()
    return tuple(reasons)


def doubt(wants: Accepts, headers: Iterable[Header]) -> Reason | None:
    """Of a series that was accepted: the contrary body part that its images name, which only what
    they show may overrule; None where there is no doubt."""
    found = (
        _contrary(wants, header) for header in sorted(headers, key=lambda h: h.body_part or "")
    )
    return next((reason for reason in found if reason is not None), None)


def limits(wants: Accepts, headers: Iterable[Header]) -> tuple[Reason, ...]:
    """What a bundle that accepts a series says of what is unknown: the age, where it matters."""
    if wants.age_years is None or not any(header.age_unknown for header in headers):
        return ()
    return (
        _reason(Code.AGE_UNKNOWN, f"{_NO_AGE}: whether the bundle is meant for it is unknown."),
    )


def _contrary(wants: Accepts, header: Header) -> Reason | None:
    """Rule 3."""
    if contrary(header.body_part, wants.body_part) is None:
        return None
    named = parts((header.body_part or "").strip().upper())
    shown = " and ".join(part for part in PARTS if part in named)
    text = f"The body part is {shown}, not {' or '.join(wants.body_part)}."
    return _reason(Code.BODY_PART, text)


def _age(wants: Accepts, header: Header) -> list[Reason]:
    """Rules 5 and 7."""
    age, needed = header.patient_age_years, "age" in wants.required
    if age is None and needed:
        if header.age_unknown:
            return [_reason(Code.AGE_UNKNOWN, f"{_NO_AGE}; this bundle needs it.")]
        text = "Patient's Age (0010,1010) is missing; this bundle needs it."
        return [_reason(Code.PATIENT_AGE, text)]
    if age is None or wants.age_years is None:
        return []
    low, high = wants.age_years
    if low <= age <= high:
        return []
    side = f"younger than {low:g}" if age < low else f"older than {high:g}"
    text = f"The patient is {side} years; {low:g} to {high:g} are intended."
    return [_reason(Code.PATIENT_AGE, text)]


def choose(bundles: Iterable[B], header: Header) -> tuple[B, ...]:
    """The bundles that accept the series, perhaps with a doubt, in the order given."""
    return tuple(bundle for bundle in bundles if not accepts(bundle.manifest, header))


def none_accepts(bundles: Iterable[HasManifest], header: Header) -> tuple[Reason, ...]:
    """What a report says where `choose` gave nothing: each code once, then NO_BUNDLE."""
    lines = ((b, b.manifest.line) for b in bundles)
    held = tuple(b for b, line in lines if line.takes_images and line.reports)
    refusals = [accepts(b.manifest, header) for b in held]
    # bundles of this modality know best: what else the others miss in it is no news
    mine = [reasons for reasons in refusals if all(r.code is not Code.MODALITY for r in reasons)]
    other = [[r for r in reasons if r.code is Code.MODALITY] for reasons in refusals]
    by_code = {reason.code: reason for reasons in mine or other for reason in reasons}
    names = ", ".join(b.manifest.name for b in held) or "none"
    text = f"No active bundle is meant for this series (active: {names})."
    return (*by_code.values(), _reason(Code.NO_BUNDLE, text))


def contrary(body_part: str | None, accepted: Iterable[str]) -> str | None:
    """The known other part that a BodyPartExamined names; None where none refuses (rule 3)."""
    value = (body_part or "").strip().upper()
    wanted = [term.strip().upper() for term in accepted]
    named = parts(value)
    welcome = {part for term in wanted for part in parts(term)} | {"WHOLE BODY"}
    if not wanted or not value or named & welcome or any(term and term in value for term in wanted):
        return None
    return next((part for part in PARTS if part in named), None)


def _names(body_part: str | None, accepted: Iterable[str]) -> bool:
    """Whether a BodyPartExamined names one of the accepted parts, in whole words or by PARTS."""
    value = (body_part or "").strip().upper()
    wanted = {term.strip().upper() for term in accepted}
    welcome = {part for term in wanted for part in parts(term)}
    return bool(parts(value) & welcome or wanted & set(re.split(r"[\W_]+", value)) - {""})


def parts(value: str) -> frozenset[str]:
    """The parts that an upper-case value names; empty where it names none that we know."""
    return _remembered(value) if len(value) <= REMEMBERED else _parts(value)


def _parts(value: str) -> frozenset[str]:
    words = [word for word in re.split(r"[\W_]+", value) if word]
    spaced = "_".join(words)

    def refusals(term: str) -> bool:
        if term.startswith("="):
            return term[1:] in words
        if len(term) <= 4 and term.isascii():
            return any(word.startswith(term) for word in words)
        return term in spaced

    return frozenset(part for part, terms in PARTS.items() if any(map(refusals, terms)))


_remembered = lru_cache(maxsize=64)(_parts)


def _reason(code: Code, text: str) -> Reason:
    return Reason(code=code, text=text, where="series")
