"""The files of `guard` outside of the slots: they follow the appliance that runs and is trusted.

Rules.
1. While a release is on trial they stay those of before: what is watched does not change who
   watches. After the confirm, and at each start of `apply` without a trial, they are those of the
   slot that runs, whose process this is. So they come back too where somebody damaged them.
2. A file appears whole or not at all. A shell that reads the one before goes on with it.
3. Everybody may read and start them, as the installer left them.
"""

from __future__ import annotations

from pathlib import Path

from appliance.store.files import DISK, Disk
from appliance.update.places import Places
from appliance.update.slots import BUILD

FILES = ("guard.sh", "build.py")
_MODE = 0o755


def differ(places: Places, own: Path = BUILD.parent) -> tuple[str, ...]:
    """Names of the files in root/guard that are missing, or other than those in `own`, the folder
    of the appliance that runs. OSError where one may not be read."""
    return tuple(name for name in FILES if _data(places, name) != (own / name).read_bytes())


def follow(places: Places, disk: Disk = DISK, own: Path = BUILD.parent) -> tuple[str, ...]:
    """Put the files of the appliance that runs outside of the slots; the names of those that were
    other before. Nothing while a release is on trial. StateUnusable."""
    if places.trial.exists():
        return ()
    changed = differ(places, own)
    folder = places.guard
    for name in FILES:
        path = folder / name
        if name in changed:
            if not folder.is_dir():
                disk.make_folder(folder)
                folder.chmod(_MODE)
            disk.write(path, (own / name).read_bytes())
        if path.stat().st_mode & 0o777 != _MODE:
            path.chmod(_MODE)
    return changed


def _data(places: Places, name: str) -> bytes | None:
    try:
        return (places.guard / name).read_bytes()
    except FileNotFoundError:
        return None
