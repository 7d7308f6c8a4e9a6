"""Slots made by the real pip of three tiny wheels; links, and what is removed."""

from __future__ import annotations

import os
import shutil
import sys
import tarfile
import zipfile
from datetime import datetime, timezone
from pathlib import Path

import pytest

from appliance.errors import ReleaseRefused, ScansideError, StateUnusable
from appliance.release.record import Recall, Recalled
from appliance.update import slots
from appliance.update.places import Places
from appliance.update.slots import Complete, LocalWheel
from rigs.slotted import TinyRelease, box, contents, says, sha256
from rigs.wheels import requirements, wheel


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return box(tmp_path / "box")


@pytest.fixture
def release(tmp_path: Path) -> TinyRelease:
    return TinyRelease(tmp_path / "release")


def pretend(places: Places, number: int, version: str = "1.0.0") -> Complete:
    """A slot that counts, without an environment: for what looks at links and folders alone."""
    digest = sha256(f"{number}".encode())
    slot = places.slot(number)
    slot.mkdir(parents=True)
    made = Complete.model_validate(
        {
            "slot": number,
            "release": f"stable/{number}.json",
            "appliance": {"name": "scanside", "version": version, "digest": digest},
            "python": "3.11.2",
            "wheels": digest,
            "made": datetime(2026, 11, 29, tzinfo=timezone.utc),
        }
    )
    (slot / "complete").write_text(made.model_dump_json(by_alias=True))
    (slot / "file").write_text("of the slot")
    return made


def refused(places: Places, release: TinyRelease, **how: bytes) -> ReleaseRefused:
    """Why slot 1 is not made; nothing of it must be left."""
    with pytest.raises(ReleaseRefused) as said:
        release.build(places, 1, **how)  # type: ignore[arg-type]
    assert slots.complete(places) == ()
    assert not places.slot(1).exists()
    assert not list(places.wheels.glob("*"))
    return said.value


# A slot is made.


def test_a_slot_is_made_by_pip_and_runs_from_its_final_path(
    places: Places, release: TinyRelease
) -> None:
    made = release.build(places, 1)
    assert slots.complete(places) == (made,)
    assert made.appliance == release.purpose.appliance
    assert made.python == ".".join(map(str, sys.version_info[:3]))
    assert (says(places, 1), says(places, 1, "liba")) == ("1.0.0", "")
    assert made.wheels == sha256((places.wheels / "1.json").read_bytes())
    kept = {one.name: one.digest for one in slots.wheel_set(places, 1).wheels}
    assert kept == {p.name: sha256(p.read_bytes()) for p in places.wheels.glob("*.whl")}
    assert set(kept) == {*release.files, release.own.name}


@pytest.mark.long
def test_pip_itself_is_not_in_the_slot_also_where_the_requirements_name_it(
    places: Places, release: TinyRelease
) -> None:
    (pip,) = (path for name, path in release.files.items() if name.startswith("pip-"))
    release.hashed[pip.name] = pip.read_bytes()
    release.build(places, 1)
    assert not list(places.slot(1).rglob("pip*"))


def test_a_slot_has_its_bytecode_because_who_runs_it_may_not_write_there(
    places: Places, release: TinyRelease
) -> None:
    release.build(places, 1)
    made = {path.name.split(".")[0] for path in places.slot(1).rglob("__pycache__/*.pyc")}
    assert made == {"scanside", "liba", "libb"}


@pytest.mark.long
def test_everybody_may_read_a_slot_whatever_the_umask_of_its_maker(
    places: Places, release: TinyRelease
) -> None:
    before = os.umask(0o077)
    try:
        release.build(places, 1)
    finally:
        os.umask(before)
    slot = places.slot(1)
    folders = [places.root, slot.parent, slot, *(p for p in slot.rglob("*") if p.is_dir())]
    assert all(folder.stat().st_mode & 0o005 == 0o005 for folder in folders)
    assert all(p.stat().st_mode & 0o004 for p in slot.rglob("*") if p.is_file())


