"""Associations, what they brought, and what `work` says of each series."""

from __future__ import annotations

import subprocess
import sys

from appliance.report import SeriesKey
from appliance.store.journal import Journal


def test_an_association_is_followed_from_its_first_instance_to_its_end(
    journal: Journal, key: SeriesKey, arrive
) -> None:
    association = arrive(1, 100.0)
    arrive(300, 160.0, association)
    journal.series.association_ended(association, "released")
    journal.series.association_ended(association, "lost")
    (arrival,) = journal.series.arrivals(key)
    assert (arrival.first_at, arrival.last_at, arrival.instances) == (100.0, 160.0, 300)
    assert arrival.association.outcome == "released", "the first outcome stays"
    series = journal.series.get(key)
    assert series is not None
    assert (series.state, series.calling_ae, series.last_at) == ("open", "CT1", 160.0)


def test_late_slices_open_a_judged_series_again_and_the_count_at_the_end_does_not(
    journal: Journal, key: SeriesKey, arrive
) -> None:
    association = arrive(1, 100.0)
    journal.series.set(key, "analysed", instances=300)
    arrive(300, 160.0, association)
    assert [s.state for s in journal.series.all()] == ["analysed"]
    arrive(1, 200.0)
    assert [s.state for s in journal.series.all("open")] == ["open"]


def test_slices_of_a_new_association_open_a_series_whose_earlier_ones_were_never_counted(
    journal: Journal, key: SeriesKey, arrive
) -> None:
    arrive(1, 100.0)  # and its receiver was killed after eight
    journal.series.set(key, "analysed", instances=8)
    arrive(1, 200.0)
    assert [s.state for s in journal.series.all()] == ["open"]


def test_one_series_uid_in_two_studies_is_two_series(
    journal: Journal, key: SeriesKey, arrive
) -> None:
    other = SeriesKey("1.9", key.series)
    association = arrive(1, 100.0)
    arrive(2, 110.0, association, other)
    journal.series.set(key, "analysed", instances=1)
    journal.series.set_stat(other)
    assert journal.attempts.add(other) == 1
    assert [(s.key, s.state, s.priority, s.attempts) for s in journal.series.all()] == [
        (key, "analysed", "routine", 0),
        (other, "open", "stat", 1),
    ]
    assert [a.instances for a in journal.series.arrivals(other)] == [2]
    assert [s.key for s in journal.series.of_study("1.9")] == [other]


def test_associations_of_a_dead_process_are_recovered_as_lost_and_others_are_not(
    journal: Journal, arrive
) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        doomed = journal.series.association_opened(
            calling_ae="CT1", called_ae="SCANSIDE", host="10.0.0.5", pid=other.pid
        )
        ours = arrive(1, 1.0)
        assert journal.series.recover_associations() == []
        other.kill()
    assert journal.series.recover_associations() == [doomed]
    assert [a.id for a in journal.series.open_associations()] == [ours]


def test_an_association_of_another_boot_is_lost_and_one_of_an_unknown_boot_is_not(
    journal: Journal, arrive
) -> None:
    before, unknown = arrive(1, 1.0), arrive(1, 2.0)
    with journal._db.write() as db:  # the same process id and start, by chance
        db.execute("UPDATE associations SET boot = 'another' WHERE id = ?", (before,))
        db.execute("UPDATE associations SET boot = '' WHERE id = ?", (unknown,))
    assert journal.series.recover_associations() == [before]


def test_what_is_stat_stays_so_when_more_of_it_arrives_and_when_it_is_judged(
    journal: Journal, key: SeriesKey, arrive
) -> None:
    journal.series.set(key, "open")
    journal.series.set_stat(key)
    journal.series.set_stat(SeriesKey("9", "9.9"))
    arrive(1, 1.0)
    journal.series.set(key, "analysed", instances=1)
    assert [(s.key, s.priority) for s in journal.series.all()] == [(key, "stat")]


def test_a_study_is_found_by_its_pseudonym_once_something_was_said_of_it(
    journal: Journal, key: SeriesKey, received
) -> None:
    sibling, silent = SeriesKey(key.study, "1.2.4"), SeriesKey("1.9", "1.9.1")
    for one in (key, sibling, silent):
        journal.series.set(one, "open")
    assert journal.series.set_stat_of_study("c" * 32) == 0
    for n, one in enumerate((key, sibling)):
        journal.announce(one, [received(n)], pseudonym="c" * 32)
    assert journal.series.set_stat_of_study("c" * 32) == 2
    assert {s.key: s.priority for s in journal.series.all()} == {
        key: "stat",
        sibling: "stat",
        silent: "routine",
    }
