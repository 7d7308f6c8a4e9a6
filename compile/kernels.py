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
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path

import appliance.backend
from appliance.backend.fatbin import NAME, Code, read, shipped
from appliance.errors import BackendUnavailable, BundleRefused
from appliance.host.driver import Driver
from compile.pack import put

ARCHITECTURES = (87, 90, 110)
"""Orin; H100 and H200, where the kernels are measured; Thor."""
PTX_OF = 80
USUAL = "/usr/local/cuda"
SOURCE = Path(appliance.backend.__file__).parent / "kernels.cu"

WANTED = (*(Code("cubin", a) for a in ARCHITECTURES), Code("ptx", PTX_OF))


def find_nvcc() -> Path:
    """nvcc on PATH, under $CUDA_HOME, in its usual place or in the wheels of the extra `kernels`;
    BackendUnavailable (`nvcc_missing`)."""
    homes = [os.environ.get("CUDA_HOME"), os.environ.get("CUDA_ROOT"), USUAL, *_wheels()]
    places = [shutil.which("nvcc"), *(f"{home}/bin/nvcc" for home in homes if home)]
    for place in places:
        if place and os.access(place, os.X_OK):
            return Path(place)
    raise BackendUnavailable(
        f"no nvcc on PATH, under $CUDA_HOME or {USUAL}",
        code="nvcc_missing",
        remedy="Install CUDA 13.0 or later on this machine (no GPU is needed) or set CUDA_HOME, or "
        "pip install 'scanside[kernels]' (x86-64 Linux). A device needs none: it gets the fatbin "
        "with the release.",
    )


def _wheels() -> list[str]:
    """Where NVIDIA's wheels of CUDA 13 put what /usr/local/cuda holds."""
    found = importlib.util.find_spec("nvidia")
    places = found.submodule_search_locations if found is not None else None
    return [f"{place}/cu13" for place in places or ()]


def build(nvcc: Path, wanted: Iterable[Code] = WANTED) -> bytes:
    """The fatbin of kernels.cu. BackendUnavailable (`nvcc_failed`), or as `require`."""
    wanted = tuple(wanted)
    targets = [f"-gencode=arch=compute_{code.architecture},code={code}" for code in wanted]
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(SOURCE, folder)
        command = [str(nvcc), "-std=c++17", "-O3", "-fatbin", *targets, SOURCE.name, "-o", NAME]
        ended = subprocess.run(command, cwd=folder, text=True, capture_output=True, check=False)
        if ended.returncode:
            printed = (ended.stderr or ended.stdout).strip().splitlines() or ["and said nothing"]
            first = next((line for line in printed if "error" in line), printed[-1])
            raise BackendUnavailable(
                f"{nvcc} ended with {ended.returncode}: {first}",
                code="nvcc_failed",
                remedy="CUDA 13.0 is the first that knows sm_110 (Thor); a C++ compiler is needed.",
            )
        data = (Path(folder) / NAME).read_bytes()
    require(data, wanted)
    return data


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


def for_gpu(gpu: Driver) -> bytes:
    """A fatbin to measure and test with on this GPU: of this source where nvcc is (for it alone
    where nvcc does not know all the others), else the release's. BackendUnavailable."""
    try:
        nvcc = find_nvcc()
    except BackendUnavailable:
        return shipped(gpu.architecture, integrated=gpu.integrated)
    try:
        return build(nvcc)
    except BackendUnavailable:
        return build(nvcc, [Code("cubin", int(gpu.architecture.removeprefix("sm_")))])


def kernels(folder: Path) -> tuple[Path, str, tuple[Code, ...]]:
    """Build into a folder: the fatbin's path, its SHA-256 in hex, what it holds."""
    return place(folder, build(find_nvcc()))


def place(folder: Path, data: bytes) -> tuple[Path, str, tuple[Code, ...]]:
    """Write a fatbin and its digest, as `fatbin.shipped` wants them; answers as `kernels`."""
    digest = hashlib.sha256(data).hexdigest()
    folder.mkdir(parents=True, exist_ok=True)
    put(folder / NAME, data)
    put(folder / f"{NAME}.sha256", f"{digest}  {NAME}\n".encode())
    return folder / NAME, digest, read(data)
