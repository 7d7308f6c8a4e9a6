"""Which series are set aside by name, and what else is said of images by their names. Pure.

Which series of a study stand is in standing.py.

By name. Image Type (0008,0008) is value 1 ORIGINAL or DERIVED, value 2 PRIMARY or SECONDARY, value
3 AXIAL or LOCALIZER in CT, then whatever the maker writes (PS3.3 C.7.6.1.1.2, C.8.2.1.1.1); in
Enhanced CT value 3 is VOLUME and the like and value 4 the derived contrast (C.8.16.1). The rows of
`ROWS` are tried in order, the most telling first, so a DERIVED\\SECONDARY\\REFORMATTED image is
`reformatted`. Values are compared word by word (`CT_SOM5 MPR` holds the word MPR). No Image Type is
"unlabelled" and accepted, unless it is thicker than any slice is: then it is a view through the
body. A few unlabelled images across the axial plane are localizers too (`scout`).

DERIVED and SECONDARY alone are hints, in CT: archives, planning systems and compression write them
on the scanner's own slices. Such a series is analysed if its HU are sane (lines/nodules.py), with
the limitation `derived` or `secondary`; where compression explains the word, `lossy` says it all.
It is set aside if a word names another quantity than HU, or if text is burned into the pixels. In
other classes than CT both words set aside, but not so DERIVED of radiographs: one for presentation
is DERIVED from the one for processing (C.8.11.3.1.1), and all are projections.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from appliance.dicom.storage import CT_IMAGES, RADIOGRAPHS
from appliance.naming import MAKER, is_own
from appliance.reasons import Code
from appliance.records import Header
from appliance.report import Reason
from appliance.series import pose
from appliance.series.assemble import may_have_lost

SECONDARY_CAPTURE_CLASS = "1.2.840.10008.5.1.4.1.1.7"  # and its multi-frame children .7.1 to .7.4
LOCALIZER_WORDS = {"LOCALIZER", "SCOUT", "TOPOGRAM", "SCANOGRAM", "SURVIEW"}
PROJECTION_WORDS = {
    "MIP", "MINIP", "AVERAGE", "PROJECTION", "RAYSUM", "MPVR", "VRT", "SSD", "VOLREN",
    "MAXIMUM", "MINIMUM", "MEAN", "MEDIAN", "STD_DEVIATION",
}  # fmt: skip
REFORMATTED_WORDS = {"MPR", "REFORMATTED", "RESAMPLED", "CPR", "CURVED", "CORONAL", "SAGITTAL"}
SCREEN_WORDS = {"SCREEN", "SCREENSAVE", "SCREENSHOT", "CAPTURE", "PROT", "DOSE_INFO"}
"""What a screen kept as CT is called: SCREEN SAVE, Siemens' PROT (the protocol as a picture)."""
QUANTITIES = (
    *("ADDITION", "ATOMIC", "CALCIUM", "CBF", "CBV", "DIVISION", "ELECTRON", "FFR", "FUSION"),
    *("IODINE", "JOD", "MAT", "MATERIAL", "MONO", "MONOCHROMATIC", "MONOE", "MONOENERGETIC"),
    *("MONOENERGY", "MTT", "MULTIPLICATION", "PBV", "PERF", "PERFUSION", "QUANTITY", "RHO"),
    *("SUBTRACT", "SUBTRACTED", "SUBTRACTION", "TMAX", "TTD", "TTP", "URIC", "VIRTUAL", "VMI"),
    *("VNC", "VNI", "VUE", "WATER", "ZEFF", "PARAMETRIC", "OVERLAY"),
)
"""Names of what is no HU of one exposure: iodine and perfusion maps, virtual images of dual energy
(PS3.3 C.8.2.1.1.1 value 4: VMI, MAT_SPECIFIC, ELECTRON_DENSITY ...), subtractions. Compared with
the letters between other signs, so MONO_70KEV and IODINE(WATER) are known; a name of five letters
and more also where a longer word begins with it (IODINEMAP)."""
THICKEST_MM = 50.0
"""No slice is thicker; a localizer may say that it is as thick as the body."""
UNLABELLED_SCOUTS = 3
"""The most images that a series of localizers without Image Type has."""


@dataclass(frozen=True, slots=True)
class Row:
    """One rule by name."""

    code: Code
    what: str
    signs: Callable[[Header], set[str]]
    """What of the header says so, in words of this module; empty where the row does not apply."""
    from_image_type: bool = True
    """Whether the signs are words of Image Type."""


