"""Is there an NVIDIA driver, and for which GPU? Asked in a child process, never in this one.

Rules.
1. TensorRT's Runtime() without a driver ends the process with a signal, and so may a broken
   driver: a child loads libcuda.so.1 and calls cuInit (CUDA Driver API, "Initialization"). Its
   death is an answer like any other.
2. No child is started where the kernel shows no GPU: `there` looks for a device file. Where there
   is none but a driver is loaded, this process is kept from it (`hidden`): a service without
   systemd/gpu, a container.
3. A driver older than OLDEST is named with its version: it knows neither the kernels' code nor the
   calls of the GPU backend.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from pydantic import Field, ValidationError

from appliance.errors import BackendUnavailable
from appliance.report import Record

PROBE = """
import ctypes, json
cuda = ctypes.CDLL("libcuda.so.1")
def call(name, *arguments):
    code = getattr(cuda, name)(*arguments)
    if code:
        raise SystemExit(f"{name} answers {code}")
value, name = ctypes.c_int(), ctypes.create_string_buffer(256)
call("cuInit", 0)
call("cuDeviceGet", ctypes.byref(value), 0)
device = value.value
call("cuDeviceGetName", name, 256, device)
found = {"name": name.value.decode(errors="replace")}
for key, attribute in (("major", 75), ("minor", 76), ("integrated", 18)):
    call("cuDeviceGetAttribute", ctypes.byref(value), attribute, device)
    found[key] = value.value
found["integrated"] = found["integrated"] == 1
call("cuDriverGetVersion", ctypes.byref(value))
print(json.dumps({**found, "version": value.value}))
"""
"""CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, _MINOR and _INTEGRATED (CUDA Driver API)."""
NODES = ("dev/nvidiactl", "dev/nvhost-gpu", "dev/nvgpu/igpu0", "dev/nvmap", "dev/dxg")
"""Device files of a discrete GPU, of a Tegra's, and of one under WSL."""
MODULES = ("sys/module/nvidia", "sys/module/nvgpu")
"""Drivers in the kernel: of a discrete GPU (and Thor's), of an Orin's."""
OLDEST = 12060
"""CUDA 12.6, of JetPack 6.2."""
DEADLINE_S = 60.0
REMEDY = (
    "Install the NVIDIA driver (on a Jetson: JetPack) and put this user into the groups video and "
    "render; without a GPU the CPU backend serves, and --target rtx:SM86 checks the networks."
)


class Driver(Record):
    """The first GPU, as its driver names it."""

    name: str
    major: int = Field(ge=1)
    minor: int = Field(ge=0)
    version: int
    """1000 * major + 10 * minor of the CUDA release that the driver supports."""
    integrated: bool = False
    """Whether the GPU shares the host's memory (Tegra)."""

    @property
    def architecture(self) -> str:
        """As the CUDA compiler writes it: sm_87."""
        return f"sm_{self.major}{self.minor}"

    @property
    def cuda(self) -> str:
        """The CUDA release that the driver supports: 12.6."""
        return f"{self.version // 1000}.{self.version % 1000 // 10}"


def there(root: Path = Path("/")) -> bool:
    """Whether the kernel shows an NVIDIA GPU at all."""
    return any((root / node).exists() for node in NODES)


def hidden(root: Path = Path("/")) -> bool:
    """Whether a driver is loaded, yet this process is shown no device file."""
    return not there(root) and any((root / module).exists() for module in MODULES)


def child(program: str) -> subprocess.CompletedProcess[str]:
    """A Python program in a process of its own. BackendUnavailable where it does not end."""
    try:
        return subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=DEADLINE_S,
            check=False,
        )
    except subprocess.TimeoutExpired as e:
        raise BackendUnavailable(
            f"the GPU's libraries do not answer within {DEADLINE_S:.0f} s", remedy=REMEDY
        ) from e


def ended(done: subprocess.CompletedProcess[str]) -> str:
    """How a child failed, in one line."""
    if done.returncode < 0:
        return f"ended by {signal.Signals(-done.returncode).name}"
    return (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1][:300]


def probe() -> Driver:
    """The driver and its first GPU. BackendUnavailable says what is missing."""
    done = child(PROBE)
    try:
        if done.returncode == 0:
            return Driver.model_validate_json(done.stdout)
    except ValidationError as e:
        raise BackendUnavailable("the NVIDIA driver answers nonsense", remedy=REMEDY) from e
    raise BackendUnavailable(f"no usable NVIDIA driver: {ended(done)}", remedy=REMEDY)


def recent(gpu: Driver) -> Driver:
    """The same; BackendUnavailable `driver_old` where its driver is too old for the GPU backend."""
    if gpu.version >= OLDEST:
        return gpu
    raise BackendUnavailable(
        f"{gpu.name}: its driver supports CUDA {gpu.cuda}, the GPU backend needs "
        f"{OLDEST // 1000}.{OLDEST % 1000 // 10} or later",
        code="driver_old",
        remedy="Update the NVIDIA driver (on a Jetson: JetPack 6.2 or later).",
    )
