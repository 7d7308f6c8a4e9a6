"""Whether a study is under way, from the journal of a state folder."""

from __future__ import annotations

from pathlib import Path

from appliance.apply.interlock import BUSY_S, QUIET_S, Quiet, Seen, look, studies_of
from appliance.report import SeriesKey
from appliance.store.journal import JOURNAL_NAME, Journal

KEY = SeriesKey("1.2", "1.2.3")


def test_a_box_without_a_journal_has_nothing_to_do(tmp_path: Path) -> None:
    assert look(tmp_path) == Seen()


def test_what_an_association_brings_is_followed_until_it_is_judged(tmp_path: Path) -> None:
    with Journal.open(tmp_path) as journal:
        which = journal.series.association_opened(calling_ae="CT", called_ae="S", host="::1")
        assert (look(tmp_path).associations, look(tmp_path).followed) == (1, 0)
        journal.series.arrived(which, KEY, calling_ae="CT", instances=1, at=1.0)
        before = look(tmp_path)
        assert before.followed == 1
        journal.series.association_ended(which, "released")
        assert look(tmp_path).associations == 0
        journal.series.set(KEY, "analysed", instances=1)
        after = look(tmp_path)
        assert after.followed == 0
        assert after.mark != before.mark


def test_a_journal_that_cannot_be_read_is_not_taken_for_quiet(tmp_path: Path) -> None:
    (tmp_path / JOURNAL_NAME).write_bytes(b"no journal" * 100)
    seen = look(tmp_path)
    assert not seen.known
    quiet = Quiet()
    assert not quiet.idle(seen, 0.0)
    assert not quiet.idle(seen, 10 * QUIET_S)
    assert not quiet.between(seen, 0.0)
    assert not quiet.between(seen, 10 * BUSY_S), "nobody knows what is under way"


def test_the_minute_of_quiet_begins_anew_with_whatever_happens() -> None:
    quiet = Quiet()
    assert not quiet.idle(Seen(mark="a"), 0.0)
    assert not quiet.idle(Seen(mark="a"), QUIET_S - 1)
    assert quiet.idle(Seen(mark="a"), QUIET_S)
    assert not quiet.idle(Seen(mark="b"), QUIET_S + 1)
    assert not quiet.idle(Seen(mark="b", associations=1), 2 * QUIET_S + 1)
    assert not quiet.idle(Seen(mark="b"), 2 * QUIET_S + 2)
    assert quiet.idle(Seen(mark="b"), 3 * QUIET_S + 2)


def test_scanners_that_never_pause_do_not_keep_what_a_person_wants_for_ever() -> None:
    quiet, busy = Quiet(), Seen(associations=1, followed=2)
    assert quiet.between(Seen(), 0.0)
    assert not quiet.between(busy, 1.0)
    assert not quiet.between(busy, BUSY_S)
    assert quiet.between(busy, BUSY_S + 1)
    assert quiet.between(Seen(), BUSY_S + 2)
    assert not quiet.between(busy, BUSY_S + 3), "there was a moment, so it is waited for again"


def test_studies_are_those_of_one_version() -> None:
    seen = Seen(analysed=frozenset({"0.2.0 a", "0.2.0 b", "0.2.01 c", "0.1.0 d"}))
    assert studies_of(seen, "0.2.0") == 2
