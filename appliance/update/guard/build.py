"""Make a slot of the wheels that are kept on this box, with the Python that runs this file.

    python3 build.py rebuild N [--root DIR]     DIR: where slots/, wheels/ and guard/ lie
    python3 build.py add N [--root DIR]         what was built on this box comes into the slot

It needs the standard library alone. `apply` starts it for a new release, and `guard` with the
system's new Python after an OS upgrade: the same code builds in both cases.

Rules.
1. wheels/N.json says what slot N is made of; each of its wheels must have the bytes it says, before
   anything is changed. So must the release take this Python.
2. Nothing is fetched. Of the requirements pip sees nothing but lines NAME==VERSION [; MARKER]
   --hash=...; each wheel that it takes has one of these hashes. Pip itself is one of the wheels,
   and is not installed. It runs in an empty folder, with an environment of its own and without any
   configuration of this machine.
3. A slot is an environment at its final path (they cannot be moved). `complete` goes before
   anything else, durably; it comes back last, when every file is on the disk. What has none does
   not count.
4. What pip installed is then read again: each file lies inside the slot, has the length and digest
   that a RECORD says (PyPA: recording installed projects), and is none of the environment's own;
   each file of the slot is named by a RECORD. Bytecode is made after that.
   A package of the system is never taken for one of the release's own (--ignore-installed).
   What is added to a slot that counts brings files of its own name alone, and changes none that
   another RECORD names: who built it could else have root run what he likes.
5. The folder of the slot stays while it is made anew: a link to it never leads to nothing.

Exit status 0: the slot is complete. 1: it is not, and standard error ends with one line CODE: TEXT.
    slot_set         wheels/N.json is missing or damaged
    slot_python      the release is not for this Python
    slot_wheel       a wheel is missing, or has other bytes
    slot_install     the requirements or pip refuse
    slot_record      what was installed is not what a RECORD says
    slot_disk        the disk is full or broken
"""

from __future__ import annotations

import argparse
import base64
import csv
import ctypes
import errno
import hashlib
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import venv
import zipfile
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

LONGEST_S = 1800
"""Of one call of pip: for the whole set it takes less than a minute on a busy small machine."""
_LINE = re.compile(
    r"(?P<what>(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)==[A-Za-z0-9.!+_-]+"
    r"(?:\s*;[A-Za-z0-9_.*<>=!~'\"() ,]*)?)(?P<hashes>(?:\s+--hash=sha256:[0-9a-f]{64})+)\s*"
)
_ENVIRONMENT = {
    "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    "LANG": "C.UTF-8",
    "LC_ALL": "C.UTF-8",
    "PIP_CONFIG_FILE": os.devnull,  # no configuration at all, also not the machine's
}


