"""What has no wheel is built on the box and comes into a slot. A tiny extension in C stands in for
pycuda: gcc, setuptools and pip do what they do there, but CUDA is not needed for it."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import shutil
import sys
import sysconfig
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.apply import building
from appliance.apply.building import Later
from appliance.errors import ReleaseRefused, StateUnusable
from appliance.runtime.source_build import NotBuilt
from appliance.update import built, slots
from appliance.update.places import Places
from appliance.update.units import Systemctl
from rigs.applied import Applied, Units
from rigs.releasing import Simulated
from rigs.slotted import TinyRelease, box, says, sha256
from rigs.updating import OURS
from rigs.wheels import wheel

pytestmark = pytest.mark.long

PYTHON = Path(sys.executable)
SETUP = """
from setuptools import Extension, setup
setup(name="gpulib", version="1.0", packages=["gpulib"],
      ext_modules=[Extension("gpulib._c", ["c.c"])])
"""
C = """
#include <Python.h>
static struct PyModuleDef def = {PyModuleDef_HEAD_INIT, "_c", NULL, -1, NULL};
PyMODINIT_FUNC PyInit__c(void) {
    PyObject *made = PyModule_Create(&def);
    if (made) PyModule_AddStringConstant(made, "SAYS", "compiled here");
    return made;
}
"""


def sdist(**changed: str) -> bytes:
    """The bytes of gpulib-1.0.tar.gz."""
    files = {"setup.py": SETUP, "c.c": C, "gpulib/__init__.py": "from gpulib._c import SAYS\n"}
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as archive:
        for name, text in {**files, **changed}.items():
            info = tarfile.TarInfo(f"gpulib-1.0/{name}")
            info.size = len(text.encode())
            archive.addfile(info, io.BytesIO(text.encode()))
    return data.getvalue()


@pytest.fixture
def places(tmp_path: Path) -> Places:
    made = box(tmp_path / "box")
    made.trusted.mkdir(parents=True)
    return made


@pytest.fixture
def slot(places: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes slot 1 of a release with this source; its Python has this checkout beside it."""
    if shutil.which("gcc") is None or not Path(sysconfig.get_path("include"), "Python.h").exists():
        pytest.skip("gcc or Python.h is missing: apt install gcc python3-dev")
    monkeypatch.setattr(slots, "_START_S", 60.0)

    def make(source: bytes) -> None:
        release = TinyRelease(tmp_path / "release")
        release.own = release._put(*wheel("scanside", "1.0.0", more={"ours.pth": OURS}))
        path = tmp_path / "gpulib-1.0.tar.gz"
        path.write_bytes(source)
        release.files[path.name] = path
        release.build(places, 1)

    return make


def built_here(places: Places, against: str = "6.0") -> str | None:
    return building.local(places, Units(), 1, against, PYTHON)


def test_it_is_built_written_down_and_installed_while_the_slot_goes_on_counting(
    places: Places, slot: Callable[..., None]
) -> None:
    slot(sdist())
    (before,) = slots.complete(places)
    assert before.local is None
    digest = built_here(places)
    (after,) = slots.complete(places)
    assert after.local is not None
    assert after.local.digest == digest
    assert digest == sha256((places.wheels / after.local.name).read_bytes())
    assert slots.wheel_set(places, 1).local == after.local
    assert says(places, 1, "gpulib") == "compiled here"
    assert built_here(places) is None, "once"
    assert slots.rebuild(places, 1, python=PYTHON).local == after.local, "and after an OS upgrade"
    assert slots.sweep(places) == ()
    assert (places.wheels / "gpulib-1.0.tar.gz").exists()


def test_after_another_jetpack_it_is_built_again(places: Places, slot: Callable[..., None]) -> None:
    slot(sdist())
    assert built_here(places, "6.0")
    assert built_here(places, "7.0")
    assert slots.wheel_set(places, 1).against == "7.0"
    assert built_here(places, "7.0") is None


def test_a_source_that_does_not_compile_says_so_and_the_slot_is_as_before(
    places: Places, slot: Callable[..., None]
) -> None:
    slot(sdist(**{"c.c": "#error no CUDA here\n"}))
    before = slots.complete(places)
    with pytest.raises(NotBuilt) as failed:
        built_here(places)
    assert "error" in failed.value.text
    assert slots.complete(places) == before


def test_a_release_without_such_a_source_builds_nothing(places: Places, tmp_path: Path) -> None:
    TinyRelease(tmp_path / "release").build(places, 1)
    assert built_here(places) is None


def test_a_source_that_was_exchanged_on_the_disk_is_not_built(
    places: Places, slot: Callable[..., None]
) -> None:
    slot(sdist())
    (places.wheels / "gpulib-1.0.tar.gz").write_bytes(sdist(**{"setup.py": "1/0"}))
    with pytest.raises(StateUnusable, match="damaged"):
        built_here(places)


class Unit(Systemctl):
    """The unit `prove` of systemd: what it is asked is noted, and it leaves these files."""

    def __init__(self, places: Places, folder: Path, files: dict[str, bytes]) -> None:
        super().__init__()
        self.places, self.folder, self.files = places, folder, files
        self.asked = ""

    def start(self, stage: str, slot: int) -> None:
        assert (stage, slot) == ("prove", 1)
        self.asked = (self.places.trusted / "prove" / "1").read_text()
        self.folder.mkdir(parents=True)
        for name, data in self.files.items():
            (self.folder / name).write_bytes(data)


