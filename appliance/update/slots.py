"""The slots of the appliance: an environment for each release at its final path, and two links.

Rules.
1. A slot counts once it has `complete`: every file of it is on the disk by then, and is what the
   wheels of the release say (appliance/update/guard/build.py, rule 4). What has none is removed at
   boot (`sweep`), but where a link leads there: that one `guard` makes anew.
2. The wheels of every kept release lie in wheels/, for every Python that the release takes, and
   wheels/N.json says which of them slot N is made of. So a slot can be made anew after an OS
   upgrade, without a network.
3. Numbers rise and are never used for two releases: units, journals and files name a slot by it.
4. `switch` moves `previous`, then `current`, each in one step. Between the two both lead to the
   slot that runs. Every step may be done twice.
5. A slot is removed by its `complete` first, then its files, then its wheels. Never removed are
   `current`, `previous` and the newest slot that was not recalled.

The power may go at any system call: then each link leads to a slot as it was before or after.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import AwareDatetime, ConfigDict, Field, ValidationError

from appliance.errors import ReleaseRefused, ScansideError, StateUnusable
from appliance.release.record import Range, Recall, Release_, SourceName, WheelName, write
from appliance.report import Digest, Record
from appliance.store.files import DISK, TEMP_SUFFIX, Disk
from appliance.update.places import Places
from appliance.update.plan import Named

COMPLETE, SOURCE = "complete", ".tar.gz"
_START_S = 20.0
"""As `guard` gives it (guard.sh)."""
BUILD = Path(__file__).with_name("guard") / "build.py"
"""The code that makes a slot. It is copied to ROOT/guard as well, where `guard` finds it."""
_LINK = re.compile(r"slots/([1-9][0-9]{0,8})")
_NUMBER = re.compile(r"[1-9][0-9]{0,8}")
_SAID = re.compile(r"(slot_[a-z]+): (.*)")
_REMEDIES = {
    "slot_python": "Install a Python that the release names, or wait for a release that takes it.",
    "slot_disk": "Free some space, or look at the disk; then: scanside update now",
    "slot_set": "Take the release again from a stick: scanside update now --from DIR",
    "slot_wheel": "Take the release again from a stick: scanside update now --from DIR",
    "slot_install": "Call the fleet team: the wheels of this release cannot be installed here.",
    "slot_record": "Call the fleet team: a wheel of this release is not what it says.",
}


class Kept(Record):
    """A wheel in wheels/, or the source of one."""

    name: WheelName | SourceName
    digest: Digest


class Purpose(Record):
    """For which release a slot is made, and for which Pythons."""

    release: str = Field(max_length=80, description="its path in the repository")
    appliance: Named
    python: Range
    system_packages: bool = False
    """Whether it sees the packages of the system: TensorRT is one on a Jetson."""


class WheelSet(Purpose):
    """wheels/N.json: all that slot N is made of, for every Python."""

    model_config = ConfigDict(**{**Record.model_config, "populate_by_name": True})

    schema_: Literal["scanside.wheels/1"] = Field("scanside.wheels/1", alias="schema")
    slot: int = Field(ge=1)
    requirements: str
    """What pip reads with --require-hashes."""
    own: WheelName
    """The wheel of the appliance."""
    pip: WheelName
    local: Kept | None = None
    """Built on this box, so without a hash in the release: pycuda."""
    wheels: tuple[Kept, ...]
    sources: tuple[Kept, ...] | None = Field(None, max_length=1)
    against: str | None = None
    """What the local one was built against (appliance.update.built)."""


class Complete(Record):
    """slots/N/complete: the slot counts. `wheels` is the digest of wheels/N.json."""

    model_config = ConfigDict(**{**Record.model_config, "populate_by_name": True})

    schema_: Literal["scanside.slot/1"] = Field("scanside.slot/1", alias="schema")
    slot: int = Field(ge=1)
    release: str
    appliance: Named
    python: Release_
    wheels: Digest
    local: Kept | None = None
    """None also where it was built for another Python: then it has to be built again."""
    made: AwareDatetime


@dataclass(frozen=True, slots=True)
class LocalWheel:
    """A wheel that was built on this box, and the SHA-256 that was written down when it was."""

    path: Path
    digest: str


def build(
    places: Places,
    number: int,
    wheels: Mapping[str, Path],
    requirements: bytes,
    appliance_wheel: Path,
    *,
    record: Purpose,
    python: Path,
    local: LocalWheel | None = None,
    disk: Disk = DISK,
) -> Complete:
    """Make slot `number` of verified files; the slot of before where it is made of the same.

    wheels: by file name, for every Python, with pip's own. python: the one that it is made with.
    ReleaseRefused (`slot_taken`, `slot_wheel`, `slot_python`, `slot_install`, `slot_record`): this
    release cannot be made here, and nothing of it is left. StateUnusable (`slot_disk`).
    """
    for folder in (places.root, places.root / "slots", places.wheels):
        if not folder.is_dir():
            disk.make_folder(folder)
            folder.chmod(0o755)  # stages that are not root run in it
    files = {**wheels, appliance_wheel.name: appliance_wheel}
    files |= {local.path.name: local.path} if local else {}
    digests = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()}
    wanted = (appliance_wheel.name, record.appliance.digest)
    for name, digest in (wanted, *([(local.path.name, local.digest)] if local else [])):
        if digests[name] != digest:
            raise _refused("slot_wheel", f"{name} has other bytes than were signed, or built here")
    made_of = _set(number, digests, requirements, appliance_wheel.name, record, local)
    data = write(made_of)
    before = {one.slot: one for one in complete(places)}.get(number)
    if before and before.wheels == hashlib.sha256(data).hexdigest():
        return before
    if before or number in (current(places), previous(places)):
        raise _refused("slot_taken", f"slot {number} is another release's")
    _require_names(places, made_of)
    disk.write(places.root / "slots" / "last", f"{max(number, _last(places))}\n".encode())
    try:
        for one in (*made_of.wheels, *(made_of.sources or ())):
            if _digest(places.wheels / one.name) != one.digest:
                disk.write(places.wheels / one.name, files[one.name].read_bytes())
        disk.write(_set_path(places, number), data)
        return rebuild(places, number, python=python)
    except ScansideError:
        sweep(places, disk)
        raise


def rebuild(places: Places, number: int, *, python: Path) -> Complete:
    """Make the slot anew of what wheels/N.json says, with this Python: after an OS upgrade.
    Errors as `build`; the slot then counts no more, where anything was changed."""
    command = [str(python), "-I", "-B", str(BUILD), "rebuild", str(number)]
    try:
        done = subprocess.run(
            [*command, "--root", str(places.root)],
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            check=False,
        )
    except OSError as e:
        raise StateUnusable(f"{python}: {e.strerror}", code="slot_broken") from e
    made = [one for one in complete(places) if one.slot == number]
    if done.returncode == 0 and made:
        return made[0]
    said = done.stderr.strip().splitlines()
    found = _SAID.fullmatch(said[-1]) if said else None
    if found is None:  # killed, say: nothing against the release
        text = said[-1] if said else f"exit status {done.returncode}"
        raise StateUnusable(f"slot {number} was not made: {text[:300]}", code="slot_broken")
    if found[1] in ("slot_disk", "slot_set"):
        remedy = _REMEDIES[found[1]]
        raise StateUnusable(f"slot {number}: {found[2][:300]}", code=found[1], remedy=remedy)
    raise _refused(found[1], f"slot {number}: {found[2][:300]}")


def starts(places: Places, number: int) -> bool:
    """Whether the slot counts and its Python starts: after an OS upgrade it may not."""
    if number not in {one.slot for one in complete(places)}:
        return False
    python = places.slot(number) / "bin" / "python"
    command = [str(python), "-I", "-S", "-c", ""]
    try:
        done = subprocess.run(
            command, capture_output=True, stdin=subprocess.DEVNULL, timeout=_START_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def complete(places: Places) -> tuple[Complete, ...]:
    """The slots that count (rule 1), by number."""
    found = []
    for number in _numbers(places):
        try:
            data = (places.slot(number) / COMPLETE).read_bytes()
            one = Complete.stored(data)
        except (OSError, ValidationError):
            continue
        if one.slot == number:
            found.append(one)
    return tuple(found)


def current(places: Places) -> int | None:
    """Which slot runs; None before the first. StateUnusable (`slot_link`) where the link is none of
    ours."""
    return _leads(places.current)


def previous(places: Places) -> int | None:
    """Which slot ran before. Errors as `current`."""
    return _leads(places.previous)


def free(places: Places) -> int:
    """A number that no slot of this box ever had (rule 3)."""
    return _last(places) + 1


def switch(places: Places, number: int, disk: Disk = DISK) -> None:
    """Let `current` lead to the slot, and `previous` to what ran (rule 4). StateUnusable
    (`slot_incomplete`)."""
    _require_complete(places, number)
    runs = current(places)
    if runs == number:
        return
    if runs is not None:
        disk.point(places.previous, f"slots/{runs}")
    disk.point(places.current, f"slots/{number}")


def back(places: Places, disk: Disk = DISK) -> int:
    """Let `current` lead where `previous` does, as `guard` does it, and say where. What ran is then
    named by no link. StateUnusable (`slot_none_before`, `slot_incomplete`)."""
    number = previous(places)
    if number is None:
        raise StateUnusable(
            "there is no slot to go back to",
            code="slot_none_before",
            remedy="Take a newer release: scanside update now",
        )
    _require_complete(places, number)
    disk.point(places.current, f"slots/{number}")
    return number


def sweep(places: Places, disk: Disk = DISK) -> tuple[int, ...]:
    """Remove at boot what a power cut left in parts (rule 1): slots that do not count, sets without
    a slot, wheels of no set, temporary files. Gives the numbers of the slots. No slot may be being
    made meanwhile."""
    whole = {one.slot for one in complete(places)} | _linked(places)
    gone = tuple(number for number in _numbers(places) if number not in whole)
    for number in gone:
        _remove(places, number, disk)
    for path in _below(places.wheels):
        if path.suffix == ".json" and not places.slot(_number(path.stem)).is_dir():
            disk.remove(path)
    _drop_wheels(places, disk)
    for folder in (places.root, places.root / "slots", places.wheels):
        for path in _below(folder):
            if path.name.endswith(TEMP_SUFFIX):
                disk.remove(path)
    return gone


def forget(
    places: Places, keep: Collection[int] = (), *, recall: Recall | None = None, disk: Disk = DISK
) -> tuple[int, ...]:
    """Remove the slots that are not needed any more, and their wheels (rule 5); those in `keep`
    stay. Gives their numbers."""
    slots = complete(places)
    good = [one.slot for one in slots if not recall or recall.names(one.appliance.digest) is None]
    stay = {*keep, *_linked(places), *good[-1:]}
    gone = tuple(one.slot for one in slots if one.slot not in stay)
    for number in gone:
        _remove(places, number, disk)
    _drop_wheels(places, disk)
    return gone


def wheel_set(places: Places, number: int) -> WheelSet:
    """What the slot is made of. StateUnusable (`slot_set`)."""
    try:
        return WheelSet.stored(_set_path(places, number).read_bytes())
    except (OSError, ValidationError) as e:
        text = f"{_set_path(places, number)} is missing or damaged"
        raise StateUnusable(text, code="slot_set", remedy=_REMEDIES["slot_set"]) from e


def _set(
    number: int,
    digests: Mapping[str, str],
    requirements: bytes,
    own: str,
    record: Purpose,
    local: LocalWheel | None,
) -> WheelSet:
    pips = [name for name in digests if name.startswith("pip-")]
    if len(pips) != 1:
        raise _refused("slot_wheel", f"{len(pips)} wheels of pip came with the release, not one")
    files = [{"name": name, "digest": digest} for name, digest in sorted(digests.items())]
    sources = [one for one in files if one["name"].endswith(SOURCE)] or None
    try:
        return WheelSet.model_validate(
            {
                **record.model_dump(),
                "slot": number,
                "requirements": requirements.decode(),
                "own": own,
                "pip": pips[0],
                "local": {"name": local.path.name, "digest": local.digest} if local else None,
                "wheels": [one for one in files if one not in (sources or [])],
                "sources": sources,
            }
        )
    except (ValidationError, UnicodeDecodeError) as e:
        raise _refused("slot_wheel", f"a wheel or its requirements have no good name: {e}") from e


def _require_names(places: Places, made_of: WheelSet) -> None:
    """One file name has one content on a box: another slot may have to be made of it again. A slot
    whose set cannot be read cannot be made again anyway, and must not stop updates."""
    for number in _sets(places):
        if number == made_of.slot:
            continue
        try:
            needed = {one.name: one.digest for one in wheel_set(places, number).wheels}
        except StateUnusable:
            continue
        for one in made_of.wheels:
            if needed.get(one.name, one.digest) != one.digest:
                text = f"{one.name} has other bytes than that of slot {number}"
                raise _refused("slot_wheel", text)


def _require_complete(places: Places, number: int) -> None:
    if number not in {one.slot for one in complete(places)}:
        raise StateUnusable(
            f"slot {number} is not complete",
            code="slot_incomplete",
            remedy="Take the release again: scanside update now",
        )


def _remove(places: Places, number: int, disk: Disk) -> None:
    """Rule 5."""
    slot = places.slot(number)
    disk.remove(slot / COMPLETE)
    try:
        shutil.rmtree(slot)
    except OSError as e:
        raise StateUnusable(f"{slot}: {e.strerror}") from e
    disk.settle(slot.parent)
    disk.remove(_set_path(places, number))


def _drop_wheels(places: Places, disk: Disk) -> None:
    """Those of no set. Where a set cannot be read nobody knows, and all stay."""
    try:
        sets = [wheel_set(places, number) for number in _sets(places)]
        needed = {one.name for n in sets for one in (*n.wheels, *(n.sources or ()))}
    except StateUnusable:
        return
    for path in _below(places.wheels):
        if path.name.endswith((".whl", SOURCE)) and path.name not in needed:
            disk.remove(path)


def _leads(link: Path) -> int | None:
    if not link.is_symlink():
        return None
    found = _LINK.fullmatch(str(link.readlink()))
    if found is None:
        raise StateUnusable(
            f"{link} leads to {link.readlink()}, which is no slot",
            code="slot_link",
            remedy="Let it lead to one: ln -sfn slots/N, with a number of the folder slots.",
        )
    return int(found[1])


def _linked(places: Places) -> set[int]:
    return {n for n in (current(places), previous(places)) if n is not None}


def _last(places: Places) -> int:
    """The highest number ever used. Where its file is lost, folders and sets say it."""
    try:
        said = _number((places.root / "slots" / "last").read_text(encoding="ascii").strip())
    except (FileNotFoundError, UnicodeDecodeError):
        said = 0
    return max([said, *_numbers(places), *_sets(places)])


def _numbers(places: Places) -> list[int]:
    """Of the folders, complete or not."""
    found = (_number(path.name) for path in _below(places.root / "slots") if path.is_dir())
    return sorted(number for number in found if number)


def _sets(places: Places) -> list[int]:
    found = (_number(p.stem) for p in _below(places.wheels) if p.suffix == ".json")
    return sorted(number for number in found if number)


def _set_path(places: Places, number: int) -> Path:
    return places.wheels / f"{number}.json"


def _number(text: str) -> int:
    """0 where it is none."""
    return int(text) if _NUMBER.fullmatch(text) else 0


def _below(folder: Path) -> Iterator[Path]:
    if folder.is_dir():
        yield from sorted(folder.iterdir())


def _digest(path: Path) -> str | None:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except FileNotFoundError:
        return None


def _refused(code: str, text: str) -> ReleaseRefused:
    return ReleaseRefused(text, code=code, remedy=_REMEDIES.get(code))
