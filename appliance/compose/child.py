"""The child of `work` that composes what is ordered for archives. No stage imports highdicom.

    python -m appliance.compose.child  < settings as JSON

    rows of the outbox without a file -> the report, what is kept beside it, headers of its images
        -> objects -> outgoing/NAME, durable -> the rows name their file -> `deliver` is woken

Rules
1. `work` starts it after a commit, at the lowest priority, and does not wait for it. It ends when
   nothing is left that it has not tried.
2. A file is whole and durable before a row names it, and is never changed. A kill between the two
   makes the same bytes again (`told`) and loses and doubles nothing.
3. All objects of a report are composed together, the segmentation first, so that the memory of one
   is free before the next is made.
4. A structured report waits a while for its comparison with an earlier exam (`beside`).
   Archives that are owed the same share its file, but for what each has of the report before
   (`sent`). What there is nothing to show of is settled with its reason.
5. An object that raises is tried again at the next start, TRIES times, then it is dead, with the
   error; so is one that ended the process itself (run/compose.hand names it). What is dead does not
   keep the images from being deleted. A state folder that fails, such as a full disk, counts as no
   try.
6. No text of a header, and so no name of a patient, gets into a log: errors are told by their kind,
   and by their text only where it is ours.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from pydantic import ValidationError

from appliance.compose import objects, sent
from appliance.compose.beside import Waiting
from appliance.compose.gather import Gatherer
from appliance.compose.objects import Material, Nothing
from appliance.compose.sent import Variant
from appliance.errors import StateUnusable, told
from appliance.naming import Naming
from appliance.report import Product
from appliance.results import destinations
from appliance.results.pacs import OUTGOING, Ordered, is_older_key
from appliance.runtime import as_child
from appliance.settings import Settings
from appliance.store import bell
from appliance.store.files import DISK, Disk
from appliance.store.in_hand import Hand
from appliance.store.journal import Journal
from appliance.store.lock import alone
from appliance.store.rows import OwedRow
from appliance.store.site_key import site_key
from appliance.store.spool import Spool

log = logging.getLogger("scanside.compose")

TRIES = 3
FIRST: Sequence[Product] = ("seg", "lungs", "sc", "sr")
"""The order of composing (rule 3)."""


class Composer:
    """All that is ordered and not composed yet."""

    def __init__(
        self,
        settings: Settings,
        journal: Journal,
        disk: Disk = DISK,
        waiting: Waiting = Waiting(),  # noqa: B008 - it holds nothing
    ) -> None:
        self._state = settings.state
        self._names = destinations.composed_for(journal.owed.destinations(), settings.deliver)
        self._journal = journal
        self._disk = disk
        self._waiting = waiting
        self._hand = Hand(settings.state, "compose")
        self._tried: set[tuple[str, str]] = set()
        self._naming = Naming(site_key(settings.state))
        self._gatherer = Gatherer(settings, journal, Spool(settings.state), self._naming)

    def run(self) -> int:
        """Compose until nothing is left that was not tried; how many files were written."""
        self.recover()
        count = 0
        while groups := self._untried():
            for rows in groups:
                count += self._of_report(rows)
        return count

    def _untried(self) -> list[list[OwedRow]]:
        """Rows without a file, those of one report and edition together: all of them at once, for
        what a report says depends on which objects of it are ordered. The oldest order first, and
        before all what is ordered in the older class: what comes after a report names it."""
        rows = self._journal.owed.uncomposed(self._names, -1)
        left = [row for row in rows if (row.destination, row.key) not in self._tried]
        groups: dict[str, list[OwedRow]] = {}
        for row in sorted(left, key=lambda row: (not is_older_key(row.key), row.id)):
            groups.setdefault(row.key.rsplit(" ", 1)[0], []).append(row)
        return list(groups.values())

    def recover(self) -> None:
        """What ended the process before counts as tried (rule 5)."""
        if (last := self._hand.last()) is not None:
            rows = self._journal.owed.uncomposed(self._names, -1)
            self._failed([row for row in rows if row.key == last], "composing ended its process")
            self._hand.clear()

    def _of_report(self, rows: Sequence[OwedRow]) -> int:
        """The objects of one report, in one stage and edition."""
        self._tried |= {(row.destination, row.key) for row in rows}
        orders: dict[Ordered, list[OwedRow]] = {}
        for row in rows:
            try:
                ordered = Ordered.stored(row.body or b"")
            except ValidationError:
                self._journal.owed.never(row.destination, row.key, "its order cannot be read")
                continue
            orders.setdefault(ordered, []).append(row)
        if not orders:
            return 0
        first = next(iter(orders))
        kinds = [kind for kind in FIRST if any(ordered.kind == kind for ordered in orders)]
        if "sr" in kinds:
            self._waiting.wait(self._journal, first)
        try:
            material = self._gatherer.material(first, kinds)
        except StateUnusable:
            raise
        except Exception as e:  # noqa: BLE001 - whatever it is, the next report goes on
            self._failed(rows, told(e))
            return 0
        count = 0
        for ordered in sorted(orders, key=lambda one: (FIRST.index(one.kind), one.note)):
            for variant, its in self._variants(ordered, orders[ordered], material).items():
                count += self._one(ordered, variant, its, material)
        bell.ring(self._state, "deliver")
        return count

    def _variants(
        self, ordered: Ordered, rows: Sequence[OwedRow], material: Material | Nothing
    ) -> dict[Variant, list[OwedRow]]:
        """The rows of an order by the object that each is to get."""
        found: dict[Variant, list[OwedRow]] = {}
        before = None if isinstance(material, Nothing) else material.told
        for row in rows:
            one = Variant()
            if before is not None:
                one = sent.variant(self._journal, row.destination, ordered, before)
            found.setdefault(one, []).append(row)
        return found

    def _one(
        self,
        ordered: Ordered,
        variant: Variant,
        rows: Sequence[OwedRow],
        material: Material | Nothing,
    ) -> int:
        """One object: composed, written, and named by its rows."""
        if isinstance(material, Nothing):
            self._nothing(rows, material)
            return 0
        path = PurePosixPath(OUTGOING, self._file(ordered, variant))
        if not (self._state / path).exists():
            try:
                with self._hand.holding(rows[0].key):
                    made = objects.ordered(ordered, variant, material)
            except StateUnusable:
                raise
            except Exception as e:  # noqa: BLE001 - the other objects go on
                self._failed(rows, told(e))
                return 0
            if isinstance(made, Nothing):
                self._nothing(rows, made)
                return 0
            self._write(self._state / path, made.data)
        unusual = ordered.kind == "sr" and not ordered.note and (variant.own or ordered.older_class)
        for row in rows:
            if unusual:
                sent.note_down(self._journal, row.destination, ordered, self._state / path)
            self._journal.owed.composed(row.destination, row.key, path)
        return 1

    def _file(self, ordered: Ordered, variant: Variant) -> str:
        if not variant.own:
            return ordered.file
        return self._naming.composed(ordered.report_id, ordered.file, variant.own)

    def _write(self, path: Path, data: bytes) -> None:
        self._disk.make_folder(path.parent)
        self._disk.write(path, data)

    def _nothing(self, rows: Sequence[OwedRow], nothing: Nothing) -> None:
        for row in rows:
            self._journal.owed.empty(row.destination, row.key, nothing.why)

    def _failed(self, rows: Sequence[OwedRow], why: str) -> None:
        for row in rows:
            times = self._journal.owed.later(row.destination, row.key, why)
            log.warning("object %s, try %d: %s", row.key, times, why)
            if times >= TRIES:
                text = f"not composed in {TRIES} tries: {why}"
                self._journal.owed.uncomposable(row.destination, row.key, text)


def _composed(settings: Settings) -> str:
    with alone(settings.state, "compose"), Journal.awaited(settings.state) as journal:
        return f"composed {Composer(settings, journal).run()} objects"


def main() -> int:
    """0 when it has tried all; 1 where the state folder does not let it."""
    return as_child.run(log, _composed)


if __name__ == "__main__":
    sys.exit(main())
