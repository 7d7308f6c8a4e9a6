"""Composed objects go when nobody is owed them, and an archive that takes none fills no disk."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.report import SeriesKey
from appliance.retain import outgoing
from appliance.retain.age import DAY_S, Ledger
from appliance.store.commitment import Answer, Reference, Taken
from appliance.store.delivery import State
from appliance.store.events import DeliveriesDropped
from appliance.store.files import Disk
from rigs import oblique
from rigs.composing import FOUND, Site

PACS, RESEARCH = {"name": "pacs", "profile": ["sr"]}, {"name": "research", "profile": ["sr", "seg"]}


class Free(Disk):
    """Has so much room, and `each` MB more for every composed file that is gone."""

    def __init__(self, state: Path, mb: float, each: float = 0.0) -> None:
        self._state, self._mb, self._each = state, mb, each
        self._files = len(outgoing.files(state))

    def free_mb(self, path: Path) -> float:
        return self._mb + self._each * (self._files - len(outgoing.files(self._state)))


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path, PACS, RESEARCH)
    with made.journal:
        key = made.store(oblique.series(oblique.POSES["axial"]))
        made.commit(key, FOUND)
        made.compose()
        yield made


def seen(site: Site, days: float) -> Ledger:
    """Every file was seen for so long."""
    names = [path.name for path in outgoing.files(site.settings.state)]
    return Ledger(passed=days * DAY_S, first=dict.fromkeys(names, 0.0))


def clean(site: Site, days: float = 1.0, free_mb: float = 1e6, each: float = 0.0) -> int:
    disk = Free(site.settings.state, free_mb, each)
    return outgoing.clean(site.settings, site.journal, seen(site, days), disk)


def files(site: Site) -> int:
    return len(outgoing.files(site.settings.state))


def test_a_file_goes_with_the_last_archive_that_was_owed_it(site: Site) -> None:
    (document,) = [row.key for row in site.rows("pacs")]
    site.journal.owed.ack("pacs", [document])
    assert clean(site) == 0
    assert files(site) == 2, "the other archive waits for the same file"
    site.journal.owed.ack("research", [document])
    assert clean(site) == 0
    assert [Path(str(row.file)).name for row in site.rows("research")] == [
        path.name for path in outgoing.files(site.settings.state)
    ]


def test_what_no_archive_takes_is_given_up_after_owed_days_and_said(site: Site) -> None:
    (document,) = [row.key for row in site.rows("pacs")]
    site.journal.owed.never("pacs", document, "A900")
    assert clean(site, days=29.9) == 0
    assert files(site) == 2
    assert clean(site, days=30.1) == 3
    assert files(site) == 0
    assert len(site.journal.owed.listed(State.DROPPED)) == 3
    happened = site.journal.events.of(DeliveriesDropped, 9)
    said = {one.event.subject: one.event.count for one in happened}
    assert said == {"pacs": 1, "research": 2}
    audited = site.journal.audit.of(["deliveries_dropped"])
    assert len(audited) == 2


def test_dead_objects_make_room_for_images_and_what_waits_only_for_the_reserve(
    site: Site,
) -> None:
    segmentation = next(row.key for row in site.rows("research") if row.key.endswith("seg"))
    site.journal.owed.never("research", segmentation, "A900")
    assert clean(site, free_mb=8000, each=1000) == 1, "the dead one, below target_free_mb"
    assert files(site) == 1
    assert clean(site, free_mb=2100) == 0, "what waits stays while the scanner is served"
    assert clean(site, free_mb=2000) == 2
    assert files(site) == 0


def test_a_file_that_no_row_names_yet_is_left_for_a_day(site: Site) -> None:
    loose = site.settings.state / "outgoing" / "made-a-moment-ago.dcm"
    loose.write_bytes(b"")
    clean(site, days=0.9)
    assert loose.exists()
    clean(site, days=1.1)
    assert not loose.exists()


def test_the_images_may_go_while_the_objects_are_owed(site: Site) -> None:
    key = SeriesKey("2.25.11", next(iter(site.spool.series())).series)
    for row in site.rows("mqtt"):
        site.journal.owed.ack("mqtt", [row.key])
    (row,) = [kept for kept in site.journal.kept() if kept.series.key == key]
    assert row.owed == 0
    assert site.journal.forget(row.series)
    assert len(site.rows("pacs")) == 1, "nothing owed is forgotten"


def test_what_an_archive_took_stays_until_it_promised_to_keep_it(tmp_path: Path) -> None:
    site = Site(tmp_path, {**PACS, "commitment": True})
    with site.journal as journal:
        key = site.store(oblique.series(oblique.POSES["axial"]))
        site.commit(key, FOUND)
        site.compose()
        (row,) = site.rows("pacs")
        journal.owed.ack("pacs", [row.key])
        named = Reference(sop_class="1.2", sop_instance="1.2.3")
        asked = journal.commitments.ask("pacs", {row.key: named})
        assert clean(site, days=2.0) == 0
        assert files(site) == 1
        promise = Answer(transaction_uid=asked.transaction_uid, kept=(named,), failed=())
        assert journal.commitments.take(promise, ["pacs"]) is Taken.COUNTS
        clean(site, days=2.0)
        assert files(site) == 0


def test_an_archive_that_never_promises_fills_no_disk(tmp_path: Path) -> None:
    site = Site(tmp_path, {**PACS, "commitment": True})
    with site.journal as journal:
        key = site.store(oblique.series(oblique.POSES["axial"]))
        site.commit(key, FOUND)
        site.compose()
        journal.owed.ack("pacs", [row.key for row in site.rows("pacs")])
        assert clean(site, days=2.0, free_mb=1.0) == 0, "it was taken: nothing is given up"
        assert files(site) == 0
        assert journal.owed.counts("pacs").delivered == 1
