"""kernels.cu -> one fatbin for every device, made where a CUDA toolkit is and never on the device.

    python -m compile kernels [-o DIR]

Rules.
1. Exact code for each device that is served (ARCHITECTURES): on a Jetson code for another minor
   architecture is not supported. PTX of PTX_OF lets a driver compile for what is
   newer or between.
2. What was built is read again: `require` names every architecture that is missing. The reader
   looks at the entries' headers alone; it does not load code.
3. The same source and toolkit give the same bytes: nvcc runs on relative names in a folder of its
   own. The digest beside the fatbin is in the format of sha256sum.
4. No fast-math: the tolerance that the tests hold on the host is meant for the device too.

A fatbin, read from what nvcc 13.0 writes (little endian): magic u32, version u16, header bytes u16,
bytes of all entries u64; then entries: kind u16 (1 PTX, 2 cubin), version u16, header bytes u32,
payload bytes u64, and at 28 the architecture u32 (87 for sm_87).
"""

from __future__ import annotations

import hashlib
import os
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import appliance.backend
from appliance.errors import BackendUnavailable, BundleRefused
from compile.pack import put

ARCHITECTURES = (87, 90, 110)
"""Orin; H100 and H200, where the kernels are measured; Thor."""
PTX_OF = 80
NAME = "kernels.fatbin"
USUAL = "/usr/local/cuda"
SOURCE = Path(appliance.backend.__file__).parent / "kernels.cu"

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


WANTED = (*(Code("cubin", a) for a in ARCHITECTURES), Code("ptx", PTX_OF))


def find_nvcc() -> Path:
    """nvcc on PATH, under $CUDA_HOME or in its usual place; BackendUnavailable (`nvcc_missing`)."""
    homes = [os.environ.get("CUDA_HOME"), os.environ.get("CUDA_ROOT"), USUAL]
    places = [shutil.which("nvcc"), *(f"{home}/bin/nvcc" for home in homes if home)]
    for place in places:
        if place and os.access(place, os.X_OK):
            return Path(place)
    raise BackendUnavailable(
        f"no nvcc on PATH, under $CUDA_HOME or {USUAL}",
        code="nvcc_missing",
        remedy="Install CUDA 13.0 or later on this machine (no GPU is needed), or set CUDA_HOME. "
        "A device needs none: it gets the fatbin with the release.",
    )


def build(nvcc: Path, wanted: Iterable[Code] = WANTED) -> bytes:
    """The fatbin of kernels.cu. BackendUnavailable (`nvcc_failed`), or as `require`."""
    wanted = tuple(wanted)
    targets = [f"-gencode=arch=compute_{code.architecture},code={code}" for code in wanted]
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(SOURCE, folder)
        command = [str(nvcc), "-std=c++17", "-O3", "-fatbin", *targets, SOURCE.name, "-o", NAME]
        ended = subprocess.run(command, cwd=folder, text=True, capture_output=True, check=False)
        if ended.returncode:
            said = (ended.stderr or ended.stdout).strip().splitlines()
            raise BackendUnavailable(
                f"{nvcc} ended with {ended.returncode}: {said[-1] if said else 'and said nothing'}",
                code="nvcc_failed",
                remedy="CUDA 13.0 is the first that knows sm_110 (Thor); a C++ compiler is needed.",
            )
        data = (Path(folder) / NAME).read_bytes()
    require(data, wanted)
    return data


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


def require(data: bytes, wanted: Iterable[Code] = WANTED) -> None:
    """BundleRefused (`fatbin_architecture`) names the wanted code that a fatbin does not hold."""
    found = read(data)
    missing = [code for code in wanted if code not in found]
    if missing:
        raise BundleRefused(
            f"the fatbin lacks {', '.join(map(str, missing))}; "
            f"it holds {', '.join(map(str, found)) or 'nothing'}",
            code="fatbin_architecture",
            remedy="Build it again: python -m compile kernels, with CUDA 13.0 or later.",
        )


def kernels(folder: Path) -> tuple[Path, str, tuple[Code, ...]]:
    """Build into a folder: the fatbin's path, its SHA-256 in hex, what it holds."""
    data = build(find_nvcc())
    digest = hashlib.sha256(data).hexdigest()
    folder.mkdir(parents=True, exist_ok=True)
    put(folder / NAME, data)
    put(folder / f"{NAME}.sha256", f"{digest}  {NAME}\n".encode())
    return folder / NAME, digest, read(data)


def _broken(text: str) -> BundleRefused:
    return BundleRefused(
        f"fatbin: {text}",
        code="fatbin_broken",
        remedy="Fetch it again, or build it again: python -m compile kernels.",
    )
