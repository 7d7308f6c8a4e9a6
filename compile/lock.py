"""Which release of each library is installed: locks/*.txt, with the SHA-256 of every wheel.

    make lock                          writes them anew, with the newest releases
    python -m compile.lock --check     whether they are still made of what it asks for; no network
    python -m compile.lock --fetch wheels/x86-64 --machine x86_64     the wheels of a device's lock

Rules.
1. `LOCKS` says which file holds what. All are cut from one solution, so that a library has the same
   release in each of them.
2. One file serves every target: Python 3.10 to 3.13, Linux on x86-64 and aarch64. Where a library
   has another release for an older Python, its line has a marker. uv solves for all targets at
   once; pip cannot, because it judges markers by the Python that it runs on.
3. For each target pip is then asked for the wheel that such a machine takes, and only the hash of
   that wheel is written: nothing that has to be built from source is ever installed. What has no
   wheel for a target is named in the head of the file.
4. torch is in no lock: a GPU, a Jetson and a CPU need builds of their own, whose wheels have other
   hashes under the same version. The extras `trt-rtx` and `kernels` are NVIDIA's, pinned in
   pyproject.toml itself. No device installs any of the three.
5. The index asked is the one that pip and uv are set up for; the files name none.
6. To fetch is to take for every Python of one machine the wheels whose digests stand in the lock: a
   release carries them all, because the Python of a device changes with its system.
7. The head holds a digest of what was asked for. `make check` fails where it is not that of
   pyproject.toml: after a change there, `make lock`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from appliance.errors import BundleRefused

ROOT = Path(__file__).resolve().parents[1]
NOT_LOCKED = ("torch",)
LOCKS: Mapping[str, Sequence[str]] = {
    "device": ("dependencies", "openvino", "engine", "update"),
    "build": ("build-system",),
    "check": (
        "dependencies",
        "openvino",
        "engine",
        "update",
        "train",
        "dev",
        "release",
        "build-system",
    ),
    "bench": ("bench",),
}
"""Lock -> what of pyproject.toml it holds: its dependencies, extras, what builds the wheel."""
PURPOSE: Mapping[str, str] = {
    "device": "What runs beside a scanner: the default set and openvino, engine, update.",
    "build": "What pip needs to install this checkout itself.",
    "check": "What `make test`, `make check`, `make bundles` and `make wheel` need.",
    "bench": "The peers of `make bench`, beside locks/check.txt.",
}
PYTHONS = ("3.10", "3.11", "3.12", "3.13")
MACHINES = ("x86_64", "aarch64")
LIBC = (2, 35)
"""glibc of Ubuntu 22.04, the oldest system: which wheels may be taken (PEP 600)."""
_ASKED = "# asked: sha256:"
_NONE = re.compile(r"No matching distribution found for ([\w.-]+)==")


@dataclass(frozen=True, slots=True, order=True)
class Target:
    """A Python ("3.12") on a machine ("aarch64"), under Linux."""

    python: str
    machine: str

    def __str__(self) -> str:
        return f"Python {self.python} on {self.machine}"

    def takes(self, marker: str) -> bool:
        """Whether a line with this marker is for this target."""
        environment = {
            "python_version": self.python, "python_full_version": f"{self.python}.9",
            "implementation_name": "cpython", "platform_python_implementation": "CPython",
            "os_name": "posix", "sys_platform": "linux", "platform_system": "Linux",
            "platform_machine": self.machine, "extra": "",
        }  # fmt: skip
        return not marker or Marker(marker).evaluate(environment)

    def platforms(self) -> list[str]:
        """The tags of wheels that it can load, the newest first."""
        major, newest = LIBC
        tags = [f"manylinux_{major}_{minor}_{self.machine}" for minor in range(newest, 16, -1)]
        return [*tags, f"manylinux2014_{self.machine}", f"linux_{self.machine}"]


TARGETS = tuple(Target(python, machine) for python in PYTHONS for machine in MACHINES)


@dataclass(frozen=True, slots=True)
class Pin:
    """One line of a lock: a release, the marker of the targets that it is for, its hashes."""

    name: str
    version: str
    marker: str = ""
    hashes: tuple[str, ...] = ()

    def text(self) -> str:
        """As pip reads it."""
        head = f"{self.name}=={self.version}" + (f" ; {self.marker}" if self.marker else "")
        return " \\\n    ".join([head, *(f"--hash=sha256:{one}" for one in self.hashes)]) + "\n"


def project(root: Path = ROOT) -> dict[str, Any]:
    """What pyproject.toml holds."""
    if sys.version_info >= (3, 11):
        import tomllib  # noqa: PLC0415
    else:
        import tomli as tomllib  # noqa: PLC0415
    return dict(tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8")))


def asked(lock: str, asks: Mapping[str, Any]) -> list[str]:
    """The requirements of a lock, sorted; `asks` is what pyproject.toml holds."""
    found: set[str] = set()
    for part in LOCKS[lock]:
        if part == "build-system":
            found.update(asks["build-system"]["requires"])
        elif part == "dependencies":
            found.update(asks["project"]["dependencies"])
        else:
            found.update(asks["project"]["optional-dependencies"][part])
    return sorted(
        one for one in found if canonicalize_name(Requirement(one).name) not in NOT_LOCKED
    )


def digest(requirements: Iterable[str]) -> str:
    """Of what is asked for; hexadecimal."""
    return hashlib.sha256("\n".join(requirements).encode()).hexdigest()


def read(text: str) -> list[Pin]:
    """The lines of a lock."""
    pins = []
    for line in re.sub(r"\\\n", " ", text).splitlines():
        if line.strip() and not line.startswith("#"):
            head, *hashes = re.split(r"\s+--hash=sha256:", line.strip())
            release, _, marker = head.partition(";")
            name, _, version = release.strip().partition("==")
            pins.append(Pin(name, version.strip(), marker.strip(), tuple(hashes)))
    return pins


def write(
    lock: str, requirements: Sequence[str], pins: Sequence[Pin], lacking: Sequence[str]
) -> str:
    """A lock as it stands in its file."""
    libc = f"glibc {LIBC[0]}.{LIBC[1]} or newer"
    lines = [
        f"# {PURPOSE[lock]}",
        "#",
        f"#     pip install --require-hashes -r locks/{lock}.txt",
        "#",
        f"# Made by `make lock` for Python {PYTHONS[0]} to {PYTHONS[-1]} under Linux with {libc},",
        f"# on {' and '.join(MACHINES)}; wheels alone. Do not edit it: change pyproject.toml.",
        *(f"# No wheel: {one}." for one in lacking),
        f"{_ASKED}{digest(requirements)}",
        "",
    ]
    return "\n".join(lines) + "".join(pin.text() for pin in pins)


def stale(root: Path = ROOT) -> list[str]:
    """The locks that were not made of what pyproject.toml asks for now, by their path."""
    asks = project(root)
    wrong = []
    for lock in LOCKS:
        path = root / "locks" / f"{lock}.txt"
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        if f"{_ASKED}{digest(asked(lock, asks))}\n" not in text:
            wrong.append(str(path.relative_to(root)))
    return wrong


def make(root: Path = ROOT, say: Callable[[str], None] = print) -> None:
    """Writes every lock. BundleRefused where uv is missing or nothing satisfies pyproject.toml."""
    asks = project(root)
    every = sorted({one for lock in LOCKS for one in asked(lock, asks)})
    say(f"solving for {len(TARGETS)} targets")
    solved = _solve(every, ())
    hashes: dict[tuple[str, str], set[str]] = {}
    lacking: dict[tuple[str, str], list[Target]] = {}
    for target in TARGETS:
        wanted = [pin for pin in solved if target.takes(pin.marker)]
        say(f"{target}: {len(wanted)} wheels")
        found = wheels(wanted, target)
        for pin in wanted:
            key = (pin.name, pin.version)
            if pin.name in found:
                hashes.setdefault(key, set()).add(found[pin.name])
            else:
                lacking.setdefault(key, []).append(target)
    for lock in LOCKS:
        requirements = asked(lock, asks)
        pins = [
            Pin(pin.name, pin.version, pin.marker, tuple(sorted(hashes[pin.name, pin.version])))
            for pin in _solve(requirements, solved)
            if (pin.name, pin.version) in hashes
        ]
        names = {(pin.name, pin.version) for pin in pins}
        gaps = [
            f"{name} {version} for {', '.join(map(str, targets))}"
            for (name, version), targets in sorted(lacking.items())
            if (name, version) in names
        ]
        path = root / "locks" / f"{lock}.txt"
        path.parent.mkdir(exist_ok=True)
        path.write_text(write(lock, requirements, pins, gaps), encoding="utf-8")
        say(f"{path.relative_to(root)}: {len(pins)} releases")


def wheels(pins: Sequence[Pin], target: Target, options: Sequence[str] = ()) -> dict[str, str]:
    """Name -> SHA-256 of the wheel that pip takes on such a machine. What has none is left out.
    `options` are further words for pip."""
    left = {canonicalize_name(pin.name): pin for pin in pins}
    while left:
        with tempfile.TemporaryDirectory() as folder:
            report = Path(folder) / "report.json"
            words = ["install", "--dry-run", "--ignore-installed", "--quiet", "--no-deps"]
            words += ["--only-binary=:all:", "--disable-pip-version-check", "--target", folder]
            words += ["--ignore-requires-python"]  # it would ask for its own Python's sake; uv did
            words += ["--report", str(report), "--implementation", "cp", *options]
            words += ["--python-version", target.python]
            words += [word for tag in target.platforms() for word in ("--platform", tag)]
            words += [f"{pin.name}=={pin.version}" for pin in left.values()]
            done = _run([sys.executable, "-m", "pip", *words])
            if done.returncode == 0:
                taken = json.loads(report.read_text(encoding="utf-8"))["install"]
                return {
                    canonicalize_name(one["metadata"]["name"]): str(
                        one["download_info"]["archive_info"]["hashes"]["sha256"]
                    )
                    for one in taken
                }
        missing = {canonicalize_name(name) for name in _NONE.findall(done.stderr)} & left.keys()
        if not missing:
            raise _refused(f"pip finds no wheels for {target}", done.stderr)
        for name in missing:
            del left[name]
    return {}


def fetch(
    lock: str,
    machine: str,
    folder: Path,
    root: Path = ROOT,
    options: Sequence[str] = (),
    pythons: Sequence[str] = PYTHONS,
) -> list[str]:
    """Names of the wheels in `folder`, which is filled (rule 6). BundleRefused where pip cannot."""
    pins = read((root / "locks" / f"{lock}.txt").read_text(encoding="utf-8"))
    folder.mkdir(parents=True, exist_ok=True)
    for target in (Target(python, machine) for python in pythons):
        with tempfile.TemporaryDirectory() as temporary:
            wanted = Path(temporary) / "wanted.txt"
            lines = [replace(pin, marker="").text() for pin in pins if target.takes(pin.marker)]
            wanted.write_text("".join(lines), encoding="utf-8")
            words = ["download", "--quiet", "--no-deps", "--only-binary=:all:", "--require-hashes"]
            words += ["--disable-pip-version-check", "--implementation", "cp", *options]
            words += ["--python-version", target.python, "--dest", str(folder), "-r", str(wanted)]
            words += [word for tag in target.platforms() for word in ("--platform", tag)]
            done = _run([sys.executable, "-m", "pip", *words])
        if done.returncode:
            raise _refused(f"pip cannot fetch the wheels for {target}", done.stderr)
    return sorted(path.name for path in folder.glob("*.whl"))


def _solve(requirements: Sequence[str], pins: Sequence[Pin]) -> list[Pin]:
    """The newest releases that satisfy these requirements on every target, bound to `pins`."""
    uv = shutil.which("uv", path=str(Path(sys.executable).parent)) or shutil.which("uv")
    if uv is None:
        raise BundleRefused("uv is not installed", remedy="pip install uv", code="lock_library")
    with tempfile.TemporaryDirectory() as folder:
        wanted, bound = Path(folder) / "wanted.in", Path(folder) / "bound.txt"
        wanted.write_text("\n".join(requirements) + "\n", encoding="utf-8")
        bound.write_text(
            "".join(Pin(pin.name, pin.version, pin.marker).text() for pin in pins), encoding="utf-8"
        )
        command = [uv, "pip", "compile", "--quiet", "--universal", "--python-version", PYTHONS[0]]
        command += ["--no-header", "--no-annotate", "--no-progress"]
        done = _run([*command, "--constraint", str(bound), str(wanted)])
    if done.returncode:
        raise _refused("nothing satisfies pyproject.toml", done.stderr)
    found = read(done.stdout)
    return [pin for pin in found if any(target.takes(pin.marker) for target in TARGETS)]


def _run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "UV_SYSTEM_CERTS": "1"}
    return subprocess.run(
        command, capture_output=True, text=True, timeout=600, check=False, env=environment
    )


def _refused(what: str, stderr: str) -> BundleRefused:
    said = [line.strip() for line in stderr.splitlines() if line.strip()]
    return BundleRefused(
        f"{what}: {' '.join(said[-3:])}",
        remedy="see that the package index can be reached, or change a bound in pyproject.toml",
        code="lock_unsolved",
    )


def main() -> int:
    """0 where the locks were written, or agree with pyproject.toml; else a line on stderr."""
    parser = argparse.ArgumentParser(prog="python -m compile.lock")
    parser.add_argument("--check", action="store_true", help="write nothing, ask no network")
    parser.add_argument("--fetch", type=Path, metavar="FOLDER", help="only fetch a device's wheels")
    parser.add_argument("--machine", choices=MACHINES, help="for which machine they are fetched")
    args = parser.parse_args()
    if (args.fetch is None) != (args.machine is None):
        parser.error("--fetch and --machine go together")
    if args.check:
        wrong = stale()
        if wrong:
            line = f"{', '.join(wrong)}: pyproject.toml asks for something else now; make lock"
            print(line, file=sys.stderr)  # noqa: T201 - a command of the checks
        else:
            print(f"locks: {len(LOCKS)} are those of pyproject.toml")  # noqa: T201
        return int(bool(wrong))
    try:
        if args.fetch is not None:
            found = fetch("device", args.machine, args.fetch)
            print(f"{args.fetch}: {len(found)} wheels")  # noqa: T201
        else:
            make()
    except BundleRefused as e:
        print(e.one_line(), file=sys.stderr)  # noqa: T201
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
