"""`scanside replay` of a comparison: the same from both entries, or it says what is gone."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from appliance.compare.child import built
from appliance.comparison import Comparison
from appliance.errors import ScansideError
from appliance.store.journal import Journal
from appliance.store.priors import Priors
from appliance.verbs import replay, replay_comparison
from rigs.chests import Dicom
from rigs.device import Device
from rigs.exams import Room


@pytest.fixture
def room(ready_site: Device, dicom: Dicom) -> Iterator[Room]:
    with Journal.open(ready_site.settings.state) as journal:
        yield Room(ready_site, dicom, journal)


def compared(room: Room) -> Comparison:
    """Two exams of one person, the second beside the first."""
    room.send("1.2.1", "CT1", PatientID="a12", AcquisitionDate="20240101")
    room.send("1.2.2", "CT1", PatientID="a12", AcquisitionDate="20250101", shift_hu=1)
    room.judge()
    built(room.settings, room.journal).run()
    (said,) = room.journal.comparisons.standing(room.report("1.2.2").report_id)
    assert said.prior is not None
    return said


def test_it_is_the_same_and_what_differs_is_named(
    room: Room, capsys: pytest.CaptureFixture[str]
) -> None:
    said = compared(room)
    assert replay.main(room.settings, str(said.comparison_id)) == 0
    assert f"comparison {said.comparison_id}: the same" in capsys.readouterr().out
    other = said.model_copy(update={"study": "0" * 32})
    (found,) = replay_comparison.differences(other, replay_comparison.replay(room.settings, said))
    assert found == ("study", "0" * 32, said.study)


def test_without_an_entry_of_either_exam_it_says_so(room: Room) -> None:
    said = compared(room)
    assert said.prior is not None
    Priors(room.settings.state).withdraw([said.prior.report_id])
    with pytest.raises(ScansideError, match="not on this device") as refused:
        replay_comparison.replay(room.settings, said)
    assert refused.value.code == "inputs_deleted"


def test_what_was_said_of_one_exam_alone_is_not_recomputed(room: Room) -> None:
    compared(room)
    (first,) = room.journal.comparisons.standing(room.report("1.2.1").report_id)
    with pytest.raises(ScansideError, match="nothing to recompute"):
        replay_comparison.replay(room.settings, first)
    assert replay_comparison.past(room.settings, str(uuid.uuid4())) is None
