"""`scanside drift`: what changed on a scanner, who may say what of it, and what leaves the box."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from appliance.errors import ScansideError, StateUnusable
from appliance.settings import Settings
from appliance.store import library, probed
from appliance.store.library import ACCEPT, ACKNOWLEDGE, Library
from appliance.verbs import drift as verb
from appliance.verbs.checks import watching as check
from appliance.verbs.checks.check import Device
from rigs.watched import OTHER, SCANNER, SHARP, Watched, watched

REPOSITORY = Path(__file__).resolve().parents[3]


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Watched]:
    with watched(tmp_path / "state") as made:
        yield made


def scanside(state: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """The verb as it is typed."""
    config = state.with_name("scanside.toml")
    config.write_text(f'state = "{state}"\n')
    command = [sys.executable, "-m", "appliance", "drift", *words, "--config", str(config)]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)


def printed(settings: Settings) -> str:
    console = Console(file=io.StringIO(), width=200)
    verb.show(settings, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_it_says_what_changed_since_when_why_and_what_to_do(device: Watched) -> None:
    entry = device.alarmed()
    text = printed(device.settings)
    for part in (entry.id, "CHANGED", "Noise: ", "spreads above", "Likely cause", "siemens"):
        assert part in text
    assert "31" in text


def test_a_box_that_has_counted_nothing_says_so_and_makes_nothing(tmp_path: Path) -> None:
    settings = Settings(state=tmp_path / "none")
    assert "No series was counted yet" in printed(settings)
    assert verb.said(settings).rows == ()
    assert not settings.state.exists()


def test_as_json_it_has_every_row_and_what_waits(device: Watched) -> None:
    entry = device.alarmed()
    verb.decide(device.settings, "accept", entry.id[:4], "ann@cli")
    said = json.loads(verb.said(device.settings).model_dump_json(by_alias=True))
    assert said["schema"] == "scanside.drift/1"
    (row,) = said["rows"]
    assert (row["row"], row["n"], row["state"]) == (entry.id, 31, "frozen")
    assert (row["key"]["kernel"], row["key"]["serial"]) == ("B40f", "unknown")
    assert row["alarms"][0]["statistic"] == "noise"
    assert row["waits"] == [ACCEPT]
    assert "It counts as soon as" in printed(device.settings)
    device.count()
    today, former = verb.said(device.settings).rows
    assert (today.waits, today.former, former.former, former.n) == ((), False, True, 31)


def test_it_says_what_implants_say_of_a_scanner(device: Watched) -> None:
    device.learnt(30)
    device.learnt(20, OTHER)
    assert "mplants" not in printed(device.settings), "nothing was probed"
    device.probed(proposes=True)
    text = printed(device.settings)
    for part in ("found: 6 of 12 in 3 series, 50 % (95", "extra findings a series: 1.0",
                 "from 4 to 6 mm found: 0 of 3", "from 8 mm on found: 6 of 6",
                 "soften the images by 0.6 mm: of 200 implants 62 % would"):  # fmt: skip
        assert part in text
    assert text.count("Implants found") == 1, "of the scanner that was probed alone"
    said = json.loads(verb.said(device.settings).model_dump_json(by_alias=True))
    rows = {row["key"]["model"]: row for row in said["rows"]}
    assert rows[OTHER.model]["implants"] is None
    found = rows[SCANNER.model]["implants"]
    assert (found["series"], found["sensitivity"]["implants"]) == (3, 12)
    assert found["sensitivity"]["low"] < found["sensitivity"]["value"] == 0.5
    assert rows[SCANNER.model]["proposal"]["soften_mm"] == 0.6
    assert SCANNER.serial not in json.dumps(said)


def test_what_a_trial_proposed_for_another_bundle_is_not_said(device: Watched) -> None:
    device.learnt(30)
    device.probed(proposes=True)
    known = probed.of_scanner(device.state, SCANNER)
    newer = known.series[-1].model_copy(update={"bundle": "c" * 64})
    probed.keep(device.state, known.model_copy(update={"series": (*known.series, newer)}))
    text = printed(device.settings)
    assert "found: 2 of 4 in 1 series" in text, "of the bundle that looked last"
    assert "soften" not in text


@pytest.mark.parametrize(("decision", "action"), [("ack", ACKNOWLEDGE), ("accept", ACCEPT)])
def test_what_a_person_decides_is_audited_with_who_it_was(
    device: Watched, decision: verb.Decision, action: str
) -> None:
    entry = device.alarmed()
    assert verb.decide(device.settings, decision, entry.id.upper(), "ann@cli") == entry.id
    (row,) = device.journal.audit.of((action,))
    assert (row.actor, row.detail) == ("ann@cli", {"row": entry.id})


def test_a_row_that_is_none_or_has_no_alarm_cannot_be_decided_of(device: Watched) -> None:
    device.learnt(30)
    (entry,) = device.listed().today
    for row, code in (("f" * 16, "row_unknown"), (entry.id[:3], "row_unknown"),
                      ("../../x", "row_unknown"), (entry.id, "no_alarm")):  # fmt: skip
        with pytest.raises(ScansideError) as raised:
            verb.decide(device.settings, "ack", row, "ann@cli")
        assert raised.value.code == code
    assert device.journal.audit.of(library.ACTS) == []


def test_what_is_exported_names_no_device_and_no_date(device: Watched, tmp_path: Path) -> None:
    device.learnt(30)
    device.learnt(19, SHARP)
    named = OTHER.model_copy(update={"kernel": "Smith^John"})
    device.learnt(25, named)
    out = tmp_path / "rows.json"
    assert verb.export(device.settings, out) == 2, "of 19 studies nothing leaves"
    text = out.read_text()
    for part in (SCANNER.serial, "Smith", "2026", *(one.id for one in device.listed().today)):
        assert part not in text
    rows = {row["maker"]: row for row in json.loads(text)["rows"]}
    assert rows["siemens"]["kernel"] == "B40f"
    assert rows["ge medical systems"]["kernel"] == "unknown"
    with pytest.raises(ScansideError, match="there already"):
        verb.export(device.settings, out)


def test_what_is_imported_is_a_prior_for_its_kind_and_audited_once(
    device: Watched, tmp_path: Path
) -> None:
    out = tmp_path / "rows.json"
    device.learnt(30)
    verb.export(device.settings, out)
    with watched(tmp_path / "other") as other:
        for _ in range(2):
            assert verb.bring(other.settings, out, "ann@cli") == 1
        (row,) = other.journal.audit.of(("drift_import",))
        assert (row.actor, row.detail) == ("ann@cli", {"rows": 1})
        assert len(Library(other.state).imported()) == 1
        assert other.listed().entries == (), "it is no row of this box"


@pytest.mark.parametrize(
    "data",
    [b"", b"{}", b"[" * 100_000, b'{"schema":"scanside.library-exchange/1","rows":[],"more":1}',
     b'{"schema":"scanside.library-exchange/2","rows":[]}', b"x" * (verb.MOST_BYTES + 1)],
    ids=["empty", "nothing", "deep", "more", "later", "large"],
)  # fmt: skip
def test_what_is_no_such_file_is_not_imported(device: Watched, tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "rows.json"
    path.write_bytes(data)
    with pytest.raises(ScansideError) as raised:
        verb.bring(device.settings, path, "ann@cli")
    assert raised.value.code == "library_import"
    assert len(raised.value.one_line()) < 1000
    assert Library(device.state).imported() == ()


def test_only_so_many_files_are_imported(
    device: Watched, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(library, "IMPORTED_MOST", 1)
    device.learnt(30)
    for number in (25, 30):
        out = tmp_path / f"{number}.json"
        device.learnt(number)
        verb.export(device.settings, out)
    verb.bring(device.settings, tmp_path / "25.json", "ann@cli")
    with pytest.raises(StateUnusable) as raised:
        verb.bring(device.settings, tmp_path / "30.json", "ann@cli")
    assert raised.value.code == "library_full"


def test_it_is_typed_as_the_help_says(device: Watched) -> None:
    entry = device.alarmed()
    listed = scanside(device.state)
    assert (listed.returncode, entry.id in listed.stdout) == (0, True)
    assert json.loads(scanside(device.state, "--json").stdout)["rows"][0]["row"] == entry.id
    noted = scanside(device.state, "ack", entry.id)
    assert (noted.returncode, entry.id in noted.stdout) == (0, True)
    unknown = scanside(device.state, "accept", "0" * 16)
    assert unknown.returncode == 1
    assert unknown.stderr.count("\n") == 1
    assert "row_unknown" in unknown.stderr
    assert scanside(device.state, "accept").returncode == 2


def test_an_alarm_is_a_warning_of_the_doctor_and_no_failure(device: Watched) -> None:
    well = check.scanners(Device(device.settings, "scanside.toml"))
    assert (well.ok, well.remedy) == (True, "")
    entry = device.alarmed()
    ill = check.scanners(Device(device.settings, "scanside.toml"))
    assert ill.ok
    assert ill.text.startswith("warning: ")
    assert f"row {entry.id}: Noise: " in ill.text
    assert "scanside drift" in ill.remedy
    (device.state / library.FOLDER / entry.name).write_bytes(b"x")
    cut = check.scanners(Device(device.settings, "scanside.toml"))
    assert cut.ok
    assert "could not be read" in cut.text
