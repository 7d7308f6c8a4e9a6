"""The fatbin holds code for every device that is served, or is refused by name."""

from __future__ import annotations

import hashlib
import struct
import sys
from pathlib import Path

import pytest

from appliance.errors import BackendUnavailable, BundleRefused
from appliance.host.driver import Driver
from compile import kernels
from compile.__main__ import main
from compile.kernels import WANTED, Code


def fatbin(*codes: tuple[int, int], payload: bytes = b"\x7fELF") -> bytes:
    """A fatbin of these (kind, architecture) with nothing to run in it."""
    entries = b"".join(
        struct.pack("<HHIQIIHHI", kind, 0x101, 64, len(payload), 0, 0, 8, 1, architecture).ljust(
            64, b"\0"
        )
        + payload
        for kind, architecture in codes
    )
    return struct.pack("<IHHQ", 0xBA55ED50, 1, 16, len(entries)) + entries


ALL = fatbin((2, 87), (2, 90), (2, 110), (1, 80))


@pytest.fixture(scope="module")
def nvcc() -> Path:
    try:
        return kernels.find_nvcc()
    except BackendUnavailable as e:
        pytest.skip(e.text)


@pytest.mark.long
def test_nvcc_builds_a_fatbin_of_all_architectures_twice_the_same(nvcc, tmp_path, capsys):
    assert main(["kernels", "-o", str(tmp_path / "new" / "folder")]) == 0
    said = capsys.readouterr().out
    data = (tmp_path / "new" / "folder" / "kernels.fatbin").read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    assert digest in said
    assert (tmp_path / "new" / "folder" / "kernels.fatbin.sha256").read_text() == (
        f"{digest}  kernels.fatbin\n"
    )
    assert set(kernels.read(data)) == set(WANTED)
    for code in WANTED:
        assert str(code) in said
    made = [
        f"{kind}_{element}{ending}"
        for kind in ("prepare", "gather", "cubes")
        for element in ("f32", "f16", "i8")
        for ending in ("", "_of_f32")
    ]
    made += [f"soften_{element}" for element in ("f32", "f16", "i8")]
    for name in (*made, "accumulate", "normalise"):
        assert f".text.{name}\0".encode() in data, name
    assert kernels.build(nvcc) == data


def test_a_real_fatbin_without_an_architecture_is_refused_by_its_name(nvcc):
    data = kernels.build(nvcc, [Code("cubin", 87)])
    assert kernels.read(data) == (Code("cubin", 87),)
    with pytest.raises(
        BundleRefused, match=r"lacks sm_90, sm_110, compute_80; it holds sm_87$"
    ) as e:
        kernels.require(data)
    assert e.value.code == "fatbin_architecture"


def test_an_architecture_that_nvcc_does_not_know_is_a_named_error(nvcc):
    with pytest.raises(BackendUnavailable, match="compute_72") as e:
        kernels.build(nvcc, [Code("cubin", 72)])
    assert e.value.code == "nvcc_failed"


