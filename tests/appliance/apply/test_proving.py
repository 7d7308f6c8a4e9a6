"""What proves a slot: a process of it, whose words count only where it ends well."""

from __future__ import annotations

from pathlib import Path

from appliance.apply.proving import failed, prove
from appliance.runtime.proof import Proof
from appliance.update.places import Places
from appliance.update.units import Systemctl
from rigs.applied import Units

BUNDLE = Path("/bundles/one.scanside")


def places(folder: Path, script: str) -> Places:
    """Slot 2 has this as its Python."""
    made = Places(*(folder / name for name in ("root", "trusted", "downloads", "state")))
    python = made.slot(2) / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)
    return made


def line(verdict: str) -> str:
    said = {"file": "one.scanside", "verdict": verdict, "bundle": None, "seconds": 1.0}
    return Proof.model_validate(said).model_dump_json(by_alias=True)


def test_a_child_that_ends_well_has_proved_it(tmp_path: Path) -> None:
    at = places(tmp_path, f'echo "$@" > {tmp_path}/asked')
    assert prove(at, Units(), 2, [BUNDLE]) is None
    assert (tmp_path / "asked").read_text() == f"-m appliance prove {BUNDLE} --json\n"
    assert prove(at, Units(), 2, []) is None
    assert (tmp_path / "asked").read_text() == "-m appliance --version\n"


def test_what_failed_is_said_by_its_record_else_by_its_last_line(tmp_path: Path) -> None:
    at = places(tmp_path, f"echo '{line('failed')}'; echo noise >&2; exit 1")
    why = prove(at, Units(), 2, [BUNDLE])
    assert why is not None
    assert why.startswith("one.scanside: failed")
    crashes = places(tmp_path / "other", "echo ImportError: no module >&2; exit 1")
    assert prove(crashes, Units(), 2, [BUNDLE]) == "ImportError: no module"


def test_a_slot_without_a_python_proves_nothing(tmp_path: Path) -> None:
    at = places(tmp_path, "exit 0")
    (at.slot(2) / "bin" / "python").unlink()
    assert "does not start" in (prove(at, Units(), 2, [BUNDLE]) or "")


def test_under_systemd_it_is_a_unit_that_reads_what_to_prove(tmp_path: Path) -> None:
    at = places(tmp_path, "exit 0")
    at.trusted.mkdir()
    systemctl = tmp_path / "systemctl"
    systemctl.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\nexit 1\n')
    systemctl.chmod(0o755)
    (tmp_path / "2.json").write_text(line("failed"))
    why = prove(at, Systemctl(str(systemctl)), 2, [BUNDLE], proofs=tmp_path)
    assert why is not None
    assert why.startswith("one.scanside: failed")
    assert "scanside-prove@2.service" in (tmp_path / "asked").read_text()
    assert (at.trusted / "prove" / "2").read_text() == f"BUNDLES={BUNDLE}\n"


def test_a_record_that_is_none_says_nothing() -> None:
    assert failed("no record\n{}\n") is None
    assert failed(line("not_proved")) is None