def _words(header: Header) -> set[str]:
    return {w for value in header.image_type for w in re.split(r"[^A-Z0-9_]+", value) if w}


def _value(header: Header, index: int) -> str:
    return header.image_type[index] if index < len(header.image_type) else ""


def _is_ct(header: Header) -> bool:
    return header.sop_class_uid in CT_IMAGES


def _screen(header: Header) -> set[str]:
    return _words(header) & SCREEN_WORDS if _is_ct(header) else set()


def _quantity(header: Header) -> set[str]:
    if not _is_ct(header):
        return set()
    words = {w for value in header.image_type for w in re.split(r"[^A-Z]+", value) if w}
    return {
        name
        for name in QUANTITIES
        if name in words or (len(name) >= 5 and any(w.startswith(name) for w in words))
    }


def _burned_in(header: Header) -> set[str]:
    burned = _is_ct(header) and header.burned_in and not original(header)
    return {"Burned In Annotation YES"} if burned else set()


def _thick(header: Header) -> set[str]:
    thick = _is_ct(header) and not header.image_type and (header.thickness_mm or 0.0) > THICKEST_MM
    return {f"Slice Thickness {header.thickness_mm:.0f} mm"} if thick else set()


def _not_ct(header: Header, index: int, word: str) -> set[str]:
    """The word that an image which is no CT has at this place."""
    return {_value(header, index)} & {word} if not _is_ct(header) else set()


def original(header: Header) -> bool:
    """Whether it is as the scanner made it, by name: neither DERIVED nor SECONDARY."""
    return _value(header, 0) != "DERIVED" and _value(header, 1) != "SECONDARY"


def _secondary_class(header: Header) -> set[str]:
    uid = header.sop_class_uid
    known = uid == SECONDARY_CAPTURE_CLASS or uid.startswith(SECONDARY_CAPTURE_CLASS + ".")
    return {"its SOP class"} if known else set()


def _own(header: Header) -> set[str]:
    """What was composed here or at another site. A phantom of this maker is an image that is
    analysed, or has no such UID."""
    image = _is_ct(header) or header.sop_class_uid in RADIOGRAPHS
    own = header.manufacturer == MAKER and not image and is_own(header.sop_instance_uid)
    return {"its manufacturer"} if own else set()


ROWS = (
    Row(Code.OWN_RESULT, "a result of this product", _own, False),
    Row(Code.LOCALIZER, "a localizer", lambda h: _words(h) & LOCALIZER_WORDS),
    Row(Code.SECONDARY_CAPTURE, "a secondary capture", _secondary_class, False),
    Row(Code.SECONDARY_CAPTURE, "a picture of a screen", _screen),
    Row(Code.PROJECTION, "a projection", lambda h: _words(h) & PROJECTION_WORDS),
    Row(Code.REFORMATTED, "a reformat", lambda h: _words(h) & REFORMATTED_WORDS),
    Row(Code.OTHER_QUANTITY, "no image of HU", _quantity),
    Row(Code.SECONDARY_CAPTURE, "an image with text in its pixels", _burned_in, False),
    Row(Code.LOCALIZER, "a view through the body", _thick, False),
    Row(Code.SECONDARY_CAPTURE, "a secondary image", lambda h: _not_ct(h, 1, "SECONDARY")),
    Row(Code.DERIVED, "derived from other images", lambda h: _not_ct(h, 0, "DERIVED")),
)


BY_NAME = frozenset(row.code for row in ROWS)
"""Codes of what is set aside by name."""


def by_name(header: Header) -> Reason | None:
    """Why an image is set aside by its Image Type or SOP class; None where it is not.

    The text holds only words known here: a report carries no free text of the scanner.
    """
    for row in ROWS:
        if header.sop_class_uid in RADIOGRAPHS and row.code in {Code.PROJECTION, Code.DERIVED}:
            continue
        if signs := row.signs(header):
            named_as = ", ".join(sorted(signs))
            if row.from_image_type:
                named_as = f"Image Type {named_as}"
            return Reason(code=row.code, text=f"it is {row.what}: {named_as}", where="series")
    return None


def hints(headers: Sequence[Header]) -> tuple[Reason, ...]:
    """The limitations `secondary` and `derived` of a CT series that is analysed nevertheless."""
    of_code = {
        Code.SECONDARY: [h for h in headers if _value(h, 1) == "SECONDARY"],
        Code.DERIVED: [h for h in headers if _value(h, 0) == "DERIVED" and not may_have_lost(h)],
    }
    return tuple(
        Reason(
            code=code,
            text=f"{len(named)} of {len(headers)} images are named {code.name} in their Image Type",
            where="series",
        )
        for code, named in of_code.items()
        if named
    )


