"""Images that say something findable in every attribute, private ones and sequences too.

The attributes of all IODs are in pydicom's dictionary, so those of CT and DX are. Each text says
MARK and the number of its tag; UIDs, dates and numbers have a mark of their own kind.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection

from pydicom import Dataset
from pydicom.datadict import DicomDictionary

MARK, MARK_UID, MARK_DATE, MARK_NUMBER = "QXMARK", "2.25.77137713", "17130713", "7713771"
MARKS = (MARK, MARK_UID, MARK_DATE, MARK_NUMBER)
TEXTS = {"AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"}
_NUMBERED = {"UI": MARK_UID, "DS": MARK_NUMBER, "IS": MARK_NUMBER, "DA": MARK_DATE}
_PRIVATE = 0x0009
_GROUPS_OF_PIXELS = {0x0028, 0x7FE0}
_NOT_OURS = {0x0000, 0x0002, 0x0004, 0x0006, 0xFFFE}


def marked(image: Dataset, without: Collection[int] = ()) -> Dataset:
    """The image with a mark in every attribute that it does not have yet, but for those in
    `without` and those that describe the pixels."""
    for tag, vr in _all():
        if tag not in image and tag not in without:
            _put(image, tag, vr)
    image.add_new((_PRIVATE, 0x0010), "LO", f"{MARK} CREATOR")
    image.add_new((_PRIVATE, 0x1001), "LO", f"{MARK} PRIVATE")
    image.add_new((_PRIVATE, 0x1002), "SQ", [_item(_PRIVATE << 16 | 0x1002)])
    return image


def mark(image: Dataset, tag: int) -> Dataset:
    """The image with a mark in this attribute."""
    _put(image, tag, DicomDictionary[tag][0])
    return image


def texts() -> list[int]:
    """Every attribute that holds a text."""
    return [tag for tag, vr in _all() if vr in TEXTS]


def _all() -> list[tuple[int, str]]:
    """(tag, VR) of every attribute that can be marked."""
    return [
        (tag, entry[0])
        for tag, entry in DicomDictionary.items()
        if (entry[0] in TEXTS or entry[0] in _NUMBERED or entry[0] == "SQ")
        and tag >> 16 not in _GROUPS_OF_PIXELS | _NOT_OURS
        and tag != 0x00080005  # the character set, in which all else is read
    ]


def _put(image: Dataset, tag: int, vr: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # no value has to make sense
        if vr == "SQ":
            image.add_new(tag, vr, [_item(tag)])
        else:
            image.add_new(tag, vr, _NUMBERED.get(vr) or f"{MARK}{tag:08X}"[:16])


def _item(tag: int) -> Dataset:
    """What lies in a sequence: a code, a name and another sequence."""
    inner, item = Dataset(), Dataset()
    inner.add_new(0x00080104, "LO", f"{MARK} INNER {tag:08X}")
    item.add_new(0x00080100, "SH", f"{MARK}{tag:08X}")
    item.add_new(0x00080104, "LO", f"{MARK} MEANING {tag:08X}")
    item.add_new(0x00100010, "PN", f"{MARK}^IN^SEQUENCE")
    item.add_new(0x00400260, "SQ", [inner])
    return item
