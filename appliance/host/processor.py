"""What the processor can do that decides how networks are run.

Rules. Read from /proc/cpuinfo as in `facts`: tolerant, and what is missing is not there. `root` is
a parameter so that a test can show a machine that is not this one.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Final

INT8_IN_32_BITS: Final = frozenset({"avx512_vnni", "avx_vnni", "amx_int8", "asimddp"})
"""Flags of instructions that add products of 8-bit integers in 32 bits: VNNI and AMX of x86, the
dot product of Arm."""
ROOT = Path("/")


def adds_int8_in_32_bits(root: Path = ROOT) -> bool:
    """Whether sums of products of 8-bit integers are exact here.

    Without such instructions x86 adds them in pairs that saturate at 16 bits (VPMADDUBSW), so 255 *
    127 + 255 * 127 becomes 32767: a layer that was quantised to all of 8 bits says something else
    (oneDNN documentation, "Nuances of int8 computations")."""
    with suppress(OSError):
        for line in (root / "proc/cpuinfo").read_text("utf-8", "replace").splitlines():
            name, _, flags = line.partition(":")
            if name.strip() in ("flags", "Features"):
                return not INT8_IN_32_BITS.isdisjoint(flags.split())
    return False
