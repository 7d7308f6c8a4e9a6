"""What a header says of the device that made the image: for the library of scanners. Pure.

The kernel is that of the header as it is (kernel.py decides whether it may leave the device); a
text is cut at LONGEST, for people write into free text.
"""

from __future__ import annotations

from typing import Final

from appliance.records import Header
from appliance.series.kernel import published
from appliance.watching.scanner import UNKNOWN, Scanner, Tags

LONGEST: Final = 64


def tags(header: Header | None) -> Tags:
    """What the watch needs of a header; nothing of None."""
    if header is None:
        return Tags()
    return Tags(
        modality=_cut(header.modality),
        maker=_cut(header.manufacturer),
        model=_cut(header.model),
        kernel=_cut(header.kernel),
        kvp=header.kvp,
        thickness_mm=header.thickness_mm,
        serial=_cut(header.serial),
        detector=_cut(header.detector),
    )


def shown(key: Scanner) -> Scanner:
    """What of a key a person may see, and another box have: the kernel only where it is a maker's
    own name (kernel.py), and no number of a device."""
    kernel = published(key.kernel) or UNKNOWN
    return key.model_copy(update={"kernel": kernel, "serial": UNKNOWN})


def _cut(text: str | None) -> str | None:
    return text[:LONGEST] if text else None
