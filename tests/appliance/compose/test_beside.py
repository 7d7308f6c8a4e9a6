"""A structured report says a comparison that is there in time; a later one is a further report."""

from __future__ import annotations

import io
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset

from appliance.comparison import Comparison
from appliance.compose.beside import WAIT_S, Waiting
from appliance.compose.child import Composer
from appliance.report import Report, SeriesKey
from appliance.results import destinations
from appliance.results.pacs import ordered
from appliance.store.files import Disk
from appliance.store.journal.pairs import Judged, Pair
from rigs import beside, oblique
from rigs.composing import FOUND, NOON, Site

SR = {"name": "pacs", "profile": ["sr"]}
FIRST = "2.25.4711"
"""Tracking UID of the first sighting of finding 1 (beside.FINDINGS)."""


@dataclass
class Clock:
    """Seconds since 1970 that pass only where somebody sleeps. `meanwhile`: done at the first
    sleep."""

    now: float = 0.0
    step: float = 1.0
    slept: list[float] = field(default_factory=list)
    meanwhile: list[object] = field(default_factory=list)

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds * self.step
        self.slept.append(seconds)
        while self.meanwhile:
            done = self.meanwhile.pop()
            assert callable(done)
            done()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path / "state", SR)
    with made.journal:
        yield made


@pytest.fixture
def key(site: Site) -> SeriesKey:
    return site.store(oblique.series(oblique.POSES["oblique"]))


@pytest.fixture
def report(site: Site, key: SeriesKey) -> Report:
    """One whose comparison is still to come."""
    made = site.commit(key, FOUND)
    beside.wait(site.journal, key, made)
    return made


def compose(site: Site, clock: Clock, disk: Disk | None = None) -> int:
    waiting = Waiting(clock, clock.sleep)
    return Composer(site.settings, site.journal, disk or Disk(), waiting).run()


def since(site: Site, of: Report) -> float:
    row = site.journal.comparisons.row(of.report_id)
    assert row is not None
    return row.since


def compared(site: Site, key: SeriesKey, of: Report, **more: object) -> Comparison:
    """As the child that compares says it: kept, committed, and owed to the archive."""
    said = beside.comparison(of, beside.FINDINGS[::2], committed=NOON, **more)
    beside.commit(site.settings.state, site.journal, said)
    owed = destinations.of_comparison(
        said, key, naming=site.naming, at=NOON, edition=of.edition,
        to=destinations.archives(destinations.of(site.settings.deliver)),
    )  # fmt: skip
    with site.journal._db.write() as db:
        site.journal.owed.add_in(db, owed)
    return said


def documents(site: Site) -> list[Dataset]:
    """What was composed, in the order in which it is owed."""
    rows = [row for row in site.rows() if row.file is not None]
    return [pydicom.dcmread(io.BytesIO(site.data(row))) for row in rows]


def text(made: Dataset) -> str:
    return " ".join(str(one.value) for one in made.iterall() if one.VR == "UT")


def tracking(made: Dataset) -> set[str]:
    return {
        str(item.UID)
        for item in _every(made)
        if item.ValueType == "UIDREF" and item.ConceptNameCodeSequence[0].CodeValue == "112040"
    }


def _every(made: Dataset) -> list[Dataset]:
    below = made.get("ContentSequence", [])
    return [one for item in below for one in (item, *_every(item))]


def test_a_comparison_that_comes_while_it_is_waited_for_stands_in_the_report_itself(
    site: Site, key: SeriesKey, report: Report
) -> None:
    clock = Clock(since(site, report))
    clock.meanwhile.append(lambda: compared(site, key, report))
    assert compose(site, clock) == 1
    (made,) = documents(site)
    assert "Compared with the newest earlier exam" in text(made)
    assert tracking(made) == {FIRST}, "of the first sighting"
    assert len(clock.slept) == 1
    assert len(site.rows()) == 1, "the further report was nothing, and is settled"