class Wrong(Exception):
    """The slot is not made; `code` is one of those above."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(f"{code}: {text}")


def rebuild(root: Path, number: int) -> None:
    """Make slot N (rules 1 to 5). Wrong, OSError."""
    said = _read(root, number)
    _require_python(said)
    _require_wheels(root, said)
    lines = _requirements(said)
    slot = root / "slots" / str(number)
    _empty(slot)
    venv.EnvBuilder(symlinks=True, system_site_packages=said["system_packages"]).create(slot)
    own = {*_files(slot), "complete"}
    local = _local(said)
    python = slot / "bin" / "python"
    with tempfile.TemporaryDirectory() as name:
        empty = Path(name, "empty")
        empty.mkdir()
        asked = Path(name, "requirements.txt")
        asked.write_text(lines, encoding="utf-8")
        pip = [str(python), "-I", "-B", str(root / "wheels" / said["pip"] / "pip"), "install"]
        _install(
            [*pip, "--require-hashes", "--find-links", str(root / "wheels"), "-r", str(asked)],
            empty,
        )
        if local:
            _install([*pip, str(root / "wheels" / local["name"])], empty)
    require_records(slot, own)
    site = _site(slot)
    _run([str(python), "-I", "-m", "compileall", "-q", "-f", str(site)], slot)
    _sync_all(slot)
    _complete(slot, number, said, local)


def add(root: Path, number: int) -> None:
    """Install the local wheel into slot N, which goes on counting (rules 1, 2 and 4). Wrong,
    OSError."""
    said = _read(root, number)
    _require_python(said)
    _require_wheels(root, said)
    slot = root / "slots" / str(number)
    local = _local(said)
    if local is None or not (slot / "complete").exists():
        raise Wrong("slot_wheel", f"slot {number} takes no wheel that was built here")
    wheel = root / "wheels" / local["name"]
    _require_apart(_site(slot), wheel)
    python = slot / "bin" / "python"
    with tempfile.TemporaryDirectory() as empty:
        pip = [str(python), "-I", "-B", str(root / "wheels" / said["pip"] / "pip"), "install"]
        _install([*pip, str(wheel)], Path(empty))
    _run([str(python), "-I", "-m", "compileall", "-q", str(_site(slot))], slot)
    _sync_all(slot)
    _complete(slot, number, said, local)


def _require_apart(site: Path, wheel: Path) -> None:
    """Rule 4, of what is added."""
    name = wheel.name.split("-")[0]
    info = re.compile(rf"{re.escape(name)}-[^/]*\.dist-info/[^/]+", re.IGNORECASE)
    compiled = re.compile(r"_[A-Za-z0-9_]+(\.[A-Za-z0-9_-]+)*\.so")
    others: set[str] = set()
    for record in site.glob("*.dist-info/RECORD"):
        if not record.parent.name.lower().startswith(f"{name.lower()}-"):
            with record.open(encoding="utf-8", newline="") as lines:
                others |= {row[0] for row in csv.reader(lines) if row}
    try:
        with zipfile.ZipFile(wheel) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile:
        raise Wrong("slot_wheel", f"{wheel.name} is no wheel") from None
    for one in names:
        own = one.startswith((f"{name}/", f"{name}.libs/")) or info.fullmatch(one)
        if not (own or compiled.fullmatch(one)) or ".." in one.split("/") or one in others:
            raise Wrong("slot_wheel", f"{wheel.name} would bring {one[:80]!a}")


def _read(root: Path, number: int) -> dict[str, Any]:
    path = root / "wheels" / f"{number}.json"
    try:
        data = path.read_bytes()
        said: dict[str, Any] = json.loads(data)
        names = [one["name"] for one in said["wheels"]]
        wanted = (said["pip"], said["own"], *([said["local"]["name"]] if _has(said) else []))
        if said["slot"] != number or any("/" in name for name in names):
            raise ValueError("another slot, or a path")  # told below as damage
        if not set(wanted) <= set(names):
            raise ValueError("a wheel that it names is not of the set")
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise Wrong("slot_set", f"{path} cannot be used: {e}") from e
    return {**said, "digest": hashlib.sha256(data).hexdigest()}


def _has(said: dict[str, Any]) -> bool:
    return said.get("local") is not None


def _require_python(said: dict[str, Any]) -> None:
    here = sys.version_info[:3]
    at_least, below = said["python"]["at_least"], said["python"].get("below")
    if _numbers(at_least) > here or (below is not None and _numbers(below) <= here):
        wanted = f"from {at_least}" + (f", below {below}" if below else "")
        text = f"{said['release']} wants Python {wanted}; {sys.executable} is {_python()}"
        raise Wrong("slot_python", text)


def _numbers(release: str) -> tuple[int, ...]:
    return tuple(map(int, release.split(".")))


def _python() -> str:
    return ".".join(map(str, sys.version_info[:3]))


def _require_wheels(root: Path, said: dict[str, Any]) -> None:
    """Rule 1."""
    for one in said["wheels"]:
        path = root / "wheels" / one["name"]
        try:
            found = hashlib.sha256(path.read_bytes()).hexdigest()
        except FileNotFoundError:
            raise Wrong("slot_wheel", f"{path} is missing") from None
        if found != one["digest"]:
            raise Wrong("slot_wheel", f"{path} has other bytes than when it was put there")


def _requirements(said: dict[str, Any]) -> str:
    """What pip is to read (rule 2): the lines of the release but that of pip itself, and the wheel
    of the appliance."""
    found = []
    text = re.sub(r"\\\n\s*", " ", said["requirements"])
    for line in text.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        parts = _LINE.fullmatch(line.strip())
        if parts is None:
            raise Wrong("slot_install", f"a line of the requirements is refused: {line[:80]!a}")
        if parts["name"].lower() != "pip":
            found.append(f"{parts['what']} {' '.join(parts['hashes'].split())}\n")
    name, version = said["own"].split("-")[:2]
    digest = next(one["digest"] for one in said["wheels"] if one["name"] == said["own"])
    return "".join([*found, f"{name}=={version} --hash=sha256:{digest}\n"])


def _local(said: dict[str, Any]) -> dict[str, str] | None:
    """What was built on this box; None where it was built for another Python, and so has to be
    built again."""
    if not _has(said):
        return None
    found: dict[str, str] = said["local"]
    tags, abi = found["name"].removesuffix(".whl").split("-")[-3:-1]
    here = {"py3", f"cp{sys.version_info[0]}{sys.version_info[1]}"}
    return found if abi == "abi3" or here & set(tags.split(".")) else None


def _empty(slot: Path) -> None:
    """Rules 3 and 5."""
    slot.mkdir(parents=True, exist_ok=True)
    (slot / "complete").unlink(missing_ok=True)
    _sync(slot)
    for one in slot.iterdir():
        if one.is_dir() and not one.is_symlink():
            shutil.rmtree(one)
        else:
            one.unlink()


def _files(folder: Path) -> set[str]:
    """All that is no folder, links too, as paths from `folder`."""
    found, waiting = set(), [folder]
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for one in entries:
                if one.is_dir(follow_symlinks=False):
                    waiting.append(Path(one.path))
                else:
                    found.add(os.path.relpath(one.path, folder))
    return found


def _site(slot: Path) -> Path:
    found = list(slot.glob("lib/python*/site-packages"))
    if len(found) != 1:
        raise Wrong("slot_record", f"{slot} has {len(found)} folders site-packages")
    return found[0]


def _install(pip: list[str], empty: Path) -> None:
    options = (
        "--no-index --only-binary :all: --no-deps --no-compile --no-cache-dir --no-input --quiet "
        "--ignore-installed --no-warn-script-location --disable-pip-version-check "
        "--root-user-action ignore"
    )
    done = _run([*pip, *options.split()], empty)
    if done.returncode == 0:
        return
    said = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    text = next((line for line in said if line.startswith("ERROR:")), said[-1] if said else "")
    if os.strerror(errno.ENOSPC) in done.stderr:
        raise Wrong("slot_disk", text)
    raise Wrong("slot_install", f"pip: {text or f'exit status {done.returncode}'}")


def _run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Rule 2: what is asked of `command` stands in `command` alone."""
    home = {"HOME": str(folder), "TMPDIR": tempfile.gettempdir()}
    try:
        return subprocess.run(
            command,
            cwd=folder,
            env={**_ENVIRONMENT, **home},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LONGEST_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise Wrong("slot_install", f"{command[0]} did not end in {LONGEST_S} s") from None


def require_records(slot: Path, own: set[str]) -> None:
    """Rule 4; `own` are the environment's files, as paths from the slot."""
    slot = Path(os.path.realpath(slot))
    site = _site(slot)
    named = set()
    for record in sorted(site.glob("*.dist-info/RECORD")):
        with record.open(encoding="utf-8", newline="") as lines:
            for row in csv.reader(lines):
                if len(row) != 3:
                    raise Wrong("slot_record", f"{record}: a line that is none")
                path = Path(os.path.realpath(site / row[0]))
                if slot not in path.parents:
                    raise Wrong("slot_record", f"{record}: {row[0][:80]!a} leaves the slot")
                at = str(path.relative_to(slot))
                if at in own:
                    raise Wrong("slot_record", f"{record}: {at} belongs to the environment")
                if path != record:
                    _require_file(path, row[1], row[2])
                named.add(at)
    if beside := sorted(_files(slot) - named - own):
        raise Wrong("slot_record", f"{slot / beside[0]} is in no RECORD")


def _require_file(path: Path, digest: str, size: str) -> None:
    how, _, said = digest.partition("=")
    if how not in ("sha256", "sha384", "sha512"):
        raise Wrong("slot_record", f"{path} has no digest in its RECORD")
    try:
        regular = stat.S_ISREG(path.lstat().st_mode)
        data = path.read_bytes() if regular else b""
    except FileNotFoundError:
        raise Wrong("slot_record", f"{path} is in a RECORD, and missing") from None
    seen = base64.urlsafe_b64encode(hashlib.new(how, data).digest()).rstrip(b"=").decode()
    if not regular or seen != said or (size and size != str(len(data))):
        raise Wrong("slot_record", f"{path} is not what its RECORD says")


def _complete(slot: Path, number: int, said: dict[str, Any], local: dict[str, str] | None) -> None:
    """The last step: the slot counts."""
    record = {
        "schema": "scanside.slot/1",
        "slot": number,
        "release": said["release"],
        "appliance": said["appliance"],
        "python": _python(),
        "wheels": said["digest"],
        "local": local,
        "made": datetime.now(timezone.utc).isoformat(),
    }
    temp = slot / ".complete.tmp"
    with temp.open("w", encoding="utf-8") as file:
        json.dump(record, file)
        file.flush()
        os.fsync(file.fileno())
    temp.rename(slot / "complete")
    _sync(slot)


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _sync_all(folder: Path) -> None:
    """syncfs(2): all of this file system, and unlike sync(2) it says when the disk failed."""
    libc = ctypes.CDLL(None, use_errno=True)
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if libc.syncfs(handle):
            raise OSError(ctypes.get_errno(), "syncfs", str(folder))
    finally:
        os.close(handle)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description="Make a slot of the wheels that are kept.")
    parser.add_argument("do", choices=["rebuild", "add"])
    parser.add_argument("number", type=int)
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parents[1])
    asked = parser.parse_args()
    os.umask(0o022)  # root builds it, and stages that are not root run in it
    try:
        {"rebuild": rebuild, "add": add}[asked.do](asked.root.absolute(), asked.number)
    except Wrong as e:
        sys.stderr.write(f"{e}\n")
        return 1
    except OSError as e:
        sys.stderr.write(f"slot_disk: {e.filename}: {e.strerror}\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
