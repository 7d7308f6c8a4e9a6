"""A library that has no wheel, made into one on this box from its source: pycuda, on a Jetson.

Rules.
1. Whoever calls this is nobody special and has no network: under systemd it is the unit `prove`.
   What comes out is believed by nobody yet (appliance.update.built).
2. pip makes it with what the slot has: nothing is fetched, no environment of its own is made. The
   headers of CUDA are those of JetPack.
3. Whatever lies in the folder that it is put into goes before.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from appliance.errors import ScansideError

CUDA = Path("/usr/local/cuda")
PYCUDA = "CUDA_ENABLE_CURAND = False\n"
"""What pycuda's build reads in the home of who builds it. cuRAND is not used here."""
LIMIT_S = 1800.0
"""pycuda takes two minutes on an Orin."""
_LONGEST = 300


class NotBuilt(ScansideError):
    """The source could not be made into a wheel."""

    code = "source_not_built"
    remedy = "Look whether gcc, python3-dev and the headers of CUDA are there (jetson/README.md)."


def build(source: Path, into: Path) -> Path:
    """The wheel, in the folder `into`. NotBuilt."""
    shutil.rmtree(into, ignore_errors=True)
    into.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as home:
        Path(home, ".aksetup-defaults.py").write_text(PYCUDA, encoding="ascii")
        command = [
            *_pip(), "wheel", "--no-index", "--no-deps", "--no-build-isolation", "--no-cache-dir",
            "--no-input", "--disable-pip-version-check", "--quiet", "--wheel-dir", str(into),
            str(source),
        ]  # fmt: skip
        try:
            done = subprocess.run(
                command,
                cwd=home,
                env=_environment(home),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=LIMIT_S,
                check=False,
            )
        except subprocess.TimeoutExpired as e:
            raise NotBuilt(f"{source.name} was not built within {LIMIT_S / 60:.0f} min") from e
    made = sorted(into.glob("*.whl"))
    if done.returncode != 0 or len(made) != 1:
        said = [line.strip() for line in done.stderr.splitlines() if "error" in line.lower()]
        why = said[0] if said else f"pip ended with {done.returncode}"
        raise NotBuilt(f"{source.name}: {why[:_LONGEST]}")
    return made[0]


def _pip() -> list[str]:
    """pip of the kept wheels, which no slot has installed; else that of this Python."""
    kept = sorted((Path(sys.prefix).parents[1] / "wheels").glob("pip-*.whl"))
    return [sys.executable, *([str(kept[-1] / "pip")] if kept else ["-m", "pip"])]


def _environment(home: str) -> dict[str, str]:
    path = f"{CUDA / 'bin'}:/usr/local/bin:/usr/bin:/bin"
    found = {"PATH": path, "HOME": home, "LANG": "C.UTF-8", "PIP_CONFIG_FILE": os.devnull}
    return found | ({"CUDA_ROOT": str(CUDA)} if CUDA.is_dir() else {})
