"""What a person decides of a tuning: `work` obeys it once, and nothing else tunes a series."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.store import library, tunings
from appliance.store.files import Disk
from appliance.store.library import ANSWERS, OBEYED, REFUSED, TUNE, WITHDRAW
from appliance.work.watching import Watching
from rigs.cuts import PowerCut
from rigs.watched import OTHER, SCANNER, SHARP, Watched, a_quality, watched


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Watched]:
    with watched(tmp_path / "state") as made:
        yield made


def told(device: Watched) -> list[str]:
    """Codes of what was refused."""
    return [str(one.detail["code"]) for one in device.journal.audit.of((REFUSED,))]


def test_what_is_accepted_is_in_force_and_what_is_withdrawn_is_not(device: Watched) -> None:
    entry = device.sharpened()
    assert tunings.in_force(device.state) == ()
    device.journal.audit.add("ann@cli", TUNE, row=entry.id, soften_mm="0.6")
    (act,) = device.journal.audit.of((TUNE,))
    device.count()
    (made,) = tunings.in_force(device.state)
    assert (made.scanner, made.soften_mm, made.from_per_mm) == (SCANNER, 0.6, 0.3)
    (kept,) = tunings.kept(device.state)
    assert kept.at.timestamp() == pytest.approx(act.at), "when a person decided"
    device.journal.audit.add("ann@cli", WITHDRAW, row=entry.id)
    device.count()
    assert tunings.in_force(device.state) == ()
    assert tunings.of_digest(device.state, made.digest) == made
    device.journal.audit.add("ann@cli", TUNE, row=entry.id)
    device.count()
    assert tunings.in_force(device.state) == (made,)
    assert told(device) == []


def test_what_cannot_be_obeyed_is_audited_and_keeps_nothing_from_being_counted(
    device: Watched,
) -> None:
    entry = device.sharpened()
    device.journal.audit.add("ann@cli", WITHDRAW, row=entry.id)
    device.journal.audit.add("ann@cli", TUNE, row=entry.id, soften_mm="0.8")
    device.journal.audit.add("ann@cli", TUNE, row=entry.id)
    device.journal.audit.add("ann@cli", TUNE, row=entry.id)
    device.reported(1)
    device.count()
    assert told(device) == ["no_tuning", "proposal_changed", "no_proposal"]
    assert len(tunings.in_force(device.state)) == 1
    (counted,) = (one for one in device.listed().today if one.id == entry.id)
    assert counted.row.n == entry.row.n + 1
    assert library.pending(device.journal.audit.of(library.ACTS), counted) == ()


def test_a_damaged_file_is_left_as_it_is(device: Watched) -> None:
    entry = device.sharpened()
    (device.state / tunings.NAME).write_bytes(b"{")
    device.journal.audit.add("ann@cli", TUNE, row=entry.id)
    device.count()
    assert told(device) == ["tunings_damaged"]
    assert (device.state / tunings.NAME).read_bytes() == b"{"


class DiesAtTheRow(Disk):
    """The power goes after tunings.json, before the row has heard the act."""

    def write(self, path: Path, data: bytes) -> None:
        if path.suffix == ".row":
            raise PowerCut
        super().write(path, data)


@pytest.mark.parametrize("action", [TUNE, WITHDRAW])
def test_an_act_that_is_obeyed_twice_changes_nothing(device: Watched, action: str) -> None:
    entry = device.sharpened()
    if action == WITHDRAW:
        device.journal.audit.add("ann@cli", TUNE, row=entry.id)
        device.count()
    device.journal.audit.add("ann@cli", action, row=entry.id)
    with pytest.raises(PowerCut):
        device.count(DiesAtTheRow())
    after = tunings.kept(device.state)
    assert (len(after), after[0].withdrawn is None) == (1, action == TUNE)
    device.count()
    assert tunings.kept(device.state) == after
    assert told(device) == []


def test_a_further_tuning_takes_the_place_of_the_one_in_force(device: Watched) -> None:
    entry = device.sharpened()
    device.journal.audit.add("ann@cli", TUNE, row=entry.id)
    device.count()
    (first,) = tunings.in_force(device.state)
    device.probed(proposes=True, tuning=first.digest)
    device.journal.audit.add("ann@cli", TUNE, row=entry.id)
    device.count()
    (second,) = tunings.in_force(device.state)
    assert second.soften_mm == pytest.approx(0.6 * 2**0.5, abs=1e-3)
    assert [one.withdrawn is None for one in tunings.kept(device.state)] == [False, True]
    assert told(device) == []


def test_each_act_has_an_answer_that_names_it_and_says_what_was_done(device: Watched) -> None:
    entry = device.sharpened()
    audit = device.journal.audit
    tune = audit.add("ann@cli", TUNE, row=entry.id)
    again = audit.add("ann@cli", TUNE, row=entry.id)
    back = audit.add("ann@cli", WITHDRAW, row=entry.id)
    assert [library.answer_to(audit.of(ANSWERS), act) for act in (tune, again, back)] == [None] * 3
    device.count()
    told = {str(one.detail["of"]): one for one in audit.of(ANSWERS)}
    assert set(told) == {tune, again, back}
    accepted = "softening by 0.6 mm is accepted, for series whose noise has a texture of 0.3/mm"
    said = {"act": TUNE, "of": tune, "row": entry.id, "text": f"{accepted} or more"}
    assert told[tune].detail == said
    assert told[back].detail["text"] == "softening by 0.6 mm is withdrawn"
    assert (told[again].action, told[again].detail["code"]) == (REFUSED, "no_proposal")
    assert (
        told[again].detail["text"] == "nothing is proposed for this row, or it was accepted already"
    )
    assert "scanside drift" in str(told[again].detail["remedy"])


def test_an_act_that_nobody_foresaw_is_refused_and_answered(
    device: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = device.sharpened()

    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(tunings, "accept", broken)
    device.journal.audit.add("ann@cli", TUNE, row=entry.id)
    device.count()
    assert told(device) == ["error"]


def test_a_tuning_whose_row_made_way_for_others_is_told_and_withdrawn_once(
    device: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = device.sharpened()
    device.learnt(30, SHARP)
    device.journal.audit.add("ann@cli", TUNE, row=entry.id)
    device.count()
    (made,) = tunings.in_force(device.state)
    assert library.told(device.state).tunings == ()
    monkeypatch.setattr(library, "ROWS_MOST", 1)
    device.reported(1, a_quality(scanner=SHARP))
    device.count()
    assert [one.row.key for one in device.listed().today] == [SHARP]
    assert tunings.in_force(device.state) == (made,)
    assert library.told(device.state).tunings == (made.digest,)
    act = device.journal.audit.add("ann@cli", WITHDRAW, tuning=made.digest)
    device.count()
    assert tunings.in_force(device.state) == ()
    assert library.told(device.state).tunings == ()
    answer = library.answer_to(device.journal.audit.of(ANSWERS), act)
    assert answer is not None
    assert (answer.action, answer.detail["tuning"]) == (OBEYED, made.digest)
    assert answer.detail["text"] == "softening by 0.6 mm is withdrawn"
    monkeypatch.undo()
    device.learnt(30, OTHER)
    device.learnt(30, SCANNER, 0.35)
    device.journal.audit.add("ann@cli", TUNE, row=entry.id)
    device.count()
    assert tunings.in_force(device.state) == (made,), "the act of before is not obeyed again"
    device.journal.audit.add("ann@cli", WITHDRAW, tuning=made.digest)
    device.count()
    assert tunings.in_force(device.state) == (), "also where the row has come back meanwhile"
    device.journal.audit.add("ann@cli", WITHDRAW, tuning=made.digest)
    device.count()
    device.count()
    assert told(device) == ["no_tuning"]


def test_a_withdrawal_that_is_obeyed_twice_is_answered_once_as_obeyed(
    device: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, made = device.evicted()
    device.journal.audit.add("ann@cli", WITHDRAW, tuning=made.digest)

    def dies(*_: object, **__: object) -> None:
        raise PowerCut

    with monkeypatch.context() as cut:
        cut.setattr(Watching, "_answer", dies)
        with pytest.raises(PowerCut):
            device.count()
    after = tunings.kept(device.state)
    device.count()
    device.count()
    assert tunings.kept(device.state) == after
    assert [one.action for one in device.journal.audit.of(ANSWERS)][1:] == [OBEYED]
