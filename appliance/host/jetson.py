"""Whether a Jetson was set up as jetson/README.md says, item by item. Read-only.

Rules.
1. Facts come from files below `root` and from what Python finds, so that a test can show another
   machine; nothing of NVIDIA is imported or started here (the driver is probed in a child process).
2. On a machine that is no Jetson there is one line that says so, and no failure.
3. A power mode is known by its name: numbers mean another mode on another board.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from appliance.host import facts
from appliance.settings import Host

ROOT = Path("/")
OLDEST_L4T = 36
"""Jetson Linux of JetPack 6, whose Ubuntu 22.04 ships Python 3.10."""
NODES = ("dev/nvmap", "dev/nvhost-gpu", "dev/nvgpu/igpu0/power")
"""Device files that CUDA opens on a Tegra, as far as a board has them (groups video, render)."""
PYCUDA = (
    "CUDA_ROOT=/usr/local/cuda PATH=/usr/local/cuda/bin:$PATH "
    ".venv/bin/pip install --no-binary pycuda pycuda"
)


@dataclass(frozen=True, slots=True)
class Item:
    """One step of the recipe, as it was found."""

    name: str
    ok: bool
    text: str
    remedy: str = ""


def _finds(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


@dataclass(frozen=True, slots=True)
class Machine:
    """What is looked at, and how."""

    root: Path = ROOT
    finds: Callable[[str], bool] = _finds
    version: Callable[[str], str | None] = _version
    isolated: bool = field(
        default_factory=lambda: sys.prefix != sys.base_prefix and not _system_packages()
    )
    """In a virtual environment that does not see the system's packages."""
    may_open: Callable[[Path], bool] = lambda path: os.access(path, os.R_OK | os.W_OK)


def items(wanted: Host, machine: Machine | None = None) -> tuple[Item, ...]:
    """Every item of the recipe; one line where this is no Jetson (rule 2)."""
    here = machine or Machine()
    release = l4t(here.root)
    board = facts.model(here.root) or ""
    if release is None and "jetson" not in board.lower():
        return (Item("jetson", True, "this is no Jetson: nothing to look at"),)
    return (
        _release(release, board),
        _tensorrt(here),
        _pycuda(here),
        _onnx(here),
        _groups(here),
        _power(wanted, here.root),
    )


def l4t(root: Path = ROOT) -> tuple[int, str] | None:
    """Release and revision of Jetson Linux, such as (36, "4.3"); None where there is none."""
    found = re.match(
        r"# R(\d+) \(release\), REVISION: ([\d.]+)", _text(root / "etc/nv_tegra_release")
    )
    return (int(found[1]), found[2]) if found else None


def power_modes(root: Path = ROOT) -> Mapping[str, str]:
    """Number -> name of every power mode of this board (nvpmodel's table)."""
    return dict(
        re.findall(r"POWER_MODEL\s+ID=(\d+)\s+NAME=(\S+)", _text(root / "etc/nvpmodel.conf"))
    )


def power_mode(root: Path = ROOT) -> str | None:
    """The present power mode by name, by number where the table does not know it, else None."""
    status = re.search(r"pmode:0*(\d+)", _text(root / "var/lib/nvpmodel/status"))
    return power_modes(root).get(status[1], status[1]) if status else None


def _release(release: tuple[int, str] | None, board: str) -> Item:
    if release is None:
        return Item(
            "jetpack", False, f"{board}: /etc/nv_tegra_release is missing", "Flash JetPack."
        )
    text = f"{board}, Jetson Linux {release[0]}.{release[1]}"
    if release[0] < OLDEST_L4T:
        return Item("jetpack", False, text, "Flash JetPack 6.2 or 7.2; older ones have Python 3.8.")
    return Item("jetpack", True, text)


def _tensorrt(here: Machine) -> Item:
    if here.finds("tensorrt"):
        return Item(
            "tensorrt", True, f"TensorRT {here.version('tensorrt') or 'of unknown version'}"
        )
    text = "Python finds no TensorRT: the CPU backend serves"
    if here.isolated:
        text += "; this virtual environment does not see the system's packages"
        return Item("tensorrt", False, text, "python3 -m venv --system-site-packages .venv")
    return Item("tensorrt", False, text, "sudo apt-get install tensorrt python3-libnvinfer")


def _pycuda(here: Machine) -> Item:
    if here.finds("pycuda"):
        return Item("pycuda", True, f"pycuda {here.version('pycuda') or 'of unknown version'}")
    return Item("pycuda", False, "Python finds no pycuda: the CPU backend serves", PYCUDA)


def _onnx(here: Machine) -> Item:
    if here.finds("onnx"):
        return Item("onnx", True, f"onnx {here.version('onnx') or 'of unknown version'}")
    text = "Python finds no onnx: engines are not built, the CPU backend serves"
    return Item("onnx", False, text, "pip install 'onnx>=1.16' (extra `engine`)")


def _groups(here: Machine) -> Item:
    nodes = [here.root / node for node in NODES if (here.root / node).exists()]
    if not nodes:
        return Item("groups", False, "there is no device file of a GPU", "Flash JetPack again.")
    closed = [str(node) for node in nodes if not here.may_open(node)]
    if closed:
        remedy = (
            "sudo usermod -aG video,render USER, for the user that runs the stages; log in again."
        )
        return Item("groups", False, f"this user may not open {closed[0]}", remedy)
    return Item("groups", True, f"this user may open {', '.join(map(str, nodes))}")


def _power(wanted: Host, root: Path) -> Item:
    modes, now = power_modes(root), power_mode(root)
    names = ", ".join(dict.fromkeys(modes.values())) or "unknown"
    text = f"power mode {now or 'unknown'} (this board knows {names})"
    if wanted.power_mode is None or wanted.power_mode == now:
        return Item("power mode", True, text)
    number = next((n for n, name in modes.items() if name == wanted.power_mode), None)
    if number is None:
        return Item(
            "power mode", False, text, "[host] power_mode: choose one that the board knows."
        )
    remedy = f"sudo nvpmodel -m {number}  ({wanted.power_mode}; it may ask for a restart)"
    return Item("power mode", False, f"{text}; {wanted.power_mode} is wanted", remedy)


def _system_packages() -> bool:
    """Whether the virtual environment was made with --system-site-packages (PEP 405)."""
    return bool(
        re.search(
            r"^include-system-site-packages\s*=\s*true",
            _text(Path(sys.prefix) / "pyvenv.cfg"),
            re.MULTILINE | re.IGNORECASE,
        )
    )


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
