"""The wheel of a release holds kernels and bundles, or there is none."""

from __future__ import annotations

import hashlib
import io
import shutil
import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

from appliance.errors import BackendUnavailable, BundleRefused
from compile import kernels, wheel
from compile.__main__ import main

REPOSITORY = Path(__file__).resolve().parents[2]
PACKED = ("pyproject.toml", "README.md", "LICENSE", ".gitignore")
needs_hatchling = pytest.mark.skipif(
    find_spec("hatchling") is None,
    reason="hatchling is not installed (pip install 'scanside[release]')",
)
KERNELS = f"{wheel.BACKEND}/kernels.fatbin"
HEADERS = [(2, 87), (2, 90), (2, 110), (1, 80)]


def fatbin(codes: list[tuple[int, int]]) -> bytes:
    """A fatbin of these (kind, architecture) with nothing to run in it, as fatbin.py reads it."""
    entries = b""
    for kind, architecture in codes:
        head = bytearray(64)
        head[0:2] = kind.to_bytes(2, "little")
        head[4:8] = (64).to_bytes(4, "little")
        head[8:16] = (4).to_bytes(8, "little")
        head[28:32] = architecture.to_bytes(4, "little")
        entries += bytes(head) + b"\x7fELF"
    whole = (0xBA55ED50).to_bytes(4, "little") + (1).to_bytes(2, "little")
    return whole + (16).to_bytes(2, "little") + len(entries).to_bytes(8, "little") + entries


ALL = fatbin(HEADERS)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What a wheel is made of, as git would have it, in a folder of its own."""
    root = tmp_path / "checkout"
    root.mkdir()
    for name in PACKED:
        shutil.copy(REPOSITORY / name, root)
    left_out = shutil.ignore_patterns("__pycache__", "kernels.fatbin*")
    for name in ("appliance", "compile"):
        shutil.copytree(REPOSITORY / name, root / name, ignore=left_out)
    return root


@pytest.fixture
def planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An nvcc that writes ALL, whatever it is asked for."""
    folder = tmp_path / "cuda" / "bin"
    folder.mkdir(parents=True)
    (folder / "made").write_bytes(ALL)
    copies = f"import shutil, sys\nshutil.copy({str(folder / 'made')!r}, sys.argv[-1])\n"
    (folder / "nvcc").write_text(f"#!{sys.executable}\n{copies}")
    (folder / "nvcc").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")


@needs_hatchling
def test_the_wheel_has_kernels_with_their_digest_and_every_bundle_twice_the_same(
    checkout: Path, planted: None, tmp_path: Path
) -> None:
    made = wheel.wheel(tmp_path / "new" / "dist", checkout)
    data = made.path.read_bytes()
    assert made.digest == hashlib.sha256(data).hexdigest()
    with zipfile.ZipFile(io.BytesIO(data)) as held:
        assert held.read(KERNELS) == ALL
        said = held.read(f"{KERNELS}.sha256").decode()
        names = set(held.namelist())
    assert said == f"{hashlib.sha256(ALL).hexdigest()}  kernels.fatbin\n"
    assert "appliance/factory/bundles/lung-nodule.scanside" in names
    assert not [name for name in names if "__pycache__" in name or name.startswith("training")]
    assert [b.split()[0] for b in made.bundles] == ["chest-pneumonia", "lung-nodule", "water-qa"]
    assert "kernels for sm_87, sm_90, sm_110, compute_80" in made.one_line()
    again = wheel.wheel(tmp_path / "again", checkout)
    assert again.path.read_bytes() == data


@needs_hatchling
def test_a_wheel_that_leaves_the_kernels_out_is_no_release(
    checkout: Path, planted: None, tmp_path: Path
) -> None:
    project = checkout / "pyproject.toml"
    lines = project.read_text().splitlines(keepends=True)
    kept = [line for line in lines if not line.startswith("artifacts")]
    assert len(kept) == len(lines) - 1
    project.write_text("".join(kept))
    with pytest.raises(BundleRefused, match=r"kernels\.fatbin is not in it") as error:
        wheel.wheel(tmp_path / "dist", checkout)
    assert error.value.code == "wheel_incomplete"
    assert not (tmp_path / "dist").exists()


@needs_hatchling
def test_what_hatchling_says_is_the_error(checkout: Path, planted: None, tmp_path: Path) -> None:
    (checkout / "LICENSE").unlink()
    (checkout / "README.md").unlink()
    with pytest.raises(BackendUnavailable, match=r"hatchling ended with 1: .*README") as error:
        wheel.wheel(tmp_path / "dist", checkout)
    assert error.value.code == "wheel_builder"


