"""What `apply` writes down for itself in the folder that it alone writes, durably and file by file.

    hold            there while updates are held; its text says by whom
    accepted        path of the release whose intended use was accepted
    wishes.json     Wishes: what was asked for by hand
    taken.json      Taken: the release in hand, with what ran before it
    done.json       Done: what this box ever took and had

Rules.
1. A file that is missing is as a new box has it. One that is damaged is an error that names it
   (StateUnusable, `update_notes`): `done.json` is what keeps an old release out.
2. A wish is on the disk before its asker is answered, so a power cut loses none. Who asks and who
   acts are threads of one process: both write wishes under one lock.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import Field, ValidationError

from appliance.errors import StateUnusable
from appliance.release.record import Release
from appliance.report import Record
from appliance.store.files import DISK, Disk
from appliance.update.plan import Named

R = TypeVar("R", bound=Record)
HOLD, ACCEPTED = "hold", "accepted"
WISHES, TAKEN, DONE = "wishes.json", "taken.json", "done.json"


class Wishes(Record):
    """What a person asked for and did not get yet."""

    number: int = Field(default=0, ge=0)
    """Of the latest wish: who asks waits until it was seen."""
    asked: int = Field(default=0, ge=0)
    """How often `update` was to look; it only grows."""
    now: bool = False
    """The next release is taken by hand."""
    source: str | None = None
    """A folder, such as a stick, instead of what `update` fetched."""
    url: str | None = None
    """A repository that `update` is to use for this once."""
    back: bool = False
    """What ran before is to run again."""


class Taken(Record):
    """The release in hand."""

    release: Release
    source: str | None = None
    by_hand: bool = False
    slot: int = Field(default=0, ge=0, description="which ran before")
    bundles: tuple[Named, ...] = ()
    """Which were active before."""
    studies: int = Field(default=0, ge=0)
    """That its appliance had analysed before its trial, in an earlier try."""


class Done(Record):
    """What this box knows for ever (appliance.update.plan, rule 2)."""

    highest: int = Field(default=0, ge=0)
    rolled_back: tuple[str, ...] = ()
    """Paths of the releases that went back, or that could not be made here."""
    known: tuple[Named, ...] = ()


@dataclass(frozen=True, slots=True)
class Notes:
    """The files in `folder`."""

    folder: Path
    disk: Disk = DISK
    lock: threading.Lock = field(default_factory=threading.Lock)

    def wishes(self) -> Wishes:
        return self._read(WISHES, Wishes) or Wishes()

    def wish(self, **change: Any) -> Wishes:
        """One more wish, of these fields."""
        with self.lock:
            before = self.wishes()
            made = before.model_copy(update={**change, "number": before.number + 1})
            self._write(WISHES, made)
        return made

    def ask_again(self) -> None:
        """`update` is to look once more, by nobody's wish."""
        with self.lock:
            before = self.wishes()
            self._write(WISHES, before.model_copy(update={"asked": before.asked + 1}))

    def fulfil(self, number: int, *, back: bool = False) -> None:
        """What was asked for up to this number is done with; `back`: the way back alone."""
        with self.lock:
            before = self.wishes()
            if before.number == number:
                gone: dict[str, Any] = {"back": False}
                if not back:
                    gone |= {"now": False, "source": None, "url": None}
                self._write(WISHES, before.model_copy(update=gone))

    def taken(self) -> Taken | None:
        return self._read(TAKEN, Taken)

    def take(self, taken: Taken) -> None:
        self._write(TAKEN, taken)

    def done(self) -> Done:
        return self._read(DONE, Done) or Done()

    def know(self, *named: Named, highest: int = 0, back: str | None = None) -> None:
        """All this belongs to what this box ever had; `back`: the path of a release that went
        back."""
        before = self.done()
        made = Done(
            highest=max(before.highest, highest),
            rolled_back=tuple(dict.fromkeys([*before.rolled_back, *([back] if back else [])])),
            known=tuple(dict.fromkeys([*before.known, *named])),
        )
        if made != before:
            self._write(DONE, made)

    def holds(self) -> bool:
        return (self.folder / HOLD).exists()

    def hold(self, by: str | None) -> None:
        """Hold updates, by whom; None: let them go on."""
        if by is None:
            self.disk.remove(self.folder / HOLD)
        else:
            self.disk.write(self.folder / HOLD, f"{by}\n".encode())

    def accepted(self) -> str | None:
        try:
            return (self.folder / ACCEPTED).read_text(encoding="utf-8").strip()
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as e:
            raise _damaged(self.folder / ACCEPTED) from e

    def accept(self, release: str) -> None:
        self.disk.write(self.folder / ACCEPTED, f"{release}\n".encode())

    def _read(self, name: str, model: type[R]) -> R | None:
        path = self.folder / name
        try:
            return model.stored(path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValidationError) as e:
            raise _damaged(path) from e

    def _write(self, name: str, record: Record) -> None:
        self.disk.write(self.folder / name, record.model_dump_json(by_alias=True).encode())


def _damaged(path: Path) -> StateUnusable:
    return StateUnusable(
        f"{path} is damaged",
        code="update_notes",
        remedy="Call the fleet team. What runs goes on running, and nothing is updated.",
    )
