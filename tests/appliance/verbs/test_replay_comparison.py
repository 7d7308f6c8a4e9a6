"""`scanside replay COMPARISON_ID`: equal entries give the same comparison, or it says why not."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from appliance.compare.child import built
from appliance.comparison import Comparison
from appliance.errors import ScansideError
from appliance.store import site_key
from appliance.store.journal import Journal
from appliance.store.priors import FOLDER, Priors
from appliance.verbs import priors as verb
from appliance.verbs import replay_comparison
from rigs.chests import Dicom
from rigs.device import Device
from rigs.exams import Room


@pytest.fixture
def room(ready_site: Device, dicom: Dicom) -> Iterator[Room]:
    with Journal.open(ready_site.settings.state) as journal:
        yield Room(ready_site, dicom, journal)


@pytest.fixture
def said(room: Room) -> Comparison:
    """Of the second of two exams of one person."""
    room.send("1.2.1", "CT1", PatientID="a12", AcquisitionDate="20240101")
    room.send("1.2.2", "CT1", PatientID="a12", AcquisitionDate="20250101", shift_hu=1)
    room.judge()
    built(room.settings, room.journal).run()
    (found,) = room.journal.comparisons.standing(room.report("1.2.2").report_id)
    assert found.prior is not None
    return found


def refused(room: Room, past: Comparison) -> str:
    with pytest.raises(ScansideError) as caught:
        replay_comparison.replay(room.settings, past)
    return caught.value.code


@pytest.mark.long
def test_the_same_entries_give_the_same_comparison(room: Room, said: Comparison) -> None:
    past = replay_comparison.past(room.settings, str(said.comparison_id))
    assert past == said
    assert replay_comparison.differences(past, replay_comparison.replay(room.settings, past)) == []


def test_what_is_not_kept_any_more_cannot_be_replayed(room: Room, said: Comparison) -> None:
    assert said.prior is not None
    Priors(room.settings.state).withdraw([said.prior.report_id])
    assert refused(room, said) == "inputs_deleted"


def test_an_entry_that_was_changed_is_another_input(room: Room, said: Comparison) -> None:
    assert said.prior is not None
    (path,) = (room.settings.state / FOLDER).glob(f"*/{said.prior.report_id}.entry")
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    assert refused(room, said) == "inputs_deleted"


def test_of_a_person_who_was_forgotten_there_is_no_comparison(room: Room, said: Comparison) -> None:
    verb.forget(room.settings, "a12", None, "me")
    assert replay_comparison.past(room.settings, str(said.comparison_id)) is None
    assert refused(room, said) == "inputs_deleted"


def test_under_a_site_key_that_nobody_accepted_nothing_is_replayed(
    room: Room, said: Comparison
) -> None:
    (room.settings.state / site_key.NAME).write_bytes(bytes(32))
    assert refused(room, said) == "site_key_changed"


def test_what_was_compared_with_nothing_cannot_be_recomputed(room: Room, said: Comparison) -> None:
    (first,) = room.journal.comparisons.standing(room.report("1.2.1").report_id)
    assert refused(room, first) == "nothing_to_replay"