def test_a_slot_that_is_made_twice_is_made_once(places: Places, release: TinyRelease) -> None:
    made = release.build(places, 1)
    before = contents(places.root)
    assert release.build(places, 1) == made
    assert contents(places.root) == before


@pytest.mark.long
def test_a_number_is_never_another_releases(
    places: Places, release: TinyRelease, tmp_path: Path
) -> None:
    made = release.build(places, 1)
    with pytest.raises(ReleaseRefused) as said:
        TinyRelease(tmp_path / "other", "2.0.0").build(places, 1)
    assert said.value.code == "slot_taken"
    assert slots.complete(places) == (made,)
    assert says(places, 1) == "1.0.0"


@pytest.mark.long
def test_two_slots_share_the_wheels_that_are_the_same(
    places: Places, release: TinyRelease, tmp_path: Path
) -> None:
    release.build(places, 1)
    TinyRelease(tmp_path / "other", "2.0.0").build(places, 2)
    assert [says(places, n) for n in (1, 2)] == ["1.0.0", "2.0.0"]
    names = {path.name.split("-")[0] for path in places.wheels.glob("*.whl")}
    assert names == {"scanside", "liba", "libb", "pip"}
    assert len(list(places.wheels.glob("*.whl"))) == 6


def test_a_wheel_of_one_name_with_other_bytes_is_refused_while_a_slot_is_made_of_the_first(
    places: Places, release: TinyRelease, tmp_path: Path
) -> None:
    release.build(places, 1)
    other = TinyRelease(tmp_path / "other", "2.0.0")
    other.add(*wheel("liba", text="another"))
    with pytest.raises(ReleaseRefused, match="other bytes than that of slot 1") as said:
        other.build(places, 2)
    assert said.value.code == "slot_wheel"
    assert (places.wheels / "liba-1.0.0-py3-none-any.whl").read_bytes() == release.hashed[
        "liba-1.0.0-py3-none-any.whl"
    ]


@pytest.mark.long
def test_a_kept_wheel_that_rotted_is_put_there_again(
    places: Places, release: TinyRelease, tmp_path: Path
) -> None:
    release.build(places, 1)
    (places.wheels / "liba-1.0.0-py3-none-any.whl").write_bytes(b"rotten")
    TinyRelease(tmp_path / "other", "2.0.0").build(places, 2)
    assert says(places, 2, "liba") == ""


# What is refused.


def test_a_wheel_whose_hash_the_requirements_do_not_name_is_refused(
    places: Places, release: TinyRelease
) -> None:
    asked = requirements(release.hashed)
    release.add(*wheel("liba", text="swapped"))
    said = refused(places, release, asked=asked)
    assert said.code == "slot_install"
    assert "pip: ERROR" in said.text


def test_an_appliance_with_other_bytes_than_were_signed_is_refused(
    places: Places, release: TinyRelease
) -> None:
    wanted = release.purpose
    release.own.write_bytes(wheel("scanside", text="forged")[1])
    with pytest.raises(ReleaseRefused, match="other bytes than were signed"):
        slots.build(
            places,
            1,
            release.files,
            requirements(release.hashed),
            release.own,
            record=wanted,
            python=Path(sys.executable),
        )
    assert slots.complete(places) == ()


@pytest.mark.parametrize(
    "line",
    [
        "--index-url https://pypi.org/simple",
        "--no-binary :all:",
        "-r /etc/passwd",
        "liba @ https://example.org/liba-1.0.0-py3-none-any.whl",
        "./liba-1.0.0-py3-none-any.whl",
        "-e .",
        "liba",
        "liba==1.0.0",
        "liba>=1.0.0 --hash=sha256:" + "a" * 64,
        "liba==1.0.0 --hash=md5:" + "a" * 32,
        "liba==1.0.0 ; python_version > '3' --pre --hash=sha256:" + "a" * 64,
    ],
)
def test_a_line_of_the_requirements_that_asks_for_anything_else_is_refused(
    places: Places, release: TinyRelease, line: str
) -> None:
    asked = requirements(release.hashed) + f"{line}\n".encode()
    said = refused(places, release, asked=asked)
    assert said.code == "slot_install"
    assert "a line of the requirements is refused" in said.text


