"""Releases of three tiny wheels, and a box on which their slots are made."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from appliance.release.record import Range
from appliance.update import slots
from appliance.update.places import Places
from appliance.update.plan import Named
from appliance.update.slots import Complete, LocalWheel, Purpose
from rigs.wheels import pip_wheel, requirements, wheel


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@dataclass
class TinyRelease:
    """The appliance and two libraries, as files. `version` is the appliance's: each has other
    bytes, liba is the same in all."""

    folder: Path
    version: str = "1.0.0"
    files: dict[str, Path] = field(default_factory=dict)
    """By name, with pip's own wheel and without the appliance's."""
    hashed: dict[str, bytes] = field(default_factory=dict)
    """Those that the requirements name."""
    below: str | None = None

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.own = self._put(*wheel("scanside", self.version, text=self.version))
        self.add(*wheel("liba"))
        self.add(*wheel("libb", self.version))
        self.files[pip_wheel().name] = pip_wheel()

    def add(self, name: str, data: bytes) -> None:
        """A wheel that the requirements name; of one library it is the only one."""
        library = name.split("-", maxsplit=1)[0]
        for other in [one for one in self.hashed if one.split("-")[0] == library]:
            del self.hashed[other], self.files[other]
        self.hashed[name] = data
        self.files[name] = self._put(name, data)

    def _put(self, name: str, data: bytes) -> Path:
        path = self.folder / name
        path.write_bytes(data)
        return path

    @property
    def purpose(self) -> Purpose:
        digest = sha256(self.own.read_bytes())
        return Purpose(
            release=f"stable/{self.version.split('.')[0]}.json",
            appliance=Named(name="scanside", version=self.version, digest=digest),
            python=Range(at_least="3.10", below=self.below),
        )

    def build(
        self,
        places: Places,
        number: int,
        *,
        asked: bytes | None = None,
        local: LocalWheel | None = None,
        python: Path = Path(sys.executable),
    ) -> Complete:
        """Its slot. asked: other requirements than it has."""
        wanted = requirements(self.hashed) if asked is None else asked
        return slots.build(
            places,
            number,
            self.files,
            wanted,
            self.own,
            record=self.purpose,
            python=python,
            local=local,
        )


def box(folder: Path) -> Places:
    """A box without a slot."""
    return Places(*(folder / name for name in ("root", "trusted", "downloads", "state")))


def says(places: Places, number: int, module: str = "scanside") -> str:
    """What a module of the slot says, imported by the slot's own Python."""
    done = subprocess.run(
        [
            str(places.slot(number) / "bin/python"),
            "-I",
            "-c",
            f"print(__import__('{module}').SAYS)",
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return done.stdout.strip()


def contents(folder: Path) -> dict[str, str]:
    """Path -> digest of a file, or where a link leads; of everything below a folder."""
    found = {}
    for path in sorted(folder.rglob("*")):
        at = str(path.relative_to(folder))
        if path.is_symlink():
            found[at] = f"-> {path.readlink()}"
        elif path.is_file():
            found[at] = sha256(path.read_bytes())
    return found