def test_outside_a_checkout_there_is_no_release(tmp_path: Path) -> None:
    with pytest.raises(BundleRefused) as error:
        wheel.wheel(tmp_path / "dist", tmp_path)
    assert error.value.code == "wheel_checkout"


def zipped(**changes: bytes | None) -> bytes:
    """A wheel's parts that count; `changes` by the last part of a name, None leaves it out."""
    factory = REPOSITORY / wheel.FACTORY
    files = {
        KERNELS: ALL,
        f"{KERNELS}.sha256": f"{hashlib.sha256(ALL).hexdigest()}  kernels.fatbin\n".encode(),
        f"{wheel.FACTORY}/digests.json": (factory / "digests.json").read_bytes(),
        **{
            f"{wheel.FACTORY}/bundles/{path.name}": path.read_bytes()
            for path in (factory / "bundles").glob("*.scanside")
        },
    }
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as out:
        for name, data in files.items():
            content = changes.get(name.rsplit("/", 1)[1].replace(".", "_").replace("-", "_"), data)
            if content is not None:
                out.writestr(name, content)
    return packed.getvalue()


def test_a_whole_wheel_is_taken() -> None:
    held, bundles = wheel.check(zipped(), ALL)
    assert [str(code) for code in held] == ["sm_87", "sm_90", "sm_110", "compute_80"]
    assert len(bundles) == 3


LACKING = fatbin(HEADERS[1:])
OTHER = (REPOSITORY / wheel.FACTORY / "bundles" / "chest-pneumonia.scanside").read_bytes()
INCOMPLETE = {
    "no digest": ({"kernels_fatbin_sha256": None}, "wheel_incomplete"),
    "another digest": ({"kernels_fatbin_sha256": b"0" * 64}, "wheel_incomplete"),
    "an empty digest": ({"kernels_fatbin_sha256": b""}, "wheel_incomplete"),
    "no bundle": ({"lung_nodule_scanside": None}, "wheel_incomplete"),
    "another bundle": ({"lung_nodule_scanside": OTHER}, "wheel_incomplete"),
    "a cut bundle": ({"lung_nodule_scanside": OTHER[:5000]}, "bundle_archive"),
    "no table": ({"digests_json": b"{"}, "factory_digests"),
    "no Orin": (
        {
            "kernels_fatbin": LACKING,
            "kernels_fatbin_sha256": hashlib.sha256(LACKING).hexdigest().encode(),
        },
        "fatbin_architecture",
    ),
}


@pytest.mark.parametrize("what", INCOMPLETE)
def test_an_incomplete_wheel_is_refused_by_its_code(what: str) -> None:
    changes, code = INCOMPLETE[what]
    with pytest.raises(BundleRefused) as error:
        wheel.check(zipped(**changes))
    assert error.value.code == code


def test_kernels_that_were_not_built_now_and_bytes_that_are_no_zip_are_refused() -> None:
    with pytest.raises(BundleRefused, match="is not what was built"):
        wheel.check(zipped(), LACKING)
    with pytest.raises(BundleRefused, match="it is no wheel"):
        wheel.check(zipped()[:-30])


@pytest.mark.long
@needs_hatchling
def test_with_nvcc_the_verb_makes_a_release_that_installs(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    try:
        kernels.find_nvcc()
    except BackendUnavailable as e:
        pytest.skip(e.text)
    monkeypatch.setattr(wheel.wheel, "__defaults__", (checkout,))
    assert main(["wheel", "-o", str(tmp_path / "dist")]) == 0
    (path,) = (tmp_path / "dist").iterdir()
    assert f"{path}: {path.stat().st_size} bytes, kernels for sm_87" in capsys.readouterr().out
    target = tmp_path / "installed"
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", target, path]
    subprocess.run([*pip, "--no-index"], check=True, timeout=120)
    program = (
        "from appliance.backend import fatbin as f;"
        "print(f.SHIPPED, *f.read(f.shipped('sm_87', integrated=True)))"
    )
    said = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": str(target)}, cwd=tmp_path,
        capture_output=True, text=True, check=True, timeout=60,
    ).stdout.split()  # fmt: skip
    assert said == [str(target / KERNELS), "sm_87", "sm_90", "sm_110", "compute_80"]
