"""`scanside drift tune` and `withdraw`: what a trial proposes, accepted by a person, taken back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from appliance.errors import ScansideError
from appliance.store import library, probed, tunings
from appliance.store.library import TUNE, WITHDRAW
from appliance.verbs import drift as verb
from appliance.verbs.checks import watching as check
from appliance.verbs.checks.check import Device
from rigs.programs import program
from rigs.watched import BEGAN, OTHER, SCANNER, Watched, a_quality, watched

REPOSITORY = Path(__file__).resolve().parents[3]


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Watched]:
    with watched(tmp_path / "state") as made:
        yield made


def scanside(
    state: Path, *words: str, before: Sequence[str] = ()
) -> subprocess.CompletedProcess[str]:
    """The verb as it is typed, below the command `before`."""
    config = state.with_name("scanside.toml")
    config.write_text(f'state = "{state}"\n')
    command = [*before, sys.executable, "-m", "appliance", "drift", *words, "--config", str(config)]
    wide = {**os.environ, "COLUMNS": "250"}
    return subprocess.run(
        command, cwd=REPOSITORY, env=wide, capture_output=True, text=True, check=False
    )


def said(device: Watched, row: str) -> dict[str, Any]:
    """A row of today as `scanside drift --json` has it."""
    whole = json.loads(verb.said(device.settings).model_dump_json(by_alias=True))
    (found,) = (one for one in whole["rows"] if one["row"] == row and not one["former"])
    return dict(found)


@pytest.mark.long
def test_it_is_accepted_and_taken_back_as_it_is_typed(device: Watched) -> None:
    entry = device.sharpened()
    assert f"scanside drift tune {entry.id}" in scanside(device.state).stdout
    noted = scanside(device.state, "tune", entry.id[:8])
    assert (noted.returncode, noted.stderr) == (0, "")
    for part in (
        entry.id,
        "softening by 0.6 mm is accepted",
        "0.3/mm or more",
        "counts as soon as",
    ):
        assert part in noted.stdout
    (act,) = device.journal.audit.of((TUNE,))
    assert act.actor.endswith("@cli")
    assert act.detail == {"row": entry.id, "soften_mm": "0.6"}
    assert said(device, entry.id)["waits"] == [TUNE]
    device.count()
    (made,) = tunings.in_force(device.state)
    row = said(device, entry.id)
    assert row["tunings"] == [{"digest": made.digest, "soften_mm": 0.6, "from_per_mm": 0.3}]
    assert (row["proposal"], row["waits"]) == (None, [])
    back = scanside(device.state, "withdraw", entry.id)
    assert (back.returncode, "softening by 0.6 mm is withdrawn" in back.stdout) == (0, True)
    device.count()
    assert tunings.in_force(device.state) == ()
    assert said(device, entry.id)["proposal"]["soften_mm"] == 0.6, "it can be accepted again"
    (act,) = device.journal.audit.of((WITHDRAW,))
    assert act.detail == {"row": entry.id}


def refused(device: Watched, decision: verb.Decision, row: str) -> str:
    """The code with which a decision is refused; nothing of it was noted."""
    before = device.journal.audit.head()
    with pytest.raises(ScansideError) as raised:
        verb.decide(device.settings, decision, row, "ann@cli")
    assert raised.value.remedy
    assert device.journal.audit.head() == before
    return raised.value.code


def test_what_is_not_proposed_or_was_accepted_is_refused(device: Watched) -> None:
    entry = device.sharpened()
    other = next(one for one in device.listed().today if one.row.key == OTHER)
    assert refused(device, "tune", other.id) == "no_proposal"
    assert refused(device, "withdraw", entry.id) == "no_tuning"
    for row in ("f" * 16, entry.id[:3], "../../x"):
        assert refused(device, "tune", row) == refused(device, "withdraw", row) == "row_unknown"
    verb.decide(device.settings, "tune", entry.id, "ann@cli")
    device.count()
    assert refused(device, "tune", entry.id) == "no_proposal"
    assert refused(device, "withdraw", other.id) == "no_tuning"
    verb.decide(device.settings, "withdraw", entry.id, "ann@cli")
    device.count()
    assert refused(device, "withdraw", entry.id) == "no_tuning"


def test_what_is_no_sharper_than_before_is_refused_and_the_list_says_why(
    device: Watched,
) -> None:
    device.learnt(30)
    device.probed(proposes=True)
    (entry,) = device.listed().today
    alone = scanside(device.state, "tune", entry.id)
    assert (alone.returncode, alone.stdout, alone.stderr.count("\n")) == (1, "", 1)
    assert "texture_not_sharper" in alone.stderr
    device.learnt(30, OTHER, 0.35)
    assert refused(device, "tune", entry.id) == "texture_not_sharper"
    listed = scanside(device.state).stdout
    assert "It cannot be accepted" in " ".join(listed.replace("│", " ").split())
    assert "drift tune" not in listed


@pytest.mark.long
def test_damaged_tunings_are_said_and_stay_until_a_person_moves_them_away(device: Watched) -> None:
    entry = device.sharpened()
    damaged = b'{"schema": "scanside.tunings/1", "tunings": ['
    (device.state / tunings.NAME).write_bytes(damaged)
    for word in ("tune", "withdraw"):
        typed = scanside(device.state, word, entry.id)
        assert (typed.returncode, typed.stderr.count("\n")) == (1, 1)
        assert "tunings_damaged" in typed.stderr
        assert f"Move {device.state / tunings.NAME} away" in typed.stderr
    listed = scanside(device.state)
    assert (listed.returncode, "tunings.json cannot be read" in listed.stdout) == (0, True)
    assert verb.said(device.settings).tunings_damaged
    doctor = check.scanners(Device(device.settings, "scanside.toml"))
    assert (doctor.ok, doctor.text.startswith("warning: ")) == (True, True)
    assert "no series is softened" in doctor.text
    assert str(device.state / tunings.NAME) in doctor.remedy
    assert (device.state / tunings.NAME).read_bytes() == damaged
    assert device.journal.audit.of(library.ACTS) == []


def test_a_state_folder_that_cannot_be_written_is_an_error_in_one_line(device: Watched) -> None:
    entry = device.sharpened()
    sealed = [program("bwrap"), "--dev-bind", "/", "/", "--ro-bind", *[str(device.state)] * 2, "--"]
    if subprocess.run([*sealed, "/bin/true"], capture_output=True, check=False).returncode:
        pytest.skip("bubblewrap cannot make a sandbox here")
    typed = scanside(device.state, "tune", entry.id, before=sealed)
    assert (typed.returncode, typed.stdout, typed.stderr.count("\n")) == (1, "", 1)
    assert device.journal.audit.of(library.ACTS) == []
    assert scanside(device.state, "tune", entry.id).returncode == 0


def test_after_an_alarm_only_what_was_found_since_is_said_and_proposed(device: Watched) -> None:
    device.learnt(30)
    device.learnt(30, OTHER)
    device.probed(proposes=True)
    for number in range(20):
        device.reported(30_000 + number, a_quality(20.0, SCANNER, 0.4))
    device.count()
    (entry,) = (one for one in device.listed().today if one.row.key == SCANNER)
    since = entry.row.alarms[0].since
    row = said(device, entry.id)
    assert (row["implants"], row["proposal"]) == (None, None), "of before the alarm"
    assert refused(device, "tune", entry.id) == "no_proposal"
    text = " ".join(scanside(device.state).stdout.replace("│", " ").split())
    assert "3 series were probed before this scanner changed" in text
    assert "Implants found" not in text
    before = probed.of_scanner(device.state, SCANNER)
    device.probed(proposes=True, series=2, change=since)
    after = probed.of_scanner(device.state, SCANNER)
    probed.keep(
        device.state,
        after.model_copy(
            update={
                "series": (*before.series, *after.series),
                "trials": (*before.trials, *after.trials),
            }
        ),
    )
    row = said(device, entry.id)
    assert (row["implants"]["series"], row["implants"]["sensitivity"]["implants"]) == (2, 8)
    assert row["proposal"]["at"].startswith(f"{BEGAN:%Y-%m-%d}")
    verb.decide(device.settings, "accept", entry.id, "ann@cli")
    device.count()
    assert said(device, entry.id)["implants"]["series"] == 2, "an accepted change is the same one"
    verb.decide(device.settings, "tune", entry.id, "ann@cli")
    device.count()
    (made,) = tunings.in_force(device.state)
    assert made.from_per_mm == pytest.approx((0.25 + 0.4) / 2, abs=1e-3)


def test_a_tuning_whose_row_is_gone_is_listed_as_what_it_is_and_taken_back(device: Watched) -> None:
    entry, made = device.evicted()
    name = made.digest[:16]
    listed = " ".join(scanside(device.state).stdout.replace("│", " ").split())
    assert entry.id not in listed
    for part in (name, "no row any more", "softened by 0.6 mm", f"scanside drift withdraw {name}"):
        assert part in listed
    whole = json.loads(scanside(device.state, "--json").stdout)
    (lone,) = whole["tunings_without_row"]
    assert (lone["digest"], lone["soften_mm"], lone["from_per_mm"]) == (made.digest, 0.6, 0.3)
    assert (lone["key"]["kernel"], lone["key"]["serial"], lone["waits"]) == (
        "B40f", "unknown", False,
    )  # fmt: skip
    assert refused(device, "withdraw", entry.id) == "row_unknown"
    assert refused(device, "tune", name) == refused(device, "ack", name) == "row_unknown"
    back = scanside(device.state, "withdraw", made.digest[:6].upper())
    assert (back.returncode, back.stderr) == (0, "")
    assert f"{name}, softening by 0.6 mm is withdrawn" in back.stdout
    (act,) = device.journal.audit.of((WITHDRAW,))
    assert act.detail == {"tuning": made.digest}
    (lone,) = verb.said(device.settings).tunings_without_row
    assert lone.waits
    assert "It counts as soon as" in scanside(device.state).stdout
    device.count()
    assert tunings.in_force(device.state) == ()
    assert verb.said(device.settings).tunings_without_row == ()
    assert name not in scanside(device.state).stdout
    assert refused(device, "withdraw", name) == "row_unknown"


def test_once_its_scanner_has_a_row_again_a_tuning_is_that_rows(device: Watched) -> None:
    entry, made = device.evicted()
    device.learnt(5, made.scanner)
    assert verb.said(device.settings).tunings_without_row == ()
    assert said(device, entry.id)["tunings"][0]["digest"] == made.digest
    assert refused(device, "withdraw", made.digest) == "row_unknown"
    verb.decide(device.settings, "withdraw", entry.id, "ann@cli")
    device.count()
    assert tunings.in_force(device.state) == ()