def test_it_is_waited_for_ten_seconds_at_most_whatever_the_clock_does(
    site: Site, report: Report
) -> None:
    clock = Clock(since(site, report))
    compose(site, clock)
    assert sum(clock.slept) == pytest.approx(WAIT_S, abs=0.2)
    assert "earlier exam" not in text(documents(site)[0])
    back = Clock(since(site, report), step=-1.0)
    order = ordered(site.rows()[0].body)
    assert order is not None
    Waiting(back, back.sleep).wait(site.journal, order)
    assert sum(back.slept) <= WAIT_S + 0.1


def test_one_that_comes_later_is_a_further_instance_of_the_series(
    site: Site, key: SeriesKey, report: Report
) -> None:
    compose(site, Clock(since(site, report)))
    said = compared(site, key, report)
    assert compose(site, Clock()) == 1
    first, further = documents(site)
    assert first.SeriesInstanceUID == further.SeriesInstanceUID
    assert first.SOPInstanceUID != further.SOPInstanceUID
    assert further.InstanceNumber > first.InstanceNumber
    (before,) = further.PredecessorDocumentsSequence
    named = before.ReferencedSeriesSequence[0].ReferencedSOPSequence[0]
    assert named.ReferencedSOPInstanceUID == first.SOPInstanceUID
    assert (tracking(first), tracking(further)) == ({FOUND.tracking_uid}, {FIRST})
    assert "matched" in text(further)
    assert str(said.comparison_id) not in text(further)


def test_a_further_report_that_was_cut_off_is_composed_again_with_the_same_bytes(
    site: Site, key: SeriesKey, report: Report
) -> None:
    compose(site, Clock(since(site, report)))
    compared(site, key, report)

    class Killed(BaseException):
        pass

    class Deadly(Disk):
        def write(self, path: Path, data: bytes) -> None:
            written.append(data)
            raise Killed

    written: list[bytes] = []
    with pytest.raises(Killed):
        compose(site, Clock(), Deadly())
    assert compose(site, Clock()) == 1
    assert site.data(site.rows()[1]) == written[0]


def test_of_a_comparison_that_counts_no_more_nothing_is_composed(
    site: Site, key: SeriesKey, report: Report
) -> None:
    compose(site, Clock(since(site, report)))
    said = compared(site, key, report)
    site.journal.comparisons.again([str(report.report_id)])
    other = beside.comparison(report, (), comparison_id=uuid.uuid4(), supersedes=said.comparison_id)
    site.journal.comparisons.commit(
        report.report_id, [other], superseded=[said.comparison_id], owed=()
    )
    assert compose(site, Clock()) == 0
    assert len(documents(site)) == 1


def test_a_pair_called_wrong_keeps_the_tracking_uid_of_today(
    site: Site, key: SeriesKey, report: Report
) -> None:
    pair = Pair(beside.PRIOR, 1, 2)
    act = Judged(uuid.uuid4(), 1.0, report.report_id, pair, "wrong", "radiologist", "ab12")
    site.journal.pairs.say(act)
    compared(site, key, report)
    compose(site, Clock())
    (made,) = documents(site)
    assert tracking(made) == {FOUND.tracking_uid}
    assert "a reader called this pair wrong" in text(made)


def test_no_archive_is_owed_more_for_an_exam_without_an_earlier_one(
    site: Site, report: Report
) -> None:
    said = beside.comparison(
        report, (), status="not_compared", prior=None, person=None, registered=None,
        reasons=[{"code": "no_prior", "text": "none is kept"}],
    )  # fmt: skip
    to = destinations.archives(destinations.of(site.settings.deliver))
    key = SeriesKey("1", "2")
    assert not [*destinations.of_comparison(said, key, naming=site.naming, at=NOON, to=to)]
    gone = said.model_copy(update={"supersedes": uuid.uuid4()})
    assert len([*destinations.of_comparison(gone, key, naming=site.naming, at=NOON, to=to)]) == 1
