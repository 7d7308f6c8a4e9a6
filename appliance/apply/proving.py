"""Whether a slot and its bundles compute what they should: in a process of that slot, not in this.

Rules.
1. Under systemd it is a unit of its own (scanside-prove@N: the GPU, no network, the user of the
   stages), which reads prove/N for what it proves and leaves its records in PROOFS. Under `scanside
   run` it is a child.
2. A slot that cannot even start proves nothing. One that says nothing for PROVE_S is ended.
3. Without a bundle to prove, that the appliance of the slot starts is what is proved.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from appliance.apply.box import Units
from appliance.errors import ScansideError
from appliance.runtime.proof import Proof
from appliance.store.files import DISK
from appliance.update.places import Places
from appliance.update.units import Systemctl

PROVE_S = 2400.0
"""An engine that is built first takes minutes on an Orin."""
SHORT = "memory_short"
PROOFS = Path("/run/scanside-prove")
_LONGEST = 400


def prove(
    places: Places, units: Units, slot: int, paths: Sequence[Path], proofs: Path = PROOFS
) -> str | None:
    """Why these bundles are not proved in this slot; None where they are."""
    if isinstance(units, Systemctl) and paths:
        return _by_unit(places, units, slot, paths, proofs)
    python = places.slot(slot) / "bin" / "python"
    verb = ["prove", *map(str, paths), "--json"] if paths else ["--version"]
    try:
        done = subprocess.run(
            [str(python), "-m", "appliance", *verb],
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=PROVE_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"slot {slot} proved nothing within {PROVE_S / 60:.0f} minutes"
    except OSError as e:
        return f"slot {slot} does not start: {e.strerror}"
    if done.returncode == 0:
        return None
    said = done.stderr.strip().splitlines()
    return failed(done.stdout) or (said[-1][:_LONGEST] if said else f"exit {done.returncode}")


def _by_unit(
    places: Places, units: Units, slot: int, paths: Sequence[Path], proofs: Path
) -> str | None:
    """Rule 1."""
    asked = places.trusted / "prove" / str(slot)
    DISK.make_folder(asked.parent)
    DISK.write(asked, f"BUNDLES={' '.join(map(str, paths))}\n".encode())
    try:
        units.start("prove", slot)
    except ScansideError as e:
        try:
            said = (proofs / f"{slot}.json").read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            said = ""
        return failed(said) or e.text[:_LONGEST]
    return None


def is_short(why: str) -> bool:
    """Whether nothing but memory was missing, by what `prove` said: its codes are stable."""
    return f"[{SHORT}]" in why


def failed(lines: str) -> str | None:
    """What the records of `scanside prove --json` say of those that failed; None where they say
    nothing."""
    found = []
    for line in lines.splitlines():
        try:
            proof = Proof.stored(line)
        except ValidationError:
            continue
        if proof.verdict == "failed":
            found.append(proof.one_line())
    return "; ".join(found)[:_LONGEST] or None