@pytest.mark.long
def test_a_marker_leaves_out_what_is_for_another_python(
    places: Places, release: TinyRelease
) -> None:
    more = b"libz==9.9 ; python_full_version < '3.2' \\\n    --hash=sha256:" + b"a" * 64 + b"\n"
    release.build(places, 1, asked=b"# a remark\n" + requirements(release.hashed) + more)
    assert says(places, 1) == "1.0.0"


def test_a_source_is_never_built_where_a_wheel_is_missing(
    places: Places, release: TinyRelease, tmp_path: Path
) -> None:
    source = tmp_path / "libc-1.0.0.tar.gz"
    (tmp_path / "setup.py").write_text("from setuptools import setup; setup(name='libc')")
    with tarfile.open(source, "w:gz") as archive:
        archive.add(tmp_path / "setup.py", "libc-1.0.0/setup.py")
    line = f"libc==1.0.0 --hash=sha256:{sha256(source.read_bytes())}\n"
    asked = requirements(release.hashed) + line.encode()
    places.wheels.mkdir(parents=True)
    shutil.copy(source, places.wheels)
    with pytest.raises(ReleaseRefused) as said:
        release.build(places, 1, asked=asked)
    assert said.value.code == "slot_install"
    assert slots.complete(places) == ()


def test_a_release_without_pip_is_refused(places: Places, release: TinyRelease) -> None:
    for name in [name for name in release.files if name.startswith("pip-")]:
        del release.files[name]
    assert "0 wheels of pip" in refused(places, release).text


def test_a_release_for_another_python_is_refused_before_anything_is_changed(
    places: Places, release: TinyRelease
) -> None:
    release.below = "3.10.1"
    said = refused(places, release)
    assert said.code == "slot_python"
    assert "wants Python from 3.10, below 3.10.1" in said.text


def swapped(lines: str) -> str:
    """A RECORD in which the module has another digest."""
    first, rest = lines.split("\n", 1)
    path, digest, size = first.split(",")
    return f"{path},{digest[:7]}{digest[7:][::-1]},{size}\n{rest}"


def test_a_record_that_lies_about_a_file_is_refused(places: Places, release: TinyRelease) -> None:
    release.add(*wheel("liba", record=swapped))
    said = refused(places, release)
    assert said.code == "slot_record"
    assert "liba.py is not what its RECORD says" in said.text


def test_a_record_that_names_a_file_which_is_not_there_is_refused(
    places: Places, release: TinyRelease
) -> None:
    release.add(*wheel("liba", record=lambda lines: f"gone.py,sha256=abc,1\n{lines}"))
    said = refused(places, release)
    assert said.code == "slot_record"
    assert "gone.py is in a RECORD, and missing" in said.text


def test_a_file_of_a_wheel_that_its_record_does_not_name_is_refused(
    places: Places, release: TinyRelease
) -> None:
    def without(lines: str) -> str:
        return "".join(f"{one}\n" for one in lines.splitlines() if not one.startswith("extra"))

    release.add(*wheel("liba", more={"extra.py": "SAYS = 1\n"}, record=without))
    said = refused(places, release)
    assert said.code == "slot_record"
    assert "extra.py has no digest in its RECORD" in said.text


@pytest.mark.parametrize("path", ["../../../../../outside.py", "/tmp/outside.py"])  # noqa: S108
def test_a_wheel_with_a_path_out_of_the_slot_is_refused(
    places: Places, release: TinyRelease, path: str
) -> None:
    release.add(*wheel("liba", more={path: "SAYS = 1\n"}))
    assert refused(places, release).code in ("slot_install", "slot_record")
    assert not list(places.root.rglob("outside.py"))
    assert not Path("/tmp/outside.py").exists()  # noqa: S108


@pytest.mark.parametrize("path", ["../../../../2/file.py", "/etc/hostname"])
def test_a_record_that_names_a_file_out_of_the_slot_is_refused(
    places: Places, release: TinyRelease, path: str
) -> None:
    release.add(*wheel("liba", record=lambda lines: f"{path},sha256=abc,1\n{lines}"))
    said = refused(places, release)
    assert said.code == "slot_record"
    assert "leaves the slot" in said.text


