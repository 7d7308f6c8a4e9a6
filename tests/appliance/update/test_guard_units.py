"""`guard` at the start of a machine, and what it asks of systemd: of a recorder, as none runs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rigs.guarded import SHELLS, STAGES, Box

RECORDER = """#!/bin/sh
echo "$*" >>{calls}
case "$*" in
*"start -- scanside-receive@1.service"*) exit {code} ;;
esac
"""


@pytest.fixture(params=SHELLS, ids=lambda shell: Path(shell[0]).name)
def box(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Box]:
    made = Box(tmp_path, request.param)
    yield made
    made.close()


def recorder(box: Box, code: int = 0) -> Path:
    """A folder with a `systemctl` that notes its words."""
    folder = box.folder / "programs"
    folder.mkdir()
    program = folder / "systemctl"
    program.write_text(RECORDER.format(calls=box.folder / "calls", code=code))
    program.chmod(0o755)
    return folder


def calls(box: Box) -> list[str]:
    lines = (box.folder / "calls").read_text().splitlines()
    assert all(line.startswith("--no-ask-password ") for line in lines)
    return [line.removeprefix("--no-ask-password ") for line in lines]


@pytest.mark.parametrize("code", [0, 1])
def test_systemd_is_asked_for_receive_first_and_what_fails_stops_nothing(
    box: Box, code: int
) -> None:
    box.starts("retain", 1)
    box.beat("retain", age_s=25)
    done = box.guard(path=recorder(box, code), by_systemd=True)
    assert done.returncode == 0, done.stderr
    assert calls(box) == [
        "kill --kill-who=main --signal=SIGKILL -- scanside-apply.service",
        "stop -- scanside-apply.service",
        "kill --kill-who=main --signal=SIGKILL -- scanside-retain@2.service",
        "start -- scanside-receive@1.service",
        "stop --no-block -- scanside-receive@2.service",
        "stop -- scanside-publish@2.service scanside-work@2.service scanside-retain@2.service",
        "start --no-block -- scanside-publish@1.service",
        "start --no-block -- scanside-work@1.service",
        "start --no-block -- scanside-retain@1.service",
        "start --no-block -- scanside-apply.service",
        "restart --no-block -- scanside-update.service",
    ]
    assert (box.current, box.reason) == ("slots/1", "slot=2 stage=retain why=hang\n")
    assert "slot=2 stage=retain why=hang" in done.stderr, "said, with the reason"
    assert ("ended with 1" in done.stderr) is bool(code)


def test_the_stages_of_the_slot_that_is_current_are_started(box: Box) -> None:
    done = box.guard("start", *STAGES, "apply", path=recorder(box), by_systemd=True)
    assert done.returncode == 0, done.stderr
    names = [f"scanside-{stage}@2.service" for stage in STAGES]
    assert calls(box) == [
        f"start --no-block -- {name}" for name in [*names, "scanside-apply.service"]
    ]


@pytest.mark.parametrize("link", [None, "slots/", "slots/x", "/etc", "slots/1/.."])
def test_without_a_slot_nothing_is_started(box: Box, link: str | None) -> None:
    (box.root / "current").unlink()
    if link is not None:
        (box.root / "current").symlink_to(link)
    done = box.guard("start", *STAGES, path=recorder(box), by_systemd=True)
    assert done.returncode == 1
    assert "install the appliance again" in done.stderr
    assert not (box.folder / "calls").exists()


def test_at_the_start_what_was_begun_is_finished_by_the_link_alone(box: Box) -> None:
    (box.trusted / "reason").write_text("slot=2 stage=work why=starts\n")
    done = box.guard("boot")
    assert done.returncode == 0, done.stderr
    assert box.current == "slots/1"
    assert not (box.trusted / "trial").exists()
    assert box.reason == "slot=2 stage=work why=starts\n", "for `apply` to read"
    assert box.asked == [], "nothing has started yet"


def test_at_the_start_a_trial_goes_on_if_its_python_starts(box: Box) -> None:
    box.starts("work", 2)
    assert box.guard("boot").returncode == 0
    assert (box.current, box.reason) == ("slots/2", None)
    assert (box.trusted / "trial").exists()


def remove_python(box: Box, number: int) -> None:
    """As an upgrade of the system does: the link leads nowhere."""
    python = box.root / "slots" / str(number) / "bin" / "python"
    python.unlink()
    python.symlink_to("/usr/bin/python3.99")


def test_at_the_start_a_slot_on_trial_without_a_python_is_left(box: Box) -> None:
    remove_python(box, 2)
    assert box.guard("boot").returncode == 0
    assert (box.current, box.reason) == ("slots/1", "slot=2 stage=all why=python\n")


def builds(box: Box, code: int) -> None:
    """A build.py that notes what it is asked for, and mends the slot where it ends with 0."""
    (box.root / "guard").mkdir()
    (box.root / "guard" / "build.py").write_text(
        "import pathlib, sys\n"
        f"pathlib.Path({str(box.folder / 'built')!r}).write_text(' '.join(sys.argv[1:]))\n"
        f"sys.exit({code})\n"
    )
    programs = box.folder / "python"
    programs.mkdir()
    (programs / "python3").symlink_to(sys.executable)


@pytest.mark.parametrize("code", [0, 1])
def test_after_an_upgrade_of_the_system_the_slot_is_made_anew_or_it_is_said(
    box: Box, code: int
) -> None:
    (box.trusted / "trial").unlink()
    remove_python(box, 2)
    remove_python(box, 1)
    builds(box, code)
    done = box.guard("boot", path=box.folder / "python")
    assert (box.folder / "built").read_text() == f"rebuild 2 --root {box.root}"
    assert done.returncode == code
    assert ("Install a Python that the release names" in done.stderr) is bool(code)
    assert box.current == "slots/2"


def test_what_it_does_not_know_is_refused(box: Box) -> None:
    done = box.guard("stop")
    assert done.returncode == 2
    assert "none of watch, boot, start" in done.stderr
