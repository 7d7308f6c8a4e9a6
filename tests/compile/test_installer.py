"""The archive for a new box: whole, the same for the same files, and nothing in it is left out."""

from __future__ import annotations

import hashlib
import json
import subprocess
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.errors import BundleRefused
from compile import installer
from rigs.wheels import requirements, wheel


@pytest.fixture
def parts(tmp_path: Path) -> installer.Parts:
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    both = {f"cp3{n}": wheel("libb", "2.1", f"cp3{n}-cp3{n}-linux_x86_64") for n in (10, 11)}
    made = dict([wheel("liba"), wheel("pip", "26.3"), *both.values()])
    for name, data in made.items():
        (wheels / name).write_bytes(data)
    asked = tmp_path / "device.txt"
    asked.write_bytes(requirements(made))
    name, data = wheel("scanside", "0.2.0")
    (tmp_path / name).write_bytes(data)
    (tmp_path / "1.root.json").write_text("{}")
    (tmp_path / "release.pub").write_text("a key")
    return installer.Parts(
        "x86-64", tmp_path / name, wheels, tmp_path / "1.root.json", (tmp_path / "release.pub",),
        pythons=("3.10", "3.11"), requirements=asked,
    )  # fmt: skip


def unpacked(parts: installer.Parts, folder: Path) -> Path:
    made = installer.installer(parts, folder)
    with tarfile.open(made.path) as tar:
        tar.extractall(folder, filter="data")
    return folder / made.path.stem


def test_all_that_install_sh_reads_is_in_it_and_its_sums_hold(
    parts: installer.Parts, tmp_path: Path
) -> None:
    folder = unpacked(parts, tmp_path / "out")
    sums = [line.split("  ") for line in (folder / "SHA256SUMS").read_text().splitlines()]
    for digest, path in sums:
        assert hashlib.sha256((folder / path).read_bytes()).hexdigest() == digest
    named = {path for _, path in sums}
    there = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert there - named == {"SHA256SUMS"}
    assert {
        "install.sh", "facts.sh", "README.md", "guard/guard.sh", "guard/build.py",
        "units/scanside.target", "sysusers/scanside.conf", "tmpfiles/scanside.conf",
        "root/1.root.json", "keys/release.pub", "wheels/1.json",
    } <= there  # fmt: skip
    units = {path.name for path in (installer.ROOT / "systemd").glob("scanside*.*")}
    assert units == {path.name for path in (folder / "units").iterdir() if path.is_file()}
    made_of = json.loads((folder / "wheels" / "1.json").read_text())
    for one in made_of["wheels"]:
        data = (folder / "wheels" / one["name"]).read_bytes()
        assert hashlib.sha256(data).hexdigest() == one["digest"]
    assert made_of["python"] == {"at_least": "3.10", "below": "3.12"}
    assert (
        "machine=x86_64\npython_from=3.10\npython_below=3.12\n" in (folder / "facts.sh").read_text()
    )
    assert "jetson" not in {path.name for path in folder.iterdir()}


def test_what_the_box_builds_itself_lies_beside_the_wheels(
    parts: installer.Parts, tmp_path: Path
) -> None:
    source = tmp_path / "gpulib-1.0.tar.gz"
    source.write_bytes(b"a source")
    folder = unpacked(replace(parts, source=source), tmp_path / "out")
    made_of = json.loads((folder / "wheels" / "1.json").read_text())
    digest = hashlib.sha256(b"a source").hexdigest()
    assert made_of["sources"] == [{"name": source.name, "digest": digest}]
    assert (folder / "wheels" / source.name).read_bytes() == b"a source"
    assert source.name not in {one["name"] for one in made_of["wheels"]}


def test_a_jetson_gets_its_own_first_step(parts: installer.Parts, tmp_path: Path) -> None:
    for path in list(parts.wheels.glob("*linux_x86_64*")):
        path.rename(path.with_name(path.name.replace("x86_64", "aarch64")))
    folder = unpacked(replace(parts, kind="orin"), tmp_path / "out")
    assert (folder / "jetson" / "install.sh").stat().st_mode & 0o111
    assert json.loads((folder / "wheels" / "1.json").read_text())["system_packages"] is True


def test_the_same_files_give_the_same_bytes(parts: installer.Parts, tmp_path: Path) -> None:
    first, again = (installer.installer(parts, tmp_path / name) for name in ("a", "b"))
    assert first.digest == again.digest
    assert first.digest in first.one_line()


def test_a_wheel_that_a_later_python_of_the_box_would_want_is_missed_here(
    parts: installer.Parts, tmp_path: Path
) -> None:
    next(parts.wheels.glob("libb*cp310*")).unlink()
    with pytest.raises(BundleRefused, match=r"libb 2\.1 for Python 3\.10 on x86_64") as told:
        installer.installer(parts, tmp_path / "out")
    assert "compile.lock --fetch" in told.value.remedy
    assert not list((tmp_path / "out").glob("*")) if (tmp_path / "out").exists() else True


def test_a_wheel_with_other_bytes_than_the_lock_says_is_missed(
    parts: installer.Parts, tmp_path: Path
) -> None:
    next(parts.wheels.glob("liba*")).write_bytes(b"other")
    with pytest.raises(BundleRefused, match=r"liba 1\.0\.0"):
        installer.installer(parts, tmp_path / "out")


@pytest.mark.parametrize("script", ["compile/install.sh", "jetson/install.sh"])
@pytest.mark.parametrize("shell", [["dash"], ["busybox", "sh"]])
def test_a_plain_shell_reads_the_scripts(script: str, shell: list[str]) -> None:
    try:
        done = subprocess.run([*shell, "-n", str(installer.ROOT / script)], check=False)
    except FileNotFoundError:
        pytest.skip(f"{shell[0]} is not installed")
    assert done.returncode == 0
