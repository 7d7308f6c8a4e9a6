"""What has no wheel and is built on this box, and how it comes into a slot.

    wheels/N.json   names the source, once built the wheel (`local`), and what it was built against
    wheels/         keeps both

Rules.
1. The source is a signed file of the release. The wheel has no digest in any release: the one it
   has when `apply` takes it over is written down, and it is installed by a call of its own.
2. Who built it is no more than a stage. So the wheel is called as its source is, brings modules of
   its own name alone, and is refused where a file of it is somebody else's (guard/build.py, `add`).
3. It is built again for another Python, and after another JetPack: `against` differs then.
4. A slot that runs goes on running while it is added: nothing that was there is changed.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
from collections.abc import Collection
from pathlib import Path

from appliance.errors import ReleaseRefused, StateUnusable
from appliance.release.record import write
from appliance.store.files import DISK, Disk
from appliance.update import slots
from appliance.update.places import Places
from appliance.update.slots import BUILD, Complete, Kept

_SEPARATORS = re.compile(r"[-_.]+")
_LINE = re.compile(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)==")


def wanted(places: Places, number: int, against: str) -> Path | None:
    """The source that is to be built for this slot; None where nothing is. StateUnusable
    (`slot_set`)."""
    made = next((one for one in slots.complete(places) if one.slot == number), None)
    made_of = slots.wheel_set(places, number)
    if made is None or not made_of.sources:
        return None
    if made.local is not None and made_of.against == against:
        return None
    source = made_of.sources[0]
    path = places.wheels / source.name
    if not path.exists() or hashlib.sha256(path.read_bytes()).hexdigest() != source.digest:
        raise StateUnusable(f"{path} is missing or damaged", code="slot_set")
    return path


def add(
    places: Places,
    number: int,
    wheel: tuple[str, bytes],
    against: str,
    *,
    python: Path,
    disk: Disk = DISK,
) -> Complete:
    """The wheel, by name and bytes, in the slot. ReleaseRefused (`slot_local`) where it is not one
    of the source's, or cannot be installed; then the slot is as before."""
    name, data = wheel
    made_of = slots.wheel_set(places, number)
    sources = made_of.sources or ()
    if [_called(name)] != [_called(one.name) for one in sources[:1]]:
        raise _refused(f"{name[:80]!a} is not what was to be built")
    local = Kept(name=name, digest=hashlib.sha256(data).hexdigest())
    others = [one for one in made_of.wheels if made_of.local is None or one != made_of.local]
    after = made_of.model_copy(
        update={
            "local": local,
            "against": against,
            "wheels": tuple(sorted([*others, local], key=lambda one: one.name)),
        }
    )
    disk.write(places.wheels / name, data)
    disk.write(places.wheels / f"{number}.json", write(after))
    command = [str(python), "-I", "-B", str(BUILD), "add", str(number), "--root", str(places.root)]
    done = subprocess.run(
        command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
    )
    if done.returncode != 0:
        disk.write(places.wheels / f"{number}.json", write(made_of))
        said = done.stderr.strip().splitlines()
        raise _refused(said[-1][:300] if said else f"exit status {done.returncode}")
    return next(one for one in slots.complete(places) if one.slot == number)


def without(requirements: bytes, sources: Collection[str]) -> bytes:
    """Requirements without the lines of what is built here: no digest of a wheel stands there."""
    names = {_called(one)[0] for one in sources}
    kept, take = [], True
    for line in requirements.decode().splitlines(keepends=True):
        if (found := _LINE.match(line)) is not None:
            take = _canonical(found[1]) not in names
        if take:
            kept.append(line)
    return "".join(kept).encode()


def _called(name: str) -> tuple[str, str]:
    """Name and version of a source or a wheel, by its file's name."""
    stem = name.removesuffix(".tar.gz")
    if stem == name:
        library, version = f"{name}--".split("-")[:2]
    else:
        library, _, version = stem.rpartition("-")
    return _canonical(library), version


def _canonical(name: str) -> str:
    return _SEPARATORS.sub("-", name).lower()


def _refused(text: str) -> ReleaseRefused:
    return ReleaseRefused(
        f"what was built on this box is not installed: {text}",
        code="slot_local",
        remedy="The CPU serves until it is. Call the fleet team with the log of `apply`.",
    )
