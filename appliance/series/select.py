"""Which series of a study are analysed: set aside by name, and the best of what is left. Pure.

By name. Image Type (0008,0008) is value 1 ORIGINAL or DERIVED, value 2 PRIMARY or SECONDARY, value
3 AXIAL or LOCALIZER in CT, then whatever the maker writes (PS3.3 C.7.6.1.1.2, C.8.2.1.1.1); in
Enhanced CT value 3 is VOLUME and the like and value 4 the derived contrast (C.8.16.1). The rows of
`ROWS` are tried in order, the most telling first, so a DERIVED\\SECONDARY\\REFORMATTED image is
`reformatted`. Values are compared word by word (`CT_SOM5 MPR` holds the word MPR). No Image Type is
"unlabelled" and accepted. DERIVED is set aside without exception, axial and primary or not: what
was done to its pixels is not said in a way that can be judged. Not so of radiographs: one for
presentation is DERIVED from the one for processing (C.8.11.3.1.1), and all are projections.

The best. Series of one study, frame of reference, acquisition and temporal position show the same
anatomy: one of them is analysed, by `_rank`, in this order:

1. axial;
2. original or unlabelled;
3. long enough for the bundle;
4. within the intended use: in full, limited, masses alone, not;
5. thinnest: the larger of spacing and thickness, then the spacing;
6. the kernel the bundle prefers, in the bundle's order;
7. more slices; then the lowest UID, so that every arrival order gives the same answer.

The others are `better_series`. A better one that comes late wins the same comparison later.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from appliance.bundle.accepts import Accepts
from appliance.dicom.storage import RADIOGRAPHS
from appliance.reasons import Code
from appliance.records import Header
from appliance.report import Reason

SECONDARY_CAPTURE_CLASS = "1.2.840.10008.5.1.4.1.1.7"  # and its multi-frame children .7.1 to .7.4
LOCALIZER_WORDS = {"LOCALIZER", "SCOUT", "TOPOGRAM", "SCANOGRAM", "SURVIEW"}
PROJECTION_WORDS = {
    "MIP", "MINIP", "AVERAGE", "PROJECTION", "RAYSUM", "MPVR", "VRT", "SSD", "VOLREN",
    "MAXIMUM", "MINIMUM", "MEAN", "MEDIAN", "STD_DEVIATION",
}  # fmt: skip
REFORMATTED_WORDS = {"MPR", "REFORMATTED", "RESAMPLED", "CPR", "CURVED", "CORONAL", "SAGITTAL"}


@dataclass(frozen=True, slots=True)
class Row:
    """One rule by name."""

    code: Code
    what: str
    signs: Callable[[Header], set[str]]
    """What of the header says so, in words of this module; empty where the row does not apply."""


def _words(header: Header) -> set[str]:
    return {w for value in header.image_type for w in re.split(r"[^A-Z0-9_]+", value) if w}


def _value(header: Header, index: int) -> str:
    return header.image_type[index] if index < len(header.image_type) else ""


def _secondary_class(header: Header) -> set[str]:
    uid = header.sop_class_uid
    known = uid == SECONDARY_CAPTURE_CLASS or uid.startswith(SECONDARY_CAPTURE_CLASS + ".")
    return {"its SOP class"} if known else set()


ROWS = (
    Row(Code.LOCALIZER, "a localizer", lambda h: _words(h) & LOCALIZER_WORDS),
    Row(Code.SECONDARY_CAPTURE, "a secondary capture", _secondary_class),
    Row(Code.PROJECTION, "a projection", lambda h: _words(h) & PROJECTION_WORDS),
    Row(Code.REFORMATTED, "a reformat", lambda h: _words(h) & REFORMATTED_WORDS),
    Row(Code.SECONDARY_CAPTURE, "a secondary image", lambda h: {_value(h, 1)} & {"SECONDARY"}),
    Row(Code.DERIVED, "derived from other images", lambda h: {_value(h, 0)} & {"DERIVED"}),
)


def by_name(header: Header) -> Reason | None:
    """Why an image is set aside by its Image Type or SOP class; None where it is not.

    The text holds only words known here: a report carries no free text of the scanner.
    """
    for row in ROWS:
        if header.sop_class_uid in RADIOGRAPHS and row.code in {Code.PROJECTION, Code.DERIVED}:
            continue
        if signs := row.signs(header):
            named_as = ", ".join(sorted(signs))
            if not named_as.startswith("its"):
                named_as = f"Image Type {named_as}"
            return Reason(code=row.code, text=f"it is {row.what}: {named_as}", where="series")
    return None


def place(header: Header) -> tuple[bool, int, str]:
    """The order of images by their numbers, then UIDs; the first one's header speaks for all."""
    number = header.instance_number
    return number is None, number or 0, header.sop_instance_uid


