"""The locks are those of pyproject.toml, whole for every target, and made of wheels alone."""

from __future__ import annotations

import base64
import hashlib
import re
import shutil
import sys
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from appliance.errors import BundleRefused
from compile import licences, lock

ROOT = Path(__file__).resolve().parents[2]


def text(name: str) -> str:
    return (ROOT / "locks" / f"{name}.txt").read_text(encoding="utf-8")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What the locks are compared with, as it is, to be changed."""
    shutil.copytree(ROOT / "locks", tmp_path / "locks")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_the_locks_are_those_of_pyproject() -> None:
    assert lock.stale() == []


@pytest.mark.parametrize(
    ("old", "new", "wrong"),
    [
        ('"paho-mqtt>=2.1",', '"paho-mqtt>=2.2",', ["device", "check"]),
        ('"paho-mqtt>=2.1",', "", ["device", "check"]),
        ('"hypothesis>=6.100",', '"hypothesis>=6.100",\n"flask>=3",', ["check"]),
        ('hatchling>=1.25"]\nbuild', 'hatchling>=1.26"]\nbuild', ["build", "check"]),
    ],
    ids=["another bound", "one less", "one more", "another builder"],
)
def test_a_change_of_what_is_asked_for_makes_its_locks_stale(
    checkout: Path, old: str, new: str, wrong: list[str]
) -> None:
    path = checkout / "pyproject.toml"
    assert path.read_text().count(old) == 1
    path.write_text(path.read_text().replace(old, new))
    assert lock.stale(checkout) == [f"locks/{name}.txt" for name in wrong]


def test_a_lock_that_is_missing_is_stale(checkout: Path) -> None:
    (checkout / "locks" / "bench.txt").unlink()
    assert lock.stale(checkout) == ["locks/bench.txt"]


@pytest.mark.parametrize("name", lock.LOCKS)
@pytest.mark.parametrize("target", lock.TARGETS, ids=str)
def test_each_target_gets_one_release_of_all_that_is_asked_for(
    name: str, target: lock.Target
) -> None:
    pins = [pin for pin in lock.read(text(name)) if target.takes(pin.marker)]
    versions = {pin.name: pin.version for pin in pins}
    assert len(versions) == len(pins), "one line a library"
    for one in map(Requirement, lock.asked(name, lock.project())):
        if target.takes(str(one.marker or "")):
            assert one.specifier.contains(versions[canonicalize_name(one.name)]), str(one)


@pytest.mark.parametrize("name", lock.LOCKS)
def test_every_line_has_a_hash_and_no_line_names_an_index(name: str) -> None:
    pins = lock.read(text(name))
    assert pins
    assert all(pin.hashes and all(len(one) == 64 for one in pin.hashes) for pin in pins)
    assert not re.search(r"://|^-|index", text(name), re.M)


def test_a_library_has_the_same_lines_in_every_lock() -> None:
    seen: dict[tuple[str, str], tuple[str, ...]] = {}
    for name in lock.LOCKS:
        for pin in lock.read(text(name)):
            assert seen.setdefault((pin.name, pin.version), pin.hashes) == pin.hashes
    device = {(pin.name, pin.version) for pin in lock.read(text("device"))}
    assert device <= {(pin.name, pin.version) for pin in lock.read(text("check"))}


def test_torch_is_in_no_lock_and_no_test_library_on_a_device() -> None:
    names = {name: {pin.name for pin in lock.read(text(name))} for name in lock.LOCKS}
    assert all("torch" not in found for found in names.values())
    assert {"pydicom", "openvino", "onnx", "cryptography"} <= names["device"]
    assert not {"pytest", "hypothesis", "mypy", "hatchling"} & names["device"]


def test_what_a_device_installs_is_what_its_licences_are_looked_at_for() -> None:
    assert lock.LOCKS["device"] == ("dependencies", *licences.EXTRAS)


def test_what_is_written_reads_back() -> None:
    pins = [
        lock.Pin("numpy", "2.2.6", "python_full_version < '3.11'", ("a" * 64, "b" * 64)),
        lock.Pin("rich", "15.0.0", "", ("c" * 64,)),
    ]
    whole = lock.write("device", ["numpy>=1", "rich"], pins, ["numpy 2.2.6 for Python 3.10"])
    assert lock.read(whole) == pins
    assert "# No wheel: numpy 2.2.6 for Python 3.10." in whole


def wheel(folder: Path, name: str, tag: str) -> str:
    """A wheel of version 1.0 that holds nothing, in this folder; its SHA-256."""
    info = f"{name}-1.0.dist-info"
    files = {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n",
    }
    lines = []
    for path, content in files.items():
        seen = base64.urlsafe_b64encode(hashlib.sha256(content.encode()).digest()).rstrip(b"=")
        lines.append(f"{path},sha256={seen.decode()},{len(content)}\n")
    files[f"{info}/RECORD"] = "".join(lines)
    path = folder / f"{name}-1.0-{tag}.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for file, content in files.items():
            archive.writestr(file, content)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_each_target_gets_the_hash_of_its_own_wheel_and_what_has_none_is_left_out(
    tmp_path: Path,
) -> None:
    new = wheel(tmp_path, "ours", "cp312-cp312-manylinux_2_28_aarch64")
    old = wheel(tmp_path, "ours", "cp310-cp310-manylinux_2_17_x86_64")
    pure = wheel(tmp_path, "pure", "py3-none-any")
    wheel(tmp_path, "future", "cp312-cp312-manylinux_2_39_aarch64")
    pins = [lock.Pin(name, "1.0") for name in ("ours", "pure", "future")]
    options = ("--no-index", "--find-links", str(tmp_path))
    found = lock.wheels(pins, lock.Target("3.12", "aarch64"), options)
    assert found == {"ours": new, "pure": pure}
    found = lock.wheels(pins, lock.Target("3.10", "x86_64"), options)
    assert found == {"ours": old, "pure": pure}
    assert lock.wheels(pins[2:], lock.Target("3.13", "x86_64"), options) == {}


def test_the_wheels_of_every_python_of_a_machine_are_fetched(tmp_path: Path) -> None:
    """Also where a line is for a Python other than the one that pip runs on."""
    index = tmp_path / "index"
    index.mkdir()
    made = {
        tag: wheel(index, "ours", tag)
        for tag in ("cp310-cp310-manylinux_2_28_x86_64", "cp312-cp312-manylinux_2_28_x86_64")
    }
    wheel(index, "ours", "cp312-cp312-manylinux_2_28_aarch64")
    pure, old = wheel(index, "pure", "py3-none-any"), wheel(index, "old", "py3-none-any")
    pins = [
        lock.Pin("old", "1.0", "python_full_version < '3.11'", (old,)),
        lock.Pin("ours", "1.0", "", tuple(made.values())),
        lock.Pin("pure", "1.0", "", (pure,)),
    ]
    (tmp_path / "locks").mkdir()
    path = tmp_path / "locks" / "device.txt"
    path.write_text(lock.write("device", [], pins, []))
    options = ("--no-index", "--find-links", str(index))
    found = lock.fetch(
        "device", "x86_64", tmp_path / "out", tmp_path, options, pythons=("3.10", "3.12")
    )
    names = [f"ours-1.0-{tag}.whl" for tag in made]
    assert found == sorted(["old-1.0-py3-none-any.whl", "pure-1.0-py3-none-any.whl", *names])
    path.write_text(lock.write("device", [], [lock.Pin("pure", "1.0", "", ("0" * 64,))], []))
    with pytest.raises(BundleRefused, match="pip cannot fetch"):
        lock.fetch("device", "x86_64", tmp_path / "no", tmp_path, options, pythons=("3.12",))


def test_without_uv_the_refusal_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(BundleRefused, match="uv is not installed") as refused:
        lock.make(say=lambda _: None)
    assert "pip install" in str(refused.value.remedy)
