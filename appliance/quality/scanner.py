"""The key of a scanner: whose row of the library a series belongs to. Pure.

Rules.
1. What a header says becomes a bounded printable text: letters, digits and a few signs of ASCII,
   runs of anything else one space, at most LONGEST. So no markup and no control character comes
   from a scanner into a page, a log or a file. What is then empty is UNKNOWN.
2. Spellings of one maker are one (MAKERS): software of the same machine writes `GE MEDICAL SYSTEMS`
   and `GE Healthcare`, and Canon bought Toshiba. A maker that is not in the table stands in lower
   case, so that only case is folded.
3. A kernel of letters alone is one in any case (`Standard`, `STANDARD`), as it is for
   series/kernel.py. One with digits stays as it is written: B45f and B45s are two.
4. kVp and thickness are classes. kVp: the nearest of KVP, for tags of one protocol differ by a
   little, and UNKNOWN where none is within KVP_APART. Thickness: up to each of THICKNESS_MM, which
   part what is reconstructed in practice: 0.5 to 0.75, 1 to 1.25, 2 to 2.5, 3 to 3.27, 4 to 5 mm,
   and what is thicker.
5. The number of a device is HMAC with the site key (Naming.scanner), as it is said: two numbers
   that print alike are two devices.
"""

from __future__ import annotations

import math
import re
from typing import Final

from appliance.naming import Naming
from appliance.watching.scanner import UNKNOWN, Scanner, Tags

LONGEST: Final = 64
MAKERS: Final = (
    (re.compile(r"ge\b.*|general electric.*"), "ge"),
    (re.compile(r"siemens.*"), "siemens"),
    (re.compile(r"philips.*|marconi.*|picker.*"), "philips"),
    (re.compile(r"toshiba.*|canon.*"), "canon"),
    (re.compile(r"united[ _-]?imaging.*|uih.*"), "united imaging"),
    (re.compile(r"neusoft.*"), "neusoft"),
    (re.compile(r"hitachi.*"), "hitachi"),
    (re.compile(r"fuji.*"), "fujifilm"),
    (re.compile(r"agfa.*"), "agfa"),
    (re.compile(r"carestream.*|eastman kodak.*|kodak.*"), "carestream"),
)
KVP: Final = (70, 80, 90, 100, 110, 120, 130, 140, 150)
KVP_APART: Final = 10.0
THICKNESS_MM: Final = (0.8, 1.5, 2.5, 3.5, 5.5)
SLICED: Final = frozenset({"CT", "MR", "PT"})
"""Modalities of volumes; what another one makes is keyed by its detector."""
_OTHER: Final = re.compile(r"[^A-Za-z0-9 ._+/()-]+")


def key(tags: Tags, naming: Naming) -> Scanner:
    """The scanner that these tags name (rules 1 to 5)."""
    maker, modality = plain(tags.maker).lower(), plain(tags.modality).upper()
    folded = next((name for form, name in MAKERS if form.fullmatch(maker)), maker)
    common = {
        "modality": modality or UNKNOWN,
        "maker": folded or UNKNOWN,
        "model": plain(tags.model) or UNKNOWN,
    }
    if modality not in SLICED and modality:
        return Scanner(**common, serial=_number("detector", tags.detector, naming))
    return Scanner(
        **common,
        kernel=_kernel(tags.kernel),
        kvp=_kvp(tags.kvp),
        thickness=_thickness(tags.thickness_mm),
        serial=_number("serial", tags.serial, naming),
    )


def plain(text: str | None) -> str:
    """Rule 1; empty where nothing is left."""
    kept = _OTHER.sub(" ", (text or "")[: 4 * LONGEST])
    return " ".join(kept.split())[:LONGEST].strip()


def _kernel(text: str | None) -> str:
    found = plain(text)
    return (found if any(c.isdigit() for c in found) else found.upper()) or UNKNOWN


def _kvp(kvp: float | None) -> str:
    if kvp is None or not math.isfinite(kvp):
        return UNKNOWN
    nearest = min(KVP, key=lambda one: abs(one - kvp))
    return str(nearest) if abs(nearest - kvp) <= KVP_APART else UNKNOWN


def _thickness(thickness_mm: float | None) -> str:
    if thickness_mm is None or not (0 < thickness_mm < math.inf):
        return UNKNOWN
    most = next((mm for mm in THICKNESS_MM if thickness_mm <= mm), None)
    return f"to {most:g} mm" if most else f"above {THICKNESS_MM[-1]:g} mm"


def _number(what: str, text: str | None, naming: Naming) -> str:
    return naming.scanner(what, text) if text and text.strip() else UNKNOWN
