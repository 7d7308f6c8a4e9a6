"""A checkout -> the wheel of a release: kernels built, packed, and looked for in what was packed.

    python -m compile wheel -o dist            # or: make wheel, which gets nvcc and hatchling too

Rules.
1. In this order: the kernels, with nvcc, into appliance/backend (git ignores them, the wheel takes
   them as `artifacts`: pyproject.toml); the wheel, by hatchling; `check`. What is no whole release
   is an error by name and is not written.
2. A wheel is whole if it holds kernels for every device that is served, with their digest, and each
   factory bundle by the digest that is written beside it.
3. The same checkout and tools give the same bytes (hatchling: reproducible builds).
A wheel that is installed from a checkout with pip has no kernels, and says so where there is a GPU
(`kernels_missing`).
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from appliance.backend.fatbin import NAME, Code, read
from appliance.bundle import archive, trust
from appliance.errors import BackendUnavailable, BundleRefused
from compile.kernels import build, find_nvcc, place, require
from compile.pack import put

ROOT = Path(__file__).resolve().parents[1]
BACKEND = "appliance/backend"
FACTORY = "appliance/factory"


@dataclass(frozen=True, slots=True)
class Wheel:
    """What was made."""

    path: Path
    bytes: int
    digest: str
    """SHA-256 in hex."""
    kernels: tuple[Code, ...]
    bundles: tuple[str, ...]

    def one_line(self) -> str:
        """For a terminal."""
        held = ", ".join(map(str, self.kernels))
        return (
            f"{self.path}: {self.bytes} bytes, kernels for {held}, "
            f"{', '.join(self.bundles)}, sha256 {self.digest}"
        )


def wheel(out: Path, root: Path = ROOT) -> Wheel:
    """Rule 1. BackendUnavailable `nvcc_missing`, `nvcc_failed`, `wheel_builder`; BundleRefused
    `wheel_checkout`, or as `check`."""
    if not (root / "pyproject.toml").is_file():
        raise BundleRefused(
            f"{root} is no checkout of this product",
            code="wheel_checkout",
            remedy="Make a release in a checkout; an installed one has no pyproject.toml.",
        )
    code = build(find_nvcc())
    place(root / BACKEND, code)
    with tempfile.TemporaryDirectory() as folder:
        made = packed(root, Path(folder))
        data = made.read_bytes()
        held, bundles = check(data, code)
        out.mkdir(parents=True, exist_ok=True)
        put(out / made.name, data)
    digest = hashlib.sha256(data).hexdigest()
    return Wheel(out / made.name, len(data), digest, held, bundles)


def packed(root: Path, folder: Path) -> Path:
    """The wheel that hatchling makes of a checkout. BackendUnavailable `wheel_builder`."""
    if importlib.util.find_spec("hatchling") is None:
        raise _builder("hatchling is not installed")
    ended = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=root,
        text=True,
        capture_output=True,
        check=False,
    )
    made = sorted(folder.glob("*.whl"))
    if ended.returncode or len(made) != 1:
        printed = (ended.stderr or ended.stdout).strip().splitlines()
        raise _builder(f"hatchling ended with {ended.returncode}: {(printed or ['?'])[-1][:300]}")
    return made[0]


def check(data: bytes, code: bytes | None = None) -> tuple[tuple[Code, ...], tuple[str, ...]]:
    """Rule 2: what kernels and bundles a wheel holds. BundleRefused `wheel_incomplete`, or as
    `kernels.require`. `code`: the very kernels that it is to hold."""
    try:
        opened = zipfile.ZipFile(io.BytesIO(data))
    except zipfile.BadZipFile as e:
        raise _incomplete(f"it is no wheel: {e}") from e
    with opened as held:
        names = set(held.namelist())

        def file(name: str) -> bytes:
            if name not in names:
                raise _incomplete(f"{name} is not in it")
            return held.read(name)

        kernels = file(f"{BACKEND}/{NAME}")
        printed = file(f"{BACKEND}/{NAME}.sha256").split()[:1]
        if printed != [hashlib.sha256(kernels).hexdigest().encode()]:
            raise _incomplete(f"{NAME} is not the file that its digest was written for")
        if code is not None and kernels != code:
            raise _incomplete(f"{NAME} is not what was built")
        bundles = []
        for name, ref in trust.factory_digests(file(f"{FACTORY}/digests.json")).items():
            found = trust.check(file(f"{FACTORY}/bundles/{name}{archive.SUFFIX}")).ref
            if found.digest != ref.digest:
                raise _incomplete(f"bundle {name} is not the one of digests.json")
            bundles.append(f"{name} {found.version}")
    require(kernels)
    return read(kernels), tuple(sorted(bundles))


def _incomplete(why: str) -> BundleRefused:
    return BundleRefused(
        f"this wheel is no release: {why}",
        code="wheel_incomplete",
        remedy="Make it with `make wheel`; see `artifacts` in pyproject.toml.",
    )


def _builder(why: str) -> BackendUnavailable:
    return BackendUnavailable(why, code="wheel_builder", remedy="pip install 'scanside[release]'")
