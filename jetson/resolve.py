"""Whether everything that a Jetson installs with pip can be had for it, without a Jetson.

    python jetson/resolve.py

Asks pip to resolve the wheel's dependencies, with the extras of a device, for aarch64 and the
Python of each JetPack, from wheels alone: nothing is installed, and a package that would have to be
built on the device fails. `make check` runs it. TensorRT and pycuda are not in this set: the first
comes with JetPack, the second is built on the device (jetson/README.md).
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

EXTRAS = ("openvino", "engine")
JETPACKS = {"6.2 (Ubuntu 22.04)": ("3.10", (2, 35)), "7.2 (Ubuntu 24.04)": ("3.12", (2, 39))}
"""JetPack -> its Python and its C library, which says which wheels it can load (PEP 600)."""
ROOT = Path(__file__).resolve().parents[1]


def wanted(pyproject: Path = ROOT / "pyproject.toml") -> list[str]:
    """The requirements of a device, as pyproject.toml has them."""
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    return [*project["dependencies"], *(r for name in EXTRAS for r in extras[name])]


def platforms(libc: tuple[int, int]) -> list[str]:
    """The platform tags that such a machine can load, the newest first."""
    major, newest = libc
    tags = [f"manylinux_{major}_{minor}_aarch64" for minor in range(newest, 16, -1)]
    return [*tags, "manylinux2014_aarch64", "linux_aarch64"]


def resolve(python: str, libc: tuple[int, int]) -> list[str]:
    """What pip would install, as `name version`; CalledProcessError with what pip says."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        words = ["install", "--dry-run", "--ignore-installed", "--quiet", "--only-binary=:all:"]
        words += ["--disable-pip-version-check", "--target", folder, "--report", str(report)]
        words += [w for tag in platforms(libc) for w in ("--platform", tag)]
        words += ["--implementation", "cp", "--python-version", python, *wanted()]
        command = [sys.executable, "-m", "pip", *words]
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=600)
        found = json.loads(report.read_text(encoding="utf-8"))["install"]
    return sorted(f"{one['metadata']['name']} {one['metadata']['version']}" for one in found)


def main() -> int:
    """0 where every JetPack resolves."""
    failed = False
    for name, (python, libc) in JETPACKS.items():
        try:
            found = resolve(python, libc)
        except subprocess.CalledProcessError as e:
            failed = True
            said = [line for line in e.stderr.splitlines() if line.startswith("ERROR")]
            print(f"JetPack {name}, Python {python}: does not resolve", *said, sep="\n  ")
        else:
            print(f"JetPack {name}, Python {python}, aarch64: {len(found)} wheels, none to build")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