def scout(headers: Collection[Header], reasons: Sequence[Reason]) -> Reason | None:
    """That a series which is not axial, whose images say nothing of their kind and are few, is a
    localizer; None where it is none."""
    across = any(reason.code is Code.NOT_AXIAL for reason in reasons)
    count = len({h.sop_instance_uid for h in headers})
    unlabelled = all(_is_ct(h) and not h.image_type for h in headers)
    if not (across and unlabelled and count <= UNLABELLED_SCOUTS):
        return None
    text = f"it is a localizer: {count} images across the axial plane, without Image Type"
    return Reason(code=Code.LOCALIZER, text=text, where="series")


@dataclass(frozen=True)
class _All:
    """All that a header says, put in order by its text, which is made only when it is needed."""

    header: Header

    def __lt__(self, other: _All) -> bool:
        return self._text() < other._text()

    def _text(self) -> tuple[str, str]:
        return repr(self.header), self.header.patient or ""  # which is in no repr


def place(header: Header) -> tuple[bool, int, str, _All]:
    """The order of images by their numbers, then UIDs; the first one's header speaks for all.

    Two headers of one UID that say different things have an order too: which of them arrived first
    must not count."""
    number = header.instance_number
    return number is None, number or 0, header.sop_instance_uid, _All(header)


def of_image(named: Reason, header: Header) -> Reason:
    """What `by_name` says, with the image that it is about."""
    return named.model_copy(update={"where": pose.image(header)})


def of_series(named: Sequence[Reason | None]) -> Reason | None:
    """Of each image why it is set aside by name -> why the series is: all of its images are; if
    only some, it is mixed."""
    aside = [reason for reason in named if reason is not None]
    if not aside:
        return None
    first = summed_up(aside)[0]
    if len(aside) == len(named):
        text = min(reason.text for reason in aside if reason.code is first.code)
        return first.model_copy(update={"text": text, "where": "series"})
    text = f"{first.where}: {first.text}; the other images are of another kind"
    return Reason(code=Code.MIXED_SERIES, text=text, where=first.where)


def summed_up(refusals: Sequence[Reason]) -> tuple[Reason, ...]:
    """The refusals of single images -> one reason a code, the same for every order of arrival.

    Reasons come in the order of `Code`, the most fundamental first; each names its first image and
    says how many more there are.
    """
    found = []
    for code in Code:
        same = in_order([r for r in refusals if r.code is code])
        if same:
            more = len(same) - 1
            text = same[0].text + (f" (and {more} more like it)" if more else "")
            found.append(same[0].model_copy(update={"text": text}))
    return tuple(found)


def in_order(reasons: Sequence[Reason]) -> list[Reason]:
    """Reasons of single images by the numbers of these."""
    return sorted(reasons, key=_by_image)


CONSEQUENCES = frozenset(
    (Code.NO_SLICES, Code.TOO_FEW_SLICES, Code.COVER_TOO_SHORT, Code.SPACING_TOO_WIDE,
     Code.GAP_TOO_WIDE)
)  # fmt: skip
"""What follows from other reasons: of images that were refused, or that lie in another plane,
number, cover and spacing say nothing."""
INDEPENDENT = frozenset(
    (Code.GANTRY_TILT, Code.DUPLICATE_POSITION, Code.REPEATED_PIXELS, Code.THICKNESS_TOO_WIDE)
)
"""Reasons from which nothing follows for the figures of the others."""


def first_causes(reasons: Sequence[Reason]) -> tuple[Reason, ...]:
    """Reasons against a series, the most fundamental first, without the consequences of others: of
    images that cannot be decoded it is not said that they are missing."""
    if all(reason.code in CONSEQUENCES | INDEPENDENT for reason in reasons):
        return tuple(reasons)
    return tuple(reason for reason in reasons if reason.code not in CONSEQUENCES)


def _by_image(reason: Reason) -> tuple[int, str]:
    """Numbers in order of numbers: image 2 before image 10."""
    number = re.search(r"\d+", reason.where or "")
    return int(number[0]) if number else 0, reason.text


def reused_uid() -> Reason:
    """What the reports of a series say whose Series Instance UID another study has too."""
    text = "The Series Instance UID is known under another study too."
    return Reason(code=Code.SERIES_UID_REUSED, text=text, where="series")
