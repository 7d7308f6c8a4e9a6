"""Which reports an archive has that an object names: where two have others, it is two objects.

Rules
- An archive that takes no Comprehensive 3D SR got the same report in the older class, under another
  UID (`results.pacs.older`). What comes after it there names that one, and so is an object of its
  own, with its own UID and file (`Variant.own`), which is noted down for what comes after that.
- A preliminary report that an archive did not ask for is passed over: it names the one before that.
- A rejection note names every report of the withdrawn one that this archive has, or gets before it,
  and no other: an archive may refuse a note about what it does not know.
- What an archive has is what its rows say. Those that were deleted since say nothing: then what was
  noted down is named, else the usual one, and a note rejects nothing.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom import dcmread

from appliance.compose.told import Document, Told
from appliance.report import Stage
from appliance.results.pacs import Ordered, key_of, older_key, place_of
from appliance.results.sr.case import Predecessor
from appliance.store.delivery import State
from appliance.store.journal import Journal

HAS = (State.WAITING, State.DELIVERED, State.COMMITTED)
_FACTS = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")


@dataclass(frozen=True, slots=True)
class Variant:
    """One of the objects that an order may become."""

    names: tuple[Predecessor, ...] = ()
    own: str = ""
    """Empty for the one that most archives get."""


def variant(journal: Journal, destination: str, ordered: Ordered, told: Told) -> Variant:
    """What this archive gets of an order."""
    if ordered.note:
        held = [_held(journal, destination, one) for one in told.rejects]
        names = tuple(one.predecessor() for one in held if one is not None)
        return Variant(names, " ".join(one.sop_instance_uid for one in names))
    usual = told.predecessor
    if usual is None or ordered.kind != "sr":
        return Variant(() if usual is None else (usual.predecessor(),))
    before = _before(journal, destination, usual)
    if before is None:
        return Variant((), "after nothing")
    own = "" if before == usual else f"after {before.sop_instance_uid}"
    return Variant((before.predecessor(),), own)


def note_down(journal: Journal, destination: str, ordered: Ordered, file: Path) -> None:
    """A report that this archive gets, and that is not the usual one."""
    made = dcmread(file, stop_before_pixels=True, specific_tags=list(_FACTS))
    one = Document(
        study=str(made.StudyInstanceUID),
        series=str(made.SeriesInstanceUID),
        sop_class_uid=str(made.SOPClassUID),
        sop_instance_uid=str(made.SOPInstanceUID),
        key=key_of(ordered),
    )
    journal.told.keep(
        ordered.report_id,
        _place(destination, place_of(ordered), older=ordered.older_class),
        ordered.edition,
        one.model_dump_json(),
    )


def _before(journal: Journal, destination: str, usual: Document) -> Document | None:
    """What comes before, as this archive has it; None: it has nothing of it."""
    found = _held(journal, destination, usual) or _noted(journal, destination, usual)
    if found is not None or not usual.key:
        return found or usual
    report_id, stage, edition = usual.key.split(" ")[:3]
    if stage != Stage.PRELIMINARY.value or journal.owed.state(destination, usual.key) is not None:
        return usual
    told = journal.told.kept(uuid.UUID(report_id), stage, int(edition))
    earlier = None if told is None else Told.stored(told).predecessor
    return None if earlier is None else _before(journal, destination, earlier)


def _held(journal: Journal, destination: str, usual: Document) -> Document | None:
    """A report as this archive has it by its rows; None: they do not say that it has it."""
    if journal.owed.state(destination, older_key(usual.key)) in HAS:
        return _noted(journal, destination, usual) or usual
    if journal.owed.state(destination, usual.key) in HAS:
        return _noted(journal, destination, usual, older=(False,)) or usual
    return None


def _noted(
    journal: Journal, destination: str, usual: Document, older: Sequence[bool] = (True, False)
) -> Document | None:
    """What was noted down of a report at this archive, in the older class first."""
    if not usual.key:  # of a release that noted nothing
        return None
    report_id, stage, edition = usual.key.split(" ")[:3]
    for one in older:
        place = _place(destination, stage, older=one)
        found = journal.told.kept(uuid.UUID(report_id), place, int(edition))
        if found is not None:
            return Document.stored(found)
    return None


def _place(destination: str, stage: str, *, older: bool) -> str:
    """Where `journal.told` keeps what one archive got of a report: a stage of its own."""
    return f"{stage}{' older' if older else ''} at {destination}"