@pytest.mark.parametrize("name", ["complete", "pyvenv.cfg"])
def test_a_wheel_that_brings_a_file_of_the_environment_is_refused(
    places: Places, release: TinyRelease, name: str
) -> None:
    release.add(*wheel("liba", more={f"liba-1.0.0.data/data/{name}": "forged"}))
    said = refused(places, release)
    assert said.code == "slot_record"
    assert f"{name} belongs to the environment" in said.text


def test_a_wheel_cannot_put_another_python_into_the_slot(
    places: Places, release: TinyRelease
) -> None:
    release.add(*wheel("liba", more={"liba-1.0.0.data/scripts/python3": "#!python\n"}))
    assert refused(places, release).code == "slot_record"


@pytest.mark.long
def test_a_link_in_a_wheel_is_no_link_in_the_slot(places: Places, release: TinyRelease) -> None:
    name, data = wheel("liba", more={"link.py": "/etc/passwd"})
    path = release.folder / name
    path.write_bytes(data)
    with zipfile.ZipFile(path) as before:
        entries = [(one, before.read(one)) for one in before.infolist()]
    with zipfile.ZipFile(path, "w") as after:
        for one, content in entries:
            if one.filename == "link.py":
                one.external_attr = 0o120777 << 16
            after.writestr(one, content)
    release.add(name, path.read_bytes())
    release.build(places, 1)
    (link,) = places.slot(1).rglob("link.py")
    assert not link.is_symlink()
    assert link.read_text() == "/etc/passwd"


@pytest.mark.long
def test_what_was_refused_takes_nothing_from_the_slots_that_are_there(
    places: Places, release: TinyRelease, tmp_path: Path
) -> None:
    release.build(places, 1)
    slots.switch(places, 1)
    before = contents(places.root)
    bad = TinyRelease(tmp_path / "bad", "2.0.0")
    bad.add(*wheel("libb", "2.0.0", record=swapped))
    with pytest.raises(ReleaseRefused):
        bad.build(places, 2)
    assert contents(places.root) == before | {"slots/last": sha256(b"2\n")}


@pytest.mark.long
def test_a_python_that_is_not_there_is_no_fault_of_the_release(
    places: Places, release: TinyRelease
) -> None:
    release.build(places, 1)
    with pytest.raises(StateUnusable, match="/nowhere/python3"):
        slots.rebuild(places, 1, python=Path("/nowhere/python3"))
    assert says(places, 1) == "1.0.0"


def test_a_maker_that_ends_without_a_word_is_no_fault_of_the_release(
    places: Places, release: TinyRelease
) -> None:
    with pytest.raises(StateUnusable, match="exit status 1") as said:
        release.build(places, 1, python=Path("/bin/false"))
    assert said.value.code == "slot_broken"
    assert not list(places.wheels.iterdir())


# Links.


def test_a_box_without_a_slot_has_no_link_and_its_first_number_is_one(places: Places) -> None:
    assert (slots.current(places), slots.previous(places)) == (None, None)
    assert slots.complete(places) == ()
    assert slots.free(places) == 1
    assert slots.sweep(places) == ()


def test_what_runs_becomes_what_ran_before(places: Places) -> None:
    for number in (1, 2, 3):
        pretend(places, number)
    slots.switch(places, 1)
    assert (slots.current(places), slots.previous(places)) == (1, None)
    slots.switch(places, 2)
    assert (slots.current(places), slots.previous(places)) == (2, 1)
    slots.switch(places, 3)
    assert (slots.current(places), slots.previous(places)) == (3, 2)
    assert (places.current / "file").read_text() == "of the slot"
    assert not places.current.readlink().is_absolute()


def test_to_switch_twice_is_to_switch_once(places: Places) -> None:
    pretend(places, 1)
    pretend(places, 2)
    slots.switch(places, 1)
    slots.switch(places, 2)
    slots.switch(places, 2)
    assert (slots.current(places), slots.previous(places)) == (2, 1)