def test_without_nvcc_the_verb_says_what_to_install(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    monkeypatch.delenv("CUDA_ROOT", raising=False)
    monkeypatch.setattr(kernels, "USUAL", str(tmp_path))
    assert main(["kernels", "-o", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert "[nvcc_missing] Install CUDA 13.0 or later" in said
    assert said.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_nvcc_is_found_in_nvidias_wheels(tmp_path, monkeypatch):
    for name in ("CUDA_HOME", "CUDA_ROOT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(kernels, "USUAL", str(tmp_path))
    place = tmp_path / "nvidia" / "cu13" / "bin"
    place.mkdir(parents=True)
    (place / "nvcc").touch(mode=0o644)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(BackendUnavailable) as e:  # it is there and cannot be started
        kernels.find_nvcc()
    assert "scanside[kernels]" in e.value.remedy
    (place / "nvcc").chmod(0o755)
    assert kernels.find_nvcc() == place / "nvcc"


ORIN = Driver(name="Orin", major=8, minor=7, version=12060, integrated=True)
THOR = Driver(name="Thor", major=11, minor=0, version=13000, integrated=True)


def knowing(folder: Path, monkeypatch: pytest.MonkeyPatch, *known: int) -> None:
    """An nvcc that knows these architectures and ends like NVIDIA's at another one."""
    for kept in ("CUDA_HOME", "CUDA_ROOT"):
        monkeypatch.delenv(kept, raising=False)
    made = folder / "made"
    made.mkdir()
    for name, codes in {"all": [(2, 87), (2, 90), (2, 110), (1, 80)], "one": [(2, 87)]}.items():
        (made / name).write_bytes(fatbin(*codes))
    script = f"""#!{sys.executable}
import re, shutil, sys
asked = {{int(n) for n in re.findall(r"arch=compute_(\\d+)", " ".join(sys.argv))}}
if strange := asked - {set(known)}:
    sys.exit(f"nvcc fatal   : Unsupported gpu architecture 'compute_{{max(strange)}}'")
shutil.copy({str(made)!r} + ("/all" if len(asked) > 1 else "/one"), sys.argv[-1])
"""
    (folder / "nvcc").write_text(script)
    (folder / "nvcc").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))


def test_a_toolkit_that_does_not_know_all_devices_builds_for_the_one_that_is_here(
    tmp_path, monkeypatch
):
    knowing(tmp_path, monkeypatch, 80, 87, 90, 110)
    assert kernels.read(kernels.for_gpu(ORIN)) == kernels.read(ALL)
    (tmp_path / "older").mkdir()
    knowing(tmp_path / "older", monkeypatch, 80, 87, 90)  # CUDA 12.6, of JetPack 6.2
    assert kernels.read(kernels.for_gpu(ORIN)) == (Code("cubin", 87),)
    with pytest.raises(BackendUnavailable, match="compute_110") as e:
        kernels.for_gpu(THOR)
    assert e.value.code == "nvcc_failed"


def test_without_nvcc_a_gpu_is_tried_with_the_kernels_of_the_release(tmp_path, monkeypatch):
    def missing() -> Path:
        raise BackendUnavailable("no nvcc", code="nvcc_missing")

    monkeypatch.setattr(kernels, "find_nvcc", missing)
    path, digest, held = kernels.place(tmp_path / "backend", ALL)
    assert (digest, held) == (hashlib.sha256(ALL).hexdigest(), kernels.read(ALL))
    shipped = kernels.shipped
    monkeypatch.setattr(kernels, "shipped", lambda name, **told: shipped(name, **told, path=path))
    assert kernels.for_gpu(ORIN) == ALL
    path.write_bytes(ALL[:-1])
    with pytest.raises(BackendUnavailable) as e:
        kernels.for_gpu(ORIN)
    assert e.value.code == "fatbin_broken"


def test_the_reader_lists_what_a_fatbin_holds():
    assert [str(code) for code in kernels.read(ALL)] == ["sm_87", "sm_90", "sm_110", "compute_80"]
    kernels.require(ALL)


@pytest.mark.parametrize("left_out", range(4))
def test_any_missing_code_is_named(left_out):
    codes = [(2, 87), (2, 90), (2, 110), (1, 80)]
    kind, architecture = codes.pop(left_out)
    name = f"{'sm' if kind == 2 else 'compute'}_{architecture}"
    with pytest.raises(BundleRefused, match=f"lacks {name};"):
        kernels.require(fatbin(*codes))


def test_ptx_does_not_stand_for_the_code_of_its_architecture():
    with pytest.raises(BundleRefused, match="lacks sm_87;"):
        kernels.require(fatbin((1, 87), (2, 90), (2, 110), (1, 80)))


def test_a_fatbin_cut_anywhere_is_refused():
    for kept in range(len(ALL)):
        with pytest.raises(BundleRefused) as e:
            kernels.read(ALL[:kept])
        assert e.value.code == "fatbin_broken", kept


def test_a_fatbin_with_bytes_behind_its_end_is_refused():
    with pytest.raises(BundleRefused, match=r"its header says \d+ bytes, it has"):
        kernels.read(ALL + b"\0")


@pytest.mark.parametrize(
    ("at", "value"),
    [(0, 0x7F), (6, 0), (16, 9), (20, 0), (20, 255), (24, 200), (31, 1), (8, 0)],
)
def test_a_header_that_says_otherwise_is_refused(at, value):
    broken = bytearray(ALL)
    broken[at] = value
    with pytest.raises(BundleRefused) as e:
        kernels.require(bytes(broken))
    assert e.value.code == "fatbin_broken"


def test_an_entry_without_length_is_refused_and_does_not_hold_the_reader():
    broken = bytearray(ALL)
    broken[20] = broken[24] = 0  # header and payload bytes of the first entry
    with pytest.raises(BundleRefused, match="0 and 0 bytes long"):
        kernels.read(bytes(broken))
