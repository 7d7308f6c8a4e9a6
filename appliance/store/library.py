"""The library of scanners, what is usual on each and what changed: library/ in the state folder.

    library/<row>.row                  an Entry, the row of today
    library/<row>.<act>.former         an Entry, what was usual before a person accepted a change
    library/cursor                     a Cursor: up to which final report the journal was counted
    library/imported-<digest>.json     rows of other boxes (quality/exchange.py), from a person
    library/*.damaged                  what could not be read, set aside; the newest DAMAGED_MOST
    watch.json                         Told: what may leave the device, for who may see no more

Rules
- `work` alone writes entries, cursor and watch.json. Everybody else reads, and passes over what
  cannot be read.
- A file is a SHA-256, then JSON. One that does not fit it, that is of another schema, or that says
  another name than it has, is set aside by `work`, never deleted at once, and learning starts anew.
- An entry knows itself which studies and inputs it has counted, the last KNOWN_MOST. So the row and
  the fact that a study is in it appear in one write, and the cursor only saves looking twice.
- At most ROWS_MOST entries. The first to go are those that learn, then former ones, then those that
  have learnt, at last those with an alarm; of these the one that was counted longest ago. Order is
  the order of counting (`turns`): the clock of a box may go back. So a sender of odd tags cannot
  push out what was learnt.
- What a person decides is a row of the audit (ACTS) that `work` obeys once: an entry knows the hash
  of the last act that it has heard. A new audit, after a damage, has new acts alone.
- What became of it is a row of the audit too (ANSWERS), which names the act by its hash: no other
  act has it, however often a person decides the same. An act about a tuning that has no row waits
  until it has such an answer.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal, TypeVar

from pydantic import Field, field_validator

from appliance.errors import StateUnusable
from appliance.report import Record
from appliance.store import plain
from appliance.store.files import DISK, TEMP_SUFFIX, Disk
from appliance.store.rows import AuditRow
from appliance.watching.row import Row
from appliance.watching.told import RowId, Told

FOLDER: Final = "library"
WATCH: Final = "watch.json"
CURSOR: Final = "cursor"
ACKNOWLEDGE: Final = "drift_ack"
ACCEPT: Final = "drift_accept"
TUNE: Final = "drift_tune"
WITHDRAW: Final = "drift_withdraw"
ACTS: Final = (ACKNOWLEDGE, ACCEPT, TUNE, WITHDRAW)
"""Actions of the audit; the detail `row` names the row. The last two are of tunings; of TUNE the
detail `soften_mm` is what was proposed to who accepted it. A WITHDRAW of what has no row any more
names the digest instead, `tuning`."""
OBEYED: Final = "drift_obeyed"
REFUSED: Final = "drift_refused"
ANSWERS: Final = (OBEYED, REFUSED)
"""Actions of the audit: what became of an act, whose hash is the detail `of`; `text` says it, with
`code` and `remedy` where it was refused."""
ACTS_AND_ANSWERS: Final = (*ACTS, *ANSWERS)
DAMAGED: Final = "library_damaged"
"""Action of the audit: a file was set aside."""
ROWS_MOST: Final = 200
DAMAGED_MOST: Final = 16
IMPORTED_MOST: Final = 32
"""Files."""
KNOWN_MOST: Final = 2048
"""Studies that an entry knows to have counted: weeks of a busy scanner, longer than images stay."""
TURNS_MOST: Final = 32
MOST_BYTES: Final = 4_000_000
"""Of a file; what is larger was written by nobody here."""
_MARK: Final = 8
"""Bytes that stand for a study, and for an input."""
_ROW, _FORMER, _DAMAGED = ".row", ".former", ".damaged"
_NAME: Final = re.compile(r"([0-9a-f]{16})(?:\.row|\.([0-9a-f]{8})\.former)")
IMPORTED: Final = re.compile(r"imported-[0-9a-f]{16}\.json")
R = TypeVar("R", bound=Record)


class Entry(Record):
    """One row as it lies on the disk."""

    schema_: Literal["scanside.library/1"] = Field(default="scanside.library/1", alias="schema")
    id: RowId
    """A keyed hash of the key (Naming.row)."""
    former: Annotated[str, Field(pattern=r"^([0-9a-f]{8})?$")] = ""
    """Of what was usual before: the first digits of the hash of the act that ended it."""
    scanner: RowId
    """A keyed hash of the device alone: rows of one scanner have the same."""
    turns: tuple[int, ...] = ()
    """At which counts of the library this row was counted, the last TURNS_MOST."""
    known: str = ""
    """Base64 of what was counted, the oldest first: _MARK bytes of the study, then of the input."""
    heard: str = ""
    """Hash of the last act of the audit that was obeyed, or was there before the row."""
    row: Row

    @field_validator("known")
    @classmethod
    def _whole(cls, value: str) -> str:
        if len(base64.b64decode(value, validate=True)) % (2 * _MARK):
            raise ValueError("a mark is cut short")
        return value

    @property
    def name(self) -> str:
        """Of its file."""
        return f"{self.id}.{self.former}{_FORMER}" if self.former else f"{self.id}{_ROW}"

    @property
    def turn(self) -> int:
        """At which count of the library it was counted last."""
        return self.turns[-1] if self.turns else 0

    def knows_study(self, study: bytes) -> bool:
        """Whether a study (`mark_of`) was counted here."""
        return _has(base64.b64decode(self.known), study, 0)

    def knows_input(self, digest: bytes) -> bool:
        """Whether an input was."""
        return _has(base64.b64decode(self.known), digest, _MARK)

    def counted(self, row: Row, turn: int, study: bytes, digest: bytes) -> Entry:
        """With one study more."""
        known = (base64.b64decode(self.known) + study + digest)[-2 * _MARK * KNOWN_MOST :]
        return self.model_copy(
            update={
                "row": row,
                "turns": (*self.turns, turn)[-TURNS_MOST:],
                "known": base64.b64encode(known).decode(),
            }
        )


class Cursor(Record):
    """The final report that was looked at last; those after it in the journal were not."""

    schema_: Literal["scanside.library-cursor/1"] = Field(
        default="scanside.library-cursor/1", alias="schema"
    )
    report_id: str


@dataclass(frozen=True, slots=True)
class Listed:
    """What lies in the folder."""

    entries: tuple[Entry, ...] = ()
    """Those of today, then former ones."""
    unreadable: tuple[str, ...] = ()
    """Names of files that `work` will set aside."""
    damaged: tuple[str, ...] = ()
    """Names of those that it has."""

    @property
    def today(self) -> tuple[Entry, ...]:
        return tuple(one for one in self.entries if not one.former)

    def former_of(self, entry: Entry) -> tuple[Row, ...]:
        """What was usual before a row, the newest first."""
        found = [one for one in self.entries if one.former and one.id == entry.id]
        return tuple(one.row for one in sorted(found, key=lambda one: -one.turn))

    def others_than(self, entry: Entry) -> tuple[Row, ...]:
        """The other rows of today."""
        return tuple(one.row for one in self.today if one.id != entry.id)


class Library:
    """The files of one state folder."""

    def __init__(self, state: Path, disk: Disk = DISK) -> None:
        self._state, self._disk = state, disk
        self._root = state / FOLDER

    def all(self) -> Listed:
        """All of it, by name."""
        names = self.names()
        read = {name: self.read(name) for name in names}
        entries = [one for one in read.values() if one is not None]
        return Listed(
            tuple(sorted(entries, key=lambda one: (bool(one.former), one.name))),
            tuple(name for name, one in read.items() if one is None),
            self._ends(_DAMAGED),
        )

    def names(self) -> tuple[str, ...]:
        """Of the files that should be entries."""
        return (*self._ends(_ROW), *self._ends(_FORMER))

    def read(self, name: str) -> Entry | None:
        """One entry; None where the file is none, or says another name."""
        found = self._opened(name, Entry)
        return found if found is not None and found.name == name else None

    def put(self, entry: Entry) -> None:
        """Durable, in place of what this row was. StateUnusable."""
        if _NAME.fullmatch(entry.name) is None:
            raise ValueError(f"{entry.name} is no name of a row")
        self._disk.make_folder(plain.real_folder(self._root))
        self._disk.write(self._root / entry.name, sealed(entry))

    def remove(self, entry: Entry) -> None:
        self._disk.remove(self._root / entry.name)

    def set_aside(self, name: str) -> None:
        """Give what cannot be read another name; of those the oldest go."""
        kept = self._ends(_DAMAGED)
        number = max((_number(one) for one in kept), default=0) + 1
        self._disk.move(self._root / name, self._root / f"{number:06d}-{name}{_DAMAGED}")
        for old in kept[: max(0, len(kept) + 1 - DAMAGED_MOST)]:
            self._disk.remove(self._root / old)

    def cursor(self) -> str | None:
        """Up to which final report the journal was counted; None: from its beginning."""
        found = self._opened(CURSOR, Cursor)
        return None if found is None else found.report_id

    def move_cursor(self, report_id: str | None) -> None:
        """None: the journal is to be looked at from its beginning."""
        if report_id is None:
            self._disk.remove(self._root / CURSOR)
            return
        self._disk.make_folder(plain.real_folder(self._root))
        self._disk.write(self._root / CURSOR, sealed(Cursor(report_id=report_id)))

    def clear_temporary(self) -> None:
        """What writing left when the power went: nobody writes now."""
        for name in self._ends(TEMP_SUFFIX):
            self._disk.remove(self._root / name)

    def imported(self) -> tuple[bytes, ...]:
        """What a person has brought from other boxes, by name."""
        found = []
        for name in _listed(self._root):
            if IMPORTED.fullmatch(name):
                with suppress(OSError):
                    found.append(plain.read(self._state, FOLDER, name, most=MOST_BYTES))
        return tuple(found)

    def bring(self, data: bytes) -> bool:
        """Lay down what a person brings; False where just this lies there. StateUnusable."""
        name = f"imported-{hashlib.sha256(data).hexdigest()[:16]}.json"
        there = [one for one in _listed(self._root) if IMPORTED.fullmatch(one)]
        if name in there:
            return False
        if len(there) >= IMPORTED_MOST:
            raise StateUnusable(
                f"{len(there)} files were imported already, and no more are kept",
                remedy=f"Delete what is old: {self._root}/imported-*.json",
                code="library_full",
            )
        self._disk.make_folder(plain.real_folder(self._root))
        self._disk.write(self._root / name, data)
        return True

    def tell(self, told: Told) -> None:
        """What may leave, where it is other than before. StateUnusable."""
        data = told.model_dump_json().encode()
        with suppress(OSError):
            if plain.read(self._state, WATCH, most=MOST_BYTES) == data:
                return
        self._disk.write(self._state / WATCH, data)

    def _opened(self, name: str, model: type[R]) -> R | None:
        with suppress(OSError, ValueError):
            return unsealed(plain.read(self._state, FOLDER, name, most=MOST_BYTES), model)
        return None

    def _ends(self, suffix: str) -> tuple[str, ...]:
        return tuple(name for name in _listed(self._root) if name.endswith(suffix))


def told(state: Path) -> Told:
    """What may leave the device; nothing where nothing can be read."""
    with suppress(OSError, ValueError):
        return Told.stored(plain.read(state, WATCH, most=MOST_BYTES))
    return Told()


def sealed(record: Record) -> bytes:
    """A record as a file."""
    text = record.model_dump_json(by_alias=True).encode()
    return hashlib.sha256(text).hexdigest().encode() + b"\n" + text


def unsealed(data: bytes, model: type[R]) -> R:
    """The record again. ValueError for what is cut, changed, or of another schema."""
    digest, _, text = data.partition(b"\n")
    if digest != hashlib.sha256(text).hexdigest().encode():
        raise ValueError("it is not as it was written")
    return model.stored(text)


def mark_of(study_or_digest: str) -> bytes:
    """What stands for a study, by its pseudonym, or for an input, by its digest: both hexadecimal
    and longer than that."""
    return bytes.fromhex(study_or_digest)[:_MARK]


def over(entries: Iterable[Entry]) -> tuple[Entry, ...]:
    """Those that are more than ROWS_MOST, by the rule above."""
    ordered = sorted(entries, key=lambda one: (_worth(one), one.turn, one.name))
    return tuple(ordered[: max(0, len(ordered) - ROWS_MOST)])


def pending(acts: Sequence[AuditRow], entry: Entry) -> tuple[AuditRow, ...]:
    """The acts about a row that it has not heard, of all acts of the audit, the oldest first."""
    acts = [one for one in acts if one.action in ACTS]
    hashes = [one.hash for one in acts]
    after = hashes.index(entry.heard) + 1 if entry.heard in hashes else 0
    return tuple(one for one in acts[after:] if one.detail.get("row") == entry.id)


def pending_of_tunings(acts: Sequence[AuditRow]) -> tuple[AuditRow, ...]:
    """The acts about tunings without a row that were not answered, of all acts and answers of the
    audit, the oldest first."""
    answered = {str(one.detail.get("of")) for one in acts if one.action in ANSWERS}
    named = [one for one in acts if one.action == WITHDRAW and "tuning" in one.detail]
    return tuple(one for one in named if one.hash not in answered)


def answer_to(answers: Iterable[AuditRow], act: str) -> AuditRow | None:
    """What became of the act of this hash; None: nothing yet."""
    return next((one for one in answers if one.detail.get("of") == act), None)


def refusal(
    acts: Sequence[AuditRow], about: str, named: Literal["row", "tuning"] = "row"
) -> tuple[AuditRow, AuditRow] | None:
    """The last act about a row, or about a tuning without one, and the answer that refused it, of
    all acts and answers of the audit, the oldest first; None where that act was not refused."""
    of_it = [one for one in acts if one.action in ACTS and one.detail.get(named) == about]
    if not of_it:
        return None
    said = answer_to([one for one in acts if one.action in ANSWERS], of_it[-1].hash)
    return (of_it[-1], said) if said is not None and said.action == REFUSED else None


def stopped(entries: Iterable[Entry]) -> tuple[Entry, ...]:
    """Rows that were usual for their scanner and do not come any more, though it sends others.

    Usual: learnt, and at least USUAL of what the scanner had sent when it came last. Not any more:
    MISSED studies of the scanner's other rows came since.
    """
    found, by_scanner = [], _by_scanner(entries)
    for one in (e for several in by_scanner.values() for e in several):
        others = [e for e in by_scanner[one.scanner] if e is not one]
        since = sum(sum(turn > one.turn for turn in e.turns) for e in others)
        before = sum(e.row.n for e in others) - since
        usual = one.row.n >= USUAL * (one.row.n + max(0, before))
        if one.row.state != "learning" and usual and since >= MISSED:
            found.append(one)
    return tuple(sorted(found, key=lambda one: one.name))


USUAL: Final = 0.25
MISSED: Final = 30
"""A row that is a quarter of all misses 30 studies by chance once in 5,600 times (.75 ** 30)."""


def _by_scanner(entries: Iterable[Entry]) -> dict[str, list[Entry]]:
    found: dict[str, list[Entry]] = {}
    for one in entries:
        if not one.former:
            found.setdefault(one.scanner, []).append(one)
    return found


def _worth(entry: Entry) -> int:
    if entry.former:
        return 1
    if entry.row.alarms:
        return 3
    return 0 if entry.row.state == "learning" else 2


def _has(known: bytes, mark: bytes, offset: int) -> bool:
    """Whether a mark stands at this place of any pair. A search, because every count asks every
    entry, and a set of each would take a millisecond."""
    at = known.find(mark)
    while at >= 0 and at % (2 * _MARK) != offset:
        at = known.find(mark, at + 1)
    return at >= 0


def _number(name: str) -> int:
    head = name.partition("-")[0]
    return int(head) if head.isdecimal() else 0


def _listed(folder: Path) -> Iterator[str]:
    """What lies in a folder of ours; nothing where it is none, or a link."""
    with suppress(FileNotFoundError, NotADirectoryError):
        if not folder.is_symlink():
            yield from sorted(os.listdir(folder))
