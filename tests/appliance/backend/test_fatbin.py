"""The kernels of a release: what is cut, changed, away or not for this GPU is refused by name."""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path

import pytest

from appliance.backend import fatbin
from appliance.backend.fatbin import Code
from appliance.errors import BackendUnavailable


def holding(*codes: tuple[int, int]) -> bytes:
    """A fatbin of these (kind, architecture) with nothing to run in it."""
    entries = b"".join(
        struct.pack("<HHIQIIHHI", kind, 0x101, 64, 4, 0, 0, 8, 1, architecture).ljust(64, b"\0")
        + b"\x7fELF"
        for kind, architecture in codes
    )
    return struct.pack("<IHHQ", 0xBA55ED50, 1, 16, len(entries)) + entries


def put(path: Path, data: bytes, said: str | None = None) -> Path:
    path.write_bytes(data)
    digest = said or hashlib.sha256(data).hexdigest()
    path.with_name(f"{path.name}.sha256").write_text(f"{digest}  {path.name}\n")
    return path


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "kernels.fatbin"


def test_the_fatbin_of_a_release_is_given_for_each_gpu_that_it_serves(path):
    data = holding((2, 87), (2, 90), (2, 110), (1, 80))
    put(path, data)
    for architecture, integrated in (("sm_87", True), ("sm_110", True), ("sm_90", False)):
        assert fatbin.shipped(architecture, integrated=integrated, path=path) == data


BAD = {
    "fatbin_broken": [
        (holding((2, 87))[:-3], None),
        (b"", None),
        (b"not a fatbin at all", None),
        (holding((2, 87)), "0" * 64),
        (holding((7, 87)), None),
    ],
    "fatbin_architecture": [(holding((2, 90), (1, 80)), None), (holding(), None)],
}


@pytest.mark.parametrize("code", BAD)
def test_a_wrong_fatbin_is_refused_by_its_code(path, code):
    for data, said in BAD[code]:
        put(path, data, said)
        with pytest.raises(BackendUnavailable) as error:
            fatbin.shipped("sm_87", integrated=True, path=path)
        assert error.value.code == code
        assert "compile kernels" in error.value.remedy


def test_a_release_without_kernels_is_named(path):
    with pytest.raises(BackendUnavailable, match=r"kernels\.fatbin") as error:
        fatbin.shipped("sm_87", integrated=True, path=path)
    assert error.value.code == "kernels_missing"


HELD = (Code("cubin", 87), Code("cubin", 90), Code("ptx", 80))


@pytest.mark.parametrize(
    ("architecture", "integrated", "fits"),
    [
        (87, True, True), (90, False, True), (89, False, True), (120, False, True),
        (110, True, False), (72, True, False), (75, False, False), (80, False, True),
    ],
)  # fmt: skip
def test_a_tegra_needs_its_own_code_and_others_take_older(architecture, integrated, fits):
    assert fatbin.fits(HELD, architecture, integrated=integrated) is fits


def test_code_of_a_later_minor_or_another_major_is_not_taken():
    assert fatbin.fits((Code("cubin", 80),), 86, integrated=False)
    assert not fatbin.fits((Code("cubin", 86),), 80, integrated=False)
    assert not fatbin.fits((Code("cubin", 80),), 90, integrated=False)
