"""Which name of a reconstruction kernel may leave the device. Pure.

Convolution Kernel (0018,1210) is free text of the scanner (PS3.3 C.8.2.1: a label that describes
the kernel), and people write into free text: a patient's name has stood there. So it leaves only
where it is a maker's own name.

Rules
- A name of NAMES, in any case, leaves as the scanner wrote it.
- Else it has a maker's form: of Siemens (B45f, Br40d, I31f, Hr38h, Qr40, and with its strength:
  `Br40d/3`, `I31f\\3`), of Canon and Toshiba (FC08, FC51-H, FL04), of United Imaging (B_SHARP_C).
- Nothing longer than LONGEST leaves.
What does not leave is null in the report. The choice between series still heeds it.
"""

from __future__ import annotations

import re

LONGEST = 16
NAMES = frozenset(
    (
        # GE
        *("STANDARD", "STD", "STD+", "SOFT", "LUNG", "BONE", "BONEPLUS", "BONE+", "DETAIL", "EDGE"),
        *(
            "CHST",
            "CHEST",
            "ULTRA",
            "ULTRA-HD",
            "HD STD",
            "HD LUNG",
            "HD BONE",
            "HD DETAIL",
            "ASIR",
        ),
        # Philips: single letters of the older machines, pairs of the newer
        *("A", "B", "C", "D", "E", "F", "L", "EB", "EC", "UA", "UB", "UC", "YA", "YB", "YC", "YD"),
        # of several makers, and of phantoms
        *("SMOOTH", "SHARP", "NORMAL", "MEDIUM", "BODY", "BRAIN", "HEAD", "MEDIASTINUM"),
    )
)
FORMS = re.compile(
    r"[BDHIJQTU][a-z]?\d{2}[a-z]?(?:[\\/][1-5])?"  # Siemens
    r"|F[CL]\d{2}(?:-[A-Z]{1,2})?"  # Canon, Toshiba
    r"|[BHL]_(?:V?SOFT|V?SHARP|STD)_[A-Z]{1,2}"  # United Imaging
)


def published(kernel: str | None) -> str | None:
    """The kernel's name where it may leave, else None."""
    name = (kernel or "").strip()
    if len(name) > LONGEST or not name.isascii():
        return None
    return name if name.upper() in NAMES or FORMS.fullmatch(name) else None