def left(places: Places, tmp_path: Path, **files: bytes) -> Unit:
    named = {name.replace("__", "-"): data for name, data in files.items()}
    return Unit(places, tmp_path / "run" / "1.built", named)


def bad(name: str = "gpulib", **more: str) -> tuple[str, bytes]:
    return wheel(name, "1.0", more=more)


def test_the_unit_is_told_what_to_build_and_where(
    places: Places, slot: Callable[..., None], tmp_path: Path
) -> None:
    slot(sdist())
    name, data = bad()
    unit = left(places, tmp_path)
    unit.files = {name.replace("gpulib.py", ""): packaged(data)}
    assert building.local(places, unit, 1, "6.0", PYTHON, tmp_path / "run")
    source = places.wheels / "gpulib-1.0.tar.gz"
    assert unit.asked == f"BUNDLES=--source {source} --into {unit.folder}\n"


def packaged(data: bytes, **more: bytes) -> bytes:
    """The wheel with its module as a package, and these files too; its RECORD is right."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        files = {one: archive.read(one) for one in archive.namelist()}
    files["gpulib/__init__.py"] = files.pop("gpulib.py", b"SAYS = 1\n")
    files |= {name.replace("__slash__", "/"): data for name, data in more.items()}
    record = next(one for one in files if one.endswith("RECORD"))
    lines = ""
    for name, content in files.items():
        if name != record:
            seen = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=")
            lines += f"{name},sha256={seen.decode()},{len(content)}\n"
    files[record] = f"{lines}{record},,\n".encode()
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return made.getvalue()


def test_whoever_builds_it_brings_nothing_into_the_slot_but_what_is_its_own(
    places: Places, slot: Callable[..., None]
) -> None:
    slot(sdist())
    before = slots.complete(places), slots.wheel_set(places, 1)
    name, data = bad()
    for path in ("scanside.py", "sitecustomize.py", "o/__init__.py", "x.pth", "gpulib/../liba.py"):
        wrong = packaged(data, **{path.replace("/", "__slash__"): b"BAD = 1\n"})
        with pytest.raises(ReleaseRefused) as refused:
            built.add(places, 1, (name, wrong), "6.0", python=PYTHON)
        assert refused.value.code == "slot_local", path
    for name, data in (wheel("liba"), wheel("gpulib", "2.0"), ("gpulib-1.0.whl", b"none")):
        with pytest.raises(ReleaseRefused):
            built.add(places, 1, (name, data), "6.0", python=PYTHON)
    assert (slots.complete(places), slots.wheel_set(places, 1)) == before
    assert "BAD" not in "".join(
        one.read_text() for one in places.slot(1).glob("lib/python*/site-packages/*.py")
    )


def test_only_one_regular_file_is_taken_over(tmp_path: Path) -> None:
    folder = tmp_path / "built"
    folder.mkdir()
    with pytest.raises(NotBuilt):
        building._taken(folder)
    os.mkfifo(folder / "a.whl")
    with pytest.raises(NotBuilt):
        building._taken(folder)
    (folder / "a.whl").unlink()
    (tmp_path / "wheel").write_bytes(b"a wheel")
    (folder / "a.whl").symlink_to(tmp_path / "wheel")
    with pytest.raises(NotBuilt):
        building._taken(folder)
    (folder / "a.whl").unlink()
    (folder / "a.whl").write_bytes(b"a wheel")
    assert building._taken(folder) == ("a.whl", b"a wheel")
    (folder / "b.whl").write_bytes(b"another")
    with pytest.raises(NotBuilt):
        building._taken(folder)


def test_requirements_lose_the_lines_of_what_is_built_here_and_no_other() -> None:
    before, after = b"liba==1 \\\n    --hash=sha256:aa\n", b"z==3\n"
    asked = before + b"pyCUDA==2 \\\n    --hash=sha256:bb \\\n    --hash=sha256:c\n" + after
    assert built.without(asked, ["pycuda-2.tar.gz"]) == before + after
    assert built.without(asked, []) == asked


def test_the_slot_that_runs_gets_it_on_an_idle_box_and_then_work_starts_again(
    tmp_path: Path,
) -> None:
    applied = Applied(tmp_path / "box", Simulated.begun())
    calls: list[int] = []

    def local(number: int) -> str | None:
        calls.append(number)
        return "d" * 64

    later = Later(replace(applied.box(), local=local))
    later.turn(idle=False)
    assert calls == []
    later.turn(idle=True)
    assert (calls, applied.units.told) == ([1], [])
    later.turn(idle=False)
    assert applied.units.told == [], "a study came meanwhile"
    later.turn(idle=True)
    later.turn(idle=True)
    assert (calls, applied.units.told) == ([1], [("restart", "work", 1)])
    assert applied.audit == [("built here", {"slot": "1", "digest": "d" * 64})]


def test_what_cannot_be_built_for_the_slot_that_runs_is_left_for_the_next_start(
    tmp_path: Path,
) -> None:
    applied = Applied(tmp_path / "box", Simulated.begun())

    def local(number: int) -> str | None:
        raise NotBuilt("no gcc")

    later = Later(replace(applied.box(), local=local))
    for _ in range(3):
        later.turn(idle=True)
    assert applied.units.told == []


def test_the_set_of_a_slot_without_a_source_is_what_earlier_releases_read(
    places: Places, tmp_path: Path
) -> None:
    TinyRelease(tmp_path / "release").build(places, 1)
    said = json.loads((places.wheels / "1.json").read_text())
    assert not {"sources", "against"} & set(said)
