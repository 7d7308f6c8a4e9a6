"""What a person decides of a tuning: `work` obeys it once, and nothing else tunes a series."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.store import library, tunings
from appliance.store.files import Disk
from appliance.store.library import REFUSED, TUNE, WITHDRAW
from rigs.cuts import PowerCut
from rigs.watched import SCANNER, Watched, watched


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
