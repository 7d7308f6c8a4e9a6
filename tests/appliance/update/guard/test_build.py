"""What makes a slot, as `guard` starts it: by a Python of the system, from ROOT/guard."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from appliance.update import slots
from appliance.update.guard import build
from appliance.update.places import Places
from rigs.slotted import TinyRelease, box, contents, says


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A box whose slot 1 runs, to be copied."""
    folder = tmp_path_factory.mktemp("template")
    made = box(folder / "box")
    TinyRelease(folder / "release").build(made, 1)
    slots.switch(made, 1)
    (made.root / "guard").mkdir()
    shutil.copy(slots.BUILD, made.root / "guard" / "build.py")
    return folder / "box"


@pytest.fixture
def places(template: Path, tmp_path: Path) -> Places:
    shutil.copytree(template, tmp_path / "box", symlinks=True)
    return box(tmp_path / "box")


def system(folder: Path, name: str) -> Path:
    """The Python of a system: this one, at a path that can be removed."""
    path = folder / name / "bin" / "python3"
    path.parent.mkdir(parents=True)
    path.symlink_to(sys.executable if sys.prefix == sys.base_prefix else _base())
    return path


def _base() -> str:
    found: str = sys._base_executable  # type: ignore[attr-defined]
    return found


def guard(places: Places, python: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """As guard.sh does, without any environment."""
    return subprocess.run(
        [str(python), str(places.root / "guard" / "build.py"), *command],
        capture_output=True,
        text=True,
        timeout=240,
        env={"PATH": os.defpath},
        cwd="/",
        check=False,
    )


def starts(places: Places) -> bool:
    python = places.current / "bin" / "python"
    return subprocess.run([str(python), "-c", ""], check=False).returncode == 0


def test_after_an_upgrade_of_the_system_the_slot_is_made_anew_by_its_new_python(
    places: Places, tmp_path: Path
) -> None:
    old = system(tmp_path, "old")
    before = slots.rebuild(places, 1, python=old)
    old.unlink()
    assert not (places.current / "bin" / "python").exists()
    done = guard(places, system(tmp_path, "new"), "rebuild", "1")
    assert done.returncode == 0, done.stderr
    assert starts(places)
    assert says(places, 1) == "1.0.0"
    (made,) = slots.complete(places)
    assert made.model_copy(update={"made": before.made}) == before
    python = (places.current / "bin" / "python").resolve()
    assert str(tmp_path / "new") in str((places.current / "bin" / "python3").readlink())
    assert python.exists()


def test_a_slot_that_is_being_made_anew_does_not_count_and_its_link_leads_to_it(
    places: Places,
) -> None:
    before = contents(places.root)
    build._empty(places.slot(1))
    assert slots.complete(places) == ()
    assert slots.current(places) == 1
    assert places.current.is_dir()
    assert slots.sweep(places) == ()
    assert guard(places, Path(sys.executable), "rebuild", "1").returncode == 0
    after = contents(places.root)
    same = {path for path in before if "complete" not in path and not path.endswith(".pyc")}
    assert {p for p in after if "complete" not in p and not p.endswith(".pyc")} == same


def refused(places: Places, code: str) -> str:
    """Of slot 1: that it is not made anew, why, and that nothing was changed."""
    before = contents(places.root)
    done = guard(places, Path(sys.executable), "rebuild", "1")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"{code}: ")
    assert contents(places.root) == before
    return line


def test_a_new_python_in_no_range_changes_nothing_and_is_said(places: Places) -> None:
    path = places.wheels / "1.json"
    path.write_text(path.read_text().replace('"at_least":"3.10"', '"at_least":"4.1"'))
    line = refused(places, "slot_python")
    assert "stable/1.json wants Python from 4.1" in line
    assert starts(places)


def test_a_wheel_that_rotted_or_is_gone_changes_nothing_and_is_named(places: Places) -> None:
    path = places.wheels / "liba-1.0.0-py3-none-any.whl"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    assert path.name in refused(places, "slot_wheel")
    path.unlink()
    assert "is missing" in refused(places, "slot_wheel")
    assert starts(places)


@pytest.mark.parametrize("data", ["", "{}", '{"slot": 1}', "[]", '{"slot": 2, "wheels": []}'])
def test_a_set_that_is_damaged_changes_nothing_and_is_said(places: Places, data: str) -> None:
    (places.wheels / "1.json").write_text(data)
    assert "1.json cannot be used" in refused(places, "slot_set")


def test_a_set_that_names_a_path_changes_nothing(places: Places) -> None:
    path = places.wheels / "1.json"
    path.write_text(path.read_text().replace("liba-1.0.0-py3", "../liba-1.0.0-py3"))
    assert "a path" in refused(places, "slot_set")


def test_it_needs_the_standard_library_alone(places: Places) -> None:
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(places.root / "guard" / "build.py"), "--help"],
        capture_output=True,
        text=True,
        cwd="/",
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "rebuild" in done.stdout


def test_every_line_of_the_lock_of_devices_is_one_that_pip_may_see() -> None:
    lock = (Path(__file__).resolve().parents[4] / "locks" / "device.txt").read_text()
    own = {"name": "scanside-1.0.0-py3-none-any.whl", "digest": "a" * 64}
    lines = build._requirements(
        {"requirements": lock, "wheels": [own], "own": own["name"]}
    ).splitlines()
    pinned = [line for line in lock.splitlines() if "==" in line.split(";")[0] and line[0] != "#"]
    names = [line.split("==")[0] for line in pinned]
    names.remove("pip")  # what builds the slot is no part of it
    assert [line.split("==")[0] for line in lines[:-1]] == names
    assert sum(line.count("--hash=") for line in lines[:-1]) == lock.count("--hash=") - 1


def test_a_file_beside_those_that_were_installed_is_found(places: Places) -> None:
    slot = places.slot(1)
    for made in list(slot.rglob("__pycache__")):
        shutil.rmtree(made)
    own = {path for path in contents(slot) if not path.startswith("lib/")} | {"lib64"}
    build.require_records(slot, own)
    (site,) = slot.glob("lib/python*/site-packages")
    for path in (site / "fourth.py", slot / "share" / "fourth.py"):
        path.parent.mkdir(exist_ok=True)
        path.write_text("SAYS = 4\n")
        with pytest.raises(build.Wrong, match=r"fourth\.py is in no RECORD"):
            build.require_records(slot, own)
        path.unlink()
    (site / "fourth").symlink_to("/etc")
    with pytest.raises(build.Wrong, match="fourth is in no RECORD"):
        build.require_records(slot, own)
