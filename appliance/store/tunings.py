"""The tunings that a person accepted: tunings.json under the state. `work`, `analyze` and `replay`
read it before they analyse; `work` writes it when a person has decided (`scanside drift tune`).

Rules
- What is withdrawn stays, with its time: a report that names it can still be replayed.
- The same tuning is accepted once. At most MOST are in the file.
- A file that cannot be read is an error with a remedy (`tunings_damaged`). `work` then analyses
  without any, and each report shows that it names none.
- One writer: `work`, as of the library of scanners (work/watching.py).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final, Literal

from pydantic import Field, ValidationError

from appliance.errors import ScansideError
from appliance.report import Record
from appliance.store.files import DISK, Disk
from appliance.watching.tuning import Tuning

NAME: Final = "tunings.json"
MOST: Final = 200
MOST_BYTES: Final = 1_000_000


class Accepted(Record):
    """A tuning, since when it is in force and until when it was."""

    tuning: Tuning
    at: datetime
    withdrawn: datetime | None = None


class Tunings(Record):
    """tunings.json, in the order in which they were accepted."""

    schema_: Literal["scanside.tunings/1"] = Field(default="scanside.tunings/1", alias="schema")
    tunings: tuple[Accepted, ...] = ()


def kept(state: Path) -> tuple[Accepted, ...]:
    """All that were ever accepted; () where none was. ScansideError `tunings_damaged`."""
    path = state / NAME
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
        if len(data) > MOST_BYTES:
            raise ValueError(f"larger than {MOST_BYTES} bytes")
        return Tunings.stored(data).tunings
    except FileNotFoundError:
        return ()
    except (OSError, ValidationError, ValueError) as e:
        raise ScansideError(
            f"{path}: the accepted tunings cannot be read: {str(e).splitlines()[0]}",
            code="tunings_damaged",
            remedy=f"Move {path} away; then accept again what `scanside drift` proposes.",
        ) from e


def in_force(state: Path) -> tuple[Tuning, ...]:
    """Those that were accepted and not withdrawn. ScansideError as `kept`."""
    return tuple(one.tuning for one in kept(state) if one.withdrawn is None)


def readable(state: Path) -> tuple[Tuning, ...] | None:
    """The same for who only shows them; None where they cannot be read."""
    try:
        return in_force(state)
    except ScansideError:
        return None


def of_digest(state: Path, digest: str) -> Tuning | None:
    """The one of this digest, also where it was withdrawn since. ScansideError as `kept`."""
    return next((one.tuning for one in kept(state) if one.tuning.digest == digest), None)


def accept(
    state: Path,
    tuning: Tuning,
    at: datetime,
    disk: Disk = DISK,
    *,
    instead_of: Collection[str] = (),
) -> None:
    """Put it in force, durably, and in the same write take those of the digests `instead_of` out of
    force. ScansideError as `kept`, and `tunings_full`."""
    before = [_ended(one, at, instead_of) for one in kept(state)]
    rest = [one for one in before if one.tuning.digest != tuning.digest]
    same = [one for one in before if one.tuning.digest == tuning.digest]
    if same and same[0].withdrawn is None:
        return
    if len(rest) >= MOST:
        raise ScansideError(
            f"{MOST} tunings were accepted on this device",
            code="tunings_full",
            remedy="A device needs one or two; ask the fleet team what accepts them.",
        )
    _write(state, (*rest, Accepted(tuning=tuning, at=at)), disk)


def withdraw(state: Path, digest: str, at: datetime, disk: Disk = DISK) -> None:
    """Take it out of force, durably. ScansideError as `kept`, and `no_tuning` where none of this
    digest is in force."""
    before = kept(state)
    if not any(one.tuning.digest == digest and one.withdrawn is None for one in before):
        raise ScansideError(
            f"no tuning {digest[:12]} is in force", code="no_tuning", remedy="Check its digest."
        )
    _write(state, [_ended(one, at, (digest,)) for one in before], disk)


def _ended(one: Accepted, at: datetime, digests: Collection[str]) -> Accepted:
    """Out of force, where it is one of these and is in force."""
    if one.withdrawn is not None or one.tuning.digest not in digests:
        return one
    return one.model_copy(update={"withdrawn": at})


def _write(state: Path, tunings: Sequence[Accepted], disk: Disk) -> None:
    whole = Tunings(tunings=tuple(tunings))
    disk.make_folder(state)
    disk.write(state / NAME, whole.model_dump_json(by_alias=True).encode())