def test_going_back_leaves_the_slot_that_ran_out_of_the_links(places: Places) -> None:
    pretend(places, 1)
    pretend(places, 2)
    slots.switch(places, 1)
    slots.switch(places, 2)
    assert slots.back(places) == slots.back(places) == 1
    assert (slots.current(places), slots.previous(places)) == (1, 1)


def test_there_is_no_way_back_before_the_first_update(places: Places) -> None:
    pretend(places, 1)
    slots.switch(places, 1)
    with pytest.raises(StateUnusable) as said:
        slots.back(places)
    assert said.value.code == "slot_none_before"


def test_no_link_ever_leads_to_a_slot_that_is_not_complete(places: Places) -> None:
    pretend(places, 1)
    pretend(places, 2)
    slots.switch(places, 1)
    slots.switch(places, 2)
    for number in (1, 3):
        (places.slot(number) / "complete").unlink(missing_ok=True)
        with pytest.raises(StateUnusable) as said:
            slots.switch(places, number)
        assert said.value.code == "slot_incomplete"
    with pytest.raises(StateUnusable):
        slots.back(places)
    assert (slots.current(places), slots.previous(places)) == (2, 1)


@pytest.mark.parametrize("where", ["slots/0", "slots/../../etc", "/opt", "slots/1/bin"])
def test_a_link_to_anything_but_a_slot_is_said_with_the_line_that_mends_it(
    places: Places, where: str
) -> None:
    pretend(places, 1)
    places.current.symlink_to(where)
    with pytest.raises(StateUnusable, match="is no slot") as said:
        slots.current(places)
    assert said.value.code == "slot_link"
    assert "ln -sfn slots/N" in said.value.remedy


# What is removed.


@pytest.mark.long
def test_at_boot_what_is_not_complete_goes_with_its_wheels(
    places: Places, release: TinyRelease, tmp_path: Path
) -> None:
    release.build(places, 1)
    slots.switch(places, 1)
    before = contents(places.root)
    TinyRelease(tmp_path / "other", "2.0.0").build(places, 2)
    (places.slot(2) / "complete").unlink()
    (places.wheels / ".liba.whl.0123.tmp").write_bytes(b"half")
    (places.root / ".current.0123.tmp").symlink_to("slots/2")
    assert slots.sweep(places) == (2,)
    assert contents(places.root) == before | {"slots/last": sha256(b"2\n")}
    assert slots.sweep(places) == ()


@pytest.mark.parametrize("data", [b"", b"{}", b"\xff", b'{"slot": 2}'])
def test_a_slot_whose_mark_is_damaged_or_another_slots_does_not_count(
    places: Places, data: bytes
) -> None:
    made = pretend(places, 1)
    pretend(places, 2)
    (places.slot(2) / "complete").write_bytes(data)
    pretend(places, 3)
    shutil.copy(places.slot(1) / "complete", places.slot(3) / "complete")
    assert slots.complete(places) == (made,)
    assert slots.sweep(places) == (2, 3)


def test_a_slot_to_which_a_link_leads_is_never_swept_because_guard_makes_it_anew(
    places: Places,
) -> None:
    for number in (1, 2):
        pretend(places, number)
        slots.switch(places, number)
    for number in (1, 2):
        (places.slot(number) / "complete").unlink()
    assert slots.sweep(places) == ()
    assert (places.current / "file").exists()
    assert (places.previous / "file").exists()


@pytest.mark.long
def test_where_a_set_cannot_be_read_no_wheel_is_removed_and_the_next_slot_is_made(
    places: Places, release: TinyRelease, tmp_path: Path
) -> None:
    release.build(places, 1)
    (places.wheels / "1.json").write_bytes(b"rotten")
    before = sorted(places.wheels.iterdir())
    assert slots.sweep(places) == ()
    assert sorted(places.wheels.iterdir()) == before
    with pytest.raises(StateUnusable) as said:
        slots.wheel_set(places, 1)
    assert said.value.code == "slot_set"
    TinyRelease(tmp_path / "next", "2.0.0").build(places, 2)
    assert [one.slot for one in slots.complete(places)] == [1, 2]


