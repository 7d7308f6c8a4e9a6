"""Is there an NVIDIA driver, and for which GPU? Asked in a child process, never in this one.

Rules.
1. TensorRT's Runtime() without a driver ends the process with a signal, and so may a broken
   driver: a child loads libcuda.so.1 and calls cuInit (CUDA Driver API, "Initialization"). Its
   death is an answer like any other.
2. The board and its power mode are read from files, tolerantly: what is missing is None.
"""

from __future__ import annotations

import re
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
for key, attribute in (("major", 75), ("minor", 76)):
    call("cuDeviceGetAttribute", ctypes.byref(value), attribute, device)
    found[key] = value.value
call("cuDriverGetVersion", ctypes.byref(value))
print(json.dumps({**found, "version": value.value}))
"""
"""75 and 76 are CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR."""
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

    @property
    def architecture(self) -> str:
        """As the CUDA compiler writes it: sm_87."""
        return f"sm_{self.major}{self.minor}"


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


def power_mode(root: Path = Path("/")) -> str | None:
    """A Jetson's power mode by name: the number of nvpmodel's status, looked up in its table."""
    status = re.search(r"pmode:0*(\d+)", _text(root / "var/lib/nvpmodel/status"))
    if status is None:
        return None
    table = re.findall(r"POWER_MODEL\s+ID=(\d+)\s+NAME=(\S+)", _text(root / "etc/nvpmodel.conf"))
    return str(dict(table).get(status[1], status[1]))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