def of_image(named: Reason | None, header: Header) -> Reason | None:
    """What `by_name` says, with the image that it is about."""
    where = "image" if header.instance_number is None else f"image {header.instance_number}"
    return named and named.model_copy(update={"where": where})


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
        same = sorted((r for r in refusals if r.code is code), key=_by_image)
        if same:
            more = len(same) - 1
            text = same[0].text + (f" (and {more} more like it)" if more else "")
            found.append(same[0].model_copy(update={"text": text}))
    return tuple(found)


def _by_image(reason: Reason) -> tuple[int, str]:
    """Numbers in order of numbers: image 2 before image 10."""
    number = re.search(r"\d+", reason.where or "")
    return int(number[0]) if number else 0, reason.text


@dataclass(frozen=True, slots=True)
class SeriesSummary:
    """What the choice between the series of a study needs."""

    study_uid: str
    series_uid: str
    frame_of_reference_uid: str | None
    acquisition_number: int | None
    temporal_position: int | None
    axial: bool
    original: bool
    """Image Type value 1 is ORIGINAL, or there is none."""
    spacing_mm: float | None
    thickness_mm: float | None
    cover_mm: float
    kernel: str | None
    slices: int


def summary(
    header: Header, *, axial: bool, spacing_mm: float | None, cover_mm: float, slices: int
) -> SeriesSummary:
    """One header of the series and what its positions say -> SeriesSummary."""
    return SeriesSummary(
        study_uid=header.study_uid,
        series_uid=header.series_uid,
        frame_of_reference_uid=header.frame_of_reference_uid,
        acquisition_number=header.acquisition_number,
        temporal_position=header.temporal_position,
        axial=axial,
        original=_value(header, 0) in {"", "ORIGINAL"},
        spacing_mm=spacing_mm,
        thickness_mm=header.thickness_mm,
        cover_mm=cover_mm,
        kernel=header.kernel,
        slices=slices,
    )


def groups(series: Sequence[SeriesSummary]) -> tuple[tuple[SeriesSummary, ...], ...]:
    """Series that show the same anatomy at the same time, together; in a fixed order."""
    found: dict[tuple[str, ...], list[SeriesSummary]] = {}
    for one in sorted(series, key=lambda s: s.series_uid):
        key = (one.study_uid, one.frame_of_reference_uid, one.acquisition_number,
               one.temporal_position)  # fmt: skip
        found.setdefault(tuple(str(k) for k in key), []).append(one)
    return tuple(tuple(found[key]) for key in sorted(found))


def best(series: Sequence[SeriesSummary], accepts: Accepts) -> SeriesSummary:
    """The one series of a group that is analysed; ValueError where there is none."""
    return min(series, key=lambda s: _rank(s, accepts))


def better(chosen: SeriesSummary) -> Reason:
    """What the report of every other series of the group says."""
    spacing = "unknown" if chosen.spacing_mm is None else f"{chosen.spacing_mm:.2f} mm"
    text = f"another series of this acquisition is analysed: spacing {spacing}, "
    text += f"{chosen.slices} images"
    return Reason(code=Code.BETTER_SERIES, text=text, where="series")


Rank = tuple[bool, bool, bool, int, float, float, int, int, str]


def _rank(one: SeriesSummary, accepts: Accepts) -> Rank:
    """Smaller is better; see the rules above."""
    spacing = float("inf") if one.spacing_mm is None else round(one.spacing_mm, 2)
    effective = max(spacing, round(one.thickness_mm or 0.0, 2))
    limits = accepts.spacing_mm
    use = sum(effective > most for most in (limits.full, limits.limited, limits.most))
    return (
        not one.axial,
        not one.original,
        one.cover_mm < accepts.cover_mm,
        use,
        effective,
        spacing,
        _kernel_rank(one.kernel, accepts.kernels_preferred),
        -one.slices,
        one.series_uid,
    )


def _kernel_rank(kernel: str | None, preferred: Sequence[str]) -> int:
    name = (kernel or "").casefold()
    return next((i for i, k in enumerate(preferred) if k.casefold() == name), len(preferred))