@pytest.mark.long
def test_old_slots_go_with_the_wheels_that_no_other_needs(
    places: Places, release: TinyRelease, tmp_path: Path
) -> None:
    release.build(places, 1)
    for number in (2, 3):
        TinyRelease(tmp_path / str(number), f"{number}.0.0").build(places, number)
    slots.switch(places, 2)
    slots.switch(places, 3)
    assert slots.forget(places, keep=[1]) == ()
    assert slots.forget(places) == (1,)
    assert [one.slot for one in slots.complete(places)] == [2, 3]
    needed = {one.name for n in (2, 3) for one in slots.wheel_set(places, n).wheels}
    assert {path.name for path in places.wheels.glob("*.whl")} == needed
    assert "liba-1.0.0-py3-none-any.whl" in needed
    assert not (places.wheels / "1.json").exists()
    assert [says(places, n) for n in (2, 3)] == ["2.0.0", "3.0.0"]


def recall(*recalled: Complete) -> Recall:
    at = datetime(2026, 11, 29, tzinfo=timezone.utc)
    entries = [
        Recalled(what="appliance", reason="it is slow", at=at, **one.appliance.model_dump())
        for one in recalled
    ]
    return Recall(number=1, made=at, entries=tuple(entries))


def test_neither_what_runs_nor_what_ran_nor_the_newest_that_was_not_recalled_is_removed(
    places: Places,
) -> None:
    made = {number: pretend(places, number) for number in range(1, 7)}
    slots.switch(places, 5)
    slots.switch(places, 6)
    assert slots.forget(places, recall=recall(made[6], made[5], made[4])) == (1, 2, 4)
    assert slots.forget(places, recall=recall(*made.values())) == (3,)
    assert [one.slot for one in slots.complete(places)] == [5, 6]


@pytest.mark.long
def test_a_number_is_not_given_again_when_its_slot_is_gone(places: Places) -> None:
    pretend(places, 1)
    assert slots.free(places) == 2
    slots.switch(places, 1)
    release = TinyRelease(places.root.parent / "bad", "2.0.0")
    release.add(*wheel("liba", record=swapped))
    with pytest.raises(ScansideError):
        release.build(places, 2)
    assert not places.slot(2).exists()
    assert slots.free(places) == 3
    (places.root / "slots" / "last").write_bytes(b"\xffrotten")
    assert slots.free(places) == 2


# What was built on this box.


@pytest.mark.long
def test_a_wheel_that_was_built_here_is_installed_without_a_hash_and_written_down(
    places: Places, release: TinyRelease
) -> None:
    name, data = wheel("pycuda", "2026.1", text="built here")
    path = release.folder / name
    path.write_bytes(data)
    made = release.build(places, 1, local=LocalWheel(path, sha256(data)))
    assert made.local is not None
    assert (made.local.name, made.local.digest) == (name, sha256(data))
    assert says(places, 1, "pycuda") == "built here"


def test_a_wheel_that_was_built_here_and_has_other_bytes_by_now_is_refused(
    places: Places, release: TinyRelease
) -> None:
    path = release.folder / wheel("pycuda")[0]
    path.write_bytes(wheel("pycuda", text="swapped")[1])
    with pytest.raises(ReleaseRefused) as said:
        release.build(places, 1, local=LocalWheel(path, sha256(wheel("pycuda")[1])))
    assert said.value.code == "slot_wheel"
    assert slots.complete(places) == ()


@pytest.mark.long
def test_a_wheel_that_was_built_for_another_python_is_left_out_and_not_written_down(
    places: Places, release: TinyRelease
) -> None:
    name, data = wheel("pycuda", "2026.1", tag="cp39-cp39-linux_x86_64")
    path = release.folder / name
    path.write_bytes(data)
    made = release.build(places, 1, local=LocalWheel(path, sha256(data)))
    assert made.local is None
    assert slots.wheel_set(places, 1).local is not None
    assert not list(places.slot(1).rglob("pycuda*"))
