"""What a technician carries to a new box: one archive for each kind of device, with all in it.

    python -m compile installer x86-64 --wheel dist/scanside-0.2.0-py3-none-any.whl \\
        --wheels build/wheels/x86_64 --root repo/public/metadata/1.root.json -o dist

    scanside-0.2.0-x86-64/
        install.sh, jetson/install.sh, facts.sh, README.md, SHA256SUMS
        wheels/          every wheel, for every Python of the range, and what a box builds itself;
                         1.json: what slot 1 is made of
        guard/ units/ sysusers/ tmpfiles/
        root/1.root.json whose releases are believed; keys/: whose bundles are

Rules.
1. It is believed as a whole or not at all: the SHA-256 of the archive is printed, and a technician
   compares it before the first run (docs/install.md).
2. A requirement without its wheel, for any Python of the range, is an error here, not on the box.
3. The same files give the same bytes.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import sys
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from packaging.utils import canonicalize_name, parse_wheel_filename

from appliance.errors import BundleRefused, ScansideError
from appliance.release.record import DeviceKind, Range, write
from appliance.update.plan import APPLIANCE, Named
from appliance.update.slots import Kept, WheelSet
from compile import lock

ROOT = Path(__file__).resolve().parents[1]
MACHINES: Mapping[str, str] = {"x86-64": "x86_64", "orin": "aarch64", "thor": "aarch64"}
SLOT_MB = 800
"""What an environment takes once it is installed (measured: 615), in 10^6 bytes, with some room."""
Content = bytes | Path
"""Of a file in the archive; a Path where it is large, and read piece by piece."""


@dataclass(frozen=True, slots=True)
class Parts:
    """Of what an archive is made. `pythons`: for which, such as ("3.10", "3.11")."""

    kind: DeviceKind
    wheel: Path
    wheels: Path
    root: Path | None = None
    keys: tuple[Path, ...] = ()
    source: Path | None = None
    """NAME-VERSION.tar.gz: what the box builds itself, as it has no wheel (pycuda)."""
    pythons: tuple[str, ...] = lock.PYTHONS
    requirements: Path = ROOT / "locks" / "device.txt"

    @property
    def machine(self) -> str:
        """As uname(1) calls it."""
        return MACHINES[self.kind]

    @property
    def below(self) -> str:
        """The first Python that is no more in the range."""
        return after(self.pythons[-1])


@dataclass(frozen=True, slots=True)
class Made:
    """What was written."""

    path: Path
    bytes: int
    digest: str
    wheels: int

    def one_line(self) -> str:
        """For a terminal."""
        return f"{self.path}: {self.wheels} wheels, {self.bytes} bytes, sha256 {self.digest}"


def after(python: str) -> str:
    """The Python that comes next: "3.11" -> "3.12"."""
    major, minor = python.split(".")
    return f"{major}.{int(minor) + 1}"


def installer(parts: Parts, out: Path) -> Made:
    """Write the archive into the folder `out`. BundleRefused (`installer_wheels`)."""
    version = str(parse_wheel_filename(parts.wheel.name)[1])
    name = f"scanside-{version}-{parts.kind}"
    wheels = {path.name: path for path in (*sorted(parts.wheels.glob("*.whl")), parts.wheel)}
    digests = {one: _digest(path) for one, path in wheels.items()}
    _require_wheels(parts, digests)
    files: dict[str, Content] = {f"wheels/{one}": path for one, path in wheels.items()}
    if parts.source is not None:
        files[f"wheels/{parts.source.name}"] = parts.source
    files["wheels/1.json"] = write(_set(parts, version, digests))
    size_mb = sum(path.stat().st_size for path in wheels.values()) / 1e6
    files["facts.sh"] = _facts(parts, version, SLOT_MB + round(size_mb)).encode()
    files |= dict(_scripts(parts))
    sums = {path: _digest(content) for path, content in sorted(files.items())}
    files["SHA256SUMS"] = "".join(f"{one}  {path}\n" for path, one in sums.items()).encode()
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"{name}.tar"
    part = path.with_suffix(".part")
    _archive(part, name, files)
    part.replace(path)
    return Made(path, path.stat().st_size, _digest(path), len(wheels))


def _scripts(parts: Parts) -> Iterator[tuple[str, Content]]:
    """What of a checkout goes in as it is: path in the archive, file."""
    systemd, guard = ROOT / "systemd", ROOT / "appliance" / "update" / "guard"
    yield "install.sh", ROOT / "compile" / "install.sh"
    yield "README.md", ROOT / "docs" / "install.md"
    for folder, found in (
        ("guard", [guard / "guard.sh", guard / "build.py"]),
        ("units", systemd.glob("scanside*.*")),
        ("sysusers", systemd.glob("sysusers.d/*.conf")),
        ("tmpfiles", systemd.glob("tmpfiles.d/*.conf")),
        ("keys", parts.keys),
    ):
        for path in found:
            yield f"{folder}/{path.name}", path
    for path in (systemd / "gpu").rglob("*.conf"):
        yield f"units/gpu/{path.parent.name}/{path.name}", path
    if parts.root is not None:
        yield "root/1.root.json", parts.root
    if parts.machine == "aarch64":
        for name in ("install.sh", "README.md"):
            yield f"jetson/{name}", ROOT / "jetson" / name


def _archive(path: Path, name: str, files: Mapping[str, Content]) -> None:
    """An uncompressed tar of the folder `name` (rule 3): wheels are packed already."""
    with tarfile.open(path, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for inside, content in sorted(files.items()):
            entry = tarfile.TarInfo(f"{name}/{inside}")
            entry.mode = 0o755 if inside.endswith(".sh") else 0o644
            if isinstance(content, bytes):
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
            else:
                entry.size = content.stat().st_size
                with content.open("rb") as file:
                    tar.addfile(entry, file)


def _digest(content: Content) -> str:
    """SHA-256 in hex."""
    seen = hashlib.sha256()
    if isinstance(content, bytes):
        seen.update(content)
    else:
        with content.open("rb") as file:
            while piece := file.read(1 << 20):
                seen.update(piece)
    return seen.hexdigest()


def _set(parts: Parts, version: str, digests: Mapping[str, str]) -> WheelSet:
    own = Named(name=APPLIANCE, version=version, digest=digests[parts.wheel.name])
    source = parts.source
    return WheelSet(
        slot=1,
        release=f"installer/{version}",
        appliance=own,
        python=Range(at_least=parts.pythons[0], below=parts.below),
        system_packages=parts.machine == "aarch64",
        requirements=parts.requirements.read_text(encoding="utf-8"),
        own=parts.wheel.name,
        pip=next(name for name in digests if name.startswith("pip-")),
        wheels=tuple(Kept(name=name, digest=one) for name, one in sorted(digests.items())),
        sources=None if source is None else (Kept(name=source.name, digest=_digest(source)),),
    )


def _facts(parts: Parts, version: str, needs_mb: int) -> str:
    """What install.sh reads first."""
    return (
        f"kind={parts.kind}\nversion={version}\nmachine={parts.machine}\n"
        f"python_from={parts.pythons[0]}\npython_below={parts.below}\nneeds_mb={needs_mb}\n"
    )


def _require_wheels(parts: Parts, digests: Mapping[str, str]) -> None:
    """Rule 2."""
    missing = [
        f"{pin.name} {pin.version} for {target}"
        for target in (lock.Target(python, parts.machine) for python in parts.pythons)
        for pin in lock.read(parts.requirements.read_text(encoding="utf-8"))
        if target.takes(pin.marker)
        and not any(_fits(pin, target, name) and one in pin.hashes for name, one in digests.items())
    ]
    if not any(name.startswith("pip-") for name in digests):
        missing.append("pip, which builds the slots")
    if missing:
        raise BundleRefused(
            f"wheels are missing: {', '.join(missing[:8])}",
            code="installer_wheels",
            remedy=f"Type: python -m compile.lock --fetch {parts.wheels} --machine {parts.machine}",
        )


def _fits(pin: lock.Pin, target: lock.Target, name: str) -> bool:
    """Whether a wheel of this name is one of this line, for this Python."""
    found, version, _, tags = parse_wheel_filename(name)
    if found != canonicalize_name(pin.name) or str(version) != pin.version:
        return False
    python = f"cp{target.python.replace('.', '')}"
    return any(tag.interpreter in {python, "py3"} or tag.abi == "abi3" for tag in tags)


def main(argv: Sequence[str]) -> int:
    """Parse and run; the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m compile installer",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("kind", choices=list(MACHINES))
    parser.add_argument("--wheel", type=Path, required=True, help="the appliance's own")
    parser.add_argument("--wheels", type=Path, required=True, help="folder of compile.lock --fetch")
    parser.add_argument("--root", type=Path, help="1.root.json: whose releases the box believes")
    parser.add_argument("--key", type=Path, action="append", default=[], help="whose bundles; .pub")
    parser.add_argument("--source", type=Path, help="what the box builds itself; .tar.gz")
    parser.add_argument("-o", "--out", type=Path, default=Path("dist"), help="folder")
    args = parser.parse_args(argv)
    parts = Parts(args.kind, args.wheel, args.wheels, args.root, tuple(args.key), args.source)
    try:
        sys.stdout.write(f"{installer(parts, args.out).one_line()}\n")
    except ScansideError as e:
        sys.stderr.write(f"{e.one_line()}\n")
        return 1
    except OSError as e:
        sys.stderr.write(f"{e.filename}: {e.strerror}\n")
        return 1
    return 0
