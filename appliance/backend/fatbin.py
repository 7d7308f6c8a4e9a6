"""What a fatbin holds, read from its headers, and whether it fits the GPU that is here.

Rules.
1. A device compiles nothing: the fatbin comes with the release, beside this file, with the digest
   that it was built with. One that is cut, changed or lacks this GPU's code is refused by name
   before the driver sees it.
2. On a Tegra code for another minor architecture is not supported: it needs its own. A discrete GPU
   also takes code of an earlier minor of its major, and PTX of an earlier architecture (CUDA C++
   Programming Guide, "Binary Compatibility").

A fatbin, read from what nvcc 13.0 writes (little endian): magic u32, version u16, header bytes u16,
bytes of all entries u64; then entries: kind u16 (1 PTX, 2 cubin), version u16, header bytes u32,
payload bytes u64, and at 28 the architecture u32 (87 for sm_87).
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from appliance.errors import BackendUnavailable, BundleRefused

NAME = "kernels.fatbin"
SHIPPED = Path(__file__).with_name(NAME)
REMEDY = "Install the release again, or build it where CUDA is: python -m compile kernels."

_MAGIC = 0xBA55ED50
_WHOLE = struct.Struct("<IHHQ")
_ENTRY = struct.Struct("<HHIQIIHHI")
_KINDS: dict[int, Literal["ptx", "cubin"]] = {1: "ptx", 2: "cubin"}


@dataclass(frozen=True, slots=True)
class Code:
    """One entry of a fatbin."""

    kind: Literal["ptx", "cubin"]
    architecture: int
    """87 for sm_87 or compute_87."""

    def __str__(self) -> str:
        return f"{'sm' if self.kind == 'cubin' else 'compute'}_{self.architecture}"


def read(data: bytes) -> tuple[Code, ...]:
    """The entries of a fatbin in their order. BundleRefused (`fatbin_broken`) says where."""
    if len(data) < _WHOLE.size:
        raise _broken(f"{len(data)} bytes are no fatbin")
    magic, _, at, size = _WHOLE.unpack_from(data)
    if magic != _MAGIC or at < _WHOLE.size:
        raise _broken(f"it begins with {data[:4].hex()}, not with the header of a fatbin")
    if at + size != len(data):
        raise _broken(f"its header says {at + size} bytes, it has {len(data)}")
    found = []
    while at < len(data):
        if at + _ENTRY.size > len(data):
            raise _broken(f"the entry at byte {at} is cut")
        kind, _, head, size, *_, architecture = _ENTRY.unpack_from(data, at)
        if kind not in _KINDS or head < _ENTRY.size or at + head + size > len(data):
            raise _broken(f"the entry at byte {at} is of kind {kind}, {head} and {size} bytes long")
        found.append(Code(_KINDS[kind], architecture))
        at += head + size
    return tuple(found)


def shipped(architecture: str, *, integrated: bool, path: Path = SHIPPED) -> bytes:
    """The fatbin of this release for a GPU (sm_87). BackendUnavailable `kernels_missing`,
    `fatbin_broken` or `fatbin_architecture`."""
    try:
        data = path.read_bytes()
        recorded = path.with_name(f"{path.name}.sha256").read_text(encoding="ascii").split()
    except (OSError, UnicodeDecodeError) as e:
        raise BackendUnavailable(
            f"this release has no kernels for a GPU: {path.name}: {e}",
            code="kernels_missing",
            remedy=REMEDY,
        ) from e
    if recorded[:1] != [hashlib.sha256(data).hexdigest()]:
        raise BackendUnavailable(
            f"{path.name} is not the file that its digest was written for",
            code="fatbin_broken",
            remedy=REMEDY,
        )
    try:
        held = read(data)
    except BundleRefused as e:
        raise BackendUnavailable(e.text, code=e.code, remedy=REMEDY) from e
    if not fits(held, int(architecture.removeprefix("sm_")), integrated=integrated):
        raise BackendUnavailable(
            f"{path.name} has no code for {architecture}; "
            f"it holds {', '.join(map(str, held)) or 'nothing'}",
            code="fatbin_architecture",
            remedy=REMEDY,
        )
    return data


def fits(held: tuple[Code, ...], architecture: int, *, integrated: bool) -> bool:
    """Rule 2."""
    if Code("cubin", architecture) in held or integrated:
        return Code("cubin", architecture) in held
    return any(
        code.architecture <= architecture
        and (code.kind == "ptx" or code.architecture // 10 == architecture // 10)
        for code in held
    )


def _broken(text: str) -> BundleRefused:
    return BundleRefused(
        f"fatbin: {text}",
        code="fatbin_broken",
        remedy="Fetch it again, or build it again: python -m compile kernels.",
    )
