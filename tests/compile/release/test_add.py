"""The description of a release, and what is refused of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from compile.release.command import main
from rigs.bundles import signed
from rigs.releasing import SBOM, VEX, Simulated
from rigs.wheels import requirements, wheel

PURE = dict([wheel("liba"), wheel("libb", "2.1")])
SAID = """
kind = "security"
notes = "smaller networks"
intended_use_changes = true
deadline = 2027-01-31T00:00:00Z
appliance = "scanside-0.2.0-py3-none-any.whl"
bundles = ["tiny.scanside"]
sbom = "sbom.json"
vex = "vex.json"

[[devices]]
kind = "orin"
python = { at_least = "3.10", below = "3.11" }
jetpack = { at_least = "6.0" }
tensorrt = { at_least = "10.3", below = "11" }
requirements = "device.txt"
wheels = "wheels"
sources = "sources"
"""


@pytest.fixture
def source(tmp_path: Path, tiny_bytes: bytes) -> Path:
    """release.toml with all that it names, beside a repository."""
    (tmp_path / "wheels").mkdir()
    for name, data in PURE.items():
        (tmp_path / "wheels" / name).write_bytes(data)
    (tmp_path / "sources").mkdir()
    (tmp_path / "sources" / "pycuda-2025.1.2.tar.gz").write_bytes(b"source")
    asked = requirements({**PURE, "pycuda-2025.1.2-x": b"source"})
    (tmp_path / "device.txt").write_bytes(asked)
    name, data = wheel("scanside", "0.2.0")
    (tmp_path / name).write_bytes(data)
    (tmp_path / "sbom.json").write_bytes(SBOM)
    (tmp_path / "vex.json").write_bytes(VEX)
    (tmp_path / "tiny.scanside").write_bytes(signed(tiny_bytes))
    path = tmp_path / "release.toml"
    path.write_text(SAID)
    for file, content in Simulated.begun().files.items():
        at = tmp_path / "repo" / "public" / file
        at.parent.mkdir(parents=True, exist_ok=True)
        at.write_bytes(content)
    return path


def add(source: Path, channel: str = "stable") -> int:
    return main(["add", str(source.parent / "repo"), channel, "--from", str(source)])


def test_what_is_added_is_said_in_words(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert add(source) == 0
    told = capsys.readouterr().out
    for line in (
        "release stable/1.json, kind security",
        "the intended use CHANGES",
        "from 2027-01-31 00:00 UTC on it waits for no window",
        "orin: Python from 3.10, below 3.11; JetPack from 6.0; TensorRT from 10.3, below 11",
        "appliance 0.2.0: scanside-0.2.0-py3-none-any.whl",
    ):
        assert line in told
    assert (source.parent / "repo" / "drafts" / "stable" / "metadata.json").is_file()
    assert add(source) == 0
    assert "release stable/2.json" in (told := capsys.readouterr().out)
    assert "0 blobs are new, 0 bytes" in told


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ('kind = "security"', 'kind = "urgent"', "kind"),
        ('kind = "security"', 'kind = "model"', "only a security release"),
        ('notes = "smaller networks"', 'notes = ""', "notes"),
        ('notes = "smaller networks"', "notes = ", "line 3"),
        ('kind = "orin"', 'kind = "phone"', "devices.0.kind"),
        ('requirements = "device.txt"', 'requirements = "gone.txt"', "gone.txt"),
        ('sources = "sources"', "", "no wheel of pycuda"),
        ('below = "3.11"', 'below = "3.9"', "no Python"),
        ('sbom = "sbom.json"', 'sbom = "release.toml"', "no CycloneDX"),
        ('"scanside-0.2.0-py3-none-any.whl"', '"tiny.scanside"', "is no wheel"),
        ('wheels = "wheels"', 'wheels = "sources"', "is no wheel"),
        ("[[devices]]", "extra = 1\n[[devices]]", "extra"),
    ],
)
def test_a_description_that_does_not_hold_drafts_nothing(
    source: Path, capsys: pytest.CaptureFixture[str], old: str, new: str, why: str
) -> None:
    assert SAID.count(old) == 1
    source.write_text(SAID.replace(old, new))
    assert add(source) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert why in line
    assert not (source.parent / "repo" / "drafts").exists()


@pytest.mark.parametrize("channel", ["beta", "site-south", "rollout", "root", "../stable"])
def test_there_is_no_release_where_there_is_no_channel(
    source: Path, capsys: pytest.CaptureFixture[str], channel: str
) -> None:
    assert add(source, channel) == 1
    assert "is no channel here" in capsys.readouterr().err


def test_an_unsigned_bundle_is_in_no_release(
    source: Path, tiny_bytes: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    (source.parent / "tiny.scanside").write_bytes(tiny_bytes)
    assert add(source) == 1
    assert "is not signed" in capsys.readouterr().err
